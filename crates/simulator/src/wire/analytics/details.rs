//! `POST /api/v2/analytics/conversations/details/query`: conversations as far as they are known, one page at a time.
//!
//! Everything of a conversation has the time at which it ended, and is not there before: a handle time comes when the after-call work
//! is done, later than the end of the conversation. What the flow wrote down about a caller is in asynchronous jobs alone. Left out: evaluations, surveys, resolutions and facets, which nothing here has.

use super::{ApiError, Junction, Operator, exit_reason, outcome_id, outcome_value, sized, transfer_type, within_limit};
use crate::callers::Exit;
use crate::chance::{Draws, number_of};
use crate::flow::date_time;
use crate::organization::{Organization, Shared, enter};
use crate::reports::Conversation;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Conversations of a page: unless told otherwise, and at most.
const PAGE: (usize, usize) = (25, 100);
/// The longest interval, and a day: milliseconds.
const LONGEST: i64 = 31 * DAY;
const DAY: i64 = 86_400_000;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/api/v2/analytics/conversations/details/query", post(query))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Request {
    interval: String,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    order_by: OrderBy,
    paging: Option<Paging>,
    #[serde(default)]
    segment_filters: Vec<Filter>,
    #[serde(default)]
    conversation_filters: Vec<Filter>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Order {
    #[default]
    Asc,
    Desc,
    Unordered,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum OrderBy {
    #[default]
    ConversationStart,
    ConversationEnd,
    SegmentStart,
    SegmentEnd,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Paging {
    page_size: usize,
    page_number: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(rename = "type")]
    kind: Junction,
    #[serde(default)]
    clauses: Vec<Clause>,
    #[serde(default)]
    predicates: Vec<Predicate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    #[serde(rename = "type")]
    kind: Junction,
    predicates: Vec<Predicate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    #[serde(rename = "type")]
    _kind: Option<String>,
    dimension: Option<String>,
    metric: Option<String>,
    #[serde(default)]
    operator: Operator,
    value: Option<String>,
    range: Option<Range>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    gt: Option<f64>,
    gte: Option<f64>,
    lt: Option<f64>,
    lte: Option<f64>,
}

/// What a predicate is asked of.
trait Facts {
    fn dimension(&self, name: &str) -> Option<Cow<'_, str>>;
    fn metric(&self, name: &str) -> Option<i64>;
}

impl Filter {
    fn holds(&self, facts: &impl Facts) -> bool {
        let clause = |clause: &Clause| super::join(clause.kind, clause.predicates.iter().map(|p| p.holds(facts)));
        super::join(self.kind, self.predicates.iter().map(|p| p.holds(facts)).chain(self.clauses.iter().map(clause)))
    }

    fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        self.predicates.iter().chain(self.clauses.iter().flat_map(|clause| &clause.predicates))
    }

    fn check(&self) -> Result<(), String> {
        self.predicates().try_for_each(|predicate| match (&predicate.dimension, &predicate.metric, predicate.operator) {
            (None, None, _) | (Some(_), Some(_), _) => Err("a predicate is on a dimension or on a metric".to_owned()),
            (.., Operator::Matches) if predicate.value.is_none() && predicate.range.is_none() => {
                Err("a predicate that matches has a value or a range".to_owned())
            }
            _ => Ok(()),
        })
    }
}

impl Predicate {
    fn holds(&self, facts: &impl Facts) -> bool {
        let dimension = self.dimension.as_deref().and_then(|name| facts.dimension(name));
        let metric = self.metric.as_deref().and_then(|name| facts.metric(name));
        let exists = dimension.is_some() || metric.is_some();
        match self.operator {
            Operator::Exists => exists,
            Operator::NotExists => !exists,
            Operator::Matches => {
                let value = metric.map(|m| Cow::Owned(m.to_string())).or(dimension);
                let is_value = self.value.as_deref().is_none_or(|wanted| value.as_deref() == Some(wanted));
                is_value && self.range.as_ref().is_none_or(|range| metric.is_some_and(|m| range.holds(m as f64)))
            }
        }
    }
}

impl Range {
    fn holds(&self, value: f64) -> bool {
        let Range { gt, gte, lt, lte } = self;
        gt.is_none_or(|x| value > x) && gte.is_none_or(|x| value >= x) && lt.is_none_or(|x| value < x) && lte.is_none_or(|x| value <= x)
    }
}

