//! The two sides of the comparison, and which one a call belongs to.

use crate::weight::Weight;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;

/// One side of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cohort {
    /// Callers who keep what they had.
    Stable,
    /// Callers who got the change.
    Canary,
}

impl fmt::Display for Cohort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cohort::Stable => "stable",
            Cohort::Canary => "canary",
        })
    }
}

/// What keeps a caller on one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stickiness {
    /// Each call is drawn once, and keeps its side when it comes back to the traffic cop.
    #[default]
    Conversation,
    /// Each caller's number is drawn once, so that a caller has the same side all day. Withheld and shared numbers are drawn call by call.
    Caller,
}

/// The names that the two sides have in Architect. They must differ in more than upper and lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Name of the side that callers have now, such as `v1` or `blue`.
    pub stable: String,
    /// Name of the side that gets the change, such as `v2` or `green`.
    pub canary: String,
}

/// Key of a rollout's split: 16 bytes, as 32 hexadecimal digits outside.
///
/// It keeps assignments of two rollouts independent of each other. It is no secret: whoever may read the rollout may recompute
/// every assignment, which is what an audit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SplitKey([u8; 16]);

impl SplitKey {
    /// The key of one rollout, from the names that make it unique.
    pub fn derive(stage: &str, flow: &str, rollout: &str) -> SplitKey {
        let digest = Sha256::new().chain_update("serin split key 1").chain_update([0]).chain_update(stage).chain_update([0]);
        let digest = digest.chain_update(flow).chain_update([0]).chain_update(rollout).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        SplitKey(key)
    }

    /// The bucket (`0..10_000`) of a call, from whatever identifies it.
    pub fn bucket(&self, identity: &str) -> u16 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(identity.as_bytes());
        // The bias of the remainder is 10_000 / 2^64.
        (hasher.finish() % 10_000) as u16
    }
}

impl TryFrom<String> for SplitKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = text.as_bytes();
        if bytes.len() != 32 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err("a split key is 32 hexadecimal digits".to_owned());
        }
        let mut key = [0; 16];
        for (byte, pair) in key.iter_mut().zip(bytes.chunks_exact(2)) {
            let digit = |d: u8| (d as char).to_digit(16).unwrap_or(0) as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(SplitKey(key))
    }
}

impl From<SplitKey> for String {
    fn from(key: SplitKey) -> String {
        key.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The `rollout` parameter: written once, while the weight is 0, and pinned for the rollout's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Id of the rollout, such as `r-20261121-1`.
    pub rollout: String,
    /// Labels of the two slots.
    pub labels: Labels,
    /// What keeps a caller on one side.
    #[serde(default)]
    pub stickiness: Stickiness,
    /// Key of the split.
    pub key: SplitKey,
}

/// The parameters of one flow as they were read; `None` is a parameter that does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `percentage`: a plain number.
    pub percentage: Option<String>,
    /// Version that Parameter Store gave the percentage, 0 if unknown.
    pub revision: i64,
    /// `rollout`: JSON of a [`Split`].
    pub rollout: Option<String>,
    /// `halt`: id of the last contained rollout.
    pub halt: Option<String>,
    /// `heartbeat` of the stage: RFC 3339, when every active flow was last visited.
    pub heartbeat: Option<String>,
}

/// A heartbeat older than this means that nobody is watching: calls go to stable.
pub const DEAD_MAN: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// What identifies a call, as the Data Action sent it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    /// Genesys conversation id.
    pub conversation: Option<&'a str>,
    /// The caller's number. Never logged, never stored.
    pub number: Option<&'a str>,
}

/// The answer for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// Which side.
    pub cohort: Cohort,
    /// Weight in force, basis points.
    pub weight: Weight,
    /// Bucket of the call, `0..10_000`. Never logged beside an id.
    pub bucket: u16,
    /// Label of the slot, empty where it is not known.
    pub label: &'a str,
    /// Rollout that decided, empty where there is none.
    pub rollout: &'a str,
    /// Why stable was answered without asking the split, if so.
    pub fallback: Option<Fallback>,
}

/// Why a call went to stable without being drawn (law 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fallback {
    /// No parameters: a flow nobody rolls out, or a typo.
    UnknownFlow,
    /// The `rollout` parameter cannot be read.
    MalformedRollout,
    /// The `percentage` parameter is missing or no percentage.
    MalformedPercentage,
    /// No readable heartbeat in the last five minutes.
    NoHeartbeat,
    /// The parameters could not be read for longer than the grace.
    Unreadable,
}

