//! `--dry-run`: the same use case says what it would do, with every refusal, and the world stays as it is to the last byte.
#![allow(clippy::unwrap_used)]

use serin_acceptance::drive::{Stage, minutes, name, quick_policy, run, sequential_policy};
use serin_acceptance::world::{Call, Process, TABLE, Way};
use serin_controller::intervene::{
    Action, Gate, InterventionError, Request, clear_quarantine, hold_gate, intervene, lift, release_gate, start, stop_all,
};
use serin_controller::ports::{Clock, Ledger, Parameters, Rows};
use serin_controller::rehearse::Rehearsal;
use serin_core::calendar::{Kind, Restriction, When};
use serin_core::policy::{Mode, Policy};
use serin_core::rollout::{FlowName, Plan, PointerTable, Strategy};

const FLOW: &str = "main_ivr";
const OTHER: &str = "sales_ivr";

/// Everything that anybody could read of the world.
fn everything(stage: &Stage) -> String {
    let s = stage.world.state();
    let stored = (&s.books, &s.outbox, &s.recorded_notices, &s.quarantine, &s.known_good, &s.exports, &s.restrictions, &s.restoration);
    let besides = (&s.last_tick, &s.projections, &s.heartbeat, &s.flows, &s.rows, &s.ivrs, &s.emergencies, &s.told, &s.violations);
    format!("{stored:?}{besides:?}")
}

/// What a call of a port writes; `None` for one that only looks, or that nobody sees afterwards.
fn written(call: &Call) -> Option<&'static str> {
    Some(match call.name {
        "ledger.load" | "ledger.active" | "ledger.restrictions" | "ledger.quarantined" | "parameters.read" | "rows.pointer" => return None,
        "ledger.lease" | "ledger.release" => return None,
        "ledger.commit" => "record ",
        "ledger.hold" => "hold the gate",
        "ledger.release_hold" => "give back the gate",
        "ledger.restrict" => "the ",
        "parameters.put_percentage" => "set the percentage of",
        "parameters.put_halt" => "mark rollout",
        "rows.point" => "point row",
        other => panic!("{other} is called, and its test is missing"),
    })
}

/// A command, on whichever ports it gets; what came of it, in words.
trait Command {
    async fn run(&self, ports: &(impl Ledger + Parameters + Rows), clock: &impl Clock, request: &Request) -> Result<String, String>;
}

/// Rehearses a command, then gives it; checks that the one said what the other did, in this order. Returns what was said.
fn rehearsed(stage: &Stage, command: &impl Command) -> (Vec<String>, Result<String, String>) {
    let (process, request) = (stage.world.process("cli"), stage.request("as I see fit"));
    let before = everything(stage);
    let calls = |stage: &Stage, from: usize| stage.world.state().calls[from..].to_vec();
    let mut from = stage.world.state().calls.len();
    let rehearsal = Rehearsal::new(&process, &process, &process);
    let said = run(&process, command.run(&rehearsal, &process, &request)).unwrap();
    let would = rehearsal.would();
    assert_eq!(everything(stage), before, "nothing was changed");
    for call in calls(stage, from) {
        assert!(written(&call).is_none() && !call.name.contains("lease"), "a rehearsal calls {}", call.name);
    }
    from = stage.world.state().calls.len();
    let done = run(&process, command.run(&process, &process, &request)).unwrap();
    assert_eq!(said, done);
    let did: Vec<Call> = calls(stage, from).into_iter().filter(|call| written(call).is_some()).collect();
    let told = ["would tell", "would wake", "would quarantine", "would let"];
    let would_do: Vec<&String> = would.iter().filter(|one| !told.iter().any(|with| one.starts_with(with))).collect();
    assert_eq!(would_do.len(), did.len(), "{would:#?}\n{did:#?}");
    for (sentence, call) in would_do.iter().zip(&did) {
        assert!(sentence.contains(written(call).unwrap()), "{sentence} / {call:?}");
        if call.name == "ledger.commit" {
            assert!(sentence.starts_with(&format!("would record {} of rollout r-2026", call.detail)), "{sentence}");
        }
    }
    stage.assert_lawful();
    (would, done)
}

