//! Fifty writers at once against a real DynamoDB, round after round: one wins, and what it wrote is what stands.
//!
//! `tests/local/test_races.py` runs these on the local stack. By themselves they need `AWS_ENDPOINT_URL`, credentials, and in
//! `LEDGER_TABLE` the name of a table that nobody else writes meanwhile.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use jiff::{SignedDuration, Timestamp};
use serin_aws::DynamoLedger;
use serin_controller::ports::{ActiveFlow, Authority, Ledger, LedgerError, Quarantined};
use serin_controller::record::{Opened, Record, open, record};
use serin_core::ledger::{Hash, verify};
use serin_core::phase::Event;
use serin_core::rollout::{Actor, Cause, FlowName, Plan, Snapshot};
use serin_core::weight::Weight;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::Barrier;

const WRITERS: usize = 50;
const ROUNDS: usize = 20;
const A_MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// The ledger, and a flow that it does not know yet.
async fn store(kind: &str) -> (DynamoLedger, FlowName, Timestamp) {
    let table = std::env::var("LEDGER_TABLE").expect("LEDGER_TABLE names the table");
    let now = Timestamp::now();
    (DynamoLedger::new(&serin_aws::load().await, table), format!("{kind}-{}", now.as_millisecond()).parse().unwrap(), now)
}

/// What each writer got: all are let go at once, on as many threads as there are.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(write: impl Fn(usize) -> F) -> Vec<T> {
    let start = Arc::new(Barrier::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (start, write) = (start.clone(), write(writer));
            tokio::spawn(async move {
                start.wait().await;
                write.await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.push(writer.await.unwrap());
    }
    outcomes
}

/// The one that won and by which number; all others must have lost.
#[track_caller]
fn only_winner<T: Debug>(outcomes: Vec<Result<T, LedgerError>>, round: usize) -> (usize, T) {
    assert_eq!(outcomes.len(), WRITERS);
    let mut winners = Vec::new();
    for (writer, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(won) => winners.push((writer, won)),
            Err(LedgerError::Lost { .. }) => {}
            Err(other) => panic!("round {round}, writer {writer}: {other}"),
        }
    }
    assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
    winners.remove(0)
}

async fn recorded(ledger: DynamoLedger, opened: Opened, flow: FlowName, writer: usize, event: Event) -> Result<Opened, LedgerError> {
    let authority = Authority::Preempt { fence: opened.book.fence, owner: format!("run-{writer}") };
    let (at, why) = (Timestamp::now(), format!("by writer {writer}"));
    let entry = Record { by: Actor::Serin(format!("run-{writer}")), event, why, evidence: None, at, recorded_at: at };
    record(&ledger, &flow, &opened, authority, entry).await
}

