//! Looks before anything is changed.
//!
//! The vendor tells nobody which permissions they have. So every operation that a rollout needs is tried in a way that changes nothing:
//! a flow, job or action that cannot exist, a row without its key. Whoever may not is told so before anything is looked up.

use crate::analytics::{End, interval, is};
use crate::client::{Genesys, Request};
use crate::error::{Error, redact};
use crate::interface;
use crate::jobs::{export_of, registration};
use crate::operations::{self, Operation};
use crate::token::CredentialsSource;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::{Clock, Dependency, Ended, FlowError, Interface, Preflight};
use serin_core::rollout::WayBack;
use std::collections::BTreeSet;

/// An id that nothing has.
pub(crate) const NOTHING: &str = "00000000-0000-0000-0000-000000000000";
/// A version that no flow has: they count from 1.
const NO_VERSION: &str = "0";

impl<S: CredentialsSource, C: Clock> Preflight for Genesys<S, C> {
    async fn missing_permissions(&self, flow: &str, rows: Option<&str>, back: &WayBack) -> Result<Vec<String>, FlowError> {
        let until = self.deadline();
        let mut missing = BTreeSet::new();
        for probe in probes(flow, rows, back, self.clock.now()) {
            if !self.may(&probe, until).await? {
                missing.insert(probe.operation.permissions.join(" or "));
            }
        }
        Ok(missing.into_iter().collect())
    }

    async fn dependencies(&self, flow: &str, version: &str) -> Result<Vec<Dependency>, FlowError> {
        let until = self.deadline();
        let doing = format!("listing what flow {flow} version {version} needs");
        self.expect_tracked(&doing, until).await?;
        let flow_type = self.read_flow(flow, until).await?.flow_type.unwrap_or_default();
        let object_type = object_type(&flow_type).ok_or_else(|| {
            FlowError::Refused(format!("{doing}: genesys cloud tracks no dependencies of flows of the type `{}`", redact(&flow_type)))
        })?;
        let request = Request {
            query: &[("id", flow), ("version", version), ("objectType", &object_type)],
            ..Request::of(&operations::LIST_CONSUMED_RESOURCES, doing)
        };
        match self.list::<Resource>(&request, until).await {
            Ok(found) => Ok(found.into_iter().map(Resource::into_port).collect()),
            Err(error) => Err(self.doubt(error, flow, Some(version), until).await.into()),
        }
    }

    async fn interface(&self, flow: &str, version: &str) -> Result<Interface, FlowError> {
        let until = self.clock.now() + self.settings.copy_patience;
        let file = self.export(flow, version, until).await?;
        interface::interface(&file).map_err(|reason| FlowError::Refused(format!("reading flow {flow} version {version}: {reason}")))
    }

    async fn test_action(&self, action: &str, input: &Value) -> Result<(), FlowError> {
        let doing = format!("testing data action {action}");
        let request = Request { path: &[action], body: Some(input.clone()), ..Request::of(&operations::TEST_ACTION, &doing) };
        let result: TestResult = self.call(&request, self.deadline()).await?;
        if result.success == Some(true) { Ok(()) } else { Err(FlowError::Refused(format!("{doing}: {}", result.complaint()))) }
    }

    async fn validate(&self, flow: &str, version: &str) -> Result<(), FlowError> {
        let until = self.clock.now() + self.settings.copy_patience;
        Ok(self.complaints(flow, version, until).await?)
    }

    async fn ended(&self, flow: &str, version: &str, dnis: &str, since: Timestamp) -> Result<Ended, FlowError> {
        let now = self.clock.now();
        if since >= now {
            return Ok(Ended::default());
        }
        let of = [is("flowId", flow), is("flowVersion", version), is("dnis", dnis)];
        let query = json!({
            "interval": interval(since, now),
            "groupBy": ["flowId", "flowVersion", "exitReason"],
            "filter": {"type": "and", "predicates": of},
            "metrics": ["tFlow"],
        });
        let doing = format!("counting the calls that ended in flow {flow} version {version}");
        let mut ended = Ended::default();
        for row in self.aggregates(&doing, query, self.deadline()).await?.rows()? {
            ended.calls = ended.calls.saturating_add(row.calls);
            if row.end == End::Error {
                ended.errors = ended.errors.saturating_add(row.calls);
            }
        }
        Ok(ended)
    }

