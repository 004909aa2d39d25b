//! Tick in, report out.

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serin_aws::metrics::{self, Metrics, Unit};
use serin_aws::settings::Settings;
use serin_aws::{DynamoLedger, ParameterStore, SecureParameter, SnsNotifier, WallClock};
use serin_controller::evaluate::{FlowReport, Ports, Report, RolloutClock, Tick, evaluate};
use serin_core::measurement::{Counts, Metric};
use serin_core::phase::Phase;
use serin_core::weight::Weight;
use serin_genesys::{Counted, Genesys, OAuthClient};

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
            ledger: DynamoLedger::new(&aws, settings.ledger_table.clone()),
            parameters: ParameterStore::new(&aws, settings.stage.clone(), settings.ledger_table),
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

/// What a tick tells CloudWatch: its alarms and its dashboard live on it.
fn told(stage: &str, report: Option<&Report>, asked: Counted, conflicts: u32) -> Vec<Metrics> {
    let of_stage = Metrics::of(stage)
        .count("GenesysRequests", asked.requests as usize)
        .trouble("GenesysThrottled", asked.throttled as usize)
        .trouble("GenesysTokenFailures", asked.token_failures as usize)
        .trouble("LedgerConflicts", conflicts as usize);
    let Some(report) = report else { return vec![of_stage] };
    let needs_human = Phase::NeedsHuman { weight: Weight::ZERO };
    let among = |is: &dyn Fn(&FlowReport) -> bool| report.flows.iter().filter(|flow| is(flow)).count();
    let of_stage = of_stage
        .count("FlowsListed", report.listed)
        .count("FlowsMissed", report.missed)
        .trouble("NeedsHuman", among(&|flow| flow.phase == needs_human.name()))
        .trouble("RestorationOverdue", among(&|flow| flow.overdue))
        .trouble("SampleRatio", among(&|flow| flow.sample_ratio))
        .trouble("NoticesWaiting", report.notices_waiting);
    let of_flow = |flow: &FlowReport| {
        let errors = |counts: &Counts| counts.percent(Metric::Error);
        Metrics::of(stage)
            .by("Flow", flow.flow.as_str())
            .with("Weight", Unit::Percent, flow.weight.percent())
            .count("CanaryCalls", flow.counts.canary.calls as usize)
            .count("StableCalls", flow.counts.stable.calls as usize)
            .known("CanaryErrorRate", Unit::Percent, errors(&flow.counts.canary))
            .known("StableErrorRate", Unit::Percent, errors(&flow.counts.stable))
            .known("Evidence", Unit::Percent, flow.evidence)
    };
    let tick = Metrics::of(stage).by("Function", "canary-evaluator").count("Tick", 1);
    [tick, of_stage].into_iter().chain(report.flows.iter().filter(|flow| flow.watched).map(of_flow)).collect()
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
    let outcome = evaluate(&ports, &tick).await;
    metrics::emit(&told(&world.stage, outcome.as_ref().ok(), world.genesys.counted(), world.ledger.conflicts()));
    let report = outcome?;
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
    use serde_json::json;
    use serin_core::explain::Explanation;
    use serin_core::measurement::Comparison;

    fn event(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(&path)
    }

    fn flow(name: &str, phase: Phase) -> FlowReport {
        let counts = Comparison {
            stable: Counts { calls: 200, errors: 3, ..Counts::default() },
            canary: Counts { calls: 50, errors: 5, ..Counts::default() },
        };
        FlowReport {
            flow: name.parse().expect("a name"),
            rollout: "r-20261121-1".into(),
            phase: phase.name().to_owned(),
            weight: phase.weight(),
            watched: phase.is_watched(),
            decision: "Hold".into(),
            reason: String::new(),
            explanation: Explanation {
                sentence: String::new(),
                figures: Vec::new(),
                decided_by: None,
                would_change: String::new(),
                next_in_minutes: None,
            },
            counts,
            evidence: phase.is_watched().then_some(62.0),
            sample_ratio: phase.is_watched(),
            overdue: phase == Phase::RollingBack,
            trouble: None,
        }
    }

    fn report(flows: Vec<FlowReport>) -> Report {
        let (time, listed) = (Timestamp::UNIX_EPOCH, flows.len());
        Report { time, flows, listed, missed: 0, notices_sent: 0, notices_waiting: 0, unwell: Vec::new() }
    }

    /// Dimensions and figures of each line.
    fn told_of(report: Option<&Report>, asked: Counted, conflicts: u32) -> Vec<(String, Value)> {
        let lines = told("prod", report, asked, conflicts).into_iter().filter_map(|m| m.line(Timestamp::UNIX_EPOCH));
        let split = |mut line: Value| {
            let directive = line["_aws"]["CloudWatchMetrics"][0].clone();
            let figures = line.as_object_mut().expect("an object");
            let names = directive["Dimensions"][0].as_array().expect("a list").clone();
            let values: Vec<String> =
                names.iter().map(|n| figures.remove(n.as_str().expect("a name")).expect("its value").to_string()).collect();
            figures.remove("_aws");
            (values.join(" ").replace('"', ""), Value::Object(figures.clone()))
        };
        lines.map(split).collect()
    }

    #[test]
    fn a_tick_over_nothing_is_told_too_and_one_that_failed_is_not() {
        let idle = Counted::default();
        assert_eq!(
            told_of(Some(&report(Vec::new())), idle, 0),
            [
                ("prod canary-evaluator".into(), json!({"Tick": 1.0})),
                ("prod".into(), json!({"GenesysRequests": 0.0, "FlowsListed": 0.0, "FlowsMissed": 0.0})),
            ]
        );
        let asked = Counted { requests: 3, throttled: 2, token_failures: 1 };
        let failed = json!({"GenesysRequests": 3.0, "GenesysThrottled": 2.0, "GenesysTokenFailures": 1.0, "LedgerConflicts": 4.0});
        assert_eq!(told_of(None, asked, 4), [("prod".into(), failed)]);
    }

    #[test]
    fn what_needs_somebody_is_counted_and_both_cohorts_are_told_of_each_flow_that_is_compared() {
        let weight = Weight::try_from(25.0).expect("a weight");
        let flows = vec![flow("a", Phase::Stepping { weight }), flow("b", Phase::NeedsHuman { weight }), flow("c", Phase::RollingBack)];
        let report = Report { missed: 1, notices_waiting: 2, ..report(flows) };
        let figures = told_of(Some(&report), Counted::default(), 0);
        assert_eq!(
            figures[1..],
            [
                (
                    "prod".into(),
                    json!({"GenesysRequests": 0.0, "FlowsListed": 3.0, "FlowsMissed": 1.0, "NeedsHuman": 1.0, "RestorationOverdue": 1.0,
                        "SampleRatio": 1.0, "NoticesWaiting": 2.0})
                ),
                (
                    "prod a".into(),
                    json!({"Weight": 25.0, "CanaryCalls": 50.0, "StableCalls": 200.0, "CanaryErrorRate": 10.0, "StableErrorRate": 1.5,
                        "Evidence": 62.0})
                ),
            ]
        );
    }

    #[test]
    fn a_tick_is_read() {
        parse(&event("canary-evaluator")).unwrap();
    }

    #[test]
    fn an_event_that_is_no_tick_is_refused_with_what_is_accepted() {
        for event in [event("canary-evaluator-not-an-event"), Value::Null, json!({"kind": "tock", "time": "2026-11-20T09:00:00Z"})] {
            let refused = format!("{:#}", parse(&event).unwrap_err());
            assert!(refused.contains("is not accepted") && refused.contains(r#""kind":"tick""#), "{refused}");
        }
    }
}
