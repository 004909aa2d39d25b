//! The ways back besides the percentage: known-good versions that are gone or lack something, IVRs, emergencies.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, minutes, quick_policy};
use serin_acceptance::world::{FlowInGenesys, Way};
use serin_controller::intervene::Action;
use serin_controller::ports::Dependency;
use serin_core::phase::Phase;
use serin_core::rollout::{Plan, Strategy, WayBack};

const FLOW: &str = "main_ivr";
const CANARY: &str = "main_ivr-canary";

fn armed(ivr: bool, group: bool) -> WayBack {
    WayBack { ivr: ivr.then(|| "ivr-1".into()), emergency_group: group.then(|| "group-1".into()), ..WayBack::default() }
}

/// A stage with an IVR that leads to the traffic cop, and an emergency group.
fn stage() -> Stage {
    let stage = Stage::new(&[FLOW]);
    stage.world.state().ivrs.insert("ivr-1".into(), "cop".into());
    stage.world.state().emergencies.insert("group-1".into(), false);
    stage
}

fn plan(version: &str, rollback: WayBack) -> Plan {
    let plan = Plan { rollback, ..Stage::plan(FLOW, version, quick_policy()) };
    plan.check().unwrap();
    plan
}

fn at_25_percent(stage: &mut Stage, plan: Plan) {
    stage.start(plan).unwrap();
    stage.until(60, |s| s.rollout(FLOW).in_force.weight.percent() == 25.0);
}

fn canary<T>(stage: &Stage, look: impl FnOnce(&mut FlowInGenesys) -> T) -> T {
    look(stage.world.state().flows.get_mut(CANARY).unwrap())
}

/// Rolls a version out, to its promotion.
fn promoted(stage: &mut Stage, version: &str) {
    stage.start(Stage::plan(FLOW, version, quick_policy())).unwrap();
    stage.until_phase(FLOW, "Promoted", 120);
}

#[test]
fn it_goes_back_to_what_proved_healthy_rather_than_to_what_ran_last() {
    let mut stage = stage();
    promoted(&mut stage, "15.0");
    canary(&stage, |flow| flow.publish_by_hand("13.0", "Pat"));
    at_25_percent(&mut stage, plan("17.0", WayBack::default()));
    assert_eq!(stage.rollout(FLOW).snapshot.unwrap().rollback_target, "15.0");
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(canary(&stage, |flow| flow.configuration().to_owned()), "better");
    stage.assert_lawful();
}

#[test]
fn what_proved_healthy_long_ago_does_not_count_where_the_owner_says_so() {
    for (days, target) in [(Some(2), "13.0"), (Some(9), "15.0"), (None, "15.0")] {
        let mut stage = stage();
        promoted(&mut stage, "15.0");
        canary(&stage, |flow| flow.publish_by_hand("13.0", "Pat"));
        let later = stage.world.state().now + minutes(7 * 24 * 60);
        stage.world.advance_to(later);
        stage.start(plan("17.0", WayBack { known_good_days: days, ..WayBack::default() })).unwrap();
        stage.until(10, |s| s.rollout(FLOW).snapshot.is_some());
        assert_eq!(stage.rollout(FLOW).snapshot.unwrap().rollback_target, target, "{days:?}");
    }
}

#[test]
fn a_version_that_was_deleted_meanwhile_gives_way_to_the_next_known_good_one() {
    let mut stage = stage();
    promoted(&mut stage, "15.0");
    at_25_percent(&mut stage, plan("17.0", WayBack::default()));
    canary(&stage, |flow| flow.versions.remove("15.0"));
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    let took = stage.until_phase(FLOW, "RolledBack", 5);
    assert!(took <= 2, "{took} minutes");
    assert_eq!(canary(&stage, |flow| flow.runs().to_owned()), "13.0");
    assert_eq!(stage.event_names(FLOW).iter().filter(|event| **event == "Retargeted").count(), 1, "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn where_every_version_is_gone_a_person_is_called_and_told_where_the_export_is() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", WayBack::default()));
    canary(&stage, |flow| flow.versions.retain(|version, _| version == "15.0"));
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "NeedsHuman", 5);
    let said = stage.alerts().last().unwrap().reason.clone();
    assert!(said.contains("13.0") && said.contains("calls are on stable") && said.contains("s3://exports/main_ivr/"), "{said}");
    assert_eq!(stage.offered(FLOW), 0.0);
    let kept = stage.world.state().exports.clone();
    assert_eq!(kept.values().collect::<Vec<_>>(), ["export of good"], "what stable ran was kept before anything was changed");
    stage.assert_lawful();
}