    fn region(&self) -> Option<&'static str> {
        self.settings.region()
    }

    fn requests_left(&self) -> Option<u32> {
        self.left()
    }
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// Whether the client may do something, so far as trying tells.
    pub(crate) async fn may(&self, probe: &Probe<'_>, until: Timestamp) -> Result<bool, Error> {
        let request = Request {
            operation: probe.operation,
            doing: format!("looking whether {} {} is permitted", probe.operation.method, probe.operation.path),
            path: &probe.path,
            query: &probe.query,
            body: probe.body.clone(),
        };
        let answer = self.ask(&request, until).await?;
        match answer.status {
            403 => Ok(false),
            // Not permitted to whom? And a gateway's words are not the vendor's.
            401 | 408 | 502..=504 => Err(answer.refusal(&request)),
            _ => Ok(true),
        }
    }

    async fn expect_tracked(&self, doing: &str, until: Timestamp) -> Result<(), Error> {
        let build: Build = self.call(&Request::of(&operations::GET_DEPENDENCY_BUILD, doing), until).await?;
        match build.status.as_deref() {
            Some("OPERATIONAL") => Ok(()),
            status => {
                let status = redact(status.unwrap_or("unknown"));
                let reason = format!("dependency tracking is {status}; if that lasts, have it rebuilt in Architect");
                Err(Error::Unavailable { doing: doing.to_owned(), reason })
            }
        }
    }
}

/// An operation tried in a way that changes nothing.
pub(crate) struct Probe<'a> {
    pub(crate) operation: &'static Operation,
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Vec<(&'a str, &'a str)>,
    pub(crate) body: Option<Value>,
}

/// What a rollout cannot do without. Not among them: the audit and conversation details, whose lack leaves a name or a figure unknown, and
/// data actions, which say it themselves where they are tested.
pub(crate) fn probes<'a>(flow: &'a str, rows: Option<&'a str>, back: &'a WayBack, now: Timestamp) -> Vec<Probe<'a>> {
    let bare = |operation| Probe { operation, path: Vec::new(), query: Vec::new(), body: None };
    let at = |operation, path: &[&'a str]| Probe { path: path.to_vec(), ..bare(operation) };
    let with = |operation, body| Probe { body: Some(body), ..bare(operation) };
    let minute_ago = now - SignedDuration::from_mins(1);
    let of_flow = json!({"type": "or", "predicates": [is("flowId", flow)]});
    let first = |operation| Probe { query: vec![("pageNumber", "1"), ("pageSize", "1")], ..at(operation, &[flow]) };
    let mut probes = vec![
        with(&operations::QUERY_FLOW_AGGREGATES, json!({"interval": interval(minute_ago, now), "filter": of_flow, "metrics": ["tFlow"]})),
        at(&operations::GET_FLOW, &[flow]),
        first(&operations::LIST_VERSIONS),
        at(&operations::GET_CONFIGURATION, &[flow, NO_VERSION]),
        Probe { query: vec![("flow", NOTHING), ("version", NO_VERSION)], ..bare(&operations::PUBLISH) },
        with(&operations::EXPORT, export_of(NOTHING, NO_VERSION)),
        at(&operations::GET_EXPORT, &[NOTHING]),
        // Nothing is uploaded, so nothing starts.
        with(&operations::REGISTER_JOB, registration()),
        at(&operations::GET_JOB, &[NOTHING]),
        bare(&operations::GET_DEPENDENCY_BUILD),
        Probe {
            query: vec![("id", NOTHING), ("version", NO_VERSION), ("objectType", "INBOUNDCALLFLOW")],
            ..bare(&operations::LIST_CONSUMED_RESOURCES)
        },
    ];
    if let Some(table) = rows {
        probes.extend([
            at(&operations::LIST_ROWS, &[table]),
            at(&operations::GET_ROW, &[table, NOTHING]),
            // A row cannot be without its key.
            Probe { body: Some(json!({})), ..at(&operations::ADD_ROW, &[table]) },
            Probe { body: Some(json!({})), ..at(&operations::PUT_ROW, &[table, NOTHING]) },
        ]);
    }
    let put_nothing = |operation| Probe { body: Some(json!({"name": "serin", "version": 1})), ..at(operation, &[NOTHING]) };
    if let Some(ivr) = &back.ivr {
        probes.extend([at(&operations::GET_IVR, &[ivr]), put_nothing(&operations::PUT_IVR)]);
    }
    if let Some(group) = &back.emergency_group {
        probes.extend([at(&operations::GET_EMERGENCY_GROUP, &[group]), put_nothing(&operations::PUT_EMERGENCY_GROUP)]);
    }
    probes
}

