//! What clients and people change is versioned where the vendor versions it, and on the record.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use serde_json::{Value, json};
use serin_simulator::{
    DEPLOYMENT_CONTROL, EMERGENCY, MAIN_IVR_CANARY, MAIN_IVR_COP, MAIN_IVR_DNIS, MAIN_IVR_IVR, MAIN_IVR_STABLE, MAIN_IVR_TEST_IVR,
};
use support::{Simulator, until};

const PUBLISH: &str = "/api/v2/flows/actions/publish";
const AUDITS: &str = "/api/v2/audits/query/realtime";
const HOUR: &str = "2026-11-20T09:00:00Z/2026-11-20T10:00:00Z";

fn by_hand(simulator: &Simulator, act: Value) {
    simulator.control("POST", "/_simulator/by_hand", act);
}

fn audits(simulator: &Simulator, query: Value) -> Value {
    let answer = simulator.api("POST", &format!("{AUDITS}?expand=user"), &query.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Audits of one thing, latest first: who, what.
fn record(simulator: &Simulator, entity: &str) -> Vec<(String, String)> {
    let found = audits(simulator, json!({"interval": HOUR, "filters": [{"property": "EntityId", "value": entity}]}));
    let who = |audit: &Value| audit["user"]["name"].as_str().or(audit["client"]["id"].as_str()).unwrap().to_owned();
    let audits = found["entities"].as_array().unwrap().iter();
    audits.map(|audit| (who(audit), format!("{} {}", audit["action"].as_str().unwrap(), audit["entityType"].as_str().unwrap()))).collect()
}

fn said(who: &str, what: &str) -> (String, String) {
    (who.to_owned(), what.to_owned())
}

#[test]
fn an_ivr_is_replaced_whole_by_who_knows_its_version() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}");
    let put = |ivr: &Value| simulator.api("PUT", &path, &ivr.to_string());
    let mut ivr = simulator.get(&path);
    assert_eq!((&ivr["openHoursFlow"]["id"], &ivr["dnis"]), (&json!(MAIN_IVR_COP), &json!([MAIN_IVR_DNIS])));
    ivr["openHoursFlow"] = json!({"id": MAIN_IVR_CANARY});
    let changed = put(&ivr);
    assert_eq!((changed.status, &changed.json()["version"]), (200, &json!(2)));
    assert_eq!(simulator.get(&path)["openHoursFlow"]["id"], MAIN_IVR_CANARY);
    // The same again is a change of a version that is gone.
    let late = put(&ivr);
    assert_eq!(late.status, 409);
    assert!(late.json()["message"].as_str().unwrap().contains("does not match the current version"), "{}", late.text);
    // The whole is replaced: who leaves the numbers out takes them away.
    let bare = json!({"name": "Main_IVR", "version": 2, "openHoursFlow": {"id": MAIN_IVR_COP}});
    assert_eq!(put(&bare).json()["dnis"], json!([]));
    for (change, status) in [
        (json!({"openHoursFlow": {"id": "nobody"}}), 400),
        (json!({"id": MAIN_IVR_TEST_IVR}), 400),
        (json!({"dnis": ["+15550199"]}), 400),
        (json!({"version": null}), 400),
        (json!({"closedHoursFlow": {"id": MAIN_IVR_COP}}), 400),
    ] {
        let mut ivr = simulator.get(&path);
        ivr.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(put(&ivr).status, status, "{change}");
    }
    assert_eq!(record(&simulator, MAIN_IVR_IVR), [said("id", "Update IVR"), said("id", "Update IVR")]);
}

#[test]
fn ivrs_are_found_by_name_and_by_number() {
    let simulator = Simulator::start();
    let found = |query: &str| simulator.get(&format!("/api/v2/architect/ivrs?{query}"))["total"].clone();
    assert_eq!([found(""), found("name=Main_IVR"), found("name=main*"), found("dnis=%2B15550100"), found("dnis=1")], [2, 1, 2, 1, 0]);
}

