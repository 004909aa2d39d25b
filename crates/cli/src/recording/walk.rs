//! Asks every policy, minute by minute, what it would have done with the calls that were recorded.
//!
//! The histories are open loop: the calls are those of the weights that were in force, whatever a policy would have done before.

use super::{Asked, ENDLESS, Harness, Ledger, Recording, Source, checked, counted, minute};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_core::analysis::{Analysis, Doubt, Measured, Verdict, analyze};
use serin_core::decision::{Decision, Facts, HoldReason, decide};
use serin_core::explain::explain;
use serin_core::measurement::{Counts, InForce, WINDOW, Window, total};
use serin_core::phase::Phase;
use serin_core::policy::{Minutes, Mode, Policy, Rule};
use serin_core::projection::Seen;
use serin_core::rollout::{Applied, Plan, Restoration, Rollout};
use serin_core::sequential::{Action, Data, Judgement, Sequential, Settings};
use serin_core::summary::{Course, Summary, hour};
use serin_core::weight::Weight;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The rules that are compared where nobody names one.
const USUAL: [&str; 5] = ["sequential", "threshold", "hysteresis", "consecutive", "not-worse"];

/// A recorded rollout with what every policy would have done.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    rollout: String,
    /// The weights that were in force.
    weights: Vec<Step>,
    /// How it ended, where that is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
    stable_calls: u32,
    canary_calls: u32,
    policies: Vec<Row>,
    /// How to read the rows.
    notes: Vec<&'static str>,
}

/// A moment of the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Moment {
    /// Minutes since calls first went to the canary.
    minute: i64,
    /// The clock, where one was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Step {
    weight: Weight,
    #[serde(flatten)]
    from: Moment,
}

#[derive(Debug, Serialize)]
struct Ended {
    #[serde(flatten)]
    at: Moment,
    what: String,
}

/// What one policy would have done.
#[derive(Debug, Serialize)]
struct Row {
    policy: String,
    takes_back: Option<TakenBack>,
    /// For each weight that was in force, when it would first have let it rise.
    rises: Vec<Rise>,
    /// Why it takes the calls back; else what it said last.
    reason: String,
}

#[derive(Debug, Serialize)]
struct TakenBack {
    #[serde(flatten)]
    at: Moment,
    weight: Weight,
    /// Canary calls seen by then, of all weights.
    canary_calls: u32,
}

#[derive(Debug, Serialize)]
struct Rise {
    weight: Weight,
    /// The policy still had its calls when this weight began.
    #[serde(skip)]
    reached: bool,
    #[serde(flatten)]
    at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

const OPEN_LOOP: &str = "open loop: whatever a policy would have done, the calls after it are still those of the recorded weights; \
                         a row ends where its policy takes the calls back";
const HARNESS: &str = "protocol lines: windows are by call start and complete (long_call 0, settle 0), and the horizon is the harness's (no step_cap, no max_blind); \
     sequential judges alone and sees every field, the others see no handle time";
const LEDGER: &str = "ledger export: every window is taken as known, and final, one minute after it began";

const SELDOM: &str = "from the second day at a weight on, rules other than sequential are asked once an hour";
/// Longer at a weight, and a look every minute would take too long.
const LONG: SignedDuration = SignedDuration::from_hours(24);

/// What all policies would have done with a recorded rollout.
pub(crate) fn compare(recording: &Recording, asked: &[Asked]) -> Result<Compared, String> {
    let walk = Walk::of(recording);
    let mut policies = candidates(recording, asked)?;
    let sum = total(&walk.run(&mut policies));
    let (ended, note) = match &recording.source {
        Source::Harness(_) => (None, HARNESS),
        Source::Ledger(ledger) => (ledger.ended.as_ref().map(|(at, what)| Ended { at: walk.moment(*at), what: what.clone() }), LEDGER),
    };
    let ends = walk.moments.last().map_or(walk.weights[0].since, |look| look.now);
    let until = walk.weights.iter().skip(1).map(|w| w.since).chain([ends]);
    let long = walk.weights.iter().zip(until).any(|(w, until)| until.duration_since(w.since) > LONG);
    Ok(Compared {
        rollout: recording.name.clone(),
        weights: recording.weights.iter().map(|w| Step { weight: w.weight, from: walk.moment(w.since) }).collect(),
        ended,
        stable_calls: sum.stable.calls,
        canary_calls: sum.canary.calls,
        policies: policies.into_iter().map(Candidate::row).collect(),
        notes: [OPEN_LOOP, note].into_iter().chain(long.then_some(SELDOM)).collect(),
    })
}

/// A policy with what it saw so far.
struct Candidate {
    name: String,
    rollout: Rollout,
    judging: Judging,
    summary: Option<Summary>,
    takes_back: Option<TakenBack>,
    rises: Vec<Rise>,
    said: String,
    asked: Option<Timestamp>,
}

/// By what it judges below 100 %.
enum Judging {
    /// The evaluator's analysis of the windows.
    Analysis,
    /// The judge itself, which also sees what Serin does not record.
    Judge(Box<Sequential>),
}

impl Candidate {
    /// Rules that look at all of a step's windows every time are asked less often once they are many.
    fn may_wait(&mut self, in_force: InForce, now: Timestamp) -> bool {
        let sums_up = in_force.weight < Weight::FULL && matches!(self.rollout.plan.policy.rule, Rule::Sequential(_));
        let lately = self.asked.is_some_and(|asked| now.duration_since(asked) < SignedDuration::from_hours(1));
        let waits = !sums_up && lately && now.duration_since(in_force.since) > LONG;
        if !waits {
            self.asked = Some(now);
        }
        waits
    }