impl Fallback {
    /// Name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fallback::UnknownFlow => "UnknownFlow",
            Fallback::MalformedRollout => "MalformedRollout",
            Fallback::MalformedPercentage => "MalformedPercentage",
            Fallback::NoHeartbeat => "NoHeartbeat",
            Fallback::Unreadable => "Unreadable",
        }
    }
}

/// The parameters of a flow, parsed once and asked for every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    weight: Weight,
    split: Option<Split>,
    heartbeat: Option<Timestamp>,
    contained: bool,
    fallback: Option<Fallback>,
}

impl Router {
    /// Reads the parameters. Nothing here fails: what cannot be read sends calls to stable.
    pub fn read(parameters: &Parameters) -> Router {
        let split: Option<Result<Split, _>> = parameters.rollout.as_deref().map(serde_json::from_str);
        let weight = parameters.percentage.as_deref().map(str::parse::<Weight>);
        let fallback = match (&split, &weight) {
            (None, None) => Some(Fallback::UnknownFlow),
            // Nothing is drawn at 0: somebody prepared the flow, or made sure.
            (None, Some(Ok(Weight::ZERO))) => Some(Fallback::UnknownFlow),
            (None | Some(Err(_)), _) => Some(Fallback::MalformedRollout),
            (_, None | Some(Err(_))) => Some(Fallback::MalformedPercentage),
            _ => None,
        };
        let split = split.and_then(Result::ok);
        let contained = matches!((&split, &parameters.halt), (Some(split), Some(halt)) if *halt == split.rollout);
        Router {
            weight: weight.and_then(Result::ok).unwrap_or(Weight::ZERO),
            split,
            heartbeat: parameters.heartbeat.as_deref().and_then(|text| text.parse().ok()),
            contained,
            fallback,
        }
    }

    /// Parameters that could not be read for too long: stable, with the label last seen.
    pub fn unreadable(last: Option<&Router>) -> Router {
        Router {
            weight: Weight::ZERO,
            split: last.and_then(|g| g.split.clone()),
            heartbeat: None,
            contained: false,
            fallback: Some(Fallback::Unreadable),
        }
    }

    /// Decides one call. `now` is the wall clock; `draw` (`0..10_000`) is used where nothing identifies the call.
    pub fn assign(&self, caller: Caller<'_>, now: Timestamp, draw: u16) -> Assignment<'_> {
        let bucket = self.bucket(caller, draw);
        let fallback = self.fallback.or_else(|| self.dead_man(now));
        let weight = if fallback.is_some() || self.contained { Weight::ZERO } else { self.weight };
        let cohort = if weight.takes(bucket) { Cohort::Canary } else { Cohort::Stable };
        let label = self.split.as_ref().map_or("", |s| match cohort {
            Cohort::Stable => &s.labels.stable,
            Cohort::Canary => &s.labels.canary,
        });
        let rollout = self.split.as_ref().map_or("", |s| s.rollout.as_str());
        Assignment { cohort, weight, bucket, label, rollout, fallback }
    }

    /// At weight 0 a missing heartbeat changes nothing, so it is no fallback: an idle stage must not look like a broken one.
    fn dead_man(&self, now: Timestamp) -> Option<Fallback> {
        let fresh = self.heartbeat.is_some_and(|beat| now.duration_since(beat) <= DEAD_MAN);
        (!fresh && !self.contained && self.weight > Weight::ZERO).then_some(Fallback::NoHeartbeat)
    }

    fn bucket(&self, caller: Caller<'_>, draw: u16) -> u16 {
        let Some(split) = &self.split else { return draw % 10_000 };
        let number = match split.stickiness {
            Stickiness::Caller => caller.number.and_then(personal_number),
            Stickiness::Conversation => None,
        };
        match (number, caller.conversation.filter(|id| !id.is_empty())) {
            (Some(number), _) => split.key.bucket(&number),
            (None, Some(conversation)) => split.key.bucket(conversation),
            (None, None) => draw % 10_000,
        }
    }
}

/// The digits of a number that belongs to one caller; `None` if it is withheld or too short to be one.
fn personal_number(number: &str) -> Option<String> {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let withheld = digits.len() < 7 || digits.bytes().all(|b| b == digits.as_bytes()[0]);
    (!withheld).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        let split = Split {
            rollout: "r-1".into(),
            labels: Labels { stable: "v1".into(), canary: "v2".into() },
            stickiness: Stickiness::Conversation,
            key: SplitKey::derive("test", "main_ivr", "r-1"),
        };
        Parameters {
            percentage: Some("5".into()),
            revision: 1,
            rollout: Some(serde_json::to_string(&split).unwrap()),
            halt: None,
            heartbeat: Some("2026-11-20T10:00:00Z".into()),
        }
    }

