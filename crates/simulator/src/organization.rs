//! The organization: its flows, callers, tokens, jobs and tables, and what it is asked to do. Everything that is remembered.

use crate::chance::{Draws, number_of};
use crate::changes::{Action, Actor, Audit, Thing};
use crate::faults::{Fault, Faults};
use crate::flow::{Behavior, Content, Flow, Kind, Operation, Target};
use crate::meter::Meter;
use crate::reports::Reports;
use crate::wall::Wall;
use crate::yaml;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Id of `Main_IVR_TrafficCop`, the flow every call of the slot `main_ivr` reaches first.
pub const MAIN_IVR_COP: &str = "c0900000-0000-4000-8000-000000000001";
/// Id of `Main_IVR_Blue`, the stable flow of the slot `main_ivr`.
pub const MAIN_IVR_STABLE: &str = "b10e0000-0000-4000-8000-000000000002";
/// Id of `Main_IVR_Green`, the canary flow of the slot `main_ivr`.
pub const MAIN_IVR_CANARY: &str = "97ee0000-0000-4000-8000-000000000003";
/// Id of `Deployment_Control`, the one data table.
pub const DEPLOYMENT_CONTROL: &str = "7ab1e000-0000-4000-8000-000000000004";
/// Id of the flow outcome that a call in the old branch of a gated flow of `main_ivr` begins and ends.
pub const MAIN_IVR_STABLE_OUTCOME: &str = "0c0e0000-0000-4000-8000-000000000005";
/// Id of the flow outcome that a call in the canary branch of a gated flow of `main_ivr` begins and ends.
pub const MAIN_IVR_CANARY_OUTCOME: &str = "0c0e0000-0000-4000-8000-000000000006";
/// Id of `Main_IVR`, the IVR configuration by which every call of the slot `main_ivr` comes in.
pub const MAIN_IVR_IVR: &str = "1f500000-0000-4000-8000-000000000007";
/// The number that callers of the slot `main_ivr` dial.
pub const MAIN_IVR_DNIS: &str = "+15550100";
/// Id of the one emergency group, which has a call flow for `main_ivr`.
pub const EMERGENCY: &str = "e3e00000-0000-4000-8000-000000000008";
/// Id of `Main_IVR_Test`, the IVR configuration whose number nobody knows; it leads to the canary flow of `main_ivr`.
pub const MAIN_IVR_TEST_IVR: &str = "1f500000-0000-4000-8000-00000000000a";
/// The number of [`MAIN_IVR_TEST_IVR`].
pub const MAIN_IVR_TEST_DNIS: &str = "+15550199";
/// Id of `Random Percentage`, the data action by which flows ask the deployed function.
pub const RANDOM_PERCENTAGE_ACTION: &str = "ac700000-0000-4000-8000-000000000009";
/// When the virtual clock starts, unless told otherwise.
pub const DEFAULT_START: &str = "2026-11-20T09:00:00Z";

/// How the organization and its callers are set up; the body of a reset.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The same seed gives the same run.
    pub seed: u64,
    /// Start of the virtual clock.
    pub start: Timestamp,
    /// Calls per hour and slot: always, or on average over the day.
    pub calls_per_hour: f64,
    /// Whether arrivals follow the hour of day.
    pub by_hour: bool,
    /// A report arrives up to so many seconds after `report_delay_s`.
    pub latency_s: f64,
    /// A report arrives at least so many seconds after what it reports.
    pub report_delay_s: f64,
    /// Whether publishing a version that was live before gives it a new number.
    pub republish_mints: bool,
    /// Requests a token may send per minute of the wall clock.
    pub requests_per_minute: u32,
    /// An analytics query with more predicates is refused.
    pub most_predicates: usize,
    /// An analytics answer of more bytes is refused.
    pub largest_answer: usize,
    /// The slots; `main_ivr` unless told otherwise.
    pub flows: Vec<SlotSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 1,
            start: DEFAULT_START.parse().expect("the default start is a time"),
            calls_per_hour: 3000.0,
            by_hour: false,
            latency_s: 30.0,
            report_delay_s: 45.0,
            republish_mints: false,
            requests_per_minute: 300,
            most_predicates: 250,
            largest_answer: 10_000_000,
            flows: vec![SlotSettings::named("main_ivr")],
        }
    }
}

/// One traffic cop and the two flows behind it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotSettings {
    /// Name of the flow to the operator, such as `main_ivr`.
    pub slot: String,
    /// The traffic cop.
    #[serde(default)]
    pub cop: FlowSettings,
    /// The stable flow.
    #[serde(default)]
    pub stable: FlowSettings,
    /// The canary flow.
    #[serde(default)]
    pub canary: FlowSettings,
    /// Where calls enter at the start.
    #[serde(default)]
    pub entry: Entry,
    /// What the traffic cop decides by.
    #[serde(default)]
    pub cop_reads: CopReads,
}

