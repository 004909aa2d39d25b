//! A file becomes a version of the canary flow, which no caller reaches, and then a rollout; or nothing is changed, and it is said why.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, name, quick_policy, race, run};
use serin_acceptance::world::{Behavior, Fault, FlowInGenesys, State, TABLE, Way};
use serin_controller::deploy::{DeployError, stands};
use serin_controller::intervene::Action;
use serin_controller::ports::{Flows, Pointer};
use serin_controller::work::Ports;
use serin_core::calendar::{Kind, Restriction, When};
use serin_core::policy::{Mode, Policy};
use serin_core::rollout::{Finalize, Outcomes, Plan, PointerTable, Strategy};
use serin_core::weight::Weight;

const FLOW: &str = "main_ivr";
const CANARY: &str = "main_ivr-canary";
/// A file of the canary flow that does what it should, and one that does not.
const FILE: &str = "Canary better";
const BROKEN: &str = "Canary broken";

/// What is changed in the world, or in the plan.
type Change<T> = Box<dyn Fn(&mut T)>;

/// The version in the file does not count.
fn plan() -> Plan {
    Stage::plan(FLOW, "any", quick_policy())
}

fn by_row(finalize: Finalize) -> Plan {
    Plan { strategy: Strategy::Pointer, pointer: Some(PointerTable { table: TABLE.into() }), finalize, ..plan() }
}

/// A canary flow that ran 13.0 and then 14.0, and has nothing but these.
fn stage() -> Stage {
    let stage = Stage::new(&[FLOW]);
    canary(&stage, |flow| {
        flow.versions.retain(|version, _| version == "13.0");
        flow.versions.insert("14.0".into(), "best".into());
        flow.publish_by_hand("14.0", "Pat");
    });
    stage
}

fn canary<T>(stage: &Stage, look: impl FnOnce(&mut FlowInGenesys) -> T) -> T {
    look(stage.world.state().flows.get_mut(CANARY).unwrap())
}

fn runs(stage: &Stage) -> String {
    canary(stage, |flow| flow.runs().to_owned())
}

fn published(stage: &Stage) -> usize {
    stage.world.state().calls.iter().filter(|call| call.name == "flows.publish_file").count()
}

/// Deploys, and starts what came out.
fn deployed(stage: &Stage, plan: &Plan, file: &str) -> String {
    let plan = stage.deploy(plan, file).unwrap().unwrap();
    let version = plan.canary.version.clone();
    stage.start(plan).unwrap();
    version
}

#[test]
fn a_deployed_version_is_rolled_out() {
    let mut stage = stage();
    assert_eq!(deployed(&stage, &plan(), FILE), "15.0");
    assert_eq!((runs(&stage), stage.offered(FLOW)), ("15.0".to_owned(), 0.0));
    stage.until_phase(FLOW, "Promoted", 120);
    assert_eq!(stage.rollout(FLOW).canary_version.as_deref(), Some("15.0"));
    assert_eq!(published(&stage), 1, "a version that runs is not published again");
    stage.assert_lawful();
}

#[test]
fn what_the_flow_ran_before_is_published_again_when_the_rollout_fails() {
    let mut stage = stage();
    stage.world.state().traffic.behavior.insert("broken".into(), Behavior { error: 0.6, abandon: 0.06, transfer: 0.1 });
    assert_eq!(deployed(&stage, &plan(), BROKEN), "15.0");
    stage.until_phase(FLOW, "RolledBack", 60);
    assert_eq!(stage.rollout(FLOW).snapshot.unwrap().rollback_target, "14.0");
    assert_eq!(runs(&stage), "14.0", "{}", stage.story());
    stage.assert_lawful();
}

#[test]
fn a_file_that_was_deployed_twice_is_no_way_back_for_itself() {
    let mut stage = stage();
    // The first was never started.
    assert_eq!(stage.deploy(&plan(), BROKEN).unwrap().unwrap().canary.version, "15.0");
    assert_eq!(deployed(&stage, &plan(), BROKEN), "16.0");
    stage.until(10, |s| s.rollout(FLOW).snapshot.is_some());
    assert_eq!(stage.rollout(FLOW).snapshot.unwrap().rollback_target, "14.0");
    stage.until_phase(FLOW, "RolledBack", 60);
    assert_eq!(runs(&stage), "14.0");
    stage.assert_lawful();
}

#[test]
fn where_there_is_no_other_the_same_by_another_number_is_the_way_back() {
    let mut stage = stage();
    canary(&stage, |flow| flow.versions.insert("15.0".into(), "best".into()));
    canary(&stage, |flow| flow.versions.remove("13.0"));
    stage.start(Stage::plan(FLOW, "15.0", quick_policy())).unwrap();
    stage.until(10, |s| s.rollout(FLOW).snapshot.is_some());
    assert_eq!(stage.rollout(FLOW).snapshot.unwrap().rollback_target, "14.0");
}