async fn query(State(shared): State<Shared>, body: Bytes) -> Result<Response, ApiError> {
    let request: Request = serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let organization = enter(&shared);
    within_limit(&organization, request.segment_filters.iter().chain(&request.conversation_filters).flat_map(Filter::predicates).count())?;
    let answer = answer(&organization, &request).map_err(ApiError::bad_request)?;
    sized(&organization, &answer)
}

/// A conversation as far as it is known now; with what its flow wrote down about the caller, which asynchronous jobs alone tell.
pub(super) fn conversation_json(organization: &Organization, conversation: &Conversation, with_attributes: bool) -> Value {
    Known { conversation, organization }.render(with_attributes)
}

impl Request {
    /// The query of a job, which has no paging, and how many conversations it wants at most.
    pub(super) fn of_job(body: &[u8]) -> Result<(Request, usize), ApiError> {
        let refused = |error: serde_json::Error| ApiError::bad_request(error.to_string());
        let mut query: Map<String, Value> = serde_json::from_slice(body).map_err(refused)?;
        let most = query.remove("limit").and_then(|limit| limit.as_u64()).map_or(usize::MAX, |limit| limit as usize);
        Ok((serde_json::from_value(Value::Object(query)).map_err(refused)?, most))
    }
}

/// The conversations that a query is about, whatever its paging.
pub(super) fn search<'a>(organization: &'a Organization, request: &Request) -> Result<Vec<&'a Conversation>, ApiError> {
    within_limit(organization, request.segment_filters.iter().chain(&request.conversation_filters).flat_map(Filter::predicates).count())?;
    let found = found(organization, request, |from| from - DAY).map_err(ApiError::bad_request)?;
    Ok(found.into_iter().map(|known| known.conversation).collect())
}

fn answer(organization: &Organization, request: &Request) -> Result<Value, String> {
    let (size, number) = request.paging.as_ref().map_or((PAGE.0, 1), |paging| (paging.page_size, paging.page_number));
    if size == 0 || size > PAGE.1 || number == 0 {
        return Err(format!(
            "paging: page {number} of {size} conversations is not accepted; pages from 1 and sizes from 1 to {} are",
            PAGE.1
        ));
    }
    let found = found(organization, request, |from| from.div_euclid(DAY) * DAY)?;
    let page: Vec<Value> = found.iter().skip(size.saturating_mul(number - 1)).take(size).map(|known| known.render(false)).collect();
    let mut answer = json!({"totalHits": found.len()});
    if !page.is_empty() {
        answer["conversations"] = json!(page);
    }
    Ok(answer)
}

/// What was going on in the interval: of what began on one of its days where it is asked at once, of all where a job reads it.
fn found<'a>(organization: &'a Organization, request: &Request, earliest: fn(i64) -> i64) -> Result<Vec<Known<'a>>, String> {
    let interval = &request.interval;
    let ends = interval.split_once('/').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to): (Timestamp, Timestamp) = ends.ok_or_else(|| format!("interval `{interval}` is not accepted"))?;
    let (from, to) = (from.as_millisecond(), to.as_millisecond());
    if from >= to || to - from > LONGEST {
        return Err(format!("interval `{interval}` is not accepted: more than nothing and at most 31 days are"));
    }
    request.segment_filters.iter().chain(&request.conversation_filters).try_for_each(Filter::check)?;
    let begun = organization.reports.begun(earliest(from), to);
    let known = begun.map(|conversation| Known { conversation, organization }).filter(|known| known.is_there() && known.until() >= from);
    let mut found: Vec<Known<'_>> = known
        .filter(|known| request.conversation_filters.iter().all(|filter| filter.holds(known)))
        .filter(|known| request.segment_filters.iter().all(|filter| known.segments().any(|segment| filter.holds(&segment))))
        .collect();
    found.sort_by_cached_key(|known| match request.order_by {
        OrderBy::ConversationStart | OrderBy::SegmentStart => (known.conversation.start, known.conversation.id.clone()),
        OrderBy::ConversationEnd | OrderBy::SegmentEnd => (known.until(), known.conversation.id.clone()),
    });
    if request.order == Order::Desc {
        found.reverse();
    }
    Ok(found)
}

/// A conversation as far as it is known now.
struct Known<'a> {
    conversation: &'a Conversation,
    organization: &'a Organization,
}