/// The flow that a slot's main IVR configuration names at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The traffic cop.
    #[default]
    Cop,
    /// The stable flow; the cop gets no calls.
    Stable,
}

/// The one source that a traffic cop asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopReads {
    /// The deployed function, call by call.
    #[default]
    Lambda,
    /// The slot's row of `Deployment_Control`: a `Traffic_Weight` of 100 means canary, anything else stable.
    Row,
}

/// Id and name of a flow; what is missing follows from the slot.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowSettings {
    /// Id of the flow.
    pub id: Option<String>,
    /// Name of the flow.
    pub name: Option<String>,
}

impl SlotSettings {
    fn named(slot: &str) -> SlotSettings {
        SlotSettings { slot: slot.to_owned(), ..SlotSettings::default() }
    }
}

/// A slot by the indexes of its flows.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) cop: usize,
    pub(crate) stable: usize,
    pub(crate) canary: usize,
    pub(crate) cop_reads: CopReads,
    /// The number its callers dial.
    pub(crate) dnis: String,
    /// What a call in the old branch of a gated flow begins and ends.
    pub(crate) stable_outcome: Outcome,
    /// The same of the canary branch.
    pub(crate) canary_outcome: Outcome,
}

impl Slot {
    /// Id of the queue to which its flows hand calls.
    pub(crate) fn queue(&self) -> String {
        Draws::of(0, &[number_of("queue"), self.cop as u64]).uuid()
    }
}

/// A flow outcome as the vendor lists it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// An IVR configuration: which flow the calls to its numbers enter.
#[derive(Debug, Clone)]
pub(crate) struct Ivr {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) dnis: Vec<String>,
    /// Id of the flow.
    pub(crate) open_hours_flow: String,
    /// Counts its changes.
    pub(crate) version: u64,
    /// Name of the slot whose calls they are.
    pub(crate) slot: String,
}

/// Flows that take over from those of the IVR configurations while the group is enabled.
#[derive(Debug, Clone)]
pub(crate) struct EmergencyGroup {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    /// Counts its changes.
    pub(crate) version: u64,
    /// Id of each emergency flow, and of the IVR configurations it takes over from.
    pub(crate) flows: Vec<(String, Vec<String>)>,
}

/// A token and its budget in the running minute.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) client: String,
    pub(crate) expires: Instant,
    window: Instant,
    used: u32,
}

/// How much of a token's budget is used, and when the next begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) used: u32,
    pub(crate) allowed: u32,
    pub(crate) reset_s: u64,
}

/// A publish from YAML.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) client: String,
    pub(crate) signature: String,
    pub(crate) status: &'static str,
    /// Index of the flow and id of the operation, once the file was accepted.
    pub(crate) work: Option<(usize, String)>,
    pub(crate) error: Option<String>,
}

/// A query of conversations that is answered later.
#[derive(Debug, Clone)]
pub(crate) struct DetailsJob {
    pub(crate) submitted: Timestamp,
    /// How often somebody has looked how far it is.
    pub(crate) looks: u32,
    /// Beginning and id of each conversation.
    pub(crate) found: Vec<(i64, String)>,
}

/// A validation of flows.
#[derive(Debug, Clone)]
pub(crate) struct Validation {
    /// How often somebody has looked: it ends with the second look.
    pub(crate) looks: u32,
    /// What is wrong.
    pub(crate) complaints: Vec<String>,
}

/// An alert that reached the webhook.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Delivery {
    pub(crate) received_at: Timestamp,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// The organization as the handlers share it.
pub(crate) type Shared = Arc<Mutex<Organization>>;

/// Everything that is remembered.
pub struct Organization {
    pub(crate) settings: Settings,
    /// The virtual clock.
    pub(crate) now: Timestamp,
    pub(crate) slots: Vec<Slot>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) ivrs: Vec<Ivr>,
    pub(crate) emergency_groups: Vec<EmergencyGroup>,
    pub(crate) reports: Reports,
    pub(crate) rows: BTreeMap<String, Value>,
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Exported files by job.
    pub(crate) exports: BTreeMap<String, String>,
    pub(crate) tokens: HashMap<String, Token>,
    /// Queries of conversations that are answered later.
    pub(crate) details_jobs: BTreeMap<String, DetailsJob>,
    /// Jobs that validate flows.
    pub(crate) validations: BTreeMap<String, Validation>,
    /// When the dependencies of flows were last gathered.
    pub(crate) dependencies_built: Timestamp,
    /// Every change, in order.
    pub(crate) audits: Vec<Audit>,
    pub(crate) faults: Faults,
    /// Faults that were ordered for a later time of the virtual clock, earliest first.
    pub(crate) script: Vec<(Timestamp, Fault)>,
    /// Requests by method and path template.
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) meter: Meter,
    pub(crate) wall: Wall,
    pub(crate) webhook: Vec<Delivery>,
    /// Ids given out, by what they are for.
    minted: BTreeMap<&'static str, u64>,
}

