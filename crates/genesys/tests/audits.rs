//! Who changed something by hand.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use serde_json::json;
use serin_controller::ports::{Analytics, Changed};
use support::{JumpingClock, Stub, Vault, client, ok, refusal, text};

const AUDITS: &str = "POST /api/v2/audits/query/realtime";

async fn changed_by(stub: &Stub, what: Changed<'_>) -> Option<String> {
    let since = "2026-11-20T09:30:00Z".parse().unwrap();
    client(stub, &JumpingClock::new(), &Vault::default()).changed_by(what, since).await
}

#[tokio::test]
async fn the_latest_change_that_was_not_our_own_has_a_name() {
    let stub = Stub::start().await.on(AUDITS, [ok("audits.json")]);
    assert_eq!(changed_by(&stub, Changed::Flow("green")).await.as_deref(), Some("Pat Doe"));
    let body = &stub.bodies(AUDITS)[0];
    assert_eq!(body["interval"], "2026-11-20T09:30:00.000Z/2026-11-20T10:01:00.000Z");
    assert_eq!(body["serviceName"], "Architect");
    assert_eq!(body["filters"], json!([{"property": "EntityId", "value": "green"}]));
    assert_eq!(body["sort"], json!([{"name": "Timestamp", "sortOrder": "descending"}]));
    assert_eq!(stub.asked(AUDITS)[0].query, "expand=user");
    assert_eq!(changed_by(&stub, Changed::Row { table: "table-1", row: "Main_IVR_Green" }).await.as_deref(), Some("Pat Doe"));
    let body = &stub.bodies(AUDITS)[1];
    assert_eq!((&body["serviceName"], &body["filters"][0]["value"]), (&json!("Datatables"), &json!("table-1")));
}

#[tokio::test]
async fn what_the_audit_does_not_tell_is_not_known_and_never_an_error() {
    for answer in [refusal(403, "error_403.json"), text(500, ""), text(200, "<html>"), text(200, "{}"), text(200, r#"{"entities": []}"#)] {
        let stub = Stub::start().await.on(AUDITS, [answer]);
        assert_eq!(changed_by(&stub, Changed::Flow("green")).await, None);
    }
}
