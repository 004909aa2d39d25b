//! A tick or a batch of rollback requests in, what was worked on out.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_aws::metrics::{self, Metrics};
use serin_aws::settings::{Settings, setting};
use serin_aws::{DynamoLedger, ParameterStore, S3Exports, SecureParameter, SnsNotifier, WallClock};
use serin_controller::evaluate::RolloutClock;
use serin_controller::work::{Ports, Run, UNKNOWN, Worked, serve, work};
use serin_core::alert::RollbackRequest;
use serin_core::rollout::FlowName;
use serin_genesys::{Genesys, OAuthClient};

/// The adapters, connected once per sandbox.
pub(crate) struct World {
    stage: String,
    region: Option<String>,
    clock: RolloutClock,
    ledger: DynamoLedger,
    parameters: ParameterStore,
    notifier: SnsNotifier,
    genesys: Genesys<OAuthClient<SecureParameter>, WallClock>,
}

impl World {
    pub(crate) async fn connect(settings: Settings) -> Result<World, String> {
        let genesys = serin_genesys::Settings::new(&settings.genesys_api, Some(&settings.genesys_login)).map_err(|e| e.to_string())?;
        let aws = serin_aws::load().await;
        Ok(World {
            ledger: DynamoLedger::new(&aws, settings.ledger_table.clone()).with_exports(S3Exports::new(&aws, setting("EXPORT_BUCKET")?)),
            parameters: ParameterStore::new(&aws, settings.stage.clone(), settings.ledger_table),
            notifier: SnsNotifier::new(&aws, settings.alert_topic, settings.rollback_topic),
            genesys: Genesys::new(genesys, OAuthClient::kept_in(SecureParameter::new(&aws, settings.genesys_secret)), WallClock)
                .map_err(|e| e.to_string())?,
            region: aws.region().map(ToString::to_string),
            stage: settings.stage,
            clock: settings.clock,
        })
    }
}

/// What wakes the executor.
#[derive(Debug, PartialEq)]
enum Event {
    /// The schedule.
    Tick(Timestamp),
    /// The queue, one record at a time: message id, when it was sent, what it says.
    Requests(Vec<(String, Timestamp, Message)>),
}

/// What a record of the queue says.
#[derive(Debug, PartialEq)]
enum Message {
    /// Put a flow back.
    Rollback(RollbackRequest),
    /// A CloudWatch alarm that names no flow, or did not change to ALARM: nothing to do here.
    NotForUs(String),
    /// Not understood; it ends in the dead-letter queue.
    Unreadable(String),
}

const ACCEPTED: &str =
    r#"{"kind":"tick","time":"2026-11-20T09:00:00Z"} is, or an SQS batch of {"flow":"main_ivr","reason":"…","requested_by":"…"}"#;

fn parse(event: &Value) -> anyhow::Result<Event> {
    let refuse = |why: &str| {
        let shown: String = event.to_string().chars().take(200).collect();
        anyhow::anyhow!("event {shown} is not accepted{why}: {ACCEPTED}")
    };
    if event["kind"] == "tick" {
        let time = event["time"].as_str().and_then(|t| t.parse().ok()).ok_or_else(|| refuse(", its time cannot be read"))?;
        return Ok(Event::Tick(time));
    }
    let records = event["Records"].as_array().ok_or_else(|| refuse(""))?;
    records
        .iter()
        .map(|record| record_of(record).ok_or_else(|| refuse(", a record has no body")))
        .collect::<anyhow::Result<_>>()
        .map(Event::Requests)
}

