//! What must hold for any bytes. The fuzzer looks for some for which it does not; `tests/corpus.rs` plays what it has found interesting.

use jiff::Timestamp;
use random_percentage::cache::Cache;
use random_percentage::clock::{Clock, Moment};
use random_percentage::endpoint::Endpoint;
use random_percentage::source::{ReadError, Source, read_batch_get_item, read_get_parameters, read_refusal};
use serde_json::Value;
use serin_core::cohort::{Caller, Cohort, Parameters, Router};
use std::time::Duration;

const SPLIT: &str =
    r#"{"rollout":"r-1","labels":{"stable":"v1","canary":"v2"},"stickiness":"caller","key":"000102030405060708090a0b0c0d0e0f"}"#;

/// One flow in a rollout, on one day in November.
#[derive(Clone, Copy)]
struct Half;

impl Clock for Half {
    fn now(&self) -> Moment {
        Moment { boot: Duration::from_secs(60), wall: Duration::from_secs(1_795_168_800) }
    }
}

impl Source for Half {
    async fn read(&mut self, flow: &str) -> Result<Parameters, ReadError> {
        let heartbeat = Some(self.now().timestamp().to_string());
        Ok(match flow {
            "main_ivr" => Parameters { percentage: Some("50".into()), revision: 1, rollout: Some(SPLIT.into()), halt: None, heartbeat },
            _ => Parameters { heartbeat, ..Parameters::default() },
        })
    }
}

thread_local!(static RUNTIME: tokio::runtime::Runtime =
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// Any event gets an answer that a flow can use.
pub(crate) fn event(event: &[u8]) {
    let said = RUNTIME.with(|runtime| {
        let mut endpoint = Endpoint::new("prod".into(), Cache::new(Half, Half, || 7));
        let said = runtime.block_on(endpoint.answer(event));
        let (_, ends) = runtime.block_on(endpoint.between());
        assert!(!ends);
        said
    });
    let said = serde_json::to_value(&said).expect("it can be sent");
    let answer: Value = match said.get("statusCode") {
        None => said,
        Some(status) => {
            assert_eq!(*status, 200);
            serde_json::from_str(said["body"].as_str().expect("a body")).expect("JSON")
        }
    };
    let number = answer["randomPct"].as_u64().expect("a number");
    let percentage = answer["percentage"].as_f64().expect("a percentage");
    let (cohort, fallback) = (answer["cohort"].as_str().expect("a cohort"), answer["fallback"].as_bool().expect("a claim"));
    assert!((1..=100).contains(&number) && matches!(cohort, "stable" | "canary"), "{answer}");
    assert!(!fallback || (cohort == "stable" && percentage == 0.0), "{answer}");
    assert_eq!(
        answer["canaryVersion"],
        if fallback {
            ""
        } else if cohort == "canary" {
            "v2"
        } else {
            "v1"
        },
        "{answer}"
    );
    assert!(answer.get("error").is_none_or(|_| fallback), "{answer}");
    // The comparison that a flow makes by itself agrees.
    assert_eq!(number as f64 <= percentage, cohort == "canary", "{answer}");
}

/// Any parameters, and any question: one side, and stable where anything is wrong.
pub(crate) fn parameters(data: &[u8]) {
    let Some((present, rest)) = data.split_first() else { return };
    let mut texts = rest.splitn(6, |byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let mut next = |bit: u8| texts.next().filter(|_| present & bit != 0);
    let (percentage, rollout, halt, heartbeat) = (next(1), next(2), next(4), next(8));
    let (conversation, number) = (next(16), next(32));
    let parameters = Parameters { percentage, revision: 1, rollout, halt, heartbeat };
    let caller = Caller { conversation: conversation.as_deref(), number: number.as_deref() };
    let router = Router::read(&parameters);
    for now in [Half.now().timestamp(), Timestamp::MIN, Timestamp::MAX] {
        let drawn = router.assign(caller, now, 9_999);
        assert!(drawn.bucket < 10_000);
        assert_eq!(drawn.cohort == Cohort::Canary, drawn.weight.takes(drawn.bucket));
        assert!(drawn.fallback.is_none() || drawn.cohort == Cohort::Stable);
        let split: Option<Value> = parameters.rollout.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let halted = split.as_ref().is_some_and(|split| split["rollout"].as_str() == parameters.halt.as_deref());
        let number = parameters.percentage.as_deref().and_then(|text| text.trim().parse::<f64>().ok());
        let watched = parameters.heartbeat.as_deref().and_then(|text| text.parse().ok());
        let watched = watched.is_some_and(|beat: Timestamp| now.duration_since(beat).abs() <= jiff::SignedDuration::from_mins(5));
        if halted || split.is_none() || number.is_none_or(|number| number <= 0.0) || !watched {
            assert_eq!(drawn.cohort, Cohort::Stable);
        }
        if parameters.percentage.is_none() != parameters.rollout.is_none() && number != Some(0.0) {
            assert!(drawn.fallback.is_some());
        }
        assert_eq!(drawn, router.assign(caller, now, 9_999), "the same question, the same answer");
    }
    let last = Router::unreadable(Some(&router)).assign(caller, Half.now().timestamp(), 0).cohort;
    assert_eq!(last, Cohort::Stable);
}

/// Any answer of Parameter Store.
pub(crate) fn get_parameters(answer: &[u8]) {
    if let Ok(parameters) = read_get_parameters("prod", "main_ivr", answer) {
        let _ = Router::read(&parameters).assign(Caller::default(), Half.now().timestamp(), 0);
    }
    let _ = read_refusal(400, answer).to_string();
}

/// Any answer of DynamoDB.
pub(crate) fn batch_get_item(answer: &[u8]) {
    if let Ok(parameters) = read_batch_get_item("serin-prod", "main_ivr", answer) {
        let _ = Router::read(&parameters).assign(Caller::default(), Half.now().timestamp(), 0);
    }
}
