//! What is looked at before anything is changed, and detail jobs: values follow from the organization and its faults.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod support;

use serde_json::{Value, json};
use serin_simulator::{
    DEPLOYMENT_CONTROL, MAIN_IVR_CANARY, MAIN_IVR_CANARY_OUTCOME, MAIN_IVR_COP, MAIN_IVR_STABLE, MAIN_IVR_STABLE_OUTCOME,
    RANDOM_PERCENTAGE_ACTION,
};
use support::{Simulator, advance};

const DETAILS: &str = "/api/v2/analytics/conversations/details/jobs";
const HOUR: &str = "2026-11-20T09:00:00Z/2026-11-20T10:00:00Z";

/// Names of what a version needs, by type, and whether it was deleted.
fn needs(simulator: &Simulator, flow: &str, version: &str) -> Vec<(String, String, bool)> {
    let path = "/api/v2/architect/dependencytracking/consumedresources";
    let answer = simulator.api("GET", &format!("{path}?id={flow}&version={version}&objectType=INBOUNDCALLFLOW"), "");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entities = answer.json()["entities"].as_array().unwrap().clone();
    entities.iter().map(|e| (text(&e["type"]), text(&e["name"]), e["deleted"].as_bool().unwrap())).collect()
}

fn need(kind: &str, name: &str, deleted: bool) -> (String, String, bool) {
    (kind.to_owned(), name.to_owned(), deleted)
}

#[test]
fn a_flow_needs_what_it_is_made_of() {
    let simulator = Simulator::start();
    let flow = [need("QUEUE", "Service_Desk", false), need("USERPROMPT", "Main_Menu", false)];
    assert_eq!(needs(&simulator, MAIN_IVR_STABLE, "14.0"), flow);
    let behind = [need("INBOUNDCALLFLOW", "Main_IVR_Blue", false), need("INBOUNDCALLFLOW", "Main_IVR_Green", false)];
    let action = need("DATAACTION", "Random Percentage", false);
    assert_eq!(needs(&simulator, MAIN_IVR_COP, "14.0"), [std::slice::from_ref(&action), behind.as_slice()].concat());
    let gated = simulator.control("POST", "/_simulator/versions", json!({"flow_id": MAIN_IVR_STABLE, "canary_behavior": {}}));
    assert_eq!(needs(&simulator, MAIN_IVR_STABLE, gated["version"].as_str().unwrap()), [flow.as_slice(), &[action]].concat());
    simulator.control("POST", "/_simulator/reset", json!({"flows": [{"slot": "main_ivr", "cop_reads": "row"}]}));
    let table = need("DATATABLE", "Deployment_Control", false);
    assert_eq!(needs(&simulator, MAIN_IVR_COP, "14.0"), [&[table], behind.as_slice()].concat());
}

#[test]
fn a_dependency_can_be_deleted_and_gathering_them_can_take_a_while() {
    let simulator = Simulator::start();
    simulator.fault(json!({"kind": "dependency_deleted", "flow_id": MAIN_IVR_CANARY, "version": "13.0", "name": "Main_Menu"}));
    assert!(needs(&simulator, MAIN_IVR_CANARY, "13.0").contains(&need("USERPROMPT", "Main_Menu", true)));
    assert!(needs(&simulator, MAIN_IVR_CANARY, "14.0").iter().all(|(.., deleted)| !deleted));
    let nothing = json!({"faults": [{"kind": "dependency_deleted", "flow_id": MAIN_IVR_CANARY, "name": "Main_Manu"}]}).to_string();
    assert_eq!(simulator.send("POST", "/_simulator/faults", &[], &nothing).unwrap().status, 400);
    let build = "/api/v2/architect/dependencytracking/build";
    assert_eq!(simulator.get(build)["status"], "OPERATIONAL");
    simulator.fault(json!({"kind": "dependency_build", "status": "BUILDINPROGRESS"}));
    assert_eq!(simulator.get(build)["status"], "BUILDINPROGRESS");
    simulator.control("DELETE", "/_simulator/faults", json!({}));
    assert_eq!(simulator.get(build)["status"], "OPERATIONAL");
    assert!(needs(&simulator, MAIN_IVR_CANARY, "13.0").iter().all(|(.., deleted)| !deleted));
}