#[test]
fn a_version_whose_queue_was_deleted_is_not_published_and_its_owner_is_named() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", WayBack::default()));
    let queue = Dependency { kind: "QUEUE".into(), name: "Claims".into(), deleted: true };
    stage.world.state().found.dependencies = vec![queue];
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.until_phase(FLOW, "NeedsHuman", 5);
    assert_eq!(canary(&stage, |flow| flow.runs().to_owned()), "15.0", "nothing was published");
    let said = stage.alerts().last().unwrap().reason.clone();
    assert!(said.contains("QUEUE `Claims`") && said.contains("have its owner restore it"), "{said}");
    stage.assert_lawful();
}

#[test]
fn dependencies_that_cannot_be_looked_up_delay_nothing() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", WayBack::default()));
    stage.world.state().outages.insert("preflight.dependencies");
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    let took = stage.until_phase(FLOW, "RolledBack", 5);
    assert!(took <= 1, "{took} minutes");
}

/// The evaluator decides to roll back while nothing can be written into Parameter Store, and somebody has the canary flow open.
fn without_parameters(stage: &mut Stage) {
    canary(stage, |flow| flow.locked_by = Some("Pat".into()));
    let broken = serin_acceptance::world::Behavior { error: 0.6, abandon: 0.06, transfer: 0.1 };
    stage.world.state().traffic.behavior.insert("better".into(), broken);
    stage.world.state().outages.extend(["parameters.put_percentage", "parameters.put_halt"]);
    stage.until_phase(FLOW, "RollingBack", 20);
}

#[test]
fn where_the_percentage_cannot_be_written_the_ivr_leads_to_stable() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, true)));
    without_parameters(&mut stage);
    stage.until(4, |s| s.world.state().ivrs["ivr-1"] == "main_ivr-stable");
    assert!(!stage.world.state().emergencies["group-1"], "the emergency is the last way");
    stage.world.state().outages.clear();
    canary(&stage, |flow| flow.locked_by = None);
    stage.until_phase(FLOW, "RolledBack", 6);
    let alerts = stage.alerts();
    let told = alerts.iter().find(|alert| alert.incident_type == "CALLS_LED_AROUND").unwrap();
    assert!(told.reason.contains("no longer to cop") && told.next_step.contains("serin adopt"), "{told:?}");
    let last = alerts.last().unwrap();
    assert!(last.incident_type == "STILL_LED_AROUND" && last.reason.contains("serin adopt"), "{last:?}");
    assert_eq!(stage.event_names(FLOW).iter().filter(|event| **event == "LedAround").count(), 1);
    stage.assert_lawful();
}

#[test]
fn where_neither_works_an_armed_emergency_is_declared_and_an_unarmed_one_is_not() {
    for group in [true, false] {
        let mut stage = stage();
        at_25_percent(&mut stage, plan("15.0", armed(true, group)));
        stage.world.state().outages.insert("entrances.lead");
        without_parameters(&mut stage);
        (0..4).for_each(|_| stage.minute());
        let declared = stage.world.state().emergencies["group-1"];
        assert_eq!((declared, stage.world.state().ivrs["ivr-1"].as_str()), (group, "cop"));
        stage.assert_lawful();
    }
}

