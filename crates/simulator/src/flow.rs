//! Flows, their versions, and what publishing does to them. Told the time; knows nothing of HTTP.

use crate::changes::{Actor, user_id};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Instant;

/// How callers fare in a version. Part of its configuration, so that whoever copies the configuration copies the behavior.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behavior {
    /// Share of calls the flow breaks off.
    pub error: f64,
    /// Share of callers who hang up in the flow.
    pub abandon: f64,
    /// Share of calls handed to an agent.
    pub transfer: f64,
    /// Stretches the time in the flow.
    pub duration_factor: f64,
    /// Stretches the time with an agent.
    #[serde(skip_serializing_if = "is_one")]
    pub handle_factor: f64,
}

fn is_one(factor: &f64) -> bool {
    *factor == 1.0
}

impl Default for Behavior {
    fn default() -> Self {
        Behavior { error: 0.015, abandon: crate::callers::HANGS_UP_IN_IVR, transfer: 0.22, duration_factor: 1.0, handle_factor: 1.0 }
    }
}

impl Behavior {
    /// The behavior, if its shares are shares.
    pub(crate) fn checked(self) -> Result<Behavior, String> {
        let shares = [self.error, self.abandon, self.transfer];
        let sound = shares.iter().all(|s| (0.0..=1.0).contains(s)) && shares.iter().sum::<f64>() <= 1.0 + 1e-9;
        if !sound {
            return Err("behavior: error, abandon and transfer are shares from 0 to 1 and together at most 1".to_owned());
        }
        if ![self.duration_factor, self.handle_factor].iter().all(|factor| (0.01..=100.0).contains(factor)) {
            return Err("behavior: duration_factor and handle_factor are from 0.01 to 100".to_owned());
        }
        Ok(self)
    }
}

/// What a version does, without its flow's name and ids.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    /// `None` for a flow that only routes.
    pub(crate) behavior: Option<Behavior>,
    /// Of callers whom the gate in the flow sends to the canary branch; `None` for a flow without a gate.
    pub(crate) branch: Option<Behavior>,
    /// The other lines of its YAML, indented as there.
    pub(crate) body: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Publish,
    CheckIn,
}

#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Such as `14.0`.
    pub(crate) number: String,
    pub(crate) kind: Kind,
    pub(crate) content: Content,
    pub(crate) created: Timestamp,
    pub(crate) published: Option<Timestamp>,
    pub(crate) published_end: Option<Timestamp>,
}

/// What a running operation will have published.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// One of the flow's versions, by index.
    Existing(usize),
    /// An uploaded configuration.
    New(Content),
}

/// A publish: runs on the wall clock, like the vendor's.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) by: Actor,
    pub(crate) target: Target,
    pub(crate) done_at: Instant,
    pub(crate) will_fail: bool,
    pub(crate) complete: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) versions: Vec<Version>,
    /// Index of the live version.
    pub(crate) live: Option<usize>,
    pub(crate) published_by: Actor,
    /// Name of the person who edits it.
    pub(crate) locked_by: Option<String>,
    pub(crate) operation: Option<Operation>,
}

impl Flow {
    /// A flow without versions.
    pub(crate) fn new(id: String, name: String) -> Flow {
        Flow {
            id,
            name,
            versions: Vec::new(),
            live: None,
            published_by: Actor::Client("console".to_owned()),
            locked_by: None,
            operation: None,
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| !operation.complete)
    }

    pub(crate) fn index_of(&self, number: &str) -> Option<usize> {
        self.versions.iter().position(|version| version.number == number)
    }

    /// Adds a version with the next number; it is not live.
    pub(crate) fn add(&mut self, kind: Kind, content: Content, created: Timestamp) -> usize {
        let number = self.next_number();
        self.versions.push(Version { number, kind, content, created, published: None, published_end: None });
        self.versions.len() - 1
    }

    pub(crate) fn next_number(&self) -> String {
        let highest = self.versions.iter().filter_map(|v| v.number.split('.').next()?.parse::<u32>().ok()).max();
        format!("{}.0", highest.unwrap_or(0) + 1)
    }

    /// Makes a version live.
    pub(crate) fn publish(&mut self, index: usize, now: Timestamp) {
        if let Some(before) = self.live {
            self.versions[before].published_end = Some(now);
        }
        let version = &mut self.versions[index];
        version.kind = Kind::Publish;
        version.published = Some(now);
        version.published_end = None;
        self.live = Some(index);
    }

    /// Ends an operation whose time has come; whether that made a version live. With `republish_mints`, one that was live before comes
    /// back under a new number.
    pub(crate) fn settle(&mut self, wall: Instant, now: Timestamp, republish_mints: bool) -> bool {
        let Some(operation) = self.operation.as_mut().filter(|o| !o.complete && o.done_at <= wall) else { return false };
        operation.complete = true;
        if operation.will_fail {
            return false;
        }
        let (target, by) = (operation.target.clone(), operation.by.clone());
        let index = match target {
            Target::Existing(index) if republish_mints && self.versions[index].published.is_some() => {
                self.add(Kind::Publish, self.versions[index].content.clone(), now)
            }
            Target::Existing(index) => index,
            Target::New(content) => self.add(Kind::Publish, content, now),
        };
        self.publish(index, now);
        self.published_by = by;
        true
    }