#[test]
fn an_emergency_group_without_call_flows_is_detached() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/architect/emergencygroups/{EMERGENCY}");
    let put = |group: &Value| simulator.api("PUT", &path, &group.to_string());
    let mut group = simulator.get(&path);
    assert_eq!(group["emergencyCallFlows"][0]["ivrs"][0]["id"], MAIN_IVR_IVR);
    group["enabled"] = json!(true);
    assert_eq!(put(&group).json()["enabled"], true);
    assert_eq!(put(&group).status, 409);
    assert_eq!(put(&json!({"name": "Emergency", "version": 2})).json()["emergencyCallFlows"], json!([]));
    let unknown = |flow: &str, ivr: &str| {
        put(&json!({"name": "Emergency", "version": 3, "emergencyCallFlows": [{"emergencyFlow": {"id": flow}, "ivrs": [{"id": ivr}]}]}))
    };
    assert_eq!((unknown("x", MAIN_IVR_IVR).status, unknown(MAIN_IVR_STABLE, "x").status), (400, 400));
    assert_eq!(simulator.get(&path)["version"], 3);
    assert_eq!(record(&simulator, EMERGENCY).len(), 2);
}

#[test]
fn somebody_else_can_be_first() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}");
    simulator.fault(json!({"kind": "version_conflict", "path": path}));
    let ivr = simulator.get(&path);
    assert_eq!(simulator.api("PUT", &path, &ivr.to_string()).status, 409);
    let ivr = simulator.get(&path);
    assert_eq!(ivr["version"], 2);
    assert_eq!(simulator.api("PUT", &path, &ivr.to_string()).status, 200);
    assert_eq!(record(&simulator, MAIN_IVR_IVR), [said("id", "Update IVR"), said("Somebody Else", "Update IVR")]);
    let refused = json!({"faults": [{"kind": "version_conflict", "path": "/api/v2/flows/datatables"}]}).to_string();
    assert_eq!(simulator.send("POST", "/_simulator/faults", &[], &refused).unwrap().status, 400);
}

#[test]
fn a_person_publishes_at_once_and_under_their_name() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/flows/{MAIN_IVR_STABLE}");
    by_hand(&simulator, json!({"kind": "publish", "flow_id": MAIN_IVR_STABLE, "version": "13.0", "user": "Pat"}));
    let flow = simulator.get(&path);
    assert_eq!((&flow["publishedVersion"]["id"], &flow["publishedBy"]), (&json!("13.0"), &json!({"id": "user-pat", "name": "Pat"})));
    assert_eq!((&flow["currentOperation"]["complete"], &flow["currentOperation"]["user"]["id"]), (&json!(true), &json!("user-pat")));
    simulator.advance(1);
    simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_STABLE}&version=14.0"), "");
    until("the publish", || simulator.get(&path)["publishedVersion"]["id"] == "14.0");
    assert_eq!(record(&simulator, MAIN_IVR_STABLE), [said("id", "Publish Flow"), said("Pat", "Publish Flow")]);
    let by = |property: &str, value: &str| {
        audits(&simulator, json!({"interval": HOUR, "filters": [{"property": property, "value": value}]}))["entities"].clone()
    };
    assert_eq!(by("UserId", "user-pat")[0]["eventDate"], "2026-11-20T09:00:00.000Z");
    let by_client = by("ClientId", "id");
    assert_eq!((by_client.as_array().unwrap().len(), &by_client[0]["eventDate"]), (1, &json!("2026-11-20T09:01:00.000Z")));
    assert_eq!(by_client[0]["entity"], json!({"id": MAIN_IVR_STABLE, "name": "Main_IVR_Blue"}));
    // A failed publish changes nothing, and so leaves nothing.
    simulator.fault(json!({"kind": "publish_fails"}));
    simulator.api("POST", &format!("{PUBLISH}?flow={MAIN_IVR_STABLE}&version=13.0"), "");
    until("the failure", || simulator.get(&path)["currentOperation"]["actionStatus"] == "FAILURE");
    assert_eq!(record(&simulator, MAIN_IVR_STABLE).len(), 2);
}