#[test]
fn a_write_that_fails_once_leads_no_ivr_anywhere() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, true)));
    without_parameters(&mut stage);
    canary(&stage, |flow| flow.locked_by = None);
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "RolledBack", 8);
    let state = stage.world.state();
    assert_eq!((state.ivrs["ivr-1"].as_str(), state.emergencies["group-1"]), ("cop", false));
    drop(state);
    stage.assert_lawful();
}

#[test]
fn where_all_callers_have_a_version_that_cannot_be_taken_back_the_armed_emergency_is_declared() {
    for group in [true, false] {
        let mut stage = published_to_all(armed(false, group));
        stage.person(FLOW, Action::Rollback).unwrap().unwrap();
        stage.until_phase(FLOW, "NeedsHuman", 8);
        assert_eq!(stage.world.state().emergencies["group-1"], group);
        let said = stage.alerts().last().unwrap().reason.clone();
        assert!(said.contains("all callers still get version 15.0"), "{said}");
        stage.assert_lawful();
    }
}

#[test]
fn an_ivr_that_leads_past_the_traffic_cop_and_a_declared_emergency_are_in_the_way() {
    let mut stage = stage();
    stage.world.state().ivrs.insert("ivr-1".into(), "main_ivr-stable".into());
    stage.world.state().emergencies.insert("group-1".into(), true);
    stage.start(plan("15.0", armed(true, true))).unwrap();
    stage.until_phase(FLOW, "Failed", 5);
    let said = stage.alerts().last().unwrap().reason.clone();
    assert!(said.contains("serin adopt") && said.contains("group-1") && said.contains("nothing was changed"), "{said}");
}

#[test]
fn the_snapshot_holds_where_the_ivr_led() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, false)));
    let snapshot = stage.rollout(FLOW).snapshot.unwrap();
    assert_eq!((snapshot.ivr_flow.as_deref(), snapshot.row), (Some("cop"), None));
    assert!(snapshot.export.unwrap().starts_with("s3://exports/main_ivr/r-"));
    assert!(matches!(stage.phase(FLOW), Phase::Stepping { .. }));
}

#[test]
fn it_is_not_over_while_the_percentage_stands() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", WayBack::default()));
    without_parameters(&mut stage);
    canary(&stage, |flow| flow.locked_by = None);
    (0..3).for_each(|_| stage.minute());
    assert_eq!((stage.phase(FLOW), canary(&stage, |flow| flow.runs().to_owned())), (Phase::RollingBack, "13.0".to_owned()));
    stage.world.state().outages.clear();
    stage.until_phase(FLOW, "RolledBack", 3);
    assert_eq!(stage.offered(FLOW), 0.0);
    stage.assert_lawful();
}

#[test]
fn where_the_halt_marker_stands_no_ivr_is_led_anywhere() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, true)));
    canary(&stage, |flow| flow.locked_by = Some("Pat".into()));
    stage.world.state().outages.insert("parameters.put_percentage");
    let broken = serin_acceptance::world::Behavior { error: 0.6, abandon: 0.06, transfer: 0.1 };
    stage.world.state().traffic.behavior.insert("better".into(), broken);
    stage.until_phase(FLOW, "RollingBack", 20);
    (0..3).for_each(|_| stage.minute());
    let state = stage.world.state();
    assert_eq!(
        (state.ivrs["ivr-1"].as_str(), state.emergencies["group-1"], state.offered(&"main_ivr".parse().unwrap()).percent()),
        ("cop", false, 0.0)
    );
}

#[test]
fn an_ivr_that_a_person_led_elsewhere_is_left_to_them() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, true)));
    without_parameters(&mut stage);
    stage.world.state().ivrs.insert("ivr-1".into(), "announcement".into());
    (0..4).for_each(|_| stage.minute());
    let state = stage.world.state();
    assert_eq!((state.ivrs["ivr-1"].as_str(), state.emergencies["group-1"]), ("announcement", false));
    drop(state);
}

