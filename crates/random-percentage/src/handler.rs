//! Event in, answer out. Nothing here fails: what is not understood goes to stable, and says so.

use crate::cache::Cache;
use crate::source::Source;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_core::cohort::{Assignment, Caller, Fallback};
use serin_core::rollout::FlowName;
use std::sync::LazyLock;

/// The Data Action's question.
#[derive(Deserialize)]
struct Question {
    flow: String,
    #[serde(rename = "conversationId")]
    conversation: Option<String>,
    caller: Option<String>,
}

/// Answers one call. Function URL and HTTP API envelopes are understood and answered as such.
pub(crate) async fn answer<S: Source>(cache: &mut Cache<S>, event: &Value) -> Value {
    match event.get("requestContext") {
        None => decide(cache, event).await,
        Some(_) => {
            let question = body(event).unwrap_or(Value::Null);
            let answer = decide(cache, &question).await;
            json!({"statusCode": 200, "headers": {"content-type": "application/json", "cache-control": "no-store"}, "body": answer.to_string()})
        }
    }
}

fn body(event: &Value) -> Option<Value> {
    // Genesys and curl send text; a base64 body is answered as one that is not understood.
    serde_json::from_str(event.get("body")?.as_str()?).ok()
}

async fn decide<S: Source>(cache: &mut Cache<S>, event: &Value) -> Value {
    let question = match Question::deserialize(event) {
        Ok(question) => question,
        Err(error) => {
            return misunderstood(&format!("{error}; an object such as {{\"flow\":\"main_ivr\",\"conversationId\":\"…\"}} is accepted"));
        }
    };
    if !FlowName::accepts(&question.flow) {
        let shown: String = question.flow.chars().take(80).collect();
        return misunderstood(&format!("flow `{shown}` is not accepted: 1 to 64 letters, digits, `_` or `-` are"));
    }
    let (router, revision) = cache.router(&question.flow).await;
    let caller = Caller { conversation: question.conversation.as_deref(), number: question.caller.as_deref() };
    let assignment = router.assign(caller, jiff::Timestamp::now(), fastrand::u16(0..10_000));
    if let Some(fallback) = assignment.fallback {
        count(fallback);
    }
    said(&assignment, revision)
}

/// Read once: fallbacks come by the call.
static STAGE: LazyLock<String> = LazyLock::new(|| std::env::var("STAGE").unwrap_or_default());

/// One line in the embedded metric format per call that was not drawn: no call to AWS, no permission, and nothing on the happy path.
#[allow(clippy::print_stdout)] // a function's standard output is its log
fn count(fallback: Fallback) {
    println!("{}", metric(fallback, jiff::Timestamp::now().as_millisecond()));
}

fn metric(fallback: Fallback, at: i64) -> Value {
    // The stage's own figure is alarmed, so it leaves out flows that nobody rolls out.
    let dimensions = match fallback {
        Fallback::UnknownFlow => json!([["Stage", "Reason"]]),
        _ => json!([["Stage"], ["Stage", "Reason"]]),
    };
    json!({
        "_aws": {"Timestamp": at, "CloudWatchMetrics": [{"Namespace": "Serin", "Dimensions": dimensions, "Metrics": [{"Name": "Fallback", "Unit": "Count"}]}]},
        "Stage": *STAGE,
        "Reason": fallback.name(),
        "Fallback": 1,
    })
}

fn said(assignment: &Assignment<'_>, revision: i64) -> Value {
    json!({
        "randomPct": assignment.bucket / 100 + 1,
        "percentage": assignment.weight,
        "cohort": assignment.cohort,
        "canaryVersion": assignment.label,
        "rollout": assignment.rollout,
        "revision": revision,
        "fallback": assignment.fallback.is_some(),
    })
}

/// The flow takes its stable branch, and whoever tests the Data Action reads why. The text is not logged: a mapping gone wrong may
/// have put a caller's number where the flow's name belongs.
fn misunderstood(error: &str) -> Value {
    json!({"randomPct": 100, "percentage": 0.0, "cohort": "stable", "canaryVersion": "", "rollout": "", "revision": 0, "fallback": true, "error": error})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Script;
    use serin_core::cohort::Parameters;

    fn cache() -> Cache<Script> {
        let split = r#"{"rollout":"r-20261121-1","labels":{"stable":"v1","canary":"v2"},"key":"000102030405060708090a0b0c0d0e0f"}"#;
        let parameters = Parameters {
            percentage: Some("100".into()),
            revision: 12,
            rollout: Some(split.into()),
            halt: None,
            heartbeat: Some(jiff::Timestamp::now().to_string()),
        };
        Cache::new(Script::of([("main_ivr", parameters)]))
    }

    fn event(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
    }

    #[tokio::test]
    async fn the_data_actions_question_is_answered_flat() {
        for name in ["random-percentage", "random-percentage-caller"] {
            let answer = answer(&mut cache(), &event(name)).await;
            assert_eq!(answer["cohort"], "canary", "{answer}");
            assert_eq!(answer["canaryVersion"], "v2");
            assert_eq!(answer["percentage"], 100.0);
            assert_eq!(answer["revision"], 12);
            assert_eq!(answer["fallback"], false);
            assert!((1..=100).contains(&answer["randomPct"].as_i64().unwrap()));
        }
    }

    #[test]
    fn a_fallback_is_counted_by_reason_and_names_nobody() {
        let line = metric(Fallback::NoHeartbeat, 5);
        assert_eq!((&line["Reason"], &line["Fallback"]), (&json!("NoHeartbeat"), &json!(1)));
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["Fallback", "Reason", "Stage", "_aws"]);
        let by_stage =
            |fallback| metric(fallback, 5)["_aws"]["CloudWatchMetrics"][0]["Dimensions"].as_array().unwrap().contains(&json!(["Stage"]));
        assert!(by_stage(Fallback::Unreadable) && !by_stage(Fallback::UnknownFlow), "a typo is no alarm");
    }

    #[tokio::test]
    async fn an_http_envelope_is_answered_in_kind() {
        let answer = answer(&mut cache(), &event("random-percentage-http-api")).await;
        assert_eq!(answer["statusCode"], 200);
        let inner: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(inner["cohort"], "canary", "{inner}");
    }

    #[tokio::test]
    async fn what_is_no_question_gets_stable_and_the_reason() {
        let cases = [
            (event("random-percentage-not-an-event"), "flow"),
            (json!(null), "accepted"),
            (json!([1, 2]), "accepted"),
            (json!({"flow": "main ivr!"}), "`main ivr!`"),
            (json!({"flow": ""}), "1 to 64"),
            (json!({"flow": 5}), "integer `5`"),
            (json!({"requestContext": {}, "body": "{"}), "accepted"),
        ];
        for (event, expected) in cases {
            let said = answer(&mut cache(), &event).await;
            let said = match said.get("body") {
                Some(body) => serde_json::from_str(body.as_str().unwrap()).unwrap(),
                None => said,
            };
            assert_eq!((said["cohort"].as_str(), said["fallback"].as_bool()), (Some("stable"), Some(true)), "{event}");
            assert!(said["error"].as_str().unwrap().contains(expected), "{event}: {said}");
        }
        let unknown = answer(&mut cache(), &event("random-percentage-unknown-flow")).await;
        assert_eq!(
            (unknown["cohort"].as_str(), unknown["fallback"].as_bool(), unknown["canaryVersion"].as_str()),
            (Some("stable"), Some(true), Some(""))
        );
    }
}
