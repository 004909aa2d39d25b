//! What flows' parameters are read with, against a server that knows some of them.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use serin_aws::{Config, ParameterStore};
use serin_controller::ports::Parameters;
use serin_core::rollout::FlowName;
use std::sync::{Arc, Mutex};

/// Answers for every flow but `unknown`, with its name in the values; refuses whoever asks for `refused` among others.
async fn store() -> (Config, Arc<Mutex<Vec<usize>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let serve = move |headers: HeaderMap, body: String| async move {
        assert_eq!(headers["x-amz-target"], "AmazonSSM.GetParameters");
        let names: Vec<String> = serde_json::from_value(serde_json::from_str::<Value>(&body).unwrap()["Names"].clone()).unwrap();
        seen.lock().unwrap().push(names.len());
        if names.iter().any(|name| name.contains("/refused/")) {
            return (StatusCode::BAD_REQUEST, json!({"__type": "AccessDeniedException", "message": "not authorized"}).to_string());
        }
        // In another order than they were asked for.
        let known = names.iter().rev().filter(|name| !name.contains("/unknown/"));
        let parameters: Vec<Value> =
            known.map(|name| json!({"Name": name, "Value": format!("of {name}"), "Version": name.len()})).collect();
        (StatusCode::OK, json!({"Parameters": parameters, "InvalidParameters": []}).to_string())
    };
    (support::serve(axum::Router::new().fallback(serve)).await, asked)
}

#[tokio::test]
async fn many_flows_are_read_with_few_requests_and_each_gets_its_own() {
    let (config, asked) = store().await;
    let store = ParameterStore::new(&config, "prod".into(), "ledger".into());
    let named = |flows: &[&str]| flows.iter().map(|flow| flow.parse().unwrap()).collect::<Vec<FlowName>>();
    let flows = named(&["a", "b", "unknown", "d", "e", "f", "g"]);
    let read = store.read_all(&flows.iter().collect::<Vec<_>>()).await;
    assert_eq!(read.len(), flows.len());
    for (flow, seen) in flows.iter().zip(read) {
        let seen = seen.unwrap();
        let expected = (flow.as_str() != "unknown").then(|| format!("of /genesys/canary/prod/{flow}/percentage"));
        assert_eq!(seen.percentage.as_ref().map(|(text, _)| text.clone()), expected);
        assert_eq!(seen.percentage.is_some(), seen.rollout.is_some() && seen.halt.is_some());
        assert_eq!(store.read(flow).await.unwrap(), seen, "as when it is read alone");
    }
    // A request takes ten names.
    let mut names = asked.lock().unwrap()[..3].to_vec();
    names.sort_unstable();
    assert_eq!(names, [3, 9, 9]);
}

#[tokio::test]
async fn a_request_that_fails_fails_for_each_flow_in_it_and_for_no_other() {
    let (config, _) = store().await;
    let store = ParameterStore::new(&config, "prod".into(), "ledger".into());
    let flows: Vec<FlowName> = ["a", "refused", "c", "d"].map(|flow| flow.parse().unwrap()).into();
    let read = store.read_all(&flows.iter().collect::<Vec<_>>()).await;
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, false, true]);
    for (flow, failed) in flows.iter().zip(&read[..3]) {
        let said = failed.as_ref().unwrap_err().to_string();
        assert!(said.contains(&format!("/genesys/canary/prod/{flow}/percentage")), "{said}");
    }
    assert!(store.read_all(&[]).await.is_empty());
}