#[test]
fn rows_and_ivrs_changed_by_hand_are_on_the_record_too() {
    let simulator = Simulator::start();
    let rows = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows");
    simulator.api("POST", &rows, &json!({"key": "main_ivr", "Traffic_Weight": 0, "owner": "serin"}).to_string());
    by_hand(&simulator, json!({"kind": "row", "row": {"key": "main_ivr", "Traffic_Weight": 100}, "user": "Pat"}));
    assert_eq!(simulator.get(&format!("{rows}/main_ivr?showbrief=false")), json!({"key": "main_ivr", "Traffic_Weight": 100}));
    by_hand(&simulator, json!({"kind": "delete_row", "key": "main_ivr", "user": "Sam"}));
    by_hand(&simulator, json!({"kind": "row", "row": {"key": "other"}, "user": "Sam"}));
    let expected = [said("Sam", "Create Row"), said("Sam", "Delete Row"), said("Pat", "Update Row"), said("id", "Create Row")];
    assert_eq!(record(&simulator, DEPLOYMENT_CONTROL), expected);
    by_hand(&simulator, json!({"kind": "ivr", "id": MAIN_IVR_IVR, "open_hours_flow": MAIN_IVR_STABLE, "user": "Pat"}));
    let ivr = simulator.get(&format!("/api/v2/architect/ivrs/{MAIN_IVR_IVR}"));
    assert_eq!((&ivr["version"], &ivr["openHoursFlow"]["id"]), (&json!(2), &json!(MAIN_IVR_STABLE)));
    assert_eq!(record(&simulator, MAIN_IVR_IVR), [said("Pat", "Update IVR")]);
    for refused in [
        json!({"kind": "publish", "flow_id": "x", "version": "13.0", "user": "Pat"}),
        json!({"kind": "publish", "flow_id": MAIN_IVR_STABLE, "version": "99.0", "user": "Pat"}),
        json!({"kind": "row", "row": {"key": "main_ivr", "weight": 5}, "user": "Pat"}),
        json!({"kind": "delete_row", "key": "gone", "user": "Pat"}),
        json!({"kind": "ivr", "id": "x", "open_hours_flow": MAIN_IVR_STABLE, "user": "Pat"}),
        json!({"kind": "ivr", "id": MAIN_IVR_IVR, "open_hours_flow": "x", "user": "Pat"}),
    ] {
        assert_eq!(simulator.send("POST", "/_simulator/by_hand", &[], &refused.to_string()).unwrap().status, 400, "{refused}");
    }
}

#[test]
fn audits_are_filtered_sorted_and_paged() {
    let simulator = Simulator::start();
    for (minute, user) in ["Pat", "Sam", "Kim"].iter().enumerate() {
        by_hand(&simulator, json!({"kind": "row", "row": {"key": "k", "revision": minute}, "user": user}));
        simulator.advance(1);
    }
    let users = |query: Value| {
        let found = audits(&simulator, query);
        let users = found["entities"].as_array().unwrap().iter().map(|audit| audit["user"]["name"].as_str().unwrap().to_owned());
        (users.collect::<Vec<_>>(), found["total"].as_u64().unwrap(), found["pageCount"].as_u64().unwrap())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(users(json!({"interval": HOUR})), (names(&["Kim", "Sam", "Pat"]), 3, 1));
    let up = json!([{"name": "Timestamp", "sortOrder": "ascending"}]);
    assert_eq!(users(json!({"interval": HOUR, "sort": up, "pageSize": 2, "pageNumber": 2})), (names(&["Kim"]), 3, 2));
    assert_eq!(users(json!({"interval": "2026-11-20T09:01:00Z/2026-11-20T09:02:00Z"})).0, ["Kim", "Sam"]);
    let filters = json!([{"property": "EntityType", "value": "Row"}, {"property": "Action", "value": "Create"}]);
    assert_eq!(users(json!({"interval": HOUR, "filters": filters, "serviceName": "Datatables"})).0, ["Pat"]);
    assert_eq!(users(json!({"interval": HOUR, "serviceName": "Architect"})).1, 0);
    // Without `expand` a person is an id.
    let plain = simulator.api("POST", AUDITS, &json!({"interval": HOUR}).to_string()).json();
    assert_eq!(plain["entities"][0]["user"], json!({"id": "user-kim"}));
    for bad in [json!({"interval": "today"}), json!({"interval": HOUR, "pageSize": 501}), json!({"interval": HOUR, "pageNumber": 0})] {
        assert_eq!(simulator.api("POST", AUDITS, &bad.to_string()).status, 400, "{bad}");
    }
}
