//! `serin doctor`: is everything there that a rollout needs, and is it well? Looks only; what nobody may look at is said to be unknown.

use crate::failure::{Code, Failure, Outcome};
use crate::file;
use crate::genesys::{Client, Key};
use crate::output::{Tone, columns, counted};
use crate::progress::Progress;
use crate::site::{Place, Site};
use clap::Args as Arguments;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serin_aws::alarms::{self, Alarm};
use serin_aws::{Copies, SnsNotifier, checkup};
use serin_controller::pointer::is_foreign;
use serin_controller::ports::{Ledger, Parameters, Preflight, Rows};
use serin_controller::record::open;
use serin_core::measurement::{Window, total};
use serin_core::projection::{Seen, Standing, repair, standing};
use serin_core::rollout::{FlowName, Plan, Rollout};
use serin_core::sequential::spell;
use serin_core::summary::hour;
use serin_core::weight::Weight;
use serin_genesys::operations::Client as Clients;
use std::path::PathBuf;

#[derive(Arguments)]
pub(crate) struct Args {
    /// Rollout file (YAML): also look at what its rollout needs
    file: Option<PathBuf>,
    /// The data action that asks random-percentage (id): also look at its time-out
    #[arg(long, value_name = "ID")]
    data_action: Option<String>,
}

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Well,
    /// It works, and somebody should look.
    Note,
    /// Something does not work.
    Bad,
    /// It could not be looked at, by whoever asks or from here.
    Unknown,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    of: &'static str,
    state: State,
    said: String,
}

#[derive(Serialize)]
struct Findings {
    stage: String,
    well: bool,
    items: Vec<Check>,
}

impl Findings {
    fn add(&mut self, of: &'static str, state: State, said: impl Into<String>) {
        self.items.push(Check { of, state, said: said.into() });
    }
}

/// Whoever does not know how these are does not know whether a rollout would work.
const NEEDED: [&str; 3] = ["schedules", "read client", "publish client"];
/// A clock that is as far off makes decisions on the wrong minutes.
const SKEW: SignedDuration = SignedDuration::from_secs(30);
/// Without a tick for so long every call goes to stable.
const DEAD: SignedDuration = SignedDuration::from_mins(5);
/// Ticks come every minute.
const LATE: SignedDuration = SignedDuration::from_mins(2);
/// Reads a second that Parameter Store answers by default, for everything in the account and region.
const READS: f64 = 40.0;
/// Flows that a tick can read there at once, three with each read.
const VISITED: usize = 90;
/// Flows that an endpoint can read there at their busiest: each sandbox reads each of them by itself.
const FLOWS: usize = 10;
/// Seconds that a caller may wait for the answer.
const TIME_OUT: u32 = 5;

pub(crate) async fn run(args: &Args, place: &Place) -> Outcome {
    let plan = args.file.as_deref().map(file::read).transpose().map_err(Failure::not_accepted)?;
    let site = place.connect().await?;
    let progress = Progress::begin("looking at everything that a rollout needs");
    let mut found = Findings { stage: site.stage.clone(), well: true, items: Vec::new() };
    let active = aws(&site, &mut found).await;
    genesys(&site, args, plan.as_ref(), &mut found).await;
    let copies = site.parameters.copies().await;
    if let Err(reason) = &copies {
        found.add("copy", State::Unknown, format!("of the parameters, {reason}"));
    }
    for flow in &active {
        of_flow(&site, flow, copies.as_ref().ok(), &mut found).await;
    }
    progress.end();
    found.well = found.items.iter().all(|check| check.state != State::Bad);
    site.output.tell("Doctor", &found, || table(&found))?;
    let unseen = found.items.iter().any(|check| check.state == State::Unknown && NEEDED.contains(&check.of));
    Ok(match (found.well, unseen) {
        (false, _) => Code::No,
        (true, true) => Code::CouldNotTell,
        (true, false) => Code::Done,
    })
}

