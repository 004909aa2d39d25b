//! Every file of `examples/` does what it says: played with the calls it expects, to the promotion of a healthy change and to the
//! rollback of a broken one. `SEED=7` plays other callers.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, minutes, name};
use serin_acceptance::world::{Behavior, OUTCOMES, TABLE, Way};
use serin_controller::intervene::Action;
use serin_controller::ports::Ended;
use serin_core::phase::Advice;
use serin_core::policy::Mode;
use serin_core::rollout::{Plan, Strategy};
use std::path::{Path, PathBuf};

/// One call in four ends by an error.
const BROKEN: Behavior = Behavior { error: 0.25, abandon: 0.06, transfer: 0.22 };

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"));
    eprintln!("SEED={seed}");
    seed
}

/// The plan of a file, on the flows, the table and the outcomes that the world has.
fn read(file: &str, version: &str) -> Plan {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let mut plan: Plan = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    plan.check().unwrap_or_else(|e| panic!("{file}: {e}"));
    let flow = plan.flow.clone();
    plan.stable.iter_mut().for_each(|stable| stable.flow_id = format!("{flow}-stable"));
    plan.canary.flow_id = format!("{flow}-canary");
    plan.canary.version = version.to_owned();
    plan.pointer.iter_mut().for_each(|pointer| pointer.table = TABLE.to_owned());
    if let Some(outcomes) = &mut plan.outcomes {
        (outcomes.stable, outcomes.canary) = (OUTCOMES.0.to_owned(), OUTCOMES.1.to_owned());
    }
    plan.check().unwrap();
    plan
}

/// A stage two hours after the calls came that the file expects; whatever it names in Genesys Cloud is there.
fn stage(plan: &Plan) -> Stage {
    let stage = Stage::new(&[plan.flow.as_str()]);
    {
        let mut state = stage.world.state();
        state.traffic.way = match plan.strategy {
            Strategy::TrafficCop => Way::Asked,
            Strategy::Pointer => Way::ByRow,
            Strategy::InFlow => Way::Inside,
            Strategy::PublishWatch => Way::Direct,
        };
        let an_hour = plan.policy.expected_calls_per_hour.expect("an example says how many calls it is for");
        state.traffic.calls_per_minute = (an_hour / 60.0) as u32;
        state.traffic.noise = Some(fastrand::Rng::with_seed(seed()));
        state.traffic.behavior.insert("broken".into(), BROKEN);
        if let Some(smoke) = &plan.smoke {
            state.found.test_calls.insert(smoke.dnis.clone(), Ended { calls: 1, errors: 0 });
        }
        state.ivrs.extend(plan.rollback.ivr.iter().map(|ivr| (ivr.clone(), "cop".to_owned())));
        state.emergencies.extend(plan.rollback.emergency_group.iter().map(|group| (group.clone(), false)));
    }
    let later = stage.world.state().now + minutes(120);
    stage.world.advance_to(later);
    stage
}

/// Starts the file's rollout, and says yes whenever a person is asked; how many minutes it took to its end.
fn played(file: &str, version: &str, end: &str, at_most: u32) -> (Stage, u32) {
    let plan = read(file, version);
    let flow = plan.flow.to_string();
    let mut stage = stage(&plan);
    stage.start(plan).unwrap();
    for took in 0..at_most {
        let phase = stage.phase(&flow);
        if phase.is_terminal() {
            assert_eq!(phase.name(), end, "{file}:\n{}", stage.story());
            stage.assert_lawful();
            eprintln!("{file}: {end} after {took} minutes");
            return (stage, took);
        }
        if phase.name() == "AwaitingApproval" {
            stage.person(&flow, Action::Approve).unwrap().unwrap();
        }
        stage.minute();
    }
    panic!("{file} has not ended within {at_most} minutes; it stands so:\n{}", stage.story());
}

/// A healthy change is promoted, a broken one rolled back and quarantined.
fn does_what_it_says(file: &str, promoted_within: u32, rolled_back_within: u32) {
    let (stage, _) = played(file, "15.0", "Promoted", promoted_within);
    assert!(stage.world.state().quarantine.is_empty());
    let (stage, _) = played(file, "16.0", "RolledBack", rolled_back_within);
    assert_eq!(stage.world.state().quarantine.len(), 1);
}

#[test]
fn high_volume_does_what_it_says() {
    does_what_it_says("high-volume.yaml", 12 * 60, 120);
}

#[test]
fn low_volume_does_what_it_says() {
    does_what_it_says("low-volume.yaml", 48 * 60, 240);
}

#[test]
fn blue_green_does_what_it_says() {
    does_what_it_says("blue-green.yaml", 120, 30);
    let (mut stage, _) = played("blue-green.yaml", "15.0", "Promoted", 120);
    for _ in 0..20 {
        stage.minute();
    }
    let flow = name("claims_ivr");
    assert_eq!(stage.world.state().pointed_weight(&flow).percent(), 100.0, "callers stay on green");
    assert_eq!(stage.world.state().flows["claims_ivr-stable"].configuration(), "better", "and blue has the version too");
}

#[test]
fn publish_watch_does_what_it_says() {
    does_what_it_says("publish-watch.yaml", 180, 60);
}

#[test]
fn bot_flow_does_what_it_says() {
    does_what_it_says("bot-flow.yaml", 240, 60);
}

#[test]
fn in_flow_does_what_it_says() {
    does_what_it_says("in-flow.yaml", 8 * 60, 120);
}

#[test]
fn observe_gives_advice_and_writes_nothing() {
    for (version, advised) in [("15.0", "a rise"), ("16.0", "to take it back")] {
        let plan = read("observe.yaml", version);
        assert_eq!(plan.policy.mode, Mode::Observe);
        let (flow, mut stage) = (plan.flow.to_string(), stage(&plan));
        stage.world.state().person_sets(&name(&flow), "0");
        stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand(version, "Pat");
        stage.start(plan).unwrap();
        stage.until_phase(&flow, "Stepping", 5);
        stage.world.state().person_sets(&name(&flow), "5");
        let took = stage.until(240, |s| match s.rollout(&flow).advised {
            Some(Advice::Rise { .. }) => advised == "a rise",
            Some(Advice::TakeBack) => advised == "to take it back",
            _ => false,
        });
        eprintln!("observe.yaml: advises {advised} after {took} minutes");
        assert_eq!((stage.percentage(&flow).as_deref(), stage.offered(&flow)), (Some("5"), 5.0));
        let state = stage.world.state();
        let writes = ["parameters.put_percentage", "parameters.put_halt", "flows.publish", "rows.point"];
        assert!(state.calls.iter().all(|call| !writes.contains(&call.name)));
        drop(state);
        stage.assert_lawful();
    }
}

#[test]
fn every_example_is_played_and_stands_in_the_table() {
    let this = include_str!("examples.rs");
    let table = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if !file.ends_with(".yaml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(folder().join(&file)).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=../docs/rollout.schema.json\n"), "{file}");
        assert!(this.contains(&format!("\"{file}\"")) && table.contains(&format!("[{file}]({file})")), "{file}");
    }
    assert_eq!(seen, 7);
}