#[test]
fn a_data_action_is_tested_with_its_input() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/integrations/actions/{RANDOM_PERCENTAGE_ACTION}/test");
    let test = |input: Value| simulator.api("POST", &path, &input.to_string()).json();
    let input = json!({"flow": "main_ivr", "conversationId": "3f1c0e52-7a4d-4c1b-9a76-0d5c2b8e4f11"});
    assert_eq!((&test(input.clone())["success"], &test(input.clone())["finalResult"]["cohort"]), (&json!(true), &json!("stable")));
    assert_eq!(test(json!({"flow": "main_ivr"}))["success"], false);
    simulator.fault(json!({"kind": "action_fails", "action_id": RANDOM_PERCENTAGE_ACTION}));
    let failed = test(input);
    assert_eq!(failed["success"], false);
    assert!(failed["error"]["message"].is_string());
    assert_eq!(simulator.api("POST", "/api/v2/integrations/actions/x/test", "{}").status, 404);
}

#[test]
fn a_data_action_tells_its_time_out_on_request() {
    let simulator = Simulator::start();
    let path = format!("/api/v2/integrations/actions/{RANDOM_PERCENTAGE_ACTION}");
    assert_eq!(simulator.get(&path)["config"], json!(null));
    assert_eq!(simulator.get(&format!("{path}?includeConfig=true"))["config"]["timeoutSeconds"], 2);
    assert_eq!(simulator.api("GET", "/api/v2/integrations/actions/x", "").status, 404);
}

#[test]
fn a_validation_ends_with_the_second_look_and_says_what_is_wrong() {
    let simulator = Simulator::start();
    let validate = |version: &str| {
        let body = json!({"flows": [{"flow": {"id": MAIN_IVR_CANARY, "version": version}}]}).to_string();
        let job = simulator.api("POST", "/api/v2/flows/validate/jobs", &body).json();
        let path = format!("/api/v2/flows/validate/jobs/{}?expand=messages", job["id"].as_str().unwrap());
        assert_eq!((job["status"].as_str(), simulator.get(&path)["status"].as_str()), (Some("Registered"), Some("Started")));
        simulator.get(&path)
    };
    assert_eq!((&validate("14.0")["status"], &validate("14.0")["messages"]), (&json!("Success"), &json!([])));
    assert_eq!(validate("99.0")["status"], "Failure");
    simulator.fault(json!({"kind": "validation_fails", "flow_id": MAIN_IVR_CANARY}));
    let failed = validate("14.0");
    assert_eq!((&failed["status"], &failed["messages"][0]["type"]), (&json!("Failure"), &json!("Error")));
    assert!(failed["messages"][0]["text"].as_str().unwrap().contains("Main_IVR_Green"));
    let unknown = json!({"flows": [{"flow": {"id": "x"}}]}).to_string();
    assert_eq!(simulator.api("POST", "/api/v2/flows/validate/jobs", &unknown).status, 404);
}