fn table(found: &Findings) -> String {
    let row = |check: &Check| {
        let (word, tone) = match check.state {
            State::Well => ("ok", Tone::Good),
            State::Note => ("note", Tone::Busy),
            State::Bad => ("BAD", Tone::Bad),
            State::Unknown => ("?", Tone::Plain),
        };
        vec![tone.paint(word), check.of.to_owned(), check.said.clone()]
    };
    let rows: Vec<Vec<String>> = found.items.iter().map(row).collect();
    let count = |state: State| found.items.iter().filter(|check| check.state == state).count();
    let (bad, notes, unknown) = (count(State::Bad), count(State::Note), count(State::Unknown));
    format!(
        "{}\n\nstage {}: {}",
        columns(&["", "WHAT", "HOW IT IS"], &rows),
        found.stage,
        match bad {
            0 => format!("nothing is wrong; {notes} to look at, {unknown} that could not be looked at from here"),
            _ => format!(
                "{} wrong; {notes} to look at, {unknown} that could not be looked at from here",
                counted(bad, "thing is", "things are")
            ),
        }
    )
}

/// AWS's side; returns the flows that are watched.
async fn aws(site: &Site, found: &mut Findings) -> Vec<FlowName> {
    match serin_aws::identity(&site.aws).await {
        Ok(arn) => found.add("identity", State::Well, arn),
        Err(reason) => found.add("identity", State::Unknown, format!("who you are is not known, so the ledger names only --by: {reason}")),
    }
    match checkup::clock_ahead(&site.aws).await {
        Ok(ahead) if ahead.abs() > SKEW => {
            found.add("clock", State::Bad, format!("this machine's clock is {:#} off AWS's: set it by NTP", ahead.abs()));
        }
        Ok(_) => found.add("clock", State::Well, "agrees with AWS's"),
        Err(reason) => found.add("clock", State::Unknown, reason),
    }
    let active = match site.ledger.active().await {
        Ok(active) => {
            found.add("ledger", State::Well, format!("{} watched", counted(active.len(), "flow is", "flows are")));
            active
        }
        Err(error) => {
            found.add("ledger", State::Bad, format!("{error}; is the stage {} deployed in this account and region?", site.stage));
            return Vec::new();
        }
    };
    // Changes nothing: nobody has that turn.
    let nobody: FlowName = "serin-doctor".parse().expect("a name");
    match site.ledger.release_hold(&nobody, "nobody").await {
        Ok(_) => found.add("ledger, writing", State::Well, "you may record"),
        Err(error) => found.add("ledger, writing", State::Bad, format!("what you ask for cannot be recorded: {error}")),
    }
    match site.parameters.may_write().await {
        Ok(true) => found.add("parameters", State::Well, "you may write them, and so take calls away"),
        Ok(false) => found.add(
            "parameters",
            State::Unknown,
            "whether you may write them could not be tried: the heartbeat is not there, or you may not read it",
        ),
        Err(reason) => found.add("parameters", State::Bad, format!("you cannot take calls away by this tool: {reason}")),
    }
    match SnsNotifier::of_stage(&site.aws, &site.stage).await {
        Ok(_) => found.add("topics", State::Well, "what you do is told at once"),
        Err(reason) => found.add("topics", State::Note, format!("what you do is told with the next tick only: {reason}")),
    }
    ticks(site, !active.is_empty(), found).await;
    armed(site, found).await;
    let raised = checkup::high_throughput(&site.aws).await;
    match &raised {
        Ok(true) => found.add("quota", State::Well, "Parameter Store's higher throughput is on"),
        Ok(false) if active.len() > VISITED => found.add(
            "quota",
            State::Note,
            format!(
                "Parameter Store's throughput is the default, {READS} reads a second for the whole account and region; a tick reads {} flows at \
                 once, three with each. Raise it in Systems Manager, Parameter Store, Settings",
                active.len()
            ),
        ),
        Ok(false) => found.add(
            "quota",
            State::Well,
            format!("Parameter Store's throughput is the default, {READS} reads a second for the whole account and region"),
        ),
        Err(reason) => found.add("quota", State::Unknown, reason),
    }
    source(site, active.len(), raised == Ok(true), found).await;
    active.into_iter().map(|active| active.flow).collect()
}

