//! Events in, answers out, and what the log tells.

#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use random_percentage::cache::Cache;
use random_percentage::endpoint::Endpoint;
use serde_json::{Value, json};
use std::time::Duration;
use support::{Mood, World, denied, throttled};

fn endpoint(world: &World) -> Endpoint<World, World> {
    Endpoint::new("prod".into(), world.cache())
}

async fn said(endpoint: &mut Endpoint<World, World>, event: &[u8]) -> Value {
    serde_json::to_value(endpoint.answer(event).await).unwrap()
}

/// The answer inside, whatever is around it.
async fn answer(event: &[u8]) -> Value {
    let said = said(&mut endpoint(&World::with("main_ivr", "100")), event).await;
    match said.get("body") {
        Some(body) => serde_json::from_str(body.as_str().unwrap()).unwrap(),
        None => said,
    }
}

fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).expect(&path)
}

#[tokio::test]
async fn the_data_actions_question_is_answered_flat() {
    for name in ["random-percentage", "random-percentage-caller"] {
        let answer = said(&mut endpoint(&World::with("main_ivr", "100")), &sample(name)).await;
        let number = answer["randomPct"].as_i64().unwrap();
        assert!((1..=100).contains(&number));
        let expected = json!({
            "randomPct": number, "percentage": 100.0, "cohort": "canary", "canaryVersion": "v2", "rollout": "r-1", "revision": 1, "fallback": false,
        });
        assert_eq!(answer, expected, "{name}");
    }
}

#[tokio::test]
async fn an_http_envelope_is_answered_in_kind() {
    let question = r#"{"flow":"main_ivr","conversationId":"c"}"#;
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(question);
    for event in [
        serde_json::from_slice(&sample("random-percentage-http-api")).unwrap(),
        json!({"requestContext": {}, "body": question}),
        json!({"requestContext": {}, "body": question, "isBase64Encoded": false}),
        json!({"requestContext": {}, "body": question, "isBase64Encoded": null}),
        json!({"version": "2.0", "requestContext": {"http": {}}, "body": encoded, "isBase64Encoded": true}),
    ] {
        let said = said(&mut endpoint(&World::with("main_ivr", "100")), event.to_string().as_bytes()).await;
        assert_eq!(said["statusCode"], 200, "{event}");
        assert_eq!(said["headers"], json!({"content-type": "application/json", "cache-control": "no-store"}));
        let inner: Value = serde_json::from_str(said["body"].as_str().unwrap()).unwrap();
        assert_eq!((&inner["cohort"], &inner["fallback"]), (&json!("canary"), &json!(false)), "{event}: {inner}");
    }
}

