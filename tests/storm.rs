//! A thousand rollouts roll back at once: what people are told per tick, and that all of it is told.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, name, quick_policy, run};
use serin_acceptance::world::{Process, World};
use serin_controller::outbox::{PER_TICK, Sent, send, send_few};
use serin_controller::ports::{Authority, Notice, Topic};
use serin_controller::record::{Record, open, record};
use serin_core::alert::{Alert, Severity};
use serin_core::phase::Event;
use serin_core::rollout::{Actor, Cause};
use serin_core::weight::Weight;
use std::collections::{BTreeMap, BTreeSet};

/// So many rollouts at 5 %, of which the first ones are rolled back; nothing of it was told yet.
fn rollouts(all: usize, rolled_back: usize) -> (World, Process) {
    let names: Vec<String> = (0..all).map(|n| format!("ivr_{n}")).collect();
    let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let process = world.process("history");
    let weight = Weight::try_from(5.0).unwrap();
    for (n, flow) in names.iter().enumerate() {
        let mut events = vec![
            Event::Requested { plan: Box::new(Stage::plan(flow, "15.0", quick_policy())) },
            Event::Prepared { canary_version: "15.0".into() },
            Event::StepStarted { weight, base_version: 1 },
        ];
        if n < rolled_back {
            let cause = Cause::Requested { by: "pat".into(), reason: "the trunk is down".into() };
            events.push(Event::RollbackStarted { cause });
        }
        for event in events {
            run(&process, append(&process, flow, event)).unwrap();
        }
    }
    (world, process)
}

async fn append(process: &Process, flow: &str, event: Event) {
    let flow = name(flow);
    let opened = open(process, &flow).await.unwrap();
    let authority = Authority::Preempt { fence: opened.book.fence, owner: "history".into() };
    let now = "2026-11-20T09:00:00Z".parse().unwrap();
    let by = Actor::Serin("history".into());
    let entry = Record { by, why: "as it was".into(), event, evidence: None, at: now, recorded_at: now };
    record(process, &flow, &opened, authority, entry).await.unwrap();
}

/// What has been published since the last look, by topic.
fn told(world: &World, seen: &mut usize) -> (Vec<Notice>, Vec<Alert>) {
    let told = world.state().told[*seen..].to_vec();
    *seen += told.len();
    let (wake_ups, alerts): (Vec<_>, Vec<_>) = told.into_iter().partition(|notice| notice.topic == Topic::Rollback);
    (wake_ups, alerts.iter().map(|notice| serde_json::from_str(&notice.body).unwrap()).collect())
}

#[test]
fn a_thousand_rollbacks_at_once_are_told_over_ticks_the_critical_ones_first_and_none_is_lost() {
    let (world, process) = rollouts(1_200, 1_000);
    let (mut seen, mut all, mut last) = (0, Vec::new(), BTreeMap::new());
    let mut storms = BTreeSet::new();
    for tick in 0.. {
        run(&process, send(&process, &process)).unwrap();
        let (wake_ups, mut alerts) = told(&world, &mut seen);
        assert_eq!(wake_ups.len(), if tick == 0 { 1_000 } else { 0 }, "wake-ups are never held back");
        let waiting = world.state().outbox.len();
        if waiting > 0 {
            let storm = alerts.pop().unwrap();
            assert_eq!((storm.incident_type.as_str(), storm.severity), ("ALERT_STORM", Severity::Critical));
            assert!(storm.action_taken.starts_with(&format!("{waiting} alerts of ")), "{}", storm.action_taken);
            storms.insert(storm.dedup_key);
        }
        assert!(alerts.len() == PER_TICK || waiting == 0 && alerts.len() <= PER_TICK, "tick {tick}: {} alerts", alerts.len());
        for alert in &alerts {
            let before = last.insert((alert.flow_id.clone(), alert.rollout.clone()), alert.revision);
            assert!(before.is_none_or(|before| before < alert.revision), "{} after {before:?}", alert.dedup_key);
        }
        all.extend(alerts);
        if waiting == 0 {
            break;
        }
    }
    assert_eq!((storms.len(), storms.first().map(String::as_str)), (1, Some("all-flows/storm-20261120/0")));
    // Three alerts of each that is rolled back, the third of them critical; then two of each that goes on.
    assert_eq!((all.len(), all.iter().map(|a| &a.dedup_key).collect::<BTreeSet<_>>().len()), (3_400, 3_400));
    let last_critical = all.iter().rposition(|alert| alert.severity == Severity::Critical);
    assert_eq!(last_critical, Some(2_999), "what is critical does not wait for what is not");
    world.state().check_told();
    assert_eq!(world.state().violations, Vec::<String>::new());
}

#[test]
fn a_request_leaves_a_storm_to_the_ticks_and_tells_a_few_alerts_at_once() {
    let (world, process) = rollouts(30, 30);
    let sent = run(&process, send_few(&process, &process));
    assert_eq!(sent, Some(Sent { published: 30, waiting: 60 }), "the wake-ups alone");
    let (wake_ups, alerts) = told(&world, &mut 0);
    assert_eq!((wake_ups.len(), alerts.len()), (30, 0));

    let (world, process) = rollouts(2, 2);
    assert_eq!(run(&process, send_few(&process, &process)), Some(Sent { published: 8, waiting: 0 }));
    world.state().check_told();
}

#[test]
fn a_storm_of_which_a_tick_can_publish_nothing_is_told_later() {
    let (world, process) = rollouts(100, 100);
    world.state().outages.insert("notifier");
    assert_eq!(run(&process, send(&process, &process)), Some(Sent { published: 0, waiting: 300 }));
    world.state().outages.clear();
    for _ in 0..6 {
        run(&process, send(&process, &process)).unwrap();
    }
    assert!(world.state().outbox.is_empty());
    world.state().check_told();
}