/// Whether what the endpoint reads from can answer it.
async fn source(site: &Site, flows: usize, raised: bool, found: &mut Findings) {
    const OF: &str = "endpoint's source";
    let set = checkup::endpoint_source(&site.aws, &site.stage).await;
    let source = set.as_ref().ok().map(|source| source.as_deref().unwrap_or("ParameterStore"));
    if source == Some("DynamoDB") {
        return found.add(OF, State::Well, "DynamoDB, which answers as many reads as there are");
    }
    let reads = checkup::busiest_reads(&site.aws, &site.stage, Timestamp::now()).await;
    let told = match &reads {
        Ok(Some(most)) => format!("{most:.1} reads a second in the busiest minute of 24 hours"),
        Ok(None) => "no read was counted in 24 hours".to_owned(),
        Err(reason) => reason.clone(),
    };
    let told = format!("{}; {told}", counted(flows, "flow is watched", "flows are watched"));
    let is = match source {
        Some(source) => source.to_owned(),
        None => format!("which one is set is not known ({})", set.as_ref().err().map_or("", String::as_str)),
    };
    let many = flows > FLOWS || reads.as_ref().is_ok_and(|most| most.is_some_and(|most| most > READS / 2.0));
    match (many && !raised, &reads) {
        (true, _) => found.add(
            OF,
            State::Note,
            format!(
                "{is}: {told}. Parameter Store answers {READS} a second for the whole account: `make deploy STAGE={} \
                 PARAMETERS=\"EndpointSource=DynamoDB\"`{}",
                site.stage,
                if source.is_none() { ", unless it is set already" } else { "" }
            ),
        ),
        (false, Err(_)) => found.add(OF, State::Unknown, format!("{is}: {told}")),
        (false, Ok(_)) => found.add(OF, State::Well, format!("{is}: {told}")),
    }
}

async fn ticks(site: &Site, watched: bool, found: &mut Findings) {
    // A heartbeat is of the wall clock, whatever clock rollouts run by.
    match site.parameters.heartbeat().await {
        Ok(Some(beat)) => {
            let age = Timestamp::now().duration_since(beat);
            let said = format!("the last tick that visited every flow was {} ago", spell((age.as_secs_f64() / 60.0).max(0.0)));
            match age {
                age if age > DEAD => found.add(
                    "schedules",
                    if watched { State::Bad } else { State::Note },
                    format!("{said}: every call of a running rollout goes to stable. Look at the log of canary-evaluator, and whether its schedules are on"),
                ),
                age if age > LATE => found.add("schedules", State::Note, said),
                _ => found.add("schedules", State::Well, said),
            }
        }
        Ok(None) => found.add("schedules", State::Note, "no tick has ever visited every flow: are the schedules on? (SchedulesState)"),
        Err(error) => found.add("schedules", State::Unknown, error.to_string()),
    }
}

