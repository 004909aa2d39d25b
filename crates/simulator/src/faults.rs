//! What is made to go wrong on purpose.

use crate::chance::Draws;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a publish takes, seconds of the wall clock.
const PUBLISH_SECONDS: f64 = 0.3;
/// Faults about a path are spent after this many requests, unless told otherwise.
const ONCE: u32 = 1;

/// What a PUT replaces by the version that was read.
const VERSIONED: [&str; 2] = ["/api/v2/architect/ivrs", "/api/v2/architect/emergencygroups"];

/// One fault as it is ordered.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// Answer with a status.
    Status { path: String, method: Option<String>, status: u16, retry_after: Option<u64>, times: Option<u32> },
    /// Answer late.
    Slow { path: String, method: Option<String>, seconds: f64, times: Option<u32> },
    /// Close the connection without an answer; with `after`, once the request has been carried out.
    Drop {
        path: String,
        method: Option<String>,
        #[serde(default)]
        after: bool,
        times: Option<u32>,
    },
    /// A person edits the flow.
    Lock { flow_id: String, user: String },
    /// The person lets go.
    Unlock { flow_id: String },
    /// No token is valid any more.
    ExpireTokens,
    /// Publishing takes so long from now on.
    PublishSeconds { seconds: f64 },
    /// The next publishes fail.
    PublishFails { times: Option<u32> },
    /// The client gets no token; any client if none is named. Until cleared, unless `times` is given.
    OauthRefuse { client_id: Option<String>, times: Option<u32> },
    /// Answer that something is not there which is.
    MaskedNotFound { path: String, method: Option<String>, times: Option<u32> },
    /// Somebody else changes what a PUT is about to replace: its version is no longer the one that was read.
    VersionConflict { path: String, times: Option<u32> },
    /// The client lacks a permission; every client if none is named.
    Forbid { permission: String, client_id: Option<String> },
    /// Something that versions of a flow need was deleted; all of its versions unless one is named.
    DependencyDeleted { flow_id: String, version: Option<String>, name: String },
    /// The dependencies of flows are not gathered.
    DependencyBuild { status: Build },
    /// The data action does not do its work.
    ActionFails { action_id: String },
    /// The flow is not valid.
    ValidationFails { flow_id: String },
    /// Whether publishing a version that was live before gives it a new number.
    RepublishMints { on: bool },
    /// Reports of calls that come from now on arrive so much later.
    ReportsLate { seconds: f64 },
    /// This share of the exits is first told as another one.
    Restate { share: f64 },
    /// Some answers, by chance: refused as too many with 1 to 5 seconds to wait, or late by so many seconds. Until cleared.
    Unsteady { seed: u64, throttled: f64, slow: f64, seconds: f64 },
    /// Nothing is told of a flow; without one, everything is again.
    Silence { flow_id: Option<String> },
}

/// What the vendor's dependency tracking is doing.
#[allow(clippy::enum_variant_names, reason = "these are the vendor's names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Build {
    Operational,
    OperationalNeedsRebuild,
    BuildIncomplete,
    BuildInitializing,
    BuildInProgress,
    BuildQueued,
    NotBuilt,
}

