//! Tick in, report out.

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serin_aws::settings::Settings;
use serin_aws::{DynamoLedger, ParameterStore, SecureParameter, SnsNotifier, WallClock};
use serin_controller::evaluate::{Ports, RolloutClock, Tick, evaluate};
use serin_genesys::{Genesys, OAuthClient};

/// The adapters, connected once per sandbox.
pub(crate) struct World {
    stage: String,
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
            ledger: DynamoLedger::new(&aws, settings.ledger_table),
            parameters: ParameterStore::new(&aws, settings.stage.clone()),
            notifier: SnsNotifier::new(&aws, settings.alert_topic, settings.rollback_topic),
            genesys: Genesys::new(genesys, OAuthClient::kept_in(SecureParameter::new(&aws, settings.genesys_secret)), WallClock)
                .map_err(|e| e.to_string())?,
            stage: settings.stage,
            clock: settings.clock,
        })
    }
}

/// What EventBridge Scheduler sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TickEvent {
    kind: Kind,
    time: Timestamp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Tick,
}

fn parse(event: &Value) -> anyhow::Result<TickEvent> {
    TickEvent::deserialize(event).with_context(|| {
        let shown: String = event.to_string().chars().take(200).collect();
        format!("event {shown} is not accepted: {{\"kind\":\"tick\",\"time\":\"2026-11-20T09:00:00Z\"}} is")
    })
}

/// Serves one tick.
pub(crate) async fn handle(world: &World, event: &Value, run: &str) -> anyhow::Result<Value> {
    let TickEvent { kind: Kind::Tick, time } = parse(event).map_err(|e| anyhow::anyhow!("{e:#}"))?;
    let ports = Ports {
        ledger: &world.ledger,
        parameters: &world.parameters,
        analytics: &world.genesys,
        notifier: &world.notifier,
        clock: &WallClock,
    };
    let tick = Tick { stage: world.stage.clone(), time, clock: world.clock, run: run.to_owned() };
    let report = evaluate(&ports, &tick).await?;
    for flow in &report.flows {
        tracing::info!(flow = %flow.flow, rollout = flow.rollout, phase = flow.phase, weight = %flow.weight, decision = flow.decision, reason = flow.reason, "tick");
    }
    // Everything was done that could be; the error is for the alarm on this function's errors.
    anyhow::ensure!(report.unwell.is_empty(), "tick incomplete: {}", report.unwell.join("; "));
    Ok(serde_json::to_value(report)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
    }

    #[test]
    fn a_tick_is_read() {
        parse(&event("canary-evaluator")).unwrap();
    }

    #[test]
    fn an_event_that_is_no_tick_is_refused_with_what_is_accepted() {
        for event in
            [event("canary-evaluator-not-an-event"), Value::Null, serde_json::json!({"kind": "tock", "time": "2026-11-20T09:00:00Z"})]
        {
            let refused = format!("{:#}", parse(&event).unwrap_err());
            assert!(refused.contains("is not accepted") && refused.contains(r#""kind":"tick""#), "{refused}");
        }
    }
}