    fn row(self) -> Row {
        Row { policy: self.name, takes_back: self.takes_back, rises: self.rises, reason: self.said }
    }
}

fn candidates(recording: &Recording, asked: &[Asked]) -> Result<Vec<Candidate>, String> {
    let usual: Vec<Asked>;
    let (asked, is_usual) = match asked {
        [] => {
            usual = USUAL.iter().map(|name| Asked::Named(Rule::named(name).expect("the usual rules have names"))).collect();
            (usual.as_slice(), true)
        }
        asked => (asked, false),
    };
    let mut candidates = Vec::new();
    if let (true, Source::Ledger(ledger)) = (is_usual, &recording.source) {
        let policy = checked(ledger.rollout.plan.policy.clone())?;
        candidates.push(candidate(recording, "as recorded".to_owned(), policy, Judging::Analysis));
    }
    for one in asked {
        let name = match one {
            Asked::Named(rule) => rule.name().to_owned(),
            Asked::Written(name, _) => name.clone(),
        };
        let refused = |why: String| format!("policy {name}: {why}");
        let (policy, judging) = match (one, &recording.source) {
            (Asked::Named(rule), Source::Ledger(ledger)) => {
                let recorded = ledger.rollout.plan.policy.clone();
                (checked(Policy { rule: rule.clone(), bake_rule: None, ..recorded }).map_err(refused)?, Judging::Analysis)
            }
            (Asked::Written(_, policy), Source::Ledger(_)) => (checked((**policy).clone()).map_err(refused)?, Judging::Analysis),
            (Asked::Named(Rule::Sequential(_)), Source::Harness(harness)) => {
                (harness.policy.clone(), judge(harness.settings.clone()).map_err(refused)?)
            }
            (Asked::Named(rule), Source::Harness(harness)) => {
                (checked(Policy { rule: rule.clone(), ..harness.policy.clone() }).map_err(refused)?, Judging::Analysis)
            }
            (Asked::Written(_, policy), Source::Harness(harness)) => {
                let expected_calls_per_hour = policy.expected_calls_per_hour.or(harness.policy.expected_calls_per_hour);
                let policy = Policy {
                    long_call: Minutes(0),
                    settle: Minutes(0),
                    step_cap: ENDLESS,
                    max_blind: ENDLESS,
                    expected_calls_per_hour,
                    ..(**policy).clone()
                };
                let policy = checked(policy).map_err(refused)?;
                let judging = match &policy.rule {
                    Rule::Sequential(_) => judge(policy.settings().map_err(refused)?).map_err(refused)?,
                    _ => Judging::Analysis,
                };
                (policy, judging)
            }
        };
        candidates.push(candidate(recording, name, policy, judging));
    }
    Ok(candidates)
}

fn judge(settings: Settings) -> Result<Judging, String> {
    Ok(Judging::Judge(Box::new(Sequential::start(settings)?.0)))
}

fn candidate(recording: &Recording, name: String, policy: Policy, judging: Judging) -> Candidate {
    let rollout = match &recording.source {
        Source::Ledger(ledger) => posed(ledger.rollout.plan.clone(), policy, ledger.rollout.id.clone(), ledger.rollout.baseline),
        Source::Harness(harness) => posed(nobodys(), policy, recording.name.clone(), harness.baseline(&recording.weights)),
    };
    let rises = recording.weights.iter().map(|w| Rise { weight: w.weight, reached: false, at: None, why: None }).collect();
    Candidate { name, rollout, judging, summary: None, takes_back: None, rises, said: "no call was seen".to_owned(), asked: None }
}

/// A rollout that stands where the recorded one stood, under another policy.
fn posed(plan: Plan, policy: Policy, id: String, baseline: Option<Counts>) -> Rollout {
    let in_force = InForce { weight: Weight::ZERO, since: Timestamp::UNIX_EPOCH };
    Rollout {
        id,
        // Only what it would do is asked, never whether it may.
        plan: Plan { policy: Policy { mode: Mode::Act, ..policy }, ..plan },
        phase: Phase::Preparing,
        phase_since: in_force.since,
        snapshot: None,
        canary_version: None,
        finalized_version: None,
        applied: None,
        pending: None,
        in_force,
        weights: Vec::new(),
        baseline,
        approved: None,
        hastened: None,
        advised: None,
        stable_is_broken: false,
        asked_to_judge: false,
        withheld: None,
        restoration: Restoration::default(),
        publishing: false,
        has_stepped: true,
        stable_touched: None,
    }
}

/// A harness names no flows.
fn nobodys() -> Plan {
    let named = serde_json::json!({
        "flow": "replayed", "stable": {"flow_id": "stable"}, "canary": {"flow_id": "canary", "version": "1.0"},
        "labels": {"stable": "stable", "canary": "canary"},
    });
    serde_json::from_value(named).expect("a plan")
}

impl Harness {
    /// Stable's calls at the last step before 100 %.
    fn baseline(&self, weights: &[InForce]) -> Option<Counts> {
        let full = weights.iter().position(|w| w.weight == Weight::FULL)?;
        let last = weights[..full].last()?;
        let mut windows = BTreeMap::new();
        for window in self.looks.iter().flat_map(|look| &look.windows) {
            windows.insert(window.start, Window { start: minute(window.start), counts: counted(window) });
        }
        let step = windows.values().filter(|w| w.start >= last.since && w.start < weights[full].since);
        Some(total(step).stable).filter(|stable| stable.calls > 0)
    }
}

/// The recorded time, look by look.
struct Walk<'a> {
    weights: &'a [InForce],
    harness: Option<&'a Harness>,
    moments: Vec<Look>,
    clocked: bool,
}

