//! From the vendor's rows to windows.

mod support;

use jiff::Timestamp;
use serin_controller::ports::{Analytics, CohortFlows};
use serin_core::measurement::Counts;
use support::{JumpingClock, Stub, Vault, client, ok, refusal, text};

const QUERY: &str = "POST /api/v2/analytics/flows/aggregates/query";

fn cohorts(stable: (&str, &str), canary: (&str, &str)) -> CohortFlows {
    let owned = |(flow, version): (&str, &str)| (flow.to_owned(), version.to_owned());
    CohortFlows { stable: owned(stable), canary: owned(canary), outcomes: None }
}

fn at(time: &str) -> Timestamp {
    format!("2026-11-20T{time}:00Z").parse().expect("a time")
}

#[tokio::test]
async fn rows_become_windows_and_missing_minutes_stay_missing() {
    let stub = Stub::start().await.on(QUERY, [ok("aggregates.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let asked = [cohorts(("blue", "14.0"), ("green", "3.0")), cohorts(("red", "1.0"), ("green", "2.0"))];
    let measured = genesys.measure(&asked, at("10:00"), at("10:05")).await.unwrap();
    // 10:01 has calls of another version only, 10:03 none at all.
    assert_eq!(measured[0].iter().map(|w| w.start).collect::<Vec<_>>(), [at("10:00"), at("10:02")]);
    let first = measured[0][0].counts;
    assert_eq!(first.stable, Counts { calls: 61, errors: 0, abandons: 0, transfers: 8, contained: 53, ..Counts::default() });
    assert_eq!(first.canary, Counts { calls: 10, errors: 7, abandons: 3, transfers: 0, contained: 0, ..Counts::default() });
    assert_eq!(measured[0][1].counts.canary, Counts::default());
    assert!(measured[1].is_empty());
    let body: serde_json::Value = serde_json::from_str(&stub.asked(QUERY)[0].body).unwrap();
    assert_eq!(body["interval"], "2026-11-20T10:00:00.000Z/2026-11-20T10:05:00.000Z");
    assert_eq!(body["granularity"], "PT1M");
    assert_eq!(body["filter"]["predicates"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn two_versions_of_one_flow_are_two_cohorts() {
    let stub = Stub::start().await.on(QUERY, [ok("aggregates.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let measured = genesys.measure(&[cohorts(("blue", "13.0"), ("blue", "14.0"))], at("10:00"), at("10:05")).await.unwrap();
    assert_eq!(measured[0][1].counts.stable.calls, 99);
    assert_eq!(measured[0][0].counts.canary.calls, 61);
}

#[tokio::test]
async fn rows_outside_of_the_interval_do_not_count() {
    let stub = Stub::start().await.on(QUERY, [ok("aggregates.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let measured = genesys.measure(&[cohorts(("blue", "14.0"), ("green", "3.0"))], at("10:01"), at("10:02")).await.unwrap();
    assert!(measured[0].is_empty());
}

#[tokio::test]
async fn no_data_gives_no_windows() {
    let stub = Stub::start().await.on(QUERY, [text(200, "{}")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let asked = [cohorts(("blue", "14.0"), ("green", "3.0"))];
    assert_eq!(genesys.measure(&asked, at("10:00"), at("10:05")).await.unwrap(), [vec![]]);
    assert_eq!(genesys.measure(&asked, at("10:05"), at("10:05")).await.unwrap(), [vec![]]);
    assert_eq!(stub.asked(QUERY).len(), 1);
}

#[tokio::test]
async fn fifty_rollouts_share_a_query() {
    let stub = Stub::start().await.on(QUERY, [text(200, "{}")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let asked: Vec<_> = (0..51).map(|i| cohorts((&format!("s{i}"), "1.0"), (&format!("c{i}"), "1.0"))).collect();
    assert_eq!(genesys.measure(&asked, at("10:00"), at("10:05")).await.unwrap().len(), 51);
    let sizes: Vec<usize> = stub.asked(QUERY).iter().map(|a| a.body.matches("\"matches\"").count()).collect();
    assert_eq!(sizes, [100, 2]);
}

#[tokio::test]
async fn what_cannot_be_read_is_not_measured() {
    for (answer, said) in [
        (refusal(403, "error_403.json"), "analytics:flowAggregate:view"),
        (text(200, "<html>"), "not the expected json"),
        (text(500, ""), "500"),
        (text(200, r#"{"results": [{"group": {"flowId": "blue", "flowVersion": "14.0"}, "data": []}]}"#), "exit reason"),
    ] {
        let stub = Stub::start().await.on(QUERY, [answer]);
        let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
        let unmeasured = genesys.measure(&[cohorts(("blue", "14.0"), ("green", "3.0"))], at("10:00"), at("10:05")).await.unwrap_err();
        assert!(unmeasured.to_string().contains(said), "{unmeasured}");
    }
}