fn plan(flow: &FlowName) -> Box<Plan> {
    let plan = format!(
        r#"{{"flow":"{flow}","stable":{{"flow_id":"s"}},"canary":{{"flow_id":"c","version":"15.0"}},"policy":{{"steps":[5,25]}}}}"#
    );
    serde_json::from_str(&plan).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a DynamoDB: tests/local/test_races.py starts one and runs it"]
async fn what_is_quarantined_is_so_until_the_entry_that_clears_it() {
    let (ledger, flow, now) = store("quarantine").await;
    let lease = ledger.lease(&flow, "the first", now, now + A_MINUTE).await.unwrap();
    ledger.release(&flow, &lease).await.unwrap();
    let snapshot = Snapshot { canary_hash: "1d0ced11".into(), ..Snapshot::default() };
    let cause = Cause::Requested { by: "sam".into(), reason: "complaints".into() };
    let story = [
        Event::Requested { plan: plan(&flow) },
        Event::SnapshotTaken { snapshot },
        Event::Prepared { canary_version: "15.0".into() },
        Event::StepStarted { weight: Weight::try_from(5.0).unwrap(), base_version: 1 },
        Event::RollbackStarted { cause },
        Event::RollbackFinished { version: "13.0".into() },
    ];
    let mut opened = open(&ledger, &flow).await.unwrap();
    for event in story {
        opened = recorded(ledger.clone(), opened, flow.clone(), 0, event).await.unwrap();
    }
    let kept = ledger.quarantined(&flow).await.unwrap();
    let rollout = opened.rollout.clone().unwrap().id;
    assert_eq!(kept, [Quarantined { configuration: "1d0ced11".into(), rollout }]);
    let active = |all: Vec<ActiveFlow>| all.into_iter().find(|active| active.flow == flow);
    let before = active(ledger.active().await.unwrap()).unwrap();

    let clear = Event::QuarantineCleared { configuration: "1d0ced11".into(), reason: "mended".into() };
    let cleared = recorded(ledger.clone(), opened, flow.clone(), 0, clear).await.unwrap();
    assert_eq!(ledger.load(&flow).await.unwrap().head_hash, cleared.book.head_hash);
    assert!(ledger.quarantined(&flow).await.unwrap().is_empty() && !ledger.is_quarantined(&flow, "1d0ced11").await.unwrap());
    assert_eq!(active(ledger.active().await.unwrap()), Some(before.clone()), "its visits are as they were");
    ledger.retire(&flow, before.revision).await.unwrap();
    assert_eq!(active(ledger.active().await.unwrap()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a DynamoDB: tests/local/test_races.py starts one and runs it"]
async fn of_fifty_entries_on_one_revision_one_is_recorded() {
    let (ledger, flow, now) = store("entries").await;
    // The head is made by whoever first holds the lease.
    let lease = ledger.lease(&flow, "the first", now, now + A_MINUTE).await.unwrap();
    ledger.release(&flow, &lease).await.unwrap();
    let weight = Weight::try_from(5.0).unwrap();
    let opening = [
        Event::Requested { plan: plan(&flow) },
        Event::Prepared { canary_version: "15.0".into() },
        Event::StepStarted { weight, base_version: 1 },
    ];
    let raised = (0..).map(|version| Event::WeightApplied { weight, version });
    let mut winners = BTreeSet::new();
    for (round, event) in opening.into_iter().chain(raised).take(ROUNDS).enumerate() {
        let before = open(&ledger, &flow).await.unwrap();
        let outcomes = at_once(|writer| recorded(ledger.clone(), before.clone(), flow.clone(), writer, event.clone())).await;
        let (writer, won) = only_winner(outcomes, round);
        let stands = ledger.load(&flow).await.unwrap();
        assert_eq!(stands, won.book, "round {round}: what the winner wrote is what stands");
        assert_eq!(stands.revision, before.book.revision + 1, "round {round}");
        assert_eq!(stands.fence, before.book.fence + 1, "round {round}: one writer took over");
        assert_eq!(stands.entries.last().unwrap().entry.why, format!("by writer {writer}"));
        let shown = ledger.active().await.unwrap().into_iter().find(|active| active.flow == flow).unwrap();
        let rollout = won.rollout.unwrap();
        assert_eq!((shown.rollout, shown.weight, shown.revision), (rollout.id.clone(), rollout.settled_weight(), stands.revision));
        assert_eq!((shown.phase.as_str(), shown.why), (rollout.phase.name(), format!("by writer {writer}")));
        winners.insert(writer);
    }
    let book = ledger.load(&flow).await.unwrap();
    assert_eq!(verify(&book.entries, 0, Hash::genesis()).unwrap(), book.head_hash);
    assert_eq!(book.entries.len(), ROUNDS);
    // Of what the losers would have told nothing was kept.
    let told = ledger.outbox().await.unwrap().into_iter().filter(|notice| notice.id.starts_with(&format!("{flow}/"))).count();
    assert_eq!(told, 2, "one notice each of the request and of the first step");
    println!("entries: {ROUNDS} rounds of {WRITERS} writers, won by {} different ones", winners.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a DynamoDB: tests/local/test_races.py starts one and runs it"]
async fn of_fifty_runs_one_gets_the_lease() {
    let (ledger, flow, mut now) = store("leases").await;
    let mut winners = BTreeSet::new();
    let mut fence = 0;
    for round in 0..ROUNDS {
        let runs: Vec<String> = (0..WRITERS).map(|writer| format!("run-{writer}")).collect();
        let take = |writer: usize| {
            let (ledger, flow, run) = (ledger.clone(), flow.clone(), runs[writer].clone());
            async move { ledger.lease(&flow, &run, now, now + A_MINUTE).await }
        };
        let outcomes = at_once(take).await;
        let (writer, lease) = only_winner(outcomes, round);
        assert_eq!((&lease.owner, lease.fence), (&runs[writer], fence + 1), "round {round}");
        assert_eq!(ledger.load(&flow).await.unwrap().fence, lease.fence, "round {round}");
        fence = lease.fence;
        // Given back, or left until it is over.
        match round % 2 {
            0 => ledger.release(&flow, &lease).await.unwrap(),
            _ => now += A_MINUTE + SignedDuration::from_secs(1),
        }
        winners.insert(writer);
    }
    println!("leases: {ROUNDS} rounds of {WRITERS} runs, won by {} different ones", winners.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a DynamoDB: tests/local/test_races.py starts one and runs it"]
async fn of_fifty_pipelines_one_holds_the_gate() {
    let (ledger, flow, mut now) = store("holds").await;
    let mut winners = BTreeSet::new();
    for round in 0..ROUNDS {
        let pipelines: Vec<String> = (0..WRITERS).map(|writer| format!("build/{writer}")).collect();
        // Nothing was ever recorded of the flow: the first of them makes its head.
        let take = |writer: usize| {
            let (ledger, flow, pipeline) = (ledger.clone(), flow.clone(), pipelines[writer].clone());
            async move { ledger.hold(&flow, &pipeline, 0, now, now + A_MINUTE).await }
        };
        let (writer, ()) = only_winner(at_once(take).await, round);
        let book = ledger.load(&flow).await.unwrap();
        let hold = book.hold.clone().unwrap();
        assert_eq!((&hold.holder, book.revision, book.fence), (&pipelines[writer], 0, 2 * round as u64 + 1), "round {round}");
        // Its holder prolongs it; whoever read another revision does not, and nobody else gives it back.
        ledger.hold(&flow, &hold.holder, 0, now, now + A_MINUTE).await.unwrap();
        assert!(matches!(ledger.hold(&flow, &hold.holder, 1, now, now + A_MINUTE).await, Err(LedgerError::Lost { .. })), "round {round}");
        assert!(!ledger.release_hold(&flow, "somebody else").await.unwrap(), "round {round}");
        match round % 2 {
            0 => assert!(ledger.release_hold(&flow, &hold.holder).await.unwrap() && ledger.load(&flow).await.unwrap().hold.is_none()),
            _ => now += A_MINUTE,
        }
        winners.insert(writer);
    }
    // Nobody holds a gate past somebody's lease.
    now += A_MINUTE;
    let lease = ledger.lease(&flow, "a run", now, now + A_MINUTE).await.unwrap();
    assert!(matches!(ledger.hold(&flow, "build/1", 0, now, now + A_MINUTE).await, Err(LedgerError::Lost { .. })));
    ledger.release(&flow, &lease).await.unwrap();
    ledger.hold(&flow, "build/1", 0, now, now + A_MINUTE).await.unwrap();
    println!("holds: {ROUNDS} rounds of {WRITERS} pipelines, won by {} different ones", winners.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a DynamoDB: tests/local/test_races.py starts one and runs it"]
async fn of_fifty_flows_one_may_restore() {
    let (ledger, flow, mut now) = store("restorations").await;
    let flows: Vec<FlowName> = (0..WRITERS).map(|n| format!("{flow}-{n}").parse().unwrap()).collect();
    let mut winners = BTreeSet::new();
    for round in 0..ROUNDS {
        let take = |writer: usize| {
            let (ledger, flow) = (ledger.clone(), flows[writer].clone());
            async move { ledger.restoration(&flow, now, now + A_MINUTE).await }
        };
        let outcomes = at_once(take).await;
        let may: Vec<usize> = (0..WRITERS).filter(|n| *outcomes[*n].as_ref().unwrap()).collect();
        assert_eq!(may.len(), 1, "round {round}: {may:?}");
        for other in flows.iter().filter(|other| **other != flows[may[0]]) {
            ledger.restoration_done(other).await.unwrap();
        }
        let next = &flows[(may[0] + 1) % WRITERS];
        assert!(!ledger.restoration(next, now, now + A_MINUTE).await.unwrap(), "round {round}: only its holder gives the right back");
        match round % 2 {
            0 => ledger.restoration_done(&flows[may[0]]).await.unwrap(),
            _ => now += A_MINUTE + SignedDuration::from_secs(1),
        }
        winners.insert(may[0]);
    }
    ledger.restoration_done(&flows[*winners.last().unwrap()]).await.unwrap();
    println!("right to restore: {ROUNDS} rounds of {WRITERS} flows, won by {} different ones", winners.len());
}