/// When somebody looks, and what is new then.
struct Look {
    now: Timestamp,
    /// With the number of the report.
    fresh: Vec<(u32, Window)>,
    unreadable: bool,
}

impl<'a> Walk<'a> {
    fn of(recording: &'a Recording) -> Walk<'a> {
        let weights = recording.weights.as_slice();
        match &recording.source {
            Source::Harness(harness) => {
                let look = |look: &super::Look| {
                    let fresh = look.windows.iter().map(|w| (w.revision, Window { start: minute(w.start), counts: counted(w) }));
                    Look { now: minute(look.minute), fresh: fresh.collect(), unreadable: look.unreadable }
                };
                Walk { weights, harness: Some(harness), moments: harness.looks.iter().map(look).collect(), clocked: false }
            }
            Source::Ledger(ledger) => Walk { weights, harness: None, moments: minutes(ledger, weights[0].since), clocked: true },
        }
    }

    fn moment(&self, at: Timestamp) -> Moment {
        let begins = self.weights[0].since;
        Moment { minute: at.duration_since(begins).as_secs().div_euclid(60), at: self.clocked.then_some(at) }
    }

    /// Lets every policy look at every moment; returns the windows as they were in the end.
    fn run(&self, candidates: &mut [Candidate]) -> Vec<Window> {
        let mut known: Vec<Window> = Vec::new();
        let mut reports: BTreeMap<Timestamp, u32> = BTreeMap::new();
        let mut canary_calls = 0;
        for (nth, look) in self.moments.iter().enumerate() {
            for (report, window) in &look.fresh {
                let before = reports.entry(window.start).or_insert(*report);
                let newest = *before < *report;
                *before = (*before).max(*report);
                let at = known.partition_point(|w| w.start < window.start);
                let there = known.get(at).is_some_and(|w| w.start == window.start);
                match (there, newest) {
                    (false, _) => known.insert(at, *window),
                    (true, true) => {
                        canary_calls -= known[at].counts.canary.calls;
                        known[at] = *window;
                    }
                    (true, false) => continue,
                }
                canary_calls += window.counts.canary.calls;
            }
            let step = self.weights.partition_point(|w| w.since < look.now).max(1) - 1;
            let seen = SeenSoFar { nth, look, step, weights: &self.weights[..=step], known: &known, canary_calls, clocked: self.clocked };
            for candidate in candidates.iter_mut().filter(|c| c.takes_back.is_none()) {
                self.ask(candidate, &seen);
            }
        }
        known
    }

    fn ask(&self, candidate: &mut Candidate, seen: &SeenSoFar<'_>) {
        let in_force = seen.weights[seen.step];
        if candidate.may_wait(in_force, seen.look.now) {
            return;
        }
        let (told, said) = match (&mut candidate.judging, self.harness) {
            (Judging::Judge(judge), Some(harness)) => {
                let look = &harness.looks[seen.nth];
                let fresh = judge.observe(look.weight, &look.windows);
                if in_force.weight == Weight::ZERO {
                    return;
                }
                if in_force.weight < Weight::FULL {
                    let data = if look.unreadable {
                        Data::Unreadable
                    } else if fresh {
                        Data::Fresh
                    } else {
                        Data::Nothing
                    };
                    judged(&judge.verdict(data))
                } else {
                    decided(candidate, seen, in_force)
                }
            }
            _ if in_force.weight == Weight::ZERO => return,
            _ => decided(candidate, seen, in_force),
        };
        let at = self.moment(seen.look.now);
        candidate.rises[seen.step].reached = true;
        match told {
            Told::Stay => {}
            Told::Rise => {
                let rise = &mut candidate.rises[seen.step];
                if rise.at.is_none() {
                    (rise.at, rise.why) = (Some(at), Some(said.clone()));
                }
            }
            Told::TakeBack => {
                candidate.takes_back = Some(TakenBack { at, weight: in_force.weight, canary_calls: seen.canary_calls });
            }
        }
        candidate.said = said;
    }
}

/// What is known at a look.
struct SeenSoFar<'a> {
    nth: usize,
    look: &'a Look,
    /// Which of the weights is in force.
    step: usize,
    weights: &'a [InForce],
    known: &'a [Window],
    canary_calls: u32,
    clocked: bool,
}