impl Fault {
    /// The flow that it is about.
    pub(crate) fn flow_id(&self) -> Option<&str> {
        match self {
            Fault::Lock { flow_id, .. } | Fault::Unlock { flow_id } | Fault::ValidationFails { flow_id } => Some(flow_id),
            Fault::DependencyDeleted { flow_id, .. } => Some(flow_id),
            Fault::Silence { flow_id } => flow_id.as_deref(),
            _ => None,
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Harm {
    Status { status: u16, retry_after: Option<u64> },
    Slow(Duration),
    Drop { after: bool },
    MaskedNotFound,
}

/// Faults that wait for requests.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    on_path: Vec<OnPath>,
    unsteady: Option<Unsteady>,
    publish_seconds: Option<f64>,
    publish_fails: u32,
    refused: Vec<Refused>,
    conflicts: Vec<Conflict>,
    forbidden: Vec<(String, Option<String>)>,
    /// Id of the flow, version if not all of them, name of what was deleted.
    deleted: Vec<(String, Option<String>, String)>,
    build: Option<Build>,
    failing_actions: Vec<String>,
    invalid_flows: Vec<String>,
    republish_mints: Option<bool>,
}

#[derive(Debug)]
struct OnPath {
    path: String,
    method: Option<String>,
    harm: Harm,
    left: u32,
}

/// Shares of the answers that are refused, and late by so much.
#[derive(Debug)]
struct Unsteady {
    draws: Draws,
    throttled: f64,
    slow: f64,
    late: Duration,
}

impl Unsteady {
    fn strike(&mut self) -> Option<Harm> {
        let drawn = self.draws.unit();
        let waits = 1 + self.draws.next() % 5;
        match drawn {
            drawn if drawn < self.throttled => Some(Harm::Status { status: 429, retry_after: Some(waits) }),
            drawn if drawn < self.throttled + self.slow => Some(Harm::Slow(self.late)),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Conflict {
    path: String,
    left: u32,
}

#[derive(Debug)]
struct Refused {
    client: Option<String>,
    left: u32,
}

impl Faults {
    /// Adds a fault that waits for requests; of those that act at once only the figures are checked.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), String> {
        let (path, method, harm, times) = match fault {
            Fault::Status { path, method, status, retry_after, times } if (400..600).contains(&status) => {
                (path, method, Harm::Status { status, retry_after }, times)
            }
            Fault::Status { status, .. } => return Err(format!("status {status} is no failure: 400 to 599 is")),
            Fault::Slow { path, method, seconds, times } => (path, method, Harm::Slow(duration(seconds)?), times),
            Fault::Drop { path, method, after, times } => (path, method, Harm::Drop { after }, times),
            Fault::MaskedNotFound { path, method, times } => (path, method, Harm::MaskedNotFound, times),
            other => return self.add_lasting(other),
        };
        self.on_path.push(OnPath { path, method, harm, left: times.unwrap_or(ONCE) });
        Ok(())
    }

    fn add_lasting(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::PublishSeconds { seconds } => self.publish_seconds = Some(duration(seconds)?.as_secs_f64()),
            Fault::Unsteady { seed, throttled, slow, seconds } => {
                if ![throttled, slow, throttled + slow].iter().all(|share| (0.0..=1.0).contains(share)) {
                    return Err("throttled and slow are shares of the answers, from 0 to 1 together".to_owned());
                }
                self.unsteady = Some(Unsteady { draws: Draws::of(seed, &[]), throttled, slow, late: duration(seconds)? });
            }
            Fault::PublishFails { times } => self.publish_fails += times.unwrap_or(ONCE),
            Fault::OauthRefuse { client_id, times } => {
                self.refused.push(Refused { client: client_id, left: times.unwrap_or(u32::MAX) });
            }
            Fault::VersionConflict { path, .. } if !VERSIONED.iter().any(|versioned| path.starts_with(versioned)) => {
                return Err(format!("nothing at {path} has a version: {} have", VERSIONED.join(" and ")));
            }
            Fault::VersionConflict { path, times } => self.conflicts.push(Conflict { path, left: times.unwrap_or(ONCE) }),
            Fault::Forbid { permission, client_id } => self.forbidden.push((permission, client_id)),
            Fault::DependencyDeleted { flow_id, version, name } => self.deleted.push((flow_id, version, name)),
            Fault::DependencyBuild { status } => self.build = Some(status),
            Fault::ActionFails { action_id } => self.failing_actions.push(action_id),
            Fault::ValidationFails { flow_id } => self.invalid_flows.push(flow_id),
            Fault::RepublishMints { on } => self.republish_mints = Some(on),
            Fault::ReportsLate { seconds } if !(0.0..=86_400.0).contains(&seconds) => return Err("seconds is from 0 to 86400".to_owned()),
            Fault::Restate { share } if !(0.0..=1.0).contains(&share) => return Err("share is from 0 to 1".to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// The harm to a request, first ordered first; counts it down.
    pub(crate) fn strike(&mut self, method: &str, path: &str) -> Option<Harm> {
        let hit = |fault: &&mut OnPath| {
            fault.left > 0 && path.starts_with(&fault.path) && fault.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(method))
        };
        let Some(fault) = self.on_path.iter_mut().find(hit) else { return self.unsteady.as_mut()?.strike() };
        fault.left -= 1;
        Some(fault.harm)
    }

    /// Whether `client` is refused a token; counts it down.
    pub(crate) fn refuses(&mut self, client: &str) -> bool {
        let hit = |fault: &&mut Refused| fault.left > 0 && fault.client.as_deref().is_none_or(|refused| refused == client);
        let Some(fault) = self.refused.iter_mut().find(hit) else { return false };
        fault.left = if fault.left == u32::MAX { u32::MAX } else { fault.left - 1 };
        true
    }

    /// Whether somebody else was there before the PUT to `path`; counts it down.
    pub(crate) fn take_conflict(&mut self, path: &str) -> bool {
        let Some(fault) = self.conflicts.iter_mut().find(|fault| fault.left > 0 && path.starts_with(&fault.path)) else { return false };
        fault.left -= 1;
        true
    }

    /// Whether `client` lacks the permission.
    pub(crate) fn forbids(&self, client: &str, permission: &str) -> bool {
        self.forbidden.iter().any(|(taken, from)| taken == permission && from.as_deref().is_none_or(|from| from == client))
    }

    /// Whether something that a version of a flow needs was deleted.
    pub(crate) fn deleted(&self, flow_id: &str, version: &str, name: &str) -> bool {
        let hit = |(flow, of, what): &(String, Option<String>, String)| {
            flow == flow_id && what == name && of.as_deref().is_none_or(|of| of == version)
        };
        self.deleted.iter().any(hit)
    }

    pub(crate) fn build(&self) -> Build {
        self.build.unwrap_or(Build::Operational)
    }

    pub(crate) fn fails_action(&self, id: &str) -> bool {
        self.failing_actions.iter().any(|failing| failing == id)
    }

    pub(crate) fn fails_validation(&self, flow_id: &str) -> bool {
        self.invalid_flows.iter().any(|invalid| invalid == flow_id)
    }

    pub(crate) fn republish_mints(&self) -> Option<bool> {
        self.republish_mints
    }

    pub(crate) fn publish_seconds(&self) -> f64 {
        self.publish_seconds.unwrap_or(PUBLISH_SECONDS)
    }

    /// Whether the publish that starts now will fail; counts it down.
    pub(crate) fn take_publish_failure(&mut self) -> bool {
        let fails = self.publish_fails > 0;
        self.publish_fails = self.publish_fails.saturating_sub(1);
        fails
    }
}

fn duration(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).ok().filter(|d| d.as_secs() <= 3600).ok_or_else(|| "seconds is from 0 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_its_path_as_often_as_told() {
        let mut faults = Faults::default();
        let order = r#"{"kind":"status","path":"/api/v2/analytics","status":429,"retry_after":1,"times":2}"#;
        faults.add(serde_json::from_str(order).unwrap()).unwrap();
        assert_eq!(faults.strike("GET", "/api/v2/flows"), None);
        let harm = Some(Harm::Status { status: 429, retry_after: Some(1) });
        let strikes = [(); 3].map(|()| faults.strike("POST", "/api/v2/analytics/flows/aggregates/query"));
        assert_eq!(strikes, [harm, harm, None]);
    }

    #[test]
    fn unsteady_answers_are_as_many_as_ordered() {
        let mut faults = Faults::default();
        let order = r#"{"kind":"unsteady","seed":7,"throttled":0.1,"slow":0.05,"seconds":5}"#;
        faults.add(serde_json::from_str(order).unwrap()).unwrap();
        let harms: Vec<Option<Harm>> = (0..10_000).map(|_| faults.strike("GET", "/api/v2/flows")).collect();
        let slow = harms.iter().filter(|harm| **harm == Some(Harm::Slow(Duration::from_secs(5)))).count();
        let throttled = |wait| harms.iter().filter(|h| **h == Some(Harm::Status { status: 429, retry_after: Some(wait) })).count();
        assert!((400..600).contains(&slow) && (1..6).map(throttled).all(|n| (150..250).contains(&n)), "{slow}");
    }

    #[test]
    fn a_refused_client_stays_refused_and_others_do_not() {
        let mut faults = Faults::default();
        faults.add(Fault::OauthRefuse { client_id: Some("a".into()), times: None }).unwrap();
        assert!(faults.refuses("a") && faults.refuses("a") && !faults.refuses("b"));
    }
}