impl Organization {
    /// An organization as `settings` describe it, before its first call.
    pub fn new(settings: Settings) -> Result<Organization, String> {
        check(&settings)?;
        let (mut flows, mut slots, mut ivrs, mut emergency_groups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for slot in &settings.flows {
            let index = flows.len();
            for (part, given) in [("TrafficCop", &slot.cop), ("Blue", &slot.stable), ("Green", &slot.canary)] {
                flows.push(furnished(identity(&slot.slot, part, given), part != "TrafficCop", settings.start));
            }
            let [cop, stable, canary] = [0, 1, 2].map(|part| index + part);
            let [main, test] =
                ivrs_of(&slot.slot, slots.len(), &flows[if slot.entry == Entry::Cop { cop } else { stable }], &flows[canary]);
            if slot.slot == "main_ivr" {
                emergency_groups.push(emergency(&flows[stable], &main));
            }
            let [stable_outcome, canary_outcome] = outcomes_of(&slot.slot);
            let (name, dnis) = (slot.slot.clone(), main.dnis[0].clone());
            slots.push(Slot { name, cop, stable, canary, cop_reads: slot.cop_reads, dnis, stable_outcome, canary_outcome });
            ivrs.extend([main, test]);
        }
        for (i, flow) in flows.iter().enumerate() {
            if flows[..i].iter().any(|other: &Flow| other.id == flow.id || other.name == flow.name) {
                return Err(format!("flows: `{}` ({}) is there twice", flow.name, flow.id));
            }
        }
        Ok(Organization {
            now: settings.start,
            slots,
            flows,
            ivrs,
            emergency_groups,
            reports: Reports::default(),
            rows: BTreeMap::new(),
            jobs: BTreeMap::new(),
            exports: BTreeMap::new(),
            tokens: HashMap::new(),
            details_jobs: BTreeMap::new(),
            validations: BTreeMap::new(),
            dependencies_built: settings.start,
            audits: Vec::new(),
            faults: Faults::default(),
            script: Vec::new(),
            requests: BTreeMap::new(),
            meter: Meter::default(),
            wall: Wall::default(),
            webhook: Vec::new(),
            minted: BTreeMap::new(),
            settings,
        })
    }

    /// The same, by another wall clock than this machine's.
    pub fn by_the_clock(self, wall: Wall) -> Organization {
        Organization { wall, ..self }
    }

    /// An id that nothing else has. Each purpose counts for itself, so that polling does not change the ids of operations.
    pub(crate) fn mint(&mut self, purpose: &'static str) -> String {
        let count = self.minted.entry(purpose).or_default();
        *count += 1;
        Draws::of(self.settings.seed, &[number_of(purpose), *count]).uuid()
    }

    /// Takes over clock and tokens of the organization before a reset: a deployed function that keeps its token needs not notice.
    pub(crate) fn keep_tokens_of(&mut self, before: &mut Organization) {
        self.wall = before.wall.clone();
        self.tokens = std::mem::take(&mut before.tokens);
        let issued = before.minted.get("token").copied().unwrap_or_default();
        self.minted.insert("token", issued);
    }

    pub(crate) fn flow_index(&self, id: &str) -> Option<usize> {
        self.flows.iter().position(|flow| flow.id == id)
    }

    /// The IVR configuration that calls to a number come in by, and the index of the flow they enter.
    pub(crate) fn entrance(&self, dnis: &str) -> Option<(&Ivr, usize)> {
        let ivr = self.ivrs.iter().find(|ivr| ivr.dnis.iter().any(|number| number == dnis))?;
        let armed = self.emergency_groups.iter().filter(|group| group.enabled).flat_map(|group| &group.flows);
        let emergency = armed.into_iter().find(|(_, ivrs)| ivrs.contains(&ivr.id)).map(|(flow, _)| flow);
        Some((ivr, self.flow_index(emergency.unwrap_or(&ivr.open_hours_flow))?))
    }

    /// Ends the operations and jobs whose time has come.
    pub(crate) fn settle(&mut self, wall: Instant) {
        let mints = self.faults.republish_mints().unwrap_or(self.settings.republish_mints);
        for index in 0..self.flows.len() {
            let flow = &mut self.flows[index];
            if flow.settle(wall, self.now, mints) {
                let (by, id, name) = (flow.published_by.clone(), flow.id.clone(), flow.name.clone());
                self.record(by, Action::Publish, Thing::Flow, (&id, &name));
            }
        }
        for job in self.jobs.values_mut().filter(|job| job.status == "Started") {
            let Some((index, id)) = &job.work else { continue };
            if let Some(operation) = self.flows[*index].operation.as_ref().filter(|o| o.id == *id && o.complete) {
                job.status = if operation.will_fail { "Failure" } else { "Success" };
                job.error = operation.will_fail.then(|| "the flow could not be published".to_owned());
            }
        }
    }

    /// Starts a publish; the flow is neither locked nor busy.
    pub(crate) fn start_publish(&mut self, index: usize, target: Target, client: &str) -> Operation {
        let done_at = self.wall.now() + Duration::from_secs_f64(self.faults.publish_seconds());
        let will_fail = self.faults.take_publish_failure();
        let (id, by) = (self.mint("operation"), Actor::Client(client.to_owned()));
        let operation = Operation { id, by, target, done_at, will_fail, complete: false };
        self.flows[index].operation = Some(operation.clone());
        operation
    }

    /// Takes an uploaded file: it publishes into the flow of its name, which is created if there is none.
    pub(crate) fn upload(&mut self, id: &str, text: &str) {
        let Some(client) = self.jobs.get(id).map(|job| job.client.clone()) else { return };
        let outcome = yaml::read(text).and_then(|(name, content)| {
            let index = self.flows.iter().position(|flow| flow.name == name).unwrap_or_else(|| {
                let id = self.mint("flow");
                self.flows.push(Flow::new(id, name.clone()));
                self.flows.len() - 1
            });
            let flow = &self.flows[index];
            if flow.locked_by.is_some() {
                return Err(format!("flow '{name}' is locked by another entity. You can use the --forceUnlock option"));
            }
            if flow.is_busy() {
                return Err(format!("flow '{name}' has an operation in progress"));
            }
            let operation = self.start_publish(index, Target::New(content), &client);
            Ok((index, operation.id))
        });
        let Some(job) = self.jobs.get_mut(id) else { return };
        match outcome {
            Ok(work) => (job.status, job.work) = ("Started", Some(work)),
            Err(reason) => (job.status, job.error) = ("Failure", Some(reason)),
        }
    }

    /// Somebody checks in a change; it is not live.
    pub(crate) fn check_in(&mut self, index: usize, behavior: Behavior, branch: Option<Behavior>) -> String {
        let now = self.now;
        let flow = &mut self.flows[index];
        let content = Content { branch, ..content(&format!("change {}", flow.next_number()), Some(behavior)) };
        let version = flow.add(Kind::CheckIn, content, now);
        flow.versions[version].number.clone()
    }

    /// A token for `client` that lasts a day.
    pub(crate) fn issue_token(&mut self, client: &str, wall: Instant) -> String {
        let token = format!("{}{}", self.mint("token"), self.mint("token")).replace('-', "");
        let expires = wall + Duration::from_secs(TOKEN_LIFE_S);
        self.tokens.insert(token.clone(), Token { client: client.to_owned(), expires, window: wall, used: 0 });
        token
    }

    /// The client that a valid token was given to.
    pub(crate) fn client_of(&self, token: &str, wall: Instant) -> Option<&str> {
        self.tokens.get(token).filter(|token| token.expires > wall).map(|token| token.client.as_str())
    }

    /// Counts a request of `token`; `None` if there is no such token.
    pub(crate) fn spend(&mut self, token: &str, wall: Instant) -> Option<(String, Budget)> {
        let allowed = self.settings.requests_per_minute;
        let token = self.tokens.get_mut(token).filter(|token| token.expires > wall)?;
        if wall.duration_since(token.window) >= MINUTE {
            (token.window, token.used) = (wall, 0);
        }
        token.used = token.used.saturating_add(1);
        let reset_s = MINUTE.saturating_sub(wall.duration_since(token.window)).as_secs().max(1);
        Some((token.client.clone(), Budget { used: token.used, allowed, reset_s }))
    }
}

/// Life of a token, seconds.
pub(crate) const TOKEN_LIFE_S: u64 = 86_399;
const MINUTE: Duration = Duration::from_secs(60);

/// Locks the organization, up to date with the wall clock.
pub(crate) fn enter(shared: &Shared) -> MutexGuard<'_, Organization> {
    let mut organization = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let wall = organization.wall.now();
    organization.settle(wall);
    organization
}