/// A look a minute; a window is known once it is over.
fn minutes(ledger: &Ledger, begins: Timestamp) -> Vec<Look> {
    let mut windows = ledger.windows.iter().map(|(start, counts)| Window { start: *start, counts: *counts }).peekable();
    let begins = Timestamp::from_second(begins.as_second().div_euclid(60) * 60).expect("rounding down stays in range");
    let count = ledger.until().duration_since(begins).as_secs().div_euclid(60);
    let at = |n: i64| begins + SignedDuration::from_mins(n);
    (1..=count)
        .map(|n| {
            let fresh = std::iter::from_fn(|| windows.next_if(|w| w.start + WINDOW <= at(n))).map(|w| (0, w)).collect();
            Look { now: at(n), fresh, unreadable: false }
        })
        .collect()
}

enum Told {
    Stay,
    Rise,
    TakeBack,
}

fn judged(judgement: &Judgement) -> (Told, String) {
    let told = match judgement.action {
        Action::Hold => Told::Stay,
        Action::Advance | Action::Promote => Told::Rise,
        Action::Rollback => Told::TakeBack,
    };
    (told, judgement.reason.to_string())
}

/// What the evaluator would decide, had this policy been the rollout's.
fn decided(candidate: &mut Candidate, seen: &SeenSoFar<'_>, in_force: InForce) -> (Told, String) {
    let SeenSoFar { look, weights, known, .. } = *seen;
    let rollout = &mut candidate.rollout;
    rollout.in_force = in_force;
    rollout.phase_since = in_force.since;
    rollout.applied = Some(Applied { weight: in_force.weight, version: 1 });
    let full = in_force.weight == Weight::FULL;
    rollout.phase = if full { Phase::Baking } else { Phase::Stepping { weight: in_force.weight } };
    let rollout = &candidate.rollout;
    let policy = &rollout.plan.policy;
    // As the evaluator recalls it: the sequential rule the hours that are not summed up yet, the others the step.
    let sequential = !full && matches!(policy.rule, Rule::Sequential(_));
    if sequential {
        let from = candidate.summary.as_ref().map(|s| s.until);
        let summed = Course { policy, weights }.summarize(candidate.summary.take(), since(known, from));
        candidate.summary = summed;
    }
    let summary = candidate.summary.as_ref().filter(|_| sequential);
    let from = match summary {
        Some(summary) => summary.until,
        None if sequential => hour(weights[0].since),
        None => hour(in_force.since),
    };
    let windows = since(known, Some(from));
    let mut analysis: Analysis = analyze(&Measured { policy, weights, windows, summary, baseline: rollout.baseline }, look.now);
    if look.unreadable && !matches!(analysis.verdict, Verdict::Fail(_)) {
        analysis.verdict = Verdict::Error("the harness says so".to_owned());
    }
    let parameters = Seen { percentage: Some((in_force.weight.to_string(), 1)), rollout: None, halt: None };
    let facts = Facts { rollout, seen: &parameters, analysis: Some(&analysis), drift: None, restricted: &[], now: look.now };
    let decision = decide(&facts);
    let told = match &decision {
        Decision::Rollback(_) | Decision::Abort(_) => Told::TakeBack,
        Decision::Advance { .. } | Decision::Promote | Decision::FinishBake => Told::Rise,
        _ => Told::Stay,
    };
    let said = match &decision {
        // The times of a harness are minutes.
        Decision::Hold(HoldReason::Inconclusive(Doubt::NoLookYet { at })) if !seen.clocked => {
            format!("first look at this weight at minute {}", at.as_second() / 60)
        }
        _ => explain(&decision, &facts).sentence,
    };
    (told, said)
}