    /// The vendor's `Flow`.
    pub(crate) fn to_json(&self) -> Value {
        let latest = self.versions.last();
        let locked = self.locked_by.as_ref().map(|name| json!({"id": user_id(name), "name": name}));
        json!({
            "id": self.id, "name": self.name, "type": "INBOUNDCALL", "active": self.live.is_some(), "system": false, "deleted": false,
            "division": {"id": "*", "name": "Home"},
            "lockedUser": locked, "lockedClient": null, "publishedBy": self.published_by.to_json(),
            "publishedVersion": self.live.map(|index| self.version_json(&self.versions[index])),
            "checkedInVersion": latest.map(|version| self.version_json(version)),
            "savedVersion": latest.map(|version| json!({"id": version.number, "name": version.number})),
            "currentOperation": self.operation.as_ref().map(Operation::to_json),
            "selfUri": format!("/api/v2/flows/{}", self.id),
        })
    }

    /// The vendor's `FlowVersion`.
    pub(crate) fn version_json(&self, version: &Version) -> Value {
        let uri = format!("/api/v2/flows/{}/versions/{}", self.id, version.number);
        json!({
            "id": version.number, "name": version.number, "commitVersion": version.number, "configurationVersion": version.number,
            "type": match version.kind { Kind::Publish => "PUBLISH", Kind::CheckIn => "CHECKIN" },
            "secure": false, "debug": false,
            "dateCreated": version.created.as_millisecond(), "dateCheckedIn": version.created.as_millisecond(),
            "datePublished": version.published.map(date_time), "datePublishedEnd": version.published_end.map(date_time),
            "configurationUri": format!("{uri}/configuration"), "selfUri": uri,
        })
    }

    /// The configuration of a version, opaque to the vendor's clients: name and ids, and what it does.
    pub(crate) fn configuration(&self, version: &Version) -> Value {
        let mut configuration = json!({"id": self.id, "name": self.name, "type": "INBOUNDCALL", "body": version.content.body});
        if let Some(behavior) = version.content.behavior {
            configuration["behavior"] = json!(behavior);
        }
        if let Some(branch) = version.content.branch {
            configuration["canary_behavior"] = json!(branch);
        }
        configuration
    }
}

impl Operation {
    /// The vendor's `Operation`.
    pub(crate) fn to_json(&self) -> Value {
        let status = match (self.complete, self.will_fail) {
            (false, _) => "STARTED",
            (true, false) => "SUCCESS",
            (true, true) => "FAILURE",
        };
        let failed = self.complete && self.will_fail;
        let who = match self.by {
            Actor::Client(_) => "client",
            Actor::Person(_) => "user",
        };
        json!({
            "id": self.id, "complete": self.complete, "actionName": "PUBLISH", "actionStatus": status, who: self.by.to_json(),
            "errorCode": failed.then_some("flow.publish.failed"), "errorMessage": failed.then_some("the flow could not be published"),
            "errorDetails": [],
        })
    }
}

/// A time as the vendor writes it.
pub(crate) fn date_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let mut flow = Flow::new("f".into(), "Main".into());
        for _ in 0..2 {
            let index = flow.add(Kind::Publish, Content { behavior: None, branch: None, body: vec![] }, Timestamp::UNIX_EPOCH);
            flow.publish(index, Timestamp::UNIX_EPOCH);
        }
        flow
    }

    fn republish_the_first(mints: bool) -> Flow {
        let (mut flow, wall) = (flow(), Instant::now());
        let target = Target::Existing(0);
        flow.operation =
            Some(Operation { id: "o".into(), by: Actor::Client("c".into()), target, done_at: wall, will_fail: false, complete: false });
        flow.settle(wall, "2026-11-20T09:00:00Z".parse().unwrap(), mints);
        flow
    }

    #[test]
    fn republishing_an_old_version_makes_it_live_with_a_new_date() {
        let json = republish_the_first(false).to_json();
        assert_eq!(json["publishedVersion"]["id"], "1.0");
        assert_eq!(json["publishedVersion"]["datePublished"], "2026-11-20T09:00:00.000Z");
        assert_eq!(json["currentOperation"]["actionStatus"], "SUCCESS");
    }

    #[test]
    fn where_republishing_mints_the_same_content_gets_a_new_number() {
        let flow = republish_the_first(true);
        assert_eq!(flow.to_json()["publishedVersion"]["id"], "3.0");
        assert_eq!(flow.versions[2].content, flow.versions[0].content);
    }
}