#[test]
fn calls_that_were_led_around_by_a_run_that_died_before_saying_so_are_spoken_of() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, false)));
    without_parameters(&mut stage);
    stage.executor = false;
    stage.minute();
    {
        let mut state = stage.world.state();
        state.ivrs.insert("ivr-1".into(), "main_ivr-stable".into());
        state.outages.clear();
    }
    canary(&stage, |flow| flow.locked_by = None);
    stage.executor = true;
    stage.until_phase(FLOW, "RolledBack", 6);
    let said = stage.alerts().last().unwrap().reason.clone();
    assert!(said.contains("IVR ivr-1 leads to the stable flow itself, by Serin or by hand"), "{said}");
}

#[test]
fn where_nobody_can_see_the_parameters_nothing_is_led_anywhere() {
    let mut stage = stage();
    at_25_percent(&mut stage, plan("15.0", armed(true, true)));
    without_parameters(&mut stage);
    stage.world.state().outages.insert("parameters.read");
    (0..4).for_each(|_| stage.minute());
    let state = stage.world.state();
    assert_eq!((state.ivrs["ivr-1"].as_str(), state.emergencies["group-1"]), ("cop", false));
}

/// Version 15.0 is about to be published to all callers.
fn to_be_published(rollback: WayBack) -> Stage {
    let stage = stage();
    stage.world.state().traffic.way = Way::Direct;
    let later = stage.world.state().now + minutes(120);
    stage.world.advance_to(later);
    let plan = Plan { strategy: Strategy::PublishWatch, stable: None, ..plan("15.0", rollback) };
    plan.check().unwrap();
    stage.start(plan).unwrap();
    stage
}

/// All callers have it, and the version before cannot be published.
fn published_to_all(rollback: WayBack) -> Stage {
    let mut stage = to_be_published(rollback);
    stage.until_phase(FLOW, "Baking", 30);
    canary(&stage, |flow| flow.publish_fails = 100);
    stage
}

#[test]
fn silence_declares_no_emergency() {
    let mut stage = published_to_all(armed(false, true));
    stage.world.state().traffic.silent = true;
    stage.until_phase(FLOW, "NeedsHuman", 200);
    assert!(!stage.world.state().emergencies["group-1"], "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn a_publication_that_lands_after_it_was_called_back_is_put_back() {
    let mut stage = to_be_published(WayBack::default());
    stage.world.state().outages.insert("flows.publish");
    stage.until(5, |s| s.rollout(FLOW).snapshot.is_some());
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.world.state().outages.clear();
    stage.minute();
    // The run that was overtaken.
    canary(&stage, |flow| flow.publish_by_hand("15.0", "serin"));
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(canary(&stage, |flow| flow.runs().to_owned()), "13.0", "{}", stage.story());
}

#[test]
fn a_version_that_is_the_canary_s_by_another_number_is_no_way_back() {
    let mut stage = stage();
    canary(&stage, |flow| flow.versions.insert("15.1".into(), "better".into()));
    canary(&stage, |flow| flow.publish_by_hand("15.1", "Pat"));
    canary(&stage, |flow| flow.publish_by_hand("13.0", "Pat"));
    at_25_percent(&mut stage, plan("15.0", WayBack::default()));
    canary(&stage, |flow| flow.versions.remove("13.0"));
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "NeedsHuman", 5);
    assert_eq!(stage.offered(FLOW), 0.0);
}

#[test]
fn an_old_version_that_lacks_something_is_published_where_all_callers_have_a_worse_one() {
    let mut stage = to_be_published(WayBack::default());
    stage.until_phase(FLOW, "Baking", 30);
    stage.world.state().found.dependencies = vec![Dependency { kind: "QUEUE".into(), name: "Claims".into(), deleted: true }];
    stage.person(FLOW, Action::Rollback).unwrap().unwrap();
    stage.until_phase(FLOW, "RolledBack", 5);
    assert_eq!(canary(&stage, |flow| flow.runs().to_owned()), "13.0");
}