fn since(windows: &[Window], from: Option<Timestamp>) -> &[Window] {
    match from {
        Some(from) => &windows[windows.partition_point(|w| w.start < from)..],
        None => windows,
    }
}

/// For people.
pub(crate) fn table(compared: &Compared) -> String {
    let mut out = String::new();
    let Compared { rollout, weights, ended, stable_calls, canary_calls, policies, notes } = compared;
    let clocked = weights.first().is_some_and(|w| w.from.at.is_some());
    let day = weights.first().and_then(|w| w.from.at).map_or(String::new(), |at| format!(", from {} UTC", at.strftime("%Y-%m-%d %H:%M")));
    let _ = writeln!(out, "rollout {rollout}{day}: {canary_calls} canary and {stable_calls} stable calls");
    let steps: Vec<String> = weights.iter().map(|w| format!("{} % from {}", w.weight, moment(&w.from))).collect();
    let _ = writeln!(out, "  recorded: {}", shortened(&steps, ", "));
    if let Some(Ended { at, what }) = ended {
        let _ = writeln!(out, "  ended at {}: {what}", moment(at));
    }
    out.push('\n');
    let head = ["policy", "would take back", "after canary calls", "would rise", "reason"].map(str::to_owned);
    let rows: Vec<[String; 5]> = [head].into_iter().chain(policies.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    for row in &rows {
        let columns: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "  {}  {}", columns.join("  "), row[4]);
    }
    out.push('\n');
    for note in notes {
        let _ = writeln!(out, "  {note}");
    }
    if clocked {
        out.push_str("  times are UTC; minutes count from the first canary call's weight\n");
    }
    out
}

fn cells(row: &Row) -> [String; 5] {
    let back = row.takes_back.as_ref();
    let rises = row.rises.iter().filter(|rise| rise.reached).map(|rise| {
        let what = if rise.weight == Weight::FULL { " bake" } else { "" };
        format!("{} %{what}: {}", rise.weight, rise.at.as_ref().map_or("never".to_owned(), moment))
    });
    [
        row.policy.clone(),
        back.map_or("never".to_owned(), |b| format!("{} at {} %", moment(&b.at), b.weight)),
        back.map_or("-".to_owned(), |b| b.canary_calls.to_string()),
        shortened(&rises.collect::<Vec<_>>(), ", "),
        row.reason.clone(),
    ]
}

/// The first of a long list.
fn shortened(parts: &[String], by: &str) -> String {
    const MOST: usize = 8;
    let more = if parts.len() > MOST { format!("{by}and {} more (-o json has them)", parts.len() - MOST) } else { String::new() };
    format!("{}{more}", parts[..parts.len().min(MOST)].join(by))
}

fn moment(moment: &Moment) -> String {
    let clock = moment.at.map_or(String::new(), |at| at.strftime("%H:%M, ").to_string());
    format!("{clock}minute {}", moment.minute)
}
