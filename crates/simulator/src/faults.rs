//! What is made to go wrong on purpose.

use serde::Deserialize;
use std::time::Duration;

/// How long a publish takes, seconds of the wall clock.
const PUBLISH_SECONDS: f64 = 0.3;
/// Faults about a path are spent after this many requests, unless told otherwise.
const ONCE: u32 = 1;

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
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Harm {
    Status { status: u16, retry_after: Option<u64> },
    Slow(Duration),
    Drop { after: bool },
}

/// Faults that wait for requests.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    on_path: Vec<OnPath>,
    publish_seconds: Option<f64>,
    publish_fails: u32,
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct OnPath {
    path: String,
    method: Option<String>,
    harm: Harm,
    left: u32,
}

#[derive(Debug)]
struct Refused {
    client: Option<String>,
    left: u32,
}

impl Faults {
    /// Adds a fault that waits for requests; those that act at once are not for here.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), String> {
        let (path, method, harm, times) = match fault {
            Fault::Status { path, method, status, retry_after, times } if (400..600).contains(&status) => {
                (path, method, Harm::Status { status, retry_after }, times)
            }
            Fault::Status { status, .. } => return Err(format!("status {status} is no failure: 400 to 599 is")),
            Fault::Slow { path, method, seconds, times } => (path, method, Harm::Slow(duration(seconds)?), times),
            Fault::Drop { path, method, after, times } => (path, method, Harm::Drop { after }, times),
            Fault::PublishSeconds { seconds } => {
                self.publish_seconds = Some(duration(seconds)?.as_secs_f64());
                return Ok(());
            }
            Fault::PublishFails { times } => {
                self.publish_fails += times.unwrap_or(ONCE);
                return Ok(());
            }
            Fault::OauthRefuse { client_id, times } => {
                self.refused.push(Refused { client: client_id, left: times.unwrap_or(u32::MAX) });
                return Ok(());
            }
            Fault::Lock { .. } | Fault::Unlock { .. } | Fault::ExpireTokens => return Ok(()),
        };
        self.on_path.push(OnPath { path, method, harm, left: times.unwrap_or(ONCE) });
        Ok(())
    }

    /// The harm to a request, first ordered first; counts it down.
    pub(crate) fn strike(&mut self, method: &str, path: &str) -> Option<Harm> {
        let hit = |fault: &&mut OnPath| {
            fault.left > 0 && path.starts_with(&fault.path) && fault.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(method))
        };
        let fault = self.on_path.iter_mut().find(hit)?;
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
    fn a_refused_client_stays_refused_and_others_do_not() {
        let mut faults = Faults::default();
        faults.add(Fault::OauthRefuse { client_id: Some("a".into()), times: None }).unwrap();
        assert!(faults.refuses("a") && faults.refuses("a") && !faults.refuses("b"));
    }
}