/// Who takes part.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Customer,
    Cop,
    Flow,
    Queue,
    Agent,
}

/// A stretch of one part; its end may not be known yet.
struct Segment<'a> {
    known: &'a Known<'a>,
    part: Part,
    kind: &'static str,
    from: i64,
    to: i64,
}

/// A metric of one part: name, when it was emitted, value.
type Metric = (Part, &'static str, i64, i64);

impl<'a> Known<'a> {
    /// What happened at `at` is known.
    fn knows(&self, at: i64) -> bool {
        at + self.conversation.late <= self.organization.now.as_millisecond()
    }

    fn is_there(&self) -> bool {
        self.knows(self.conversation.start)
    }

    /// Its end, or now.
    fn until(&self) -> i64 {
        self.end().unwrap_or(self.organization.now.as_millisecond())
    }

    fn end(&self) -> Option<i64> {
        Some(self.conversation.end()).filter(|end| self.knows(*end))
    }

    /// When the queue was left and when the agent was done with the caller, and with everything.
    fn service(&self) -> Option<(i64, Option<(i64, i64)>)> {
        let service = self.conversation.service?;
        let out_of_queue = self.conversation.flow.2 + service.wait_ms;
        let agent = service.agent.map(|a| (self.conversation.end(), out_of_queue + a.handle_ms()));
        Some((out_of_queue, agent))
    }

    fn segments(&'a self) -> impl Iterator<Item = Segment<'a>> {
        let Conversation { start, cop, flow, .. } = *self.conversation;
        let entered = self.conversation.entered();
        let queue = self.service().map(|(out, _)| (Part::Queue, "interact", flow.2, out));
        let agent = self.service().and_then(|(out, agent)| Some((out, agent?)));
        let talk = agent.map(|(out, (end, _))| (Part::Agent, "interact", out, end));
        let wrap_up = agent.map(|(_, (end, done))| (Part::Agent, "wrapup", end, done));
        let whole = Some((Part::Customer, "interact", start, self.conversation.end()));
        let flows = [cop.map(|(.., left)| (Part::Cop, "ivr", start, left)), Some((Part::Flow, "ivr", entered, flow.2))];
        let all = [whole, flows[0], flows[1], queue, talk, wrap_up];
        let begun = all.into_iter().flatten().filter(|(.., from, _)| self.knows(*from));
        begun.map(|(part, kind, from, to)| Segment { known: self, part, kind, from, to })
    }

    fn metrics(&self) -> impl Iterator<Item = Metric> {
        let Conversation { start, cop, flow, exit, branch, service, .. } = *self.conversation;
        let left = if matches!(exit, Exit::Transfer) { "tFlowExit" } else { "tFlowDisconnect" };
        let (handed_over, spent) = (cop.map(|(.., left)| left), flow.2 - self.conversation.entered());
        let flows = [
            handed_over.map(|at| (Part::Cop, "tFlow", at, at - start)),
            handed_over.map(|at| (Part::Cop, "tFlowExit", at, at - start)),
            Some((Part::Flow, "tFlow", flow.2, spent)),
            Some((Part::Flow, left, flow.2, spent)),
            branch.map(|_| (Part::Flow, "nFlowOutcome", flow.2, 1)),
            branch.filter(|_| exit.is_failure()).map(|_| (Part::Flow, "nFlowOutcomeFailed", flow.2, 1)),
            branch.map(|_| (Part::Flow, "tFlowOutcome", flow.2, spent)),
        ];
        let queue = service.map_or([None; 3], |s| {
            let out = flow.2 + s.wait_ms;
            let gave_up = s.agent.is_none().then_some((Part::Queue, "tAbandon", out, s.wait_ms));
            [Some((Part::Queue, "nOffered", flow.2, 1)), Some((Part::Queue, "tAcd", out, s.wait_ms)), gave_up]
        });
        let agent = service.and_then(|s| Some((s.wait_ms, s.agent?))).map_or([None; 5], |(wait, a)| {
            let (answered, end) = (flow.2 + wait, self.conversation.end());
            let held = (a.held_ms > 0).then_some((Part::Agent, "tHeld", end, a.held_ms));
            let done = end + a.after_ms;
            let (after, handle) = ((Part::Agent, "tAcw", done, a.after_ms), (Part::Agent, "tHandle", done, a.handle_ms()));
            let talk = (Part::Agent, "tTalk", end, a.talk_ms);
            [Some((Part::Agent, "tAnswered", answered, wait)), Some(talk), held, Some(after), Some(handle)]
        });
        flows.into_iter().chain(queue).chain(agent).flatten().filter(|(.., emitted, _)| self.knows(*emitted))
    }

    fn render(&self, with_attributes: bool) -> Value {
        let Conversation { id, start, label, .. } = self.conversation;
        let purposes: [(&str, &[Part]); 4] =
            [("customer", &[Part::Customer]), ("ivr", &[Part::Cop, Part::Flow]), ("acd", &[Part::Queue]), ("agent", &[Part::Agent])];
        let participants: Vec<Value> = purposes
            .iter()
            .filter_map(|(purpose, parts)| {
                let sessions: Vec<Value> = parts.iter().filter_map(|part| self.session(*part)).collect();
                let mut participant = json!({"participantId": self.id_of(purpose), "purpose": purpose, "sessions": sessions});
                // A flow writes on the participant it speaks with.
                if let Some(label) = label.as_ref().filter(|_| with_attributes && *purpose == "customer") {
                    participant["attributes"] = json!({"canaryVersion": label});
                }
                (!sessions.is_empty()).then_some(participant)
            })
            .collect();
        let mut conversation = json!({"conversationId": id, "conversationStart": time(*start), "originatingDirection": "inbound",
            "participants": participants});
        if let Some(end) = self.end() {
            conversation["conversationEnd"] = json!(time(end));
        }
        conversation
    }

    fn session(&self, part: Part) -> Option<Value> {
        let segments: Vec<Value> = self.segments().filter(|segment| segment.part == part).map(|segment| segment.render()).collect();
        if segments.is_empty() {
            return None;
        }
        let metrics = self.metrics().filter(|(of, ..)| *of == part);
        let metrics: Vec<Value> = metrics.map(|(_, name, at, value)| json!({"emitDate": time(at), "name": name, "value": value})).collect();
        let mut session = json!({"sessionId": self.id_of(&format!("session {}", part as u8)), "mediaType": "voice",
            "direction": "inbound", "dnis": self.dnis(), "segments": segments, "metrics": metrics});
        if let Some(flow) = self.flow(part) {
            session["flow"] = json!(flow.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>());
        }
        if let Some([(_, id), (_, value)]) = self.outcome(part) {
            let Conversation { flow, .. } = self.conversation;
            session["flow"]["outcomes"] = json!([{"flowOutcomeId": id, "flowOutcomeValue": value,
                "flowOutcomeStartTimestamp": time(self.conversation.entered()), "flowOutcomeEndTimestamp": time(flow.2)}]);
        }
        Some(session)
    }

    fn dnis(&self) -> &'a str {
        self.organization.reports.dnis(self.conversation.number)
    }

    /// How the branch of a gated flow ended, once it has.
    fn outcome(&self, part: Part) -> Option<[(&'static str, &'a str); 2]> {
        let Conversation { slot, branch, flow, exit, .. } = *self.conversation;
        let branch = branch.filter(|_| part == Part::Flow && self.knows(flow.2))?;
        let id = outcome_id(self.organization, slot, branch);
        Some([("flowOutcomeId", id), ("flowOutcomeValue", outcome_value(exit.is_failure()))])
    }

    fn flow(&self, part: Part) -> Option<Vec<(&'static str, &'a str)>> {
        let ((flow, version, left), exit) = match part {
            Part::Cop => (self.conversation.cop?, Exit::ToFlow),
            Part::Flow => (self.conversation.flow, self.conversation.exit),
            Part::Customer | Part::Queue | Part::Agent => return None,
        };
        let flow = &self.organization.flows[flow];
        let number = flow.versions[version].number.as_str();
        let mut facts =
            vec![("flowId", flow.id.as_str()), ("flowName", flow.name.as_str()), ("flowType", "INBOUNDCALL"), ("flowVersion", number)];
        if self.knows(left) {
            facts.push(("exitReason", exit_reason(exit)));
            facts.extend(transfer_type(exit).map(|transfer| ("transferType", transfer)));
        }
        Some(facts)
    }

    /// An id that is always the same for the same thing of the same conversation.
    fn id_of(&self, thing: &str) -> String {
        Draws::of(self.organization.settings.seed, &[number_of(&self.conversation.id), number_of(thing)]).uuid()
    }
}

impl Facts for Known<'_> {
    fn dimension(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "conversationId" => Some(Cow::Borrowed(&self.conversation.id)),
            "conversationStart" => Some(Cow::Owned(time(self.conversation.start))),
            "conversationEnd" => self.end().map(|end| Cow::Owned(time(end))),
            "originatingDirection" => Some(Cow::Borrowed("inbound")),
            _ => None,
        }
    }

    fn metric(&self, name: &str) -> Option<i64> {
        self.metrics().filter(|(_, metric, ..)| *metric == name).map(|(.., value)| value).reduce(|a, b| a + b)
    }
}