/// Refused without anything being published; what is said.
fn refusal(stage: &Stage, plan: &Plan) -> String {
    let before = (runs(stage), published(stage));
    let rehearsed = stage.rehearse_deploy(plan, FILE).unwrap_err();
    let error = stage.deploy(plan, FILE).unwrap().unwrap_err();
    assert_eq!(rehearsed, error, "a rehearsal refuses what is refused");
    assert!(matches!(error, DeployError::Refused(_)), "{error:?}");
    assert_eq!((runs(stage), published(stage)), before, "{error}");
    let said = error.to_string();
    assert!(said.ends_with("; nothing was changed"), "{said}");
    said
}

#[test]
fn whatever_would_reach_callers_is_refused_with_what_to_do_instead() {
    let outcomes = Outcomes { stable: "o-1".into(), canary: "o-2".into() };
    let row = |weight: Weight, to: &str| Pointer { active_flow: to.into(), weight, revision: 1, owner: "serin/test".into() };
    let nothing: Change<State> = Box::new(|_| {});
    let cases: Vec<(Plan, Change<State>, &str)> = vec![
        (Plan { strategy: Strategy::PublishWatch, stable: None, ..plan() }, nothing, "Check the version in without publishing it"),
        (Plan { strategy: Strategy::InFlow, stable: None, outcomes: Some(outcomes), ..plan() }, Box::new(|_| {}), "strategy in-flow"),
        (
            Plan { policy: Policy { mode: Mode::Observe, ..quick_policy() }, ..plan() },
            Box::new(|s| s.traffic.way = Way::Asked),
            "mode observe: Serin publishes nothing there",
        ),
        (plan(), Box::new(|s| s.person_sets(&name(FLOW), "5")), "the percentage is 5, so callers are in canary flow"),
        (
            by_row(Finalize::Copy),
            Box::new(move |s| drop(s.rows.insert(name(FLOW), row(Weight::FULL, CANARY)))),
            "sends the calls to canary flow main_ivr-canary",
        ),
        (
            by_row(Finalize::Copy),
            Box::new(move |s| drop(s.rows.insert(name(FLOW), row(Weight::ZERO, CANARY)))),
            "sends the calls to canary flow main_ivr-canary",
        ),
        (plan(), Box::new(|s| s.found.missing = vec!["architect:job:create".into()]), "lacks the permission architect:job:create"),
    ];
    for (plan, change, said) in cases {
        let stage = stage();
        change(&mut stage.world.state());
        let refused = refusal(&stage, &plan);
        assert!(refused.contains(said), "{said}: {refused}");
        stage.assert_lawful();
    }
}

#[test]
fn a_rehearsal_publishes_nothing_and_needs_no_version_of_the_canary_flow() {
    let stage = stage();
    assert_eq!(stage.rehearse_deploy(&plan(), FILE).unwrap(), "14.0");
    assert_eq!((runs(&stage).as_str(), published(&stage)), ("14.0", 0));
    stage.world.state().outages.insert("flows");
    assert!(matches!(stage.rehearse_deploy(&plan(), FILE).unwrap_err(), DeployError::Failed(_)), "no answer is no permission");
}

#[test]
fn a_rollout_that_runs_is_not_published_over() {
    let mut stage = stage();
    deployed(&stage, &plan(), FILE);
    for phase in ["Preparing", "Stepping", "Baking"] {
        stage.until_phase(FLOW, phase, 60);
        assert!(refusal(&stage, &plan()).contains(&format!("stands at {}", stage.phase(FLOW))), "{phase}");
    }
    stage.until_phase(FLOW, "Promoted", 60);
    assert_eq!(stage.deploy(&plan(), "Canary good").unwrap().unwrap().canary.version, "16.0");
    stage.assert_lawful();
}

#[test]
fn after_a_swap_callers_are_in_the_canary_flow() {
    let mut stage = stage();
    stage.world.state().traffic.way = Way::ByRow;
    deployed(&stage, &by_row(Finalize::Swap), FILE);
    stage.until_phase(FLOW, "Promoted", 240);
    assert!(refusal(&stage, &by_row(Finalize::Swap)).contains("as after a swap"));
    // Whoever leaves the table out of the file is told so, and not taken for somebody without a row.
    assert!(refusal(&stage, &plan()).contains("this file does not know the row"));
    stage.assert_lawful();
}

