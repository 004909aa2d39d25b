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
    /// Each caller's number is drawn once, so that a caller has the same side all day. A call without a number of its own (withheld, a
    /// carrier's placeholder, fewer than 7 digits) is drawn by conversation.
    Caller,
    /// Each question is drawn anew: a call that comes back to the traffic cop may change sides.
    Call,
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
    pub fn bucket(&self, identity: &[u8]) -> u16 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(identity);
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

    /// Decides one call. `now` is the wall clock; `draw` (evenly from `0..10_000`) is used where nothing identifies the call, and where
    /// nothing is meant to.
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
        let fresh = self.heartbeat.is_some_and(|beat| now.duration_since(beat).abs() <= DEAD_MAN);
        (!fresh && !self.contained && self.weight > Weight::ZERO).then_some(Fallback::NoHeartbeat)
    }

    fn bucket(&self, caller: Caller<'_>, draw: u16) -> u16 {
        let Some(split) = &self.split else { return draw % 10_000 };
        let mut digits = [0; MOST_DIGITS];
        let number = match split.stickiness {
            Stickiness::Call => return draw % 10_000,
            Stickiness::Caller => caller.number.and_then(|number| personal_number(number, &mut digits)),
            Stickiness::Conversation => None,
        };
        match (number, caller.conversation.filter(|id| !id.is_empty())) {
            (Some(number), _) => split.key.bucket(number),
            (None, Some(conversation)) => split.key.bucket(conversation.as_bytes()),
            (None, None) => draw % 10_000,
        }
    }
}

/// International numbers have at most 15 digits (E.164); the rest is room for prefixes that are dialled before them.
const MOST_DIGITS: usize = 20;

/// What carriers send for a number that is not shown, as the letters lie on a keypad. North American ones put their 1 before it.
const PLACEHOLDERS: [&[u8]; 5] = [
    b"266696687",   // ANONYMOUS
    b"2562533",     // BLOCKED
    b"7378742833",  // RESTRICTED
    b"86282452253", // UNAVAILABLE
    b"8656696",     // UNKNOWN
];