fn check(settings: &Settings) -> Result<(), String> {
    if !(0.0..=1_000_000.0).contains(&settings.calls_per_hour) {
        return Err("calls_per_hour is from 0 to 1000000".to_owned());
    }
    if !(0.0..=86_400.0).contains(&settings.latency_s) || !(0.0..=86_400.0).contains(&settings.report_delay_s) {
        return Err("latency_s and report_delay_s are from 0 to 86400".to_owned());
    }
    for slot in &settings.flows {
        if slot.slot.is_empty() || settings.flows.iter().filter(|other| other.slot == slot.slot).count() > 1 {
            return Err(format!("flows: the slot `{}` has no name of its own", slot.slot));
        }
    }
    Ok(())
}

fn identity(slot: &str, part: &str, given: &FlowSettings) -> (String, String) {
    let known = match (slot, part) {
        ("main_ivr", "TrafficCop") => Some(MAIN_IVR_COP),
        ("main_ivr", "Blue") => Some(MAIN_IVR_STABLE),
        ("main_ivr", _) => Some(MAIN_IVR_CANARY),
        _ => None,
    };
    let id = given.id.clone().or(known.map(str::to_owned));
    (id.unwrap_or_else(|| derived("flow", slot, part)), given.name.clone().unwrap_or_else(|| format!("{}_{part}", prefix(slot))))
}