#[test]
fn a_hand_on_the_percentage_during_the_look_is_seen() {
    let stage = stage();
    let reads = |stage: &Stage| stage.world.state().calls.iter().filter(|call| call.name == "parameters.read").count();
    stage.deploy(&plan(), FILE).unwrap().unwrap();
    assert_eq!(reads(&stage), 2, "before the look, and right before the publication");
}

#[test]
fn a_file_of_another_flow_and_one_that_is_not_valid_change_nothing() {
    let stage = stage();
    let error = stage.deploy(&plan(), "Stable better").unwrap().unwrap_err();
    assert!(matches!(&error, DeployError::Refused(said) if said.contains("the file is of flow `Stable`")), "{error:?}");
    assert_eq!(stage.rehearse_deploy(&plan(), "Stable better").unwrap_err(), error);
    canary(&stage, |flow| flow.publish_fails = 1);
    let error = stage.deploy(&plan(), FILE).unwrap().unwrap_err();
    assert_eq!(error, DeployError::Refused("the job failed: task 2 is empty".into()));
    assert_eq!(runs(&stage), "14.0");
    assert_eq!(stage.deploy(&plan(), FILE).unwrap().unwrap().canary.version, "15.0");
}

#[test]
fn a_flow_that_somebody_edits_and_one_that_has_no_way_back_are_left_alone() {
    let stage = stage();
    canary(&stage, |flow| flow.locked_by = Some("Pat".into()));
    let error = stage.deploy(&plan(), FILE).unwrap().unwrap_err();
    assert!(matches!(&error, DeployError::Failed(said) if said.contains("locked by Pat")), "{error:?}");
    canary(&stage, |flow| (flow.locked_by, flow.published) = (None, Vec::new()));
    assert!(stage.deploy(&plan(), FILE).unwrap().unwrap_err().to_string().contains("no published version to go back to"));
    assert_eq!(published(&stage), 0);
}

#[test]
fn whatever_fails_at_whichever_call_either_nothing_is_published_or_it_is_said() {
    let calls = {
        let stage = stage();
        stage.deploy(&plan(), FILE).unwrap().unwrap();
        stage.world.state().calls.len()
    };
    let mut unfinished = 0;
    for call in 0..calls {
        for fault in [Fault::Fail, Fault::TimeOut] {
            let stage = stage();
            stage.world.state().faults.insert(call, fault);
            match stage.deploy(&plan(), FILE).unwrap() {
                Ok(plan) => assert_eq!((plan.canary.version.as_str(), runs(&stage).as_str()), ("15.0", "15.0")),
                Err(DeployError::Unfinished(said)) => {
                    unfinished += 1;
                    assert!(
                        said.contains("It ran 14.0") && said.contains("no caller gets there") && said.contains("deploy again"),
                        "{said}"
                    );
                }
                Err(_) => assert_eq!(runs(&stage), "14.0", "call {call}, {fault:?}"),
            }
            stage.assert_lawful();
        }
    }
    assert_eq!(unfinished, 1, "only a publication that failed without saying whether it arrived");
}

#[test]
fn a_flow_that_cannot_be_looked_at_after_the_publication_is_spoken_of() {
    let stage = stage();
    let before = {
        let dry = self::stage();
        dry.deploy(&plan(), FILE).unwrap().unwrap();
        let state = dry.world.state();
        state.calls.iter().position(|call| call.name == "flows.publish_file").unwrap()
    };
    // Every look from then on.
    (before + 1..before + 100).for_each(|call| {
        stage.world.state().faults.insert(call, Fault::Fail);
    });
    let error = stage.deploy(&plan(), FILE).unwrap().unwrap_err();
    assert!(matches!(&error, DeployError::Unfinished(said) if said.contains("may run the new one by now")), "{error:?}");
}

/// Deploys while somebody else is at it: they do what they do as soon as they see what they wait for.
fn deployed_meanwhile(stage: &Stage, sees: impl Fn(&Stage) -> bool, by_hand: impl FnOnce()) -> Result<Plan, DeployError> {
    let (process, plan) = (stage.world.process("cli"), plan());
    let ports = Ports { ledger: &process, parameters: &process, flows: &process, notifier: &(), clock: &process };
    let task = stage.task(&process);
    stage.world.state().interleaved = true;
    let deploying = serin_controller::deploy::deploy(&ports, &task, &plan, FILE);
    race(deploying, async { by_hand() }, || !sees(stage)).0
}

/// A terraform run that publishes a version of its own into the canary flow.
fn terraform_publishes(stage: &Stage, version: &str) {
    canary(stage, |flow| flow.versions.insert(version.into(), "theirs".into()));
    let terraform = stage.world.process("terraform");
    run(&terraform, terraform.publish(CANARY, version)).unwrap().unwrap();
}

