//! From the vendor's rows to windows.

mod support;

use jiff::Timestamp;
use serin_controller::ports::{Analytics, CohortFlows};
use serin_core::measurement::Counts;
use serin_core::rollout::Outcomes;
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

fn many(rollouts: usize) -> Vec<CohortFlows> {
    (0..rollouts).map(|i| cohorts((&format!("s{i}"), "1.0"), (&format!("c{i}"), "1.0"))).collect()
}

fn sizes(stub: &Stub) -> Vec<usize> {
    stub.asked(QUERY).iter().map(|asked| asked.body.matches("\"matches\"").count()).collect()
}

#[tokio::test]
async fn a_thousand_rollouts_are_ten_queries() {
    let stub = Stub::start().await.on(QUERY, [text(200, "{}")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    assert_eq!(genesys.measure(&many(1000), at("10:00"), at("10:05")).await.unwrap().len(), 1000);
    assert_eq!(sizes(&stub), [200; 10]);
}

#[tokio::test]
async fn a_query_that_asks_for_too_much_is_halved() {
    let too_large = text(413, "");
    let too_many = text(400, r#"{"code": "bad.request", "message": "The filter has too many predicates"}"#);
    // 5 rollouts: all of them; 2; 3, which is 1 and 2.
    let answers = [too_large, text(200, "{}"), too_many, text(200, "{}"), ok("aggregates.json")];
    let stub = Stub::start().await.on(QUERY, answers);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let mut asked = many(4);
    asked.push(cohorts(("blue", "14.0"), ("green", "3.0")));
    let measured = genesys.measure(&asked, at("10:00"), at("10:05")).await.unwrap();
    assert_eq!(sizes(&stub), [10, 4, 6, 2, 4]);
    assert_eq!(measured.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 0, 2]);
}

#[tokio::test]
async fn an_answer_that_is_larger_than_is_read_is_asked_for_in_halves() {
    let large = text(200, &format!(r#"{{"results": [], "x": "{}"}}"#, "x".repeat(33 << 20)));
    let stub = Stub::start().await.on(QUERY, [large, text(200, "{}"), ok("aggregates.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let asked = [many(1).remove(0), cohorts(("blue", "14.0"), ("green", "3.0"))];
    assert_eq!(genesys.measure(&asked, at("10:00"), at("10:05")).await.unwrap()[1].len(), 2);
    assert_eq!(sizes(&stub), [4, 2, 2]);
}

#[tokio::test]
async fn one_rollout_is_asked_for_in_fewer_minutes_and_a_minute_that_is_too_much_is_an_error() {
    let stub = Stub::start().await.on(QUERY, [text(413, "")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let unmeasured = genesys.measure(&many(100), at("10:00"), at("10:05")).await.unwrap_err();
    assert!(unmeasured.to_string().contains("413"), "{unmeasured}");
    assert_eq!(sizes(&stub), [200, 100, 50, 24, 12, 6, 2, 2, 2]);

    let stub = Stub::start().await.on(QUERY, [text(400, r#"{"code": "bad.request", "message": "no such dimension"}"#)]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    assert!(genesys.measure(&many(100), at("10:00"), at("10:05")).await.is_err());
    assert_eq!(stub.asked(QUERY).len(), 1);
}

#[tokio::test]
async fn branches_of_one_flow_are_told_apart_by_their_outcomes() {
    let stub = Stub::start().await.on(QUERY, [ok("aggregates.json"), ok("aggregates_outcomes.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let outcomes = Outcomes { stable: "o-1".into(), canary: "o-2".into() };
    let in_flow = CohortFlows { outcomes: Some(outcomes), ..cohorts(("blue", "14.0"), ("blue", "14.0")) };
    let asked = [in_flow, cohorts(("blue", "14.0"), ("green", "3.0"))];
    let measured = genesys.measure(&asked, at("10:00"), at("10:05")).await.unwrap();
    // The version must be the cohort's where a row has one; other outcomes, and calls without one, are nobody's.
    let minutes: Vec<_> = measured[0].iter().map(|w| (w.start, w.counts.stable, w.counts.canary)).collect();
    let calls = |calls, errors| Counts { calls, errors, contained: calls - errors, ..Counts::default() };
    let expected = [
        (at("10:00"), calls(50, 2), calls(10, 7)),
        (at("10:01"), calls(4, 0), Counts::default()),
        // A failure that is told without its beginning.
        (at("10:03"), Counts::default(), calls(2, 2)),
    ];
    assert_eq!(minutes, expected);
    assert_eq!(measured[1].len(), 2);
    let bodies = stub.bodies(QUERY);
    assert_eq!(bodies[1]["groupBy"], serde_json::json!(["flowId", "flowVersion", "flowOutcomeId"]));
    assert_eq!(bodies[1]["metrics"], serde_json::json!(["nFlowOutcome", "nFlowOutcomeFailed"]));
    assert_eq!(sizes(&stub), [2, 1]);
}

#[tokio::test]
async fn details_are_not_asked_of_branches() {
    let stub = Stub::start().await.on(QUERY, [ok("aggregates_outcomes.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let outcomes = Outcomes { stable: "o-1".into(), canary: "o-2".into() };
    let in_flow = CohortFlows { outcomes: Some(outcomes), ..cohorts(("blue", "14.0"), ("blue", "14.0")) };
    assert_eq!(genesys.measure(&[in_flow], at("10:00"), at("10:05")).await.unwrap()[0].len(), 3);
    assert_eq!(stub.lines(), ["POST /oauth/token", QUERY]);
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