#[tokio::test]
async fn what_is_no_question_gets_stable_and_the_reason() {
    let cases: [(Vec<u8>, &str); 21] = [
        (sample("random-percentage-not-an-event"), "flow"),
        (b"null".to_vec(), "accepted"),
        (b"[1,2]".to_vec(), "accepted"),
        (br#"{"flow":"main ivr!"}"#.to_vec(), "`main ivr!`"),
        (br#"{"flow":""}"#.to_vec(), "1 to 64"),
        (br#"{"flow":5}"#.to_vec(), "integer `5`"),
        (br#"{"flow":1e999}"#.to_vec(), "accepted"),
        (br#"{"flow":"\ud800"}"#.to_vec(), "accepted"),
        (br#"{"flow":"main_ivr","flow":"other"}"#.to_vec(), "duplicate field `flow`"),
        (br#"{"flow":"main_ivr","conversationId":7}"#.to_vec(), "accepted"),
        (b"{\"flow\":\"\xff\xfe\"}".to_vec(), "accepted"),
        (b"".to_vec(), "accepted"),
        (b"{".to_vec(), "accepted"),
        (b"[".repeat(50_000), "accepted"),
        (b" ".repeat(100_000), "100000 bytes are not accepted"),
        (br#"{"requestContext":{},"body":"{"}"#.to_vec(), "accepted"),
        (br#"{"requestContext":{},"body":null}"#.to_vec(), "accepted"),
        (br#"{"requestContext":{}}"#.to_vec(), "accepted"),
        (br#"{"requestContext":{},"body":7}"#.to_vec(), "flow"),
        (br#"{"requestContext":{},"body":"%%%","isBase64Encoded":true}"#.to_vec(), "accepted"),
        (br#"{"requestContext":{},"body":"//79","isBase64Encoded":true}"#.to_vec(), "accepted"),
    ];
    for (event, expected) in cases {
        let shown = String::from_utf8_lossy(&event[..event.len().min(80)]).into_owned();
        let said = answer(&event).await;
        assert_eq!((said["cohort"].as_str(), said["fallback"].as_bool()), (Some("stable"), Some(true)), "{shown}");
        assert!(said["error"].as_str().unwrap().contains(expected), "{shown}: {said}");
        assert_eq!(
            (&said["randomPct"], &said["percentage"]),
            (&json!(100), &json!(0.0)),
            "a flow that compares numbers goes to stable too"
        );
    }
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_forgiven() {
    for event in [
        r#"{"flow":"main_ivr"}"#,
        r#"{"flow":"main_ivr","conversationId":null,"caller":null}"#,
        r#"{"flow":"main_ivr","conversationId":"","caller":"","flowVersion":"14.0","more":[{"requestContext":"no"}]}"#,
        r#"{"flow":"main_ivr","requestContext":null}"#,
        r#"{"flow":"main_ivr","conversationId":"a\"requestContext\"b"}"#,
    ] {
        let said = answer(event.as_bytes()).await;
        assert_eq!((&said["cohort"], &said["fallback"]), (&json!("canary"), &json!(false)), "{event}: {said}");
    }
    let unknown = answer(&sample("random-percentage-unknown-flow")).await;
    let stable = (&unknown["cohort"], &unknown["fallback"], &unknown["canaryVersion"]);
    assert_eq!(stable, (&json!("stable"), &json!(true), &json!("")));
}

#[tokio::test]
async fn the_same_conversation_gets_the_same_side_and_other_sandboxes_say_the_same() {
    let world = World::with("main_ivr", "50");
    let (mut one, mut other) = (endpoint(&world), endpoint(&world));
    let mut canary = 0;
    for call in 0..400 {
        let event = format!(r#"{{"flow":"main_ivr","conversationId":"c-{call}"}}"#);
        let first = said(&mut one, event.as_bytes()).await;
        assert_eq!(first, said(&mut other, event.as_bytes()).await);
        canary += usize::from(first["cohort"] == "canary");
    }
    assert!((140..260).contains(&canary), "{canary} of 400 at 50 %");
}

#[tokio::test]
async fn a_fault_of_ours_is_stable_for_the_caller_and_the_next_call_is_answered() {
    let world = World::with("main_ivr", "100");
    let mut endpoint = endpoint(&world);
    let ask = br#"{"flow":"main_ivr","conversationId":"c"}"#;
    world.mood(Mood::Panics);
    let first = said(&mut endpoint, ask).await;
    assert_eq!((&first["cohort"], &first["fallback"]), (&json!("stable"), &json!(true)), "{first}");
    let enveloped = said(&mut endpoint, br#"{"requestContext":{},"body":"{\"flow\":\"main_ivr\"}"}"#).await;
    assert_eq!(enveloped["statusCode"], 200, "in kind: {enveloped}");
    world.mood(Mood::Works);
    assert_eq!(said(&mut endpoint, ask).await["cohort"], "canary");
    world.pass(Duration::from_millis(701));
    assert_eq!(said(&mut endpoint, ask).await["cohort"], "canary");
    world.pass(Duration::from_millis(630));
    world.mood(Mood::Panics);
    assert_eq!(said(&mut endpoint, ask).await["cohort"], "canary", "from memory");
    let (lines, ends) = endpoint.between().await;
    assert!(lines.iter().any(|line| line["Reason"] == "Fault" && line["Fallback"] == 2), "{lines:?}");
    assert!(ends && lines.iter().any(|line| line["ProcessEnded"] == 1), "between two calls nobody is hurt by a new process: {lines:?}");
}

/// What one line of the log says, as `name=value`, and the dimensions of its metrics.
fn told(lines: &[Value]) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&directive["Namespace"], &line["Stage"]), (&json!("Serin"), &json!("prod")));
        assert_eq!(line["_aws"]["Timestamp"].as_i64().unwrap() / 3_600_000, i64::try_from(support::START.as_secs()).unwrap() / 3600);
        let dimensions: Vec<String> = directive["Dimensions"].as_array().unwrap().iter().map(|d| d.to_string().replace('"', "")).collect();
        let mut names: Vec<&str> = directive["Metrics"].as_array().unwrap().iter().map(|m| m["Name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let own = line.as_object().unwrap().keys().filter(|key| !["_aws", "Stage", "Reason"].contains(&key.as_str()));
        assert_eq!(own.collect::<Vec<_>>(), names, "every figure is a metric, and the other way round");
        let reason = line["Reason"].as_str().map(|r| format!("{r} ")).unwrap_or_default();
        let figures: Vec<String> = names.iter().map(|name| format!("{name}={}", line[*name])).collect();
        all.push(format!("{} {reason}{}", dimensions.join(""), figures.join(" ")));
    }
    all
}

#[tokio::test]
async fn calls_are_told_in_one_line_a_minute() {
    let world = World::with("main_ivr", "100");
    let mut endpoint = endpoint(&world);
    let ask = br#"{"flow":"main_ivr","conversationId":"c"}"#;
    said(&mut endpoint, ask).await;
    assert_eq!(told(&endpoint.between().await.0), ["[Stage] AnswerAge=0 CanaryAnswers=1 Reads=1 StableAnswers=0"]);
    for _ in 0..599 {
        world.pass(Duration::from_millis(100));
        said(&mut endpoint, ask).await;
        assert_eq!(told(&endpoint.between().await.0), [""; 0]);
    }
    world.set("main_ivr", "0");
    world.pass(Duration::from_millis(700));
    said(&mut endpoint, ask).await;
    let lines = told(&endpoint.between().await.0);
    assert!(lines.len() == 1 && lines[0].ends_with("StableAnswers=1") && lines[0].contains("CanaryAnswers=599"), "{lines:?}");
    let age: u64 = lines[0].split(['=', ' ']).nth(2).unwrap().parse().unwrap();
    assert!((500..=700).contains(&age), "{lines:?}");
}

#[tokio::test]
async fn a_call_that_was_not_drawn_is_told_within_a_second_and_names_nobody() {
    let world = World::with("main_ivr", "100");
    world.no_heartbeat();
    let mut endpoint = endpoint(&world);
    let ask = br#"{"flow":"main_ivr","conversationId":"c","caller":"+15551230000"}"#;
    said(&mut endpoint, ask).await;
    let lines = endpoint.between().await.0;
    assert_eq!(
        told(&lines),
        ["[Stage] Reads=1", "[Stage][Stage,Reason] NoHeartbeat Fallback=1"]
            .map(|l| l.replace("Reads=1", "CanaryAnswers=0 Reads=1 StableAnswers=0"))
    );
    assert!(!format!("{lines:?}").contains("555"));
    for _ in 0..9 {
        world.pass(Duration::from_millis(100));
        said(&mut endpoint, ask).await;
        assert_eq!(told(&endpoint.between().await.0), [""; 0]);
    }
    world.pass(Duration::from_millis(100));
    said(&mut endpoint, ask).await;
    assert_eq!(told(&endpoint.between().await.0).last().unwrap(), "[Stage][Stage,Reason] NoHeartbeat Fallback=10");
    // So is one whose question is none: nobody else would notice that the mapping is wrong.
    world.pass(Duration::from_secs(1));
    said(&mut endpoint, br#"{"flow":"+15551230000"}"#).await;
    let lines = endpoint.between().await.0;
    assert_eq!(told(&lines).last().unwrap(), "[Stage][Stage,Reason] Misunderstood Fallback=1");
    assert!(!format!("{lines:?}").contains("555"));
    // A typo waits for the minute, and is no alarm.
    said(&mut endpoint, br#"{"flow":"typo"}"#).await;
    world.pass(Duration::from_secs(2));
    said(&mut endpoint, br#"{"flow":"typo"}"#).await;
    assert_eq!(told(&endpoint.between().await.0), [""; 0]);
    world.pass(Duration::from_secs(60));
    said(&mut endpoint, br#"{"flow":"typo"}"#).await;
    assert_eq!(told(&endpoint.between().await.0).last().unwrap(), "[Stage,Reason] UnknownFlow Fallback=3");
}

#[tokio::test]
async fn a_process_that_is_denied_for_30_seconds_ends_between_events_and_says_so() {
    let world = World::with("main_ivr", "100");
    world.mood(throttled());
    let mut endpoint = Endpoint::new("prod".into(), Cache::new(world.clone(), world.clone(), support::draw));
    let ask = br#"{"flow":"main_ivr"}"#;
    let (mut ended, mut all) = (None, Vec::new());
    for second in 0..100 {
        if second == 10 {
            world.mood(denied());
        }
        world.pass(Duration::from_secs(1));
        let answer = said(&mut endpoint, ask).await;
        assert_eq!(answer["cohort"], "stable");
        let (lines, ends) = endpoint.between().await;
        all.extend(told(&lines));
        if ends {
            ended = Some(second);
            break;
        }
    }
    assert_eq!(ended, Some(40), "30 s after the first denial");
    assert!(all.iter().any(|line| line.contains("ReadsThrottled=")), "{all:?}");
    let last = all.iter().rfind(|line| line.contains("Reads=")).unwrap();
    assert!(last.contains("ProcessEnded=1") && last.contains("ReadsDenied="), "{last}");
}