/// The vendor's object type of a type of flows, where it has one.
fn object_type(flow_type: &str) -> Option<String> {
    match flow_type {
        "WORKFLOW" => Some("WORKFLOW".to_owned()),
        "BOT"
        | "COMMONMODULE"
        | "DIGITALBOT"
        | "EMAILSEND"
        | "INBOUNDCALL"
        | "INBOUNDCHAT"
        | "INBOUNDEMAIL"
        | "INBOUNDSHORTMESSAGE"
        | "INQUEUECALL"
        | "INQUEUEEMAIL"
        | "INQUEUESHORTMESSAGE"
        | "OUTBOUNDCALL"
        | "SECURECALL"
        | "SURVEYINVITE"
        | "VOICE"
        | "VOICEMAIL"
        | "VOICESURVEY"
        | "WORKITEM" => Some(format!("{flow_type}FLOW")),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Build {
    status: Option<String>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    id: String,
    name: Option<String>,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    deleted: bool,
}

impl Resource {
    fn into_port(self) -> Dependency {
        Dependency { kind: self.kind, name: self.name.filter(|name| !name.is_empty()).unwrap_or(self.id), deleted: self.deleted }
    }
}

/// What the action answered is not read: it may be a caller's.
#[derive(Deserialize)]
struct TestResult {
    success: Option<bool>,
    error: Option<TestError>,
    #[serde(default)]
    operations: Option<Vec<TestStep>>,
}

#[derive(Deserialize)]
struct TestStep {
    error: Option<TestError>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TestError {
    code: Option<String>,
    message: Option<String>,
}

impl TestResult {
    /// The final error, or else the last step's that had one.
    fn complaint(self) -> String {
        let steps = self.operations.unwrap_or_default();
        let Some(error) = self.error.or_else(|| steps.into_iter().rev().find_map(|step| step.error)) else {
            return "it failed without a reason".to_owned();
        };
        let said = [error.code, error.message].into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
        format!("it failed: {}", redact(&said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_flow_that_is_tracked_has_its_object_type() {
        assert_eq!(object_type("INBOUNDCALL").as_deref(), Some("INBOUNDCALLFLOW"));
        assert_eq!(object_type("WORKFLOW").as_deref(), Some("WORKFLOW"));
        assert_eq!(object_type("SPEECH"), None);
    }

    #[test]
    fn a_failed_test_says_why() {
        let said = |result: Value| serde_json::from_value::<TestResult>(result).unwrap().complaint();
        let final_error = json!({"success": false, "error": {"code": "bad.request", "message": "see https://x.example/?k=1"}});
        assert_eq!(said(final_error), "it failed: bad.request: see <address>");
        let of_step = json!({"success": false, "operations": [{"success": true}, {"error": {"message": "timed out"}}, {"success": true}]});
        assert_eq!(said(of_step), "it failed: timed out");
        assert_eq!(said(json!({})), "it failed without a reason");
    }
}