async fn armed(site: &Site, found: &mut Findings) {
    let alarms = match alarms::alarms(&site.aws, &site.stage).await {
        Ok(alarms) => alarms,
        Err(reason) => return found.add("alarms", State::Unknown, reason),
    };
    if !alarms.missing.is_empty() {
        found.add(
            "alarms",
            State::Bad,
            format!("not there: {}; put them back, see docs/runbook/serin-is-unwell.md", alarms.missing.join(", ")),
        );
    }
    let named = |wanted: &dyn Fn(&Alarm) -> bool| {
        alarms.found.iter().filter(|alarm| wanted(alarm)).map(|alarm| alarm.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (mute, off) = (named(&|alarm| !alarm.has_actions || !alarm.enabled), named(&|alarm| alarm.state == "ALARM"));
    if !mute.is_empty() {
        found.add(
            "alarms",
            State::Bad,
            format!("they tell nobody: {mute}. Deploy with NotifyEmail, or subscribe to the watchers topic, and switch their actions on"),
        );
    }
    if !off.is_empty() {
        found.add("alarms", State::Bad, format!("going off now: {off}; see docs/runbook/serin-is-unwell.md"));
    }
    if alarms.missing.is_empty() && mute.is_empty() && off.is_empty() {
        found.add("alarms", State::Well, format!("{} armed, none going off", alarms.found.len()));
    }
}

/// Genesys Cloud's side.
async fn genesys(site: &Site, args: &Args, plan: Option<&Plan>, found: &mut Findings) {
    for (key, of, label) in [(Key::Read, Clients::Both, "read client"), (Key::Publish, Clients::Publisher, "publish client")] {
        let client = match site.genesys().connect_as(key) {
            Ok(client) => client,
            Err(error) => {
                found.add(label, State::Unknown, format!("{error:#}"));
                continue;
            }
        };
        permissions(&client, of, plan, label, found).await;
        if key == Key::Publish {
            organization(site, &client, found).await;
            action(&client, args, found).await;
        }
    }
}

async fn permissions(client: &Client, of: Clients, plan: Option<&Plan>, label: &'static str, found: &mut Findings) {
    let permissions = client.permissions(of, plan).await;
    if let Some(Err(reason)) = permissions.first().map(|permission| &permission.granted)
        && permissions.iter().all(|permission| permission.granted.is_err())
    {
        // Whoever may not read the client's key knows nothing of the client.
        let state = if reason.contains("/genesys/") && reason.contains("parameter") { State::Unknown } else { State::Bad };
        return found.add(label, state, format!("nothing could be asked: {reason}"));
    }
    let mut granted = 0;
    for permission in &permissions {
        match (&permission.granted, permission.required) {
            (Ok(true), _) => granted += 1,
            (Ok(false), true) => found.add(label, State::Bad, format!("its role lacks {} ({}): grant it", permission.name, permission.why)),
            (Ok(false), false) => {
                found.add(label, State::Note, format!("its role lacks {}: without it {} is not possible", permission.name, permission.why))
            }
            (Err(reason), _) => found.add(label, State::Unknown, format!("{}: {reason}", permission.name)),
        }
    }
    if granted == permissions.len() {
        found.add(label, State::Well, format!("has all {granted} permissions"));
    }
}

async fn organization(site: &Site, client: &Client, found: &mut Findings) {
    let ours = site.aws.region().map(ToString::to_string);
    match (client.region(), ours) {
        (Some(theirs), Some(ours)) if theirs != ours => found.add(
            "region",
            State::Bad,
            format!("the organization lives in {theirs} and Serin in {ours}: its data actions reach functions of their own region only"),
        ),
        (Some(theirs), Some(_)) => found.add("region", State::Well, format!("organization and functions are in {theirs}")),
        (None, _) | (_, None) => found.add("region", State::Unknown, "the organization's region does not show in its address"),
    }
    match client.clock_ahead().await {
        Ok(ahead) if ahead.abs() > SKEW => found.add("organization's clock", State::Bad, format!("{:#} off this machine's", ahead.abs())),
        Ok(_) => found.add("organization's clock", State::Well, "agrees with this machine's"),
        Err(error) => found.add("organization's clock", State::Unknown, error.to_string()),
    }
    if let Some(left) = client.requests_left() {
        let state = if left < 60 { State::Note } else { State::Well };
        found.add("requests", state, format!("{left} are left in this minute; preparing a rollout takes up to 60"));
    }
}

async fn action(client: &Client, args: &Args, found: &mut Findings) {
    let Some(id) = &args.data_action else {
        return found.add("data action", State::Unknown, "say --data-action ID to have its time-out looked at");
    };
    match client.data_action(id).await {
        Ok(action) => match action.timeout_seconds {
            Some(seconds) if seconds <= TIME_OUT => found.add("data action", State::Well, format!("{}: time-out {seconds} s", action.name)),
            Some(seconds) => found.add(
                "data action",
                State::Bad,
                format!("{}: time-out {seconds} s: so long a caller hears nothing when it does not answer; set it to 2 s", action.name),
            ),
            None => {
                found.add("data action", State::Bad, format!("{}: no time-out, which means 60 s of silence; set it to 2 s", action.name))
            }
        },
        Err(error) => found.add("data action", State::Unknown, error.to_string()),
    }
}

/// One flow: do record, parameters, row and calls agree?
async fn of_flow(site: &Site, flow: &FlowName, copies: Option<&Copies>, found: &mut Findings) {
    let rollout = match open(&site.ledger, flow).await {
        Ok(opened) => opened.rollout,
        Err(error) => return found.add("flow", State::Bad, format!("{error}; see docs/runbook/is-the-record-true.md")),
    };
    let Some(rollout) = rollout else { return };
    match site.parameters.read(flow).await {
        Ok(seen) => {
            match drift(&rollout, &seen) {
                // A tick in between looks like a hand.
                Some(_) if open(&site.ledger, flow).await.is_ok_and(|now| now.rollout.as_ref() != Some(&rollout)) => {
                    found.add("flow", State::Unknown, format!("{flow}: it changed while it was looked at; ask again"));
                }
                Some(drift) => found.add("flow", State::Bad, format!("{flow}: {drift}")),
                None => found.add("flow", State::Well, format!("{flow}: {}, parameters as recorded", rollout.phase)),
            }
            if let Some(how) = copies.and_then(|copies| copies.differ(flow, &seen)) {
                found.add(
                    "copy",
                    State::Note,
                    format!(
                        "{flow}: {how}; a tick brings it within a minute. If it lasts, write the percentage once more, to what it should be"
                    ),
                );
            }
        }
        Err(error) => found.add("flow", State::Bad, format!("{flow}: {error}")),
    }
    if let Some(table) = rollout.plan.pointer.as_ref().map(|pointer| &pointer.table) {
        row(site, flow, table, &rollout, found).await;
    }
    if rollout.phase.is_watched() && rollout.in_force.weight > Weight::ZERO && rollout.in_force.weight < Weight::FULL {
        match share(site, flow, &rollout).await {
            Ok(Some((state, said))) => found.add("sample ratio", state, format!("{flow}: {said}")),
            Ok(None) => {}
            Err(error) => found.add("sample ratio", State::Unknown, format!("{flow}: {error}")),
        }
    }
}

/// How the parameters differ from the record, for longer than a tick takes to mend it.
fn drift(rollout: &Rollout, seen: &Seen) -> Option<String> {
    let mend = repair(rollout, seen);
    let written = seen.percentage.as_ref().map_or("nothing", |(text, _)| text.as_str());
    match standing(rollout, seen) {
        _ if mend.zero => Some(format!("the parameter holds {written} and should hold 0; a tick mends it within a minute")),
        _ if mend.halt => Some("the halt marker does not name the rollout that was contained; a tick sets it within a minute".to_owned()),
        Standing::Foreign { .. } if rollout.awaits_verdict() => {
            Some(format!("the parameter holds {written}, which somebody set by hand; the next tick heeds it"))
        }
        _ => None,
    }
}

async fn row(site: &Site, flow: &FlowName, table: &str, rollout: &Rollout, found: &mut Findings) {
    let found_row = match site.genesys().connect() {
        Ok(client) => client.pointer(table, flow).await.map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error:#}")),
    };
    match found_row {
        Ok(None) if !rollout.has_stepped => {}
        Ok(None) => found.add("row", State::Bad, format!("{flow}: data table {table} has no such row, so every call goes to stable")),
        Ok(Some(row)) if is_foreign(&row, &site.stage) => found.add("row", State::Bad, format!("{flow}: it belongs to `{}`", row.owner)),
        Ok(Some(row)) if row.weight != rollout.settled_weight() && rollout.has_stepped => {
            found.add("row", State::Bad, format!("{flow}: it says {} where {} is recorded", row.weight, rollout.settled_weight()));
        }
        Ok(Some(row)) => found.add("row", State::Well, format!("{flow}: it says {}", row.weight)),
        Err(reason) => found.add("row", State::Unknown, format!("{flow}: {reason}")),
    }
}

/// Whether the calls of the last hour came in the share that was configured.
async fn share(site: &Site, flow: &FlowName, rollout: &Rollout) -> anyhow::Result<Option<(State, String)>> {
    let from = (site.now - SignedDuration::from_hours(1)).max(rollout.in_force.since);
    let windows = site.ledger.windows(flow, &rollout.id, hour(from)).await?;
    // Young calls are still in their flow.
    let from = from + rollout.plan.policy.long_call.duration();
    let settled: Vec<Window> = windows.into_iter().filter(|window| window.start >= from).collect();
    let both = total(&settled);
    let calls = f64::from(both.canary.calls + both.stable.calls);
    if calls < 100.0 {
        return Ok(None);
    }
    let (weight, seen) = (rollout.in_force.weight.percent() / 100.0, f64::from(both.canary.calls) / calls);
    let off = (seen - weight).abs() / (weight * (1.0 - weight) / calls).sqrt();
    let said = format!(
        "{:.1} % of {calls:.0} calls of the last hour reached the canary, {} % are configured",
        100.0 * seen,
        rollout.in_force.weight
    );
    Ok(Some(match off > 4.0 {
        true => (State::Bad, format!("{said}: check the traffic cop's rule, and what keeps its answers")),
        false => (State::Well, said),
    }))
}