#[test]
fn outcomes_limits_and_the_table_are_those_of_the_organization() {
    let simulator = Simulator::start();
    let outcomes = simulator.get("/api/v2/flows/outcomes");
    let ids: Vec<&Value> = outcomes["entities"].as_array().unwrap().iter().map(|outcome| &outcome["id"]).collect();
    assert_eq!(ids, [&json!(MAIN_IVR_STABLE_OUTCOME), &json!(MAIN_IVR_CANARY_OUTCOME)]);
    assert_eq!(simulator.get("/api/v2/flows/outcomes?name=*canary")["total"], 1);
    let limits = simulator.get("/api/v2/organizations/limits/namespaces/platform.api");
    let rate = json!({"key": "client.credentials.token.rate.per.minute", "namespace": "platform.api", "value": 300});
    assert_eq!(limits["entities"], json!([rate]));
    let table = simulator.get(&format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}"));
    let columns: Vec<&String> = table["schema"]["properties"].as_object().unwrap().keys().collect();
    assert_eq!(columns, ["Active_Flow_ID", "Traffic_Weight", "key", "owner", "revision"]);
    let rows = format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}/rows");
    assert_eq!(simulator.api("POST", &rows, r#"{"key":"main_ivr","weight":5}"#).status, 400);
}

#[test]
fn a_details_job_is_fulfilled_in_the_end_and_tells_what_the_gate_wrote_down() {
    let simulator = Simulator::start();
    simulator.control("POST", "/_simulator/reset", json!({"flows": [{"slot": "main_ivr", "entry": "stable"}]}));
    let gated = simulator.control("POST", "/_simulator/versions", json!({"flow_id": MAIN_IVR_STABLE, "canary_behavior": {}}));
    let publish = json!({"kind": "publish", "flow_id": MAIN_IVR_STABLE, "version": gated["version"], "user": "Pat"});
    simulator.control("POST", "/_simulator/by_hand", publish);
    advance(&simulator, 20, "50");
    assert_eq!(simulator.get(&format!("{DETAILS}/availability"))["dataAvailabilityDate"], "2026-11-20T09:10:00.000Z");

    let filter = json!([{"type": "or", "predicates": [{"dimension": "flowId", "value": MAIN_IVR_STABLE}]}]);
    let query = json!({"interval": HOUR, "segmentFilters": filter, "order": "asc", "orderBy": "conversationStart"});
    let job = simulator.api("POST", DETAILS, &query.to_string()).json();
    let path = format!("{DETAILS}/{}", job["jobId"].as_str().unwrap());
    assert_eq!(simulator.api("GET", &format!("{path}/results"), "").status, 400);
    let states = [(); 3].map(|()| simulator.get(&path)["state"].as_str().unwrap().to_owned());
    assert_eq!(states, ["QUEUED", "PENDING", "FULFILLED"]);

    let (mut labels, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = simulator.get(&format!("{path}/results{cursor}"));
        for conversation in page["conversations"].as_array().unwrap() {
            assert!(conversation["conversationStart"].as_str().unwrap() <= "2026-11-20T09:10:00.000Z");
            labels.push(conversation["participants"][0]["attributes"]["canaryVersion"].as_str().unwrap().to_owned());
        }
        pages += 1;
        let Some(next) = page["cursor"].as_str() else { break };
        assert_eq!(page["conversations"].as_array().unwrap().len(), 100);
        cursor = format!("?cursor={next}");
    }
    let canary = labels.iter().filter(|label| *label == "v2").count();
    assert!(pages > 3 && labels.len().abs_diff(2 * canary) < labels.len() / 4, "{canary} of {} in {pages} pages", labels.len());

    assert_eq!(simulator.api("GET", &format!("{path}/results?cursor=x"), "").status, 400);
    assert_eq!(simulator.api("DELETE", &path, "").status, 204);
    assert_eq!((simulator.api("GET", &path, "").status, simulator.api("DELETE", &path, "").status), (404, 404));
    let few = simulator.api("POST", DETAILS, &json!({"interval": HOUR, "limit": 3}).to_string()).json();
    let few = format!("{DETAILS}/{}", few["jobId"].as_str().unwrap());
    (0..3).for_each(|_| drop(simulator.get(&few)));
    assert_eq!(simulator.get(&format!("{few}/results"))["conversations"].as_array().unwrap().len(), 3);
    let unknown = json!({"interval": HOUR, "segmentFilters": [{"type": "or", "predicates": [{"dimension": "flowId"}]}]});
    assert_eq!(simulator.api("POST", DETAILS, &unknown.to_string()).status, 400);
}