fn pat_publishes(stage: &Stage, version: &str) {
    canary(stage, |flow| flow.versions.insert(version.into(), "theirs".into()));
    canary(stage, |flow| flow.publish_by_hand(version, "Pat"));
}

#[test]
fn what_somebody_else_publishes_while_the_file_is_not_taken_is_not_started() {
    let stage = stage();
    let last_look = |stage: &Stage| stage.world.state().calls.iter().filter(|call| call.name == "parameters.read").count() == 2;
    let error = deployed_meanwhile(&stage, last_look, || terraform_publishes(&stage, "99.0")).unwrap_err();
    assert!(matches!(&error, DeployError::Failed(said) if said.contains("an operation runs")), "{error:?}");
    assert!(error.to_string().ends_with("nothing was changed"), "{error}");
}

#[test]
fn a_version_that_came_from_elsewhere_meanwhile_is_not_started() {
    // Nobody knows whether the file arrived, and somebody goes back, or publishes something else.
    for (version, said) in [("13.0", "runs 13.0 now"), ("99.0", "runs 99.0 now, published by Pat")] {
        let stage = stage();
        stage.world.state().ailing.insert("flows.publish_file", Fault::Fail);
        let error = deployed_meanwhile(&stage, |stage| published(stage) > 0, || pat_publishes(&stage, version)).unwrap_err();
        assert!(matches!(&error, DeployError::Unfinished(text) if text.contains(said) && text.contains("injected")), "{error:?}");
    }
}

#[test]
fn what_follows_the_published_file_at_once_is_not_started_in_its_place() {
    let stage = stage();
    let theirs = || {
        // By then the file is published.
        let look = stage.world.process("pat");
        (0..2).for_each(|_| drop(run(&look, look.flow(CANARY)).unwrap().unwrap()));
        assert_eq!(runs(&stage), "15.0");
        pat_publishes(&stage, "99.0");
    };
    let error = deployed_meanwhile(&stage, |stage| published(stage) > 0, theirs).unwrap_err();
    let DeployError::Unfinished(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("runs 99.0 now, published by Pat") && said.contains("new since then: 15.0, 99.0."), "{said}");
}

#[test]
fn a_file_that_went_live_in_another_flow_is_said_to_be_there() {
    let stage = stage();
    stage.world.state().published_elsewhere = Some("main_ivr-stable".into());
    let error = stage.deploy(&plan(), FILE).unwrap().unwrap_err();
    let DeployError::Unfinished(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("live in flow main_ivr-stable") && !said.contains("nothing was changed"), "{said}");
}

#[test]
fn a_canary_flow_that_another_rollout_sends_callers_to_is_left_alone() {
    for (stable, canary) in [("main_ivr-canary", "billing-canary"), ("billing-stable", CANARY)] {
        let mut stage = stage();
        let mut other = Stage::plan("billing", "15.0", quick_policy());
        stage.world.state().projections.insert(name("billing"), Default::default());
        let template = stage.world.state().flows[CANARY].clone();
        for id in ["billing-stable", "billing-canary"] {
            let mut flow = template.clone();
            flow.name = id.into();
            flow.versions.insert("15.0".into(), "better".into());
            stage.world.state().flows.insert(id.into(), flow);
        }
        self::canary(&stage, |flow| flow.versions.insert("15.0".into(), "better".into()));
        (other.stable.as_mut().unwrap().flow_id, other.canary.flow_id) = (stable.into(), canary.into());
        stage.start(other).unwrap();
        let refused = refusal(&stage, &plan());
        assert!(refused.contains("rollout") && refused.contains("of billing"), "{refused}");
        // One that has ended is in nobody's way.
        stage.person("billing", Action::Abort).unwrap().unwrap();
        stage.minute();
        stage.deploy(&plan(), FILE).unwrap().unwrap();
    }
}

#[test]
fn where_the_start_is_refused_it_is_said_what_stands() {
    let stage = stage();
    let plan = stage.deploy(&plan(), FILE).unwrap().unwrap();
    let freeze = Restriction {
        id: "f-1".into(),
        kind: Kind::Freeze,
        flow: None,
        when: When::Once { from: stage.rollout_now(), until: None },
        reason: "quarter end".into(),
        by: "kim".into(),
        ended: None,
    };
    stage.world.state().restrictions.push(freeze);
    stage.start(plan.clone()).unwrap_err();
    assert_eq!(
        stands(&plan),
        "canary flow main_ivr-canary runs version 15.0, and no caller gets there: `serin start` with canary.version 15.0 rolls it out"
    );
    stage.world.state().restrictions.clear();
    stage.start(plan).unwrap();
}
