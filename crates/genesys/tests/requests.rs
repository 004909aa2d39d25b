//! Tokens, throttles, broken connections, and that nothing secret is shown.

mod support;

use jiff::SignedDuration;
use serin_controller::ports::{FlowError, Flows, Preflight};
use serin_genesys::{Counted, operations};
use support::{JumpingClock, Stub, Vault, broken, client, data, ok, refusal, text};

const FLOW: &str = "GET /api/v2/flows/green";
const TOKEN: &str = "POST /oauth/token";

#[tokio::test]
async fn one_token_serves_many_requests_until_it_is_about_to_expire() {
    let (stub, clock) = (Stub::start().await.on(FLOW, [ok("flow_green.json")]), JumpingClock::new());
    let genesys = client(&stub, &clock, &Vault::default());
    genesys.flow("green").await.unwrap();
    genesys.flow("green").await.unwrap();
    assert_eq!(stub.asked(TOKEN).len(), 1);
    clock.pass(SignedDuration::from_secs(86_399 - 59));
    genesys.flow("green").await.unwrap();
    assert_eq!(stub.asked(TOKEN).len(), 2);
    let token = &stub.asked(TOKEN)[0];
    assert_eq!(token.headers["authorization"], "Basic cmVhZGVyOmh1bnRlcjE=");
    assert_eq!(token.body, "grant_type=client_credentials");
    assert_eq!(stub.asked(FLOW)[2].headers["authorization"], "Bearer TOKEN-2");
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_renewed_once() {
    let stub = Stub::start().await.on(FLOW, [refusal(401, "error_401.json"), ok("flow_green.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    assert_eq!(genesys.flow("green").await.unwrap().name, "Main_IVR_Green");
    assert_eq!(stub.lines(), [TOKEN, FLOW, TOKEN, FLOW]);

    let stub = Stub::start().await.on(FLOW, [refusal(401, "error_401.json")]);
    let refused = client(&stub, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&refused, FlowError::Refused(_)), "{refused}");
    assert_eq!(stub.lines(), [TOKEN, FLOW, TOKEN, FLOW]);
}

#[tokio::test]
async fn rotated_credentials_are_read_again_once() {
    let stub = Stub::start().await.on(FLOW, [ok("flow_green.json")]);
    let (clock, vault) = (JumpingClock::new(), Vault { rotates: true, ..Vault::default() });
    let genesys = client(&stub, &clock, &vault);
    genesys.flow("green").await.unwrap();
    clock.pass(SignedDuration::from_hours(48));
    let stub = stub.on(TOKEN, [refusal(400, "token_invalid_client.json"), ok("token.json")]);
    genesys.flow("green").await.unwrap();
    assert_eq!(vault.times_read(), 2);
    assert_eq!(stub.asked(TOKEN)[2].headers["authorization"], "Basic cmVhZGVyOmh1bnRlcjI=");
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_said_and_not_repeated() {
    let stub = Stub::start().await.on(TOKEN, [refusal(401, "token_invalid_client.json")]);
    let vault = Vault::default();
    let genesys = client(&stub, &JumpingClock::new(), &vault);
    let refused = genesys.flow("green").await.unwrap_err().to_string();
    assert!(refused.contains("renew the secret"), "{refused}");
    assert_eq!(genesys.counted(), Counted { requests: 1, throttled: 0, token_failures: 1 });
    assert_eq!((stub.asked(TOKEN).len(), vault.times_read()), (1, 1));
}

#[tokio::test]
async fn the_logins_own_rate_limit_is_waited_for_and_no_other_refusal() {
    let limited = || refusal(400, "token_rate_limit.json");
    let stub = Stub::start().await.on(TOKEN, [limited(), limited(), ok("token.json")]).on(FLOW, [ok("flow_green.json")]);
    client(&stub, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap();
    assert_eq!(stub.asked(TOKEN).len(), 3);

    let stub = Stub::start().await.on(TOKEN, [text(400, r#"{"error": "unauthorized_client"}"#)]);
    let refused = client(&stub, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&refused, FlowError::Refused(_)), "{refused}");
    assert_eq!(stub.asked(TOKEN).len(), 1);
}

#[tokio::test]
async fn a_throttle_is_waited_for_as_long_as_it_asks() {
    let throttled = || refusal(429, "error_429.json").after("3");
    let stub = Stub::start().await.on(FLOW, [throttled(), throttled(), ok("flow_green.json")]);
    let clock = JumpingClock::new();
    let genesys = client(&stub, &clock, &Vault::default());
    genesys.flow("green").await.unwrap();
    assert_eq!(genesys.counted(), Counted { requests: 4, throttled: 2, token_failures: 0 });
    assert_eq!(genesys.counted(), Counted::default(), "each is counted once");
    assert_eq!(clock.slept().len(), 2);
    assert!(clock.slept().iter().all(|wait| (3000..=3250).contains(&wait.as_millis())), "{:?}", clock.slept());
}

#[tokio::test]
async fn requests_left_are_what_the_vendor_last_told() {
    let told = |count| {
        ok("flow_green.json").with("inin-ratelimit-allowed", "300").with("inin-ratelimit-count", count).with("inin-ratelimit-reset", "20")
    };
    let stub = Stub::start().await.on(FLOW, [told("41"), told("299"), ok("flow_green.json")]);
    let clock = JumpingClock::new();
    let genesys = client(&stub, &clock, &Vault::default());
    assert_eq!(genesys.requests_left(), None);
    for left in [259, 1, 1] {
        genesys.flow("green").await.unwrap();
        assert_eq!(genesys.requests_left(), Some(left));
    }
    clock.pass(SignedDuration::from_secs(20));
    assert_eq!(genesys.requests_left(), Some(300));
    assert_eq!(genesys.region(), None);
}

#[tokio::test]
async fn a_throttle_beyond_our_patience_is_left_to_the_caller() {
    // The seconds are in the message alone.
    let stub = Stub::start().await.on(FLOW, [refusal(429, "error_429.json")]);
    let clock = JumpingClock::new();
    let error = client(&stub, &clock, &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if said.contains("try again in 42 s")), "{error}");
    assert!(clock.slept().is_empty());
}

#[tokio::test]
async fn passing_trouble_is_tried_again_within_our_patience() {
    let trouble =
        [text(502, "<html>"), text(504, ""), text(408, ""), refusal(503, "error_503.json").after("1"), broken(), ok("flow_green.json")];
    let stub = Stub::start().await.on(FLOW, trouble);
    client(&stub, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap();
    assert_eq!(stub.asked(FLOW).len(), 6);

    let (stub, clock) = (Stub::start().await.on(FLOW, [text(502, "")]), JumpingClock::new());
    let error = client(&stub, &clock, &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if said.contains("502 Bad Gateway")), "{error}");
    let slept: i64 = clock.slept().iter().map(SignedDuration::as_secs).sum();
    assert!((5..=20).contains(&slept), "{slept}");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let stub = Stub::start().await;
    let dead = Stub { base: "http://127.0.0.1:9".to_owned(), ..stub };
    let error = client(&dead, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if said.contains("signing in")), "{error}");
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let stub = Stub::start()
        .await
        .on("GET /api/v2/flows/green/versions", [ok("versions_2.json")])
        .on("POST /api/v2/flows/actions/publish", [refusal(409, "error_409.json")])
        .on(FLOW, [ok("flow_green.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let said = genesys.publish("green", "2.0").await.unwrap_err().to_string();
    let shown = format!("{said} {genesys:?}");
    assert!(shown.contains("could not be published"), "{shown}");
    for secret in ["TOKEN-1", "hunter", "example.com", "reader"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn every_operation_is_the_vendors_with_its_permissions() {
    let vendors: serde_json::Value = serde_json::from_str(&data("operations.json")).unwrap();
    let vendors = vendors.as_array().unwrap();
    let ours: std::collections::BTreeSet<_> = operations::ALL.iter().map(|operation| (operation.method, operation.path)).collect();
    assert_eq!(vendors.len(), ours.len());
    for operation in operations::ALL {
        let vendor = vendors.iter().find(|v| v["method"] == operation.method && v["path"] == operation.path);
        let vendor = vendor.unwrap_or_else(|| panic!("{} {} is not the vendor's", operation.method, operation.path));
        let mut theirs: Vec<&str> = vendor["permissions"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        let mut ours = operation.permissions.to_vec();
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, theirs, "{}", operation.path);
        // "Any one of them will do" is how the table reads.
        assert!(vendor["requires"] == "ANY" || ours.len() <= 1);
    }
}