impl Segment<'_> {
    fn end(&self) -> Option<i64> {
        Some(self.to).filter(|to| self.known.knows(*to))
    }

    fn queue(&self) -> Option<String> {
        matches!(self.part, Part::Queue | Part::Agent).then(|| self.known.organization.slots[self.known.conversation.slot].queue())
    }

    fn render(&self) -> Value {
        let mut segment = json!({"segmentStart": time(self.from), "segmentType": self.kind, "conference": false});
        if let Some(end) = self.end() {
            segment["segmentEnd"] = json!(time(end));
        }
        if let Some(queue) = self.queue() {
            segment["queueId"] = json!(queue);
        }
        segment
    }
}

impl Facts for Segment<'_> {
    fn dimension(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "mediaType" => Some(Cow::Borrowed("voice")),
            "direction" => Some(Cow::Borrowed("inbound")),
            "dnis" => Some(Cow::Borrowed(self.known.dnis())),
            "flowOutcomeId" | "flowOutcomeValue" => {
                self.known.outcome(self.part)?.into_iter().find(|(fact, _)| *fact == name).map(|(_, value)| Cow::Borrowed(value))
            }
            "segmentType" => Some(Cow::Borrowed(self.kind)),
            "segmentEnd" => self.end().map(|end| Cow::Owned(time(end))),
            "queueId" => self.queue().map(Cow::Owned),
            "purpose" => Some(Cow::Borrowed(match self.part {
                Part::Customer => "customer",
                Part::Cop | Part::Flow => "ivr",
                Part::Queue => "acd",
                Part::Agent => "agent",
            })),
            name => self.known.flow(self.part)?.into_iter().find(|(fact, _)| *fact == name).map(|(_, value)| Cow::Borrowed(value)),
        }
    }

    fn metric(&self, name: &str) -> Option<i64> {
        (name == "tSegmentDuration").then(|| self.end().map(|end| end - self.from))?
    }
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(date_time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::organization::Settings;
    use crate::traffic::advance;
    use serin_core::cohort::Cohort;

    #[test]
    fn what_the_gate_answered_is_written_on_the_caller_and_only_asynchronous_jobs_tell() {
        let settings = json!({"flows": [{"slot": "main_ivr", "entry": "stable"}]});
        let mut organization = Organization::new(serde_json::from_value::<Settings>(settings).unwrap()).unwrap();
        let stable = organization.slots[0].stable;
        let (flow, now) = (&mut organization.flows[stable], organization.now);
        flow.versions[1].content.branch = flow.versions[1].content.behavior;
        flow.publish(1, now);
        let rollout = json!({"rollout": "r-1", "labels": {"stable": "v1", "canary": "v2"}, "key": "00000000000000000000000000000001"});
        let parameters = json!({"percentage": "50", "rollout": rollout.to_string(), "heartbeat": now, "wall": now});
        advance(&mut organization, &serde_json::from_value(json!({"minutes": 5, "parameters": {"main_ivr": parameters}})).unwrap())
            .unwrap();
        let now = now.as_millisecond();
        let mut labels = [0, 0];
        for conversation in organization.reports.begun(now, now + 120_000) {
            let [with, without] = [true, false].map(|attributes| conversation_json(&organization, conversation, attributes));
            let label = if conversation.branch == Some(Cohort::Canary) { "v2" } else { "v1" };
            assert_eq!(with["participants"][0]["attributes"], json!({"canaryVersion": label}));
            assert!(with["participants"][1].get("attributes").is_none() && without["participants"][0].get("attributes").is_none());
            labels[usize::from(label == "v2")] += 1;
        }
        assert!(labels[0] > 20 && labels[1] > 20, "{labels:?}");
    }
}
