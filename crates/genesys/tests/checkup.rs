//! What an operator asks when something seems wrong.

mod support;

use jiff::SignedDuration;
use serin_controller::ports::Clock;
use serin_genesys::operations::Client;
use serin_genesys::{DataAction, Error};
use std::collections::BTreeSet;
use support::{JumpingClock, Stub, Vault, broken, client, ok, refusal, text};

const LIMITS: &str = "GET /api/v2/organizations/limits/namespaces/architect";
const ACTION: &str = "GET /api/v2/integrations/actions/action-1";

#[tokio::test]
async fn each_client_is_asked_for_what_it_needs() {
    let needs = async |of: Client| -> BTreeSet<String> {
        let stub = Stub::start().await;
        let permissions = client(&stub, &JumpingClock::new(), &Vault::default()).permissions(of, None).await;
        assert!(permissions.iter().all(|one| one.granted == Ok(true)), "nothing here says no: {permissions:?}");
        assert_eq!(permissions.iter().map(|one| &one.name).collect::<BTreeSet<_>>().len(), permissions.len(), "each once");
        permissions.into_iter().filter(|one| one.required).map(|one| one.name).collect()
    };
    let (read, publish) = (needs(Client::Both).await, needs(Client::Publisher).await);
    assert_eq!(read.iter().map(String::as_str).collect::<Vec<_>>(), ["analytics:flowAggregate:view", "architect:flow:view"]);
    assert!(read.is_subset(&publish), "{publish:?}");
    for named in ["architect:job:create", "architect:job:view", "architect:jobExport:create", "architect:dependencyTracking:view"] {
        assert!(publish.contains(named), "{named}: {publish:?}");
    }
}

#[tokio::test]
async fn one_refusal_is_enough_and_what_is_no_must_is_told_as_such() {
    let forbidden = || refusal(403, "error_403.json");
    let stub = Stub::start().await.on("GET /api/v2/flows/00000000-0000-0000-0000-000000000000/versions", [forbidden()]);
    let stub = stub.on("POST /api/v2/audits/query/realtime", [forbidden()]);
    let permissions = client(&stub, &JumpingClock::new(), &Vault::default()).permissions(Client::Both, None).await;
    let missing: Vec<(&str, bool)> =
        permissions.iter().filter(|one| one.granted == Ok(false)).map(|one| (one.name.as_str(), one.required)).collect();
    assert_eq!(missing, [("architect:flow:view", true), ("audits:audit:view", false)]);
}

#[tokio::test]
async fn where_nobody_answers_it_is_said_once_and_not_asked_again() {
    let stub = Stub::start().await.on("POST /oauth/token", [text(503, "{}")]);
    let clock = JumpingClock::new();
    let before = clock.now();
    let permissions = client(&stub, &clock, &Vault::default()).permissions(Client::Publisher, None).await;
    assert!(permissions.len() > 5 && permissions.iter().all(|one| one.granted.is_err()), "{permissions:?}");
    assert!(clock.now().duration_since(before) <= SignedDuration::from_secs(21), "as patient as with one call");
    assert!(stub.lines().iter().all(|line| line == "POST /oauth/token"));
}

#[tokio::test]
async fn the_vendor_s_clock_is_compared_with_ours() {
    for (date, ahead) in [("Fri, 20 Nov 2026 10:00:10 GMT", 10), ("Fri, 20 Nov 2026 09:59:00 GMT", -60)] {
        let stub = Stub::start().await.on(LIMITS, [ok("limits.json").with("date", date)]);
        let clock = JumpingClock::new();
        let ours = clock.now().duration_since("2026-11-20T10:00:00Z".parse().unwrap());
        let found = client(&stub, &clock, &Vault::default()).clock_ahead().await.unwrap();
        let expected = SignedDuration::from_secs(ahead) - ours;
        assert!((found - expected).abs() <= SignedDuration::from_secs(1), "{found} and not {expected}");
    }
    // A refusal has a date too.
    let stub = Stub::start().await.on(LIMITS, [refusal(403, "error_403.json")]);
    client(&stub, &JumpingClock::new(), &Vault::default()).clock_ahead().await.unwrap();
    let stub = Stub::start().await.on(LIMITS, [broken()]);
    client(&stub, &JumpingClock::new(), &Vault::default()).clock_ahead().await.unwrap_err();
}

#[tokio::test]
async fn a_data_action_tells_how_long_callers_wait_for_it() {
    let bare = r#"{"id": "action-1", "name": "Random Percentage"}"#;
    for (answer, timeout_seconds) in [(ok("action.json"), Some(2)), (text(200, bare), None)] {
        let stub = Stub::start().await.on(ACTION, [answer]);
        let found = client(&stub, &JumpingClock::new(), &Vault::default()).data_action("action-1").await.unwrap();
        assert_eq!(found, DataAction { name: "Random Percentage".into(), timeout_seconds });
        assert_eq!(stub.asked(ACTION)[0].query, "includeConfig=true");
    }
    let stub = Stub::start().await.on(ACTION, [refusal(403, "error_403.json")]);
    let error = client(&stub, &JumpingClock::new(), &Vault::default()).data_action("action-1").await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { .. }), "{error}");
}