/// The digits of a number that belongs to one caller; `None` if it is withheld, no number, or too short for one.
///
/// Takes the spellings of `Call.Ani`: `tel:+15551230000`, `sip:+15551230000@host;user=phone`, and whatever a trunk passes on, such as
/// `+1 (555) 123-0000`. They are one number. Its national and international form are not: which country it is of stands nowhere.
fn personal_number<'a>(text: &str, digits: &'a mut [u8; MOST_DIGITS]) -> Option<&'a [u8]> {
    let text = text.trim();
    // What stands before a port is no scheme.
    let (scheme, address) = text.split_once(':').filter(|(scheme, _)| !scheme.contains('@')).unwrap_or(("tel", text));
    // Without an `@` all of a SIP address is a host, whose digits are nobody's number.
    let user = match address.split_once('@') {
        Some((user, _)) => user,
        None if scheme.eq_ignore_ascii_case("tel") => address,
        None => return None,
    };
    if !["tel", "sip", "sips"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    // An extension or another parameter may be there at one call and lack at the next.
    let line = user.split_once(';').map_or(user, |(line, _)| line);
    let mut count = 0;
    for byte in line.bytes() {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(count)? = byte;
                count += 1;
            }
            b'+' if count == 0 => {}
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' => {}
            // A name, such as `anonymous` or `alice42`.
            _ => return None,
        }
    }
    let digits = &digits[..count];
    let last = digits.last_chunk::<7>()?;
    let placeholder = |number: &[u8]| PLACEHOLDERS.contains(&number);
    let withheld = placeholder(digits) || digits.strip_prefix(b"1").is_some_and(placeholder) || last.iter().all(|digit| *digit == last[0]);
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

    /// A router at 50 % that keeps callers by this.
    fn sticky(by: &str) -> Router {
        let rollout = parameters().rollout.map(|r| r.replace("\"conversation\"", &format!("\"{by}\"")));
        Router::read(&Parameters { percentage: Some("50".into()), rollout, ..parameters() })
    }

    #[test]
    fn a_caller_stays_on_one_side_however_the_number_is_written() {
        let gate = sticky("caller");
        let bucket = |conversation, number| gate.assign(Caller { conversation: Some(conversation), number: Some(number) }, now(), 0).bucket;
        let of_the_number = gate.split.as_ref().unwrap().key.bucket(b"15551230000");
        for spelling in [
            "tel:+15551230000",
            "TEL:+1-555-123-0000",
            " +1 (555) 123-0000 ",
            "15551230000",
            "(+1) 555.123/0000",
            "tel:+15551230000;ext=12",
            "sip:+15551230000@10.0.0.1:5060;user=phone",
            "+15551230000@198.51.100.7:5060",
            "sips:+15551230000;ext=105@198.51.100.7",
            "+15551230000@198.51.100.7",
        ] {
            assert_eq!((bucket("a", spelling), bucket("b", spelling)), (of_the_number, of_the_number), "{spelling}");
        }
        // A national form may be another country's: it is a number, but not this one.
        assert_ne!(bucket("a", "5551230000"), of_the_number);
        assert_eq!(bucket("a", "5551230000"), bucket("b", "5551230000"));
        // The longest there are, and the shortest.
        for number in ["+123456789012345", "00000123456789012345", "5551230"] {
            assert_eq!(bucket("a", number), bucket("b", number), "{number}");
        }
    }

    #[test]
    fn a_call_without_a_number_of_its_own_is_drawn_by_conversation() {
        let gate = sticky("caller");
        let bucket = |conversation, number| gate.assign(Caller { conversation: Some(conversation), number }, now(), 0).bucket;
        let key = gate.split.as_ref().unwrap().key;
        for number in [
            "",
            " ",
            "+",
            "tel:",
            "anonymous",
            "unavailable",
            "Restricted",
            "sip:anonymous@anonymous.invalid",
            "sip:alice42@10.0.0.1",
            "sip:alice5551230000@10.0.0.1",
            "sip:10.20.30.40:5060",
            "sip:192.168.100.200",
            "sip:@192.168.100.200",
            "callto:+15551230000",
            "\"15551230000\" <sip:anonymous@192.168.100.200>",
            "123456",
            "tel:911;ext=123456",
            "0000000000",
            "+10000000000",
            "+15555555555",
            "000001234567890123456",
            "+266696687",
            "tel:+7378742833",
            "+17378742833",
            "+2562533",
            "+8656696",
            "sip:+86282452253@10.0.0.1",
            "٠١٢٣٤٥٦٧٨٩",
            "+1 555\u{a0}123 0000",
            "+1555+1230000",
        ] {
            for conversation in ["a", "b"] {
                assert_eq!(bucket(conversation, Some(number)), key.bucket(conversation.as_bytes()), "{number}");
            }
        }
        assert_eq!(bucket("a", None), key.bucket(b"a"));
    }

    #[test]
    fn a_call_that_is_drawn_anew_each_time_is_drawn_by_nothing_else() {
        let gate = sticky("call");
        for draw in 0..10_000 {
            let answer = gate.assign(Caller { conversation: Some("a"), number: Some("+15551230000") }, now(), draw);
            assert_eq!((answer.bucket, answer.cohort == Cohort::Canary), (draw, draw < 5_000));
        }
    }

    #[test]
    fn what_an_older_endpoint_does_not_know_sends_calls_to_stable() {
        let unknown = Parameters { rollout: parameters().rollout.map(|r| r.replace("conversation", "weather")), ..parameters() };
        assert_eq!(ask(&unknown, "a"), (Cohort::Stable, Some(Fallback::MalformedRollout), Weight::ZERO));
    }
}