fn prefix(slot: &str) -> &str {
    if slot == "main_ivr" { "Main_IVR" } else { slot }
}

fn derived(what: &str, slot: &str, part: &str) -> String {
    Draws::of(0, &[number_of(what), number_of(slot), number_of(part)]).uuid()
}

/// The IVR configuration that callers of a slot come in by, and the one for test calls.
fn ivrs_of(slot: &str, index: usize, entry: &Flow, canary: &Flow) -> [Ivr; 2] {
    let (main, test) = match slot {
        "main_ivr" => ([MAIN_IVR_IVR, MAIN_IVR_DNIS].map(str::to_owned), [MAIN_IVR_TEST_IVR, MAIN_IVR_TEST_DNIS].map(str::to_owned)),
        _ => ([derived("ivr", slot, "main"), format!("+15551{index:06}")], [derived("ivr", slot, "test"), format!("+15552{index:06}")]),
    };
    let ivr = |[id, dnis]: [String; 2], name: String, flow: &Flow| Ivr {
        id,
        name,
        dnis: vec![dnis],
        open_hours_flow: flow.id.clone(),
        version: 1,
        slot: slot.to_owned(),
    };
    [ivr(main, prefix(slot).to_owned(), entry), ivr(test, format!("{}_Test", prefix(slot)), canary)]
}

fn emergency(stable: &Flow, main: &Ivr) -> EmergencyGroup {
    let flows = vec![(stable.id.clone(), vec![main.id.clone()])];
    EmergencyGroup { id: EMERGENCY.to_owned(), name: "Emergency".to_owned(), enabled: false, version: 1, flows }
}

/// What calls in the old and in the canary branch begin and end.
fn outcomes_of(slot: &str) -> [Outcome; 2] {
    [(MAIN_IVR_STABLE_OUTCOME, "Stable"), (MAIN_IVR_CANARY_OUTCOME, "Canary")].map(|(id, part)| Outcome {
        id: if slot == "main_ivr" { id.to_owned() } else { derived("outcome", slot, part) },
        name: format!("{}_{part}", prefix(slot)),
    })
}

/// A flow that has been published twice, as 13.0 a month and as 14.0 a week before the start.
fn furnished((id, name): (String, String), takes_calls: bool, start: Timestamp) -> Flow {
    let mut flow = Flow::new(id, name);
    for (number, days) in [("13.0", 30), ("14.0", 7)] {
        let published = start - SignedDuration::from_hours(24 * days);
        let index = flow.add(Kind::Publish, content(&format!("release {number}"), takes_calls.then(Behavior::default)), published);
        flow.versions[index].number = number.to_owned();
        flow.publish(index, published);
    }
    flow
}

fn content(release: &str, behavior: Option<Behavior>) -> Content {
    let body = [
        "division: Home",
        "startUpRef: ./tasks/task[main]",
        "defaultLanguage: en-us",
        "tasks:",
        "  - task:",
        "      name: main",
        "      refId: main",
        &format!("      description: {release}"),
    ];
    Content { behavior, branch: None, body: body.map(str::to_owned).to_vec() }
}