impl Command for (&'static str, Action) {
    async fn run(&self, ports: &(impl Ledger + Parameters + Rows), clock: &impl Clock, request: &Request) -> Result<String, String> {
        let done = intervene(ports, ports, ports, clock, &name(self.0), self.1, request).await;
        done.map(|rollout| rollout.phase.to_string()).map_err(|e| e.to_string())
    }
}

struct Begin(Plan);

impl Command for Begin {
    async fn run(&self, ports: &(impl Ledger + Parameters + Rows), clock: &impl Clock, request: &Request) -> Result<String, String> {
        start(ports, ports, clock, self.0.clone(), request).await.map_err(|e| e.to_string())
    }
}

enum Other {
    StopAll,
    Lift(&'static str),
    Restrict(Restriction),
    Hold(&'static str),
    GiveBack(&'static str),
    Clear(Option<&'static str>),
}

impl Command for Other {
    async fn run(&self, ports: &(impl Ledger + Parameters + Rows), clock: &impl Clock, request: &Request) -> Result<String, String> {
        let flow = name(FLOW);
        match self {
            Other::StopAll => {
                let stopped = stop_all(ports, ports, ports, clock, request).await.map_err(|e| e.to_string())?;
                let said = |(flow, done): (FlowName, Result<serin_core::rollout::Rollout, InterventionError>)| {
                    format!("{flow}: {}", done.map_or_else(|e| e.to_string(), |rollout| rollout.phase.to_string()))
                };
                Ok(stopped.into_iter().map(said).collect::<Vec<_>>().join(", "))
            }
            Other::Lift(id) => lift(ports, id, request).await.map(|ended| format!("{ended:?}")).map_err(|e| e.to_string()),
            Other::Restrict(restriction) => ports.restrict(restriction).await.map(|()| String::new()).map_err(|e| e.to_string()),
            Other::Hold(holder) => {
                let gate = hold_gate(ports, clock, &flow, request.now, holder, minutes(10)).await.map_err(|e| e.to_string())?;
                if gate == Gate::Open {
                    // What was held is seen by whoever looks next.
                    let again = hold_gate(ports, clock, &flow, request.now, "somebody else", minutes(10)).await;
                    assert!(matches!(again, Ok(Gate::Held { .. })), "{again:?}");
                }
                Ok(gate.to_string())
            }
            Other::GiveBack(holder) => release_gate(ports, &flow, holder).await.map(|was| was.to_string()).map_err(|e| e.to_string()),
            Other::Clear(named) => clear_quarantine(ports, clock, &flow, *named, request).await.map_err(|e| e.to_string()),
        }
    }
}

/// A rollout in each phase.
fn stages() -> Vec<(&'static str, Stage)> {
    let at = |phase: &str, version: &str, policy: Policy| {
        let mut stage = Stage::new(&[FLOW]);
        stage.start(Stage::plan(FLOW, version, policy)).unwrap();
        stage.until_phase(FLOW, phase, 90);
        stage
    };
    let after = |mut stage: Stage, does: fn(&mut Stage)| {
        does(&mut stage);
        stage
    };
    let stepping = || after(at("Stepping", "15.0", sequential_policy()), |s| _ = s.until(5, |s| s.offered(FLOW) == 5.0));
    let advise = Policy { mode: Mode::Advise, ..quick_policy() };
    let needs_human = after(at("Stepping", "16.0", quick_policy()), |s| {
        s.executor = false;
        s.until_phase(FLOW, "NeedsHuman", 60);
    });
    vec![
        ("no rollout", Stage::new(&[FLOW])),
        ("Preparing", at("Preparing", "15.0", quick_policy())),
        ("Stepping", stepping()),
        ("AwaitingApproval", at("AwaitingApproval", "15.0", advise)),
        ("Paused", after(stepping(), |s| drop(s.person(FLOW, Action::Pause).unwrap().unwrap()))),
        (
            "Paused by hand",
            after(stepping(), |s| {
                s.world.state().person_sets(&name(FLOW), "2");
                s.minute();
            }),
        ),
        ("Baking", at("Baking", "15.0", sequential_policy())),
        ("Finalizing", Stage::promoted_until(FLOW, "Finalizing")),
        ("RollingBack", after(stepping(), |s| drop(s.person(FLOW, Action::Rollback).unwrap().unwrap()))),
        (
            "Contaminated",
            after(stepping(), |s| {
                s.world.state().person_sets(&name(FLOW), "50");
                s.minute();
            }),
        ),
        ("Promoted", at("Promoted", "15.0", quick_policy())),
        ("RolledBack", at("RolledBack", "16.0", quick_policy())),
        ("NeedsHuman", needs_human),
        ("by row", by_row()),
        ("observed", observed()),
    ]
}

fn by_row() -> Stage {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().traffic.way = Way::ByRow;
    let later = stage.world.state().now + minutes(120);
    stage.world.advance_to(later);
    let plan = Stage::plan(FLOW, "15.0", sequential_policy());
    stage.start(Plan { strategy: Strategy::Pointer, pointer: Some(PointerTable { table: TABLE.into() }), ..plan }).unwrap();
    stage.until(10, |s| s.world.state().pointed_weight(&name(FLOW)).percent() == 100.0);
    stage
}

fn observed() -> Stage {
    let mut stage = Stage::new(&[FLOW]);
    stage.world.state().person_sets(&name(FLOW), "0");
    stage.start(Stage::plan(FLOW, "15.0", Policy { mode: Mode::Observe, ..quick_policy() })).unwrap();
    stage.world.state().flows.get_mut("main_ivr-canary").unwrap().publish_by_hand("15.0", "Pat");
    stage.until_phase(FLOW, "Stepping", 10);
    stage
}

const ACTIONS: [Action; 9] = [
    Action::Pause,
    Action::Resume,
    Action::Approve,
    Action::Advance,
    Action::Promote,
    Action::ToCanary,
    Action::Abort,
    Action::Rollback,
    Action::Clear,
];

/// One more action does not compile until it stands here, and in the list.
fn place(action: Action) -> usize {
    match action {
        Action::Pause => 0,
        Action::Resume => 1,
        Action::Approve => 2,
        Action::Advance => 3,
        Action::Promote => 4,
        Action::ToCanary => 5,
        Action::Abort => 6,
        Action::Rollback => 7,
        Action::Clear => 8,
    }
}

#[test]
fn whatever_a_person_asks_for_in_whatever_phase_is_said_as_it_is_done_and_refused_as_it_is_refused() {
    assert!(ACTIONS.iter().enumerate().all(|(n, action)| place(*action) == n));
    let (mut done, mut refused) = (0, 0);
    for action in ACTIONS {
        for (phase, stage) in stages() {
            let (would, outcome) = rehearsed(&stage, &(FLOW, action));
            match outcome {
                Ok(_) => done += 1,
                Err(why) => {
                    refused += 1;
                    assert!(would.is_empty() && why.contains("nothing was changed"), "{action:?} in {phase}: {why}: {would:?}");
                }
            }
        }
    }
    assert!(done > 30 && refused > 50, "{done} and {refused}");
}

#[test]
fn an_abort_says_that_it_takes_the_calls_away_before_it_records_and_tells() {
    let stage = by_row();
    let (would, _) = rehearsed(&stage, &(FLOW, Action::Abort));
    assert_eq!(
        would,
        [
            "would mark rollout r-20261120-1 of main_ivr as halted",
            "would set the percentage of main_ivr to 0",
            "would point row main_ivr of data table deployment-control to flow main_ivr-stable with weight 0",
            "would record Aborted of rollout r-20261120-1 on flow main_ivr: as I see fit",
            "would tell on-call: ROLLOUT_ABORTED",
        ]
    );
}

#[test]
fn a_rollback_says_what_it_quarantines_and_whom_it_wakes_and_a_start_what_it_opens() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    let (would, _) = rehearsed(&stage, &(FLOW, Action::Rollback));
    let said =
        ["would quarantine configuration better of flow main_ivr", "would tell on-call: ROLLBACK_TRIGGERED", "would wake the executor"];
    assert_eq!(would.len(), 6, "{would:?}");
    assert!(would[3..].iter().zip(said).all(|(would, said)| would.starts_with(said)), "{would:?}");
    let begin = || Begin(Stage::plan(FLOW, "17.0", quick_policy()));
    let (would, refused) = rehearsed(&stage, &begin());
    assert!(would.is_empty() && refused.unwrap_err().contains("the gate is closed: rollout r-20261120-1 stands at RollingBack"));
    stage.until_phase(FLOW, "RolledBack", 5);
    let (would, refused) = rehearsed(&stage, &begin());
    assert!(would.is_empty() && refused.unwrap_err().contains("less than 15 minutes ago"));
    stage.world.state().now += minutes(16);
    let (would, id) = rehearsed(&stage, &begin());
    assert_eq!(
        would,
        ["would record Requested of rollout r-20261120-2 on flow main_ivr: as I see fit", "would tell on-call: ROLLOUT_REQUESTED"]
    );
    assert_eq!(id.unwrap(), "r-20261120-2");
    let refusal = rehearsed(&stage, &Other::Clear(Some("bett"))).1.unwrap_err();
    assert!(refusal.contains("8 characters are wanted"), "{refusal}");
    let (would, _) = rehearsed(&stage, &Other::Clear(None));
    assert!(would[1].starts_with("would let configuration better of flow main_ivr out of quarantine"), "{would:?}");
}

#[test]
fn a_stop_of_everything_says_what_it_does_to_each_flow() {
    let mut stage = Stage::new(&[FLOW, OTHER]);
    for flow in [FLOW, OTHER] {
        stage.start(Stage::plan(flow, "15.0", quick_policy())).unwrap();
    }
    stage.until(10, |s| s.offered(FLOW) == 5.0 && s.offered(OTHER) == 5.0);
    let (would, done) = rehearsed(&stage, &Other::StopAll);
    assert!(would[0].starts_with("would set the stop of all flows (stop, "), "{would:#?}");
    for flow in [FLOW, OTHER] {
        let says = |what: String| assert!(would.contains(&what), "{what}: {would:#?}");
        says(format!("would set the percentage of {flow} to 0"));
        says(format!("would record Aborted of rollout r-20261120-1 on flow {flow}: as I see fit"));
    }
    assert_eq!(done.unwrap(), "main_ivr: Aborted, sales_ivr: Aborted");
    let (would, _) = rehearsed(&stage, &Other::Lift("stop"));
    assert!(would.len() == 1 && would[0].starts_with("would end the stop of all flows (stop, "), "{would:?}");
    assert_eq!(rehearsed(&stage, &Other::Lift("stop")), (vec![], Ok("None".to_owned())), "it is over");
}

#[test]
fn a_restriction_and_a_hold_of_the_gate_are_said_and_not_set() {
    let stage = Stage::new(&[FLOW]);
    let (would, _) = rehearsed(&stage, &Other::Hold("build/1"));
    assert_eq!(would, ["would hold the gate of main_ivr for build/1 until 2026-11-20T09:10:00Z"]);
    let (would, gate) = rehearsed(&stage, &Other::Hold("build/2"));
    assert!(would.is_empty() && gate.unwrap().contains("build/1 holds it"));
    assert_eq!(rehearsed(&stage, &Other::GiveBack("build/1")).0, ["would give back the gate of main_ivr, which build/1 holds"]);
    let when = When::Once { from: stage.world.state().now, until: None };
    let (id, reason, by) = ("freeze-1".into(), "the holidays".into(), "sam".into());
    let freeze = Restriction { id, kind: Kind::Freeze, flow: Some(name(FLOW)), when, reason, by, ended: None };
    let (would, _) = rehearsed(&stage, &Other::Restrict(freeze));
    assert!(would.len() == 1 && would[0].starts_with("would set the freeze of flow main_ivr (freeze-1, "), "{would:?}");
    let (would, gate) = rehearsed(&stage, &Other::Hold("build/3"));
    assert!(would.is_empty() && gate.unwrap().contains("freeze"));
}

#[test]
fn where_the_world_cannot_be_read_a_rehearsal_says_so_like_the_command() {
    let mut stage = Stage::started(FLOW, "15.0");
    stage.until_phase(FLOW, "Stepping", 10);
    for outage in ["ledger.load", "parameters.read"] {
        stage.world.state().outages.insert(outage);
        let process: Process = stage.world.process("cli");
        let rehearsal = Rehearsal::new(&process, &process, &process);
        let request = stage.request("as I see fit");
        let said = run(&process, (FLOW, Action::Abort).run(&rehearsal, &process, &request)).unwrap();
        // Calls are taken away unread.
        assert_eq!(said.is_ok(), outage == "parameters.read", "{said:?}");
        stage.world.state().outages.clear();
    }
}