    fn now() -> Timestamp {
        "2026-11-20T10:01:00Z".parse().unwrap()
    }

    fn ask(parameters: &Parameters, id: &str) -> (Cohort, Option<Fallback>, Weight) {
        let router = Router::read(parameters);
        let answer = router.assign(Caller { conversation: Some(id), number: None }, now(), 0);
        assert_eq!(
            answer.label,
            if answer.cohort == Cohort::Canary {
                "v2"
            } else if router.split.is_some() {
                "v1"
            } else {
                ""
            }
        );
        (answer.cohort, answer.fallback, answer.weight)
    }

    #[test]
    fn the_share_of_canary_calls_is_the_weight() {
        let canary = (0..20_000).filter(|i| ask(&parameters(), &format!("c-{i}")).0 == Cohort::Canary).count();
        assert!((900..1100).contains(&canary), "{canary} of 20000 at 5 %");
    }

    #[test]
    fn raising_the_weight_only_adds_callers() {
        let raised = Parameters { percentage: Some("25".into()), ..parameters() };
        for i in 0..2000 {
            let id = format!("c-{i}");
            assert!(ask(&parameters(), &id).0 <= ask(&raised, &id).0);
        }
    }

    #[test]
    fn what_cannot_be_read_sends_calls_to_stable_and_says_why() {
        let cases = [
            (Parameters::default(), Fallback::UnknownFlow),
            (Parameters { rollout: Some("{".into()), ..parameters() }, Fallback::MalformedRollout),
            (Parameters { rollout: None, ..parameters() }, Fallback::MalformedRollout),
            (Parameters { rollout: None, percentage: Some("0".into()), ..parameters() }, Fallback::UnknownFlow),
            (Parameters { percentage: Some("101".into()), ..parameters() }, Fallback::MalformedPercentage),
            (Parameters { percentage: None, ..parameters() }, Fallback::MalformedPercentage),
            (Parameters { heartbeat: None, ..parameters() }, Fallback::NoHeartbeat),
            (Parameters { heartbeat: Some("2026-11-20T09:55:59Z".into()), ..parameters() }, Fallback::NoHeartbeat),
        ];
        for (case, expected) in cases {
            for i in 0..200 {
                assert_eq!(ask(&case, &i.to_string()), (Cohort::Stable, Some(expected), Weight::ZERO));
            }
        }
    }

    #[test]
    fn a_halted_rollout_gets_no_call_whatever_the_percentage_says() {
        let halted = Parameters { halt: Some("r-1".into()), percentage: Some("100".into()), ..parameters() };
        let other = Parameters { halt: Some("r-0".into()), percentage: Some("100".into()), ..parameters() };
        assert_eq!(ask(&halted, "a"), (Cohort::Stable, None, Weight::ZERO));
        assert_eq!(ask(&other, "a").0, Cohort::Canary);
    }

    #[test]
    fn a_caller_stays_on_one_side_and_a_withheld_number_is_drawn_by_conversation() {
        let mut sticky = parameters();
        sticky.percentage = Some("50".into());
        sticky.rollout = sticky.rollout.map(|r| r.replace("conversation", "caller"));
        let gate = Router::read(&sticky);
        let bucket = |conversation, number| gate.assign(Caller { conversation: Some(conversation), number: Some(number) }, now(), 0).bucket;
        assert_eq!(bucket("a", "+1 555 123 0000"), bucket("b", "tel:+15551230000"));
        assert_ne!(bucket("a", "anonymous"), bucket("b", "anonymous"));
        assert_ne!(bucket("a", "0000000000"), bucket("b", "0000000000"));
    }
}