fn record_of(record: &Value) -> Option<(String, Timestamp, Message)> {
    let sent =
        record["attributes"]["SentTimestamp"].as_str().and_then(|ms| ms.parse().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Some((record["messageId"].as_str()?.to_owned(), sent?, message(record["body"].as_str()?)))
}

/// A CloudWatch alarm, as SNS delivers it.
#[derive(Deserialize)]
struct Alarm {
    #[serde(rename = "AlarmName")]
    name: String,
    #[serde(rename = "NewStateValue")]
    state: String,
    #[serde(rename = "NewStateReason", default)]
    reason: String,
    #[serde(rename = "Trigger", default)]
    trigger: Value,
}

fn message(body: &str) -> Message {
    // A list would be read as the fields of either, in their order.
    if !body.trim_start().starts_with('{') {
        return Message::Unreadable("an object is expected".into());
    }
    if let Ok(alarm) = serde_json::from_str::<Alarm>(body) {
        return alarmed(alarm);
    }
    match serde_json::from_str(body) {
        Ok(request) => Message::Rollback(request),
        Err(error) => Message::Unreadable(error.to_string()),
    }
}

fn alarmed(alarm: Alarm) -> Message {
    let dimensions = alarm.trigger["Dimensions"].as_array().cloned().unwrap_or_default();
    let flow = dimensions.iter().find(|d| d["name"] == "flow").and_then(|d| d["value"].as_str()).and_then(|f| f.parse::<FlowName>().ok());
    match flow {
        Some(flow) if alarm.state == "ALARM" => {
            let reason: String = alarm.reason.chars().take(500).collect();
            Message::Rollback(RollbackRequest {
                flow,
                rollout: None,
                reason,
                requested_by: format!("alarm {}", alarm.name),
                at: None,
                by_alarm: true,
            })
        }
        Some(_) => Message::NotForUs(format!("alarm {} changed to {}", alarm.name, alarm.state)),
        None => Message::NotForUs(format!("alarm {} has no dimension `flow`", alarm.name)),
    }
}

impl World {
    fn run(&self, time: Timestamp, id: &str) -> Run {
        Run { time, clock: self.clock, id: id.to_owned(), stage: self.stage.clone(), region: self.region.clone() }
    }
}

/// What a run tells CloudWatch.
fn told(world: &World) -> Metrics {
    let asked = world.genesys.counted();
    Metrics::of(&world.stage)
        .count("GenesysRequests", asked.requests as usize)
        .trouble("GenesysThrottled", asked.throttled as usize)
        .trouble("GenesysTokenFailures", asked.token_failures as usize)
        .trouble("LedgerConflicts", world.ledger.conflicts() as usize)
}

/// Serves one event.
pub(crate) async fn handle(world: &World, event: &Value, run: &str) -> anyhow::Result<Value> {
    let served = serve_event(world, event, run).await;
    metrics::emit(&[told(world)]);
    served
}

async fn serve_event(world: &World, event: &Value, run: &str) -> anyhow::Result<Value> {
    let ports =
        Ports { ledger: &world.ledger, parameters: &world.parameters, flows: &world.genesys, notifier: &world.notifier, clock: &WallClock };
    match parse(event)? {
        Event::Tick(time) => {
            let worked = work(&ports, &world.run(time, run)).await?;
            metrics::emit(&[Metrics::of(&world.stage).by("Function", "rollback-executor").count("Tick", 1)]);
            // The others were worked on; the error is for the alarm on this function's errors.
            let failed: Vec<String> =
                worked.iter().filter(|w| w.phase == UNKNOWN).map(|w| format!("flow {}: {}", w.flow, w.step)).collect();
            anyhow::ensure!(failed.is_empty(), "not worked on: {}", failed.join("; "));
            Ok(json!({"time": time, "worked": worked}))
        }
        Event::Requests(requests) => {
            let mut failed = Vec::new();
            let mut worked: Vec<Worked> = Vec::new();
            for (id, sent, message) in requests {
                let done = match message {
                    Message::Rollback(request) => {
                        let time = request.at.unwrap_or(sent);
                        serve(&ports, &world.run(time, run), &request, sent).await.map_err(|e| e.to_string())
                    }
                    Message::NotForUs(why) => {
                        tracing::info!(message = id, why, "nothing to put back");
                        continue;
                    }
                    Message::Unreadable(why) => Err(format!("{why}; {ACCEPTED}")),
                };
                match done {
                    Ok(done) => worked.push(done),
                    Err(error) => {
                        tracing::error!(message = id, error, "request not served");
                        failed.push(json!({"itemIdentifier": id}));
                    }
                }
            }
            Ok(json!({"batchItemFailures": failed, "worked": worked}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
    }

    #[test]
    fn a_tick_a_request_and_an_alarm_are_read() {
        assert!(matches!(parse(&event("rollback-executor")).unwrap(), Event::Tick(_)));
        let Event::Requests(requests) = parse(&event("rollback-executor-sqs")).unwrap() else { panic!("a batch") };
        assert!(matches!(&requests[0].2, Message::Rollback(r) if r.flow.as_str() == "main_ivr"), "{requests:?}");
        let Event::Requests(requests) = parse(&event("rollback-executor-alarm")).unwrap() else { panic!("a batch") };
        assert!(matches!(&requests[0].2, Message::Rollback(r) if r.requested_by.starts_with("alarm ")), "{requests:?}");
    }

    #[test]
    fn an_alarm_acts_on_the_change_to_alarm_and_only_on_a_named_flow() {
        let body = |state: &str, dimensions: &str| {
            format!(r#"{{"AlarmName":"a","NewStateValue":"{state}","Trigger":{{"Dimensions":{dimensions}}}}}"#)
        };
        let flow = r#"[{"name":"flow","value":"main_ivr"}]"#;
        assert!(matches!(message(&body("ALARM", flow)), Message::Rollback(_)));
        assert!(matches!(message(&body("OK", flow)), Message::NotForUs(_)));
        assert!(matches!(message(&body("ALARM", "[]")), Message::NotForUs(_)));
    }

    #[test]
    fn what_is_no_event_is_refused_with_what_is_accepted() {
        for event in [event("rollback-executor-not-an-event"), Value::Null, json!({"kind": "tick"}), json!({"Records": [{}]})] {
            let refused = parse(&event).unwrap_err().to_string();
            assert!(refused.contains("is not accepted") && refused.contains("SQS batch"), "{refused}");
        }
        assert!(matches!(message(r#"{"flow":"main ivr","reason":"","requested_by":""}"#), Message::Unreadable(_)));
        for body in ["rollback please", r#"["a","ALARM"]"#, r#"["main_ivr",null,"why","who"]"#] {
            assert!(matches!(message(body), Message::Unreadable(_)), "{body}");
        }
    }
}
