//! Times in which Serin holds back: maintenance, change freezes, and a stop of everything.
//!
//! Nothing rises and nothing starts in any of them. Only maintenance also keeps Serin from rolling back by itself, for then errors are
//! expected; people always may. Calls that nobody can watch go to stable as ever.

use crate::rollout::FlowName;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A time in which Serin holds back, as a person set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// Id, such as `maintenance-1763741000`.
    pub id: String,
    /// What is kept from happening.
    pub kind: Kind,
    /// The flow; all of them without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowName>,
    /// When.
    pub when: When,
    /// Why.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// Who ended it before its time, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// What is kept from happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// Errors are expected: no rise, no start, and no rollback by Serin itself.
    Maintenance {
        /// Whether what would have been rolled back is paused with its calls on stable.
        #[serde(default)]
        contain: bool,
    },
    /// No change is wanted: no rise, no start. A failed verdict rolls back as ever.
    Freeze,
    /// As a freeze, after all calls were taken to stable.
    Stop,
}

/// When a restriction holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "kebab-case")]
pub enum When {
    /// Once.
    Once {
        /// From then on.
        from: Timestamp,
        /// Until before then; without it until somebody ends it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Every week, by the clocks of a place.
    Weekly {
        /// From then on.
        from: WeekTime,
        /// Until before then.
        until: WeekTime,
        /// IANA time zone, such as `Europe/Berlin`.
        zone: String,
    },
}

/// A time of the week, to the minute: `Fri 16:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WeekTime(u16);

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: u16 = 24 * 60;

impl WeekTime {
    fn of(day: Weekday, hour: i8, minute: i8) -> WeekTime {
        let since_monday = day.to_monday_zero_offset().unsigned_abs();
        WeekTime(u16::from(since_monday) * DAY + u16::from(hour.unsigned_abs()) * 60 + u16::from(minute.unsigned_abs()))
    }
}

impl std::str::FromStr for WeekTime {
    type Err = String;

    fn from_str(text: &str) -> Result<WeekTime, String> {
        let read = || {
            let (day, time) = text.trim().split_once(' ')?;
            let day = DAYS.iter().position(|known| known.eq_ignore_ascii_case(day))?;
            let (hour, minute) = time.trim().split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(WeekTime(day as u16 * DAY + hour * 60 + minute))
        };
        read().ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("time of the week `{shown}` is not accepted: one such as `Fri 16:00` is")
        })
    }
}

impl TryFrom<String> for WeekTime {
    type Error = String;

    fn try_from(text: String) -> Result<WeekTime, String> {
        text.parse()
    }
}

impl From<WeekTime> for String {
    fn from(time: WeekTime) -> String {
        time.to_string()
    }
}

impl fmt::Display for WeekTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WeekTime(minutes) = self;
        write!(f, "{} {:02}:{:02}", DAYS[usize::from(minutes / DAY) % 7], minutes % DAY / 60, minutes % 60)
    }
}

impl When {
    /// What types alone cannot refuse.
    pub fn check(&self) -> Result<(), String> {
        match self {
            When::Once { from, until: Some(until) } if until <= from => {
                Err(format!("until {until} is not accepted: a time after {from} is"))
            }
            When::Weekly { from, until, .. } if from == until => {
                Err(format!("until {until} is not accepted: it is when it begins; use one without an end for all times"))
            }
            When::Weekly { zone, .. } => zone_of(zone).map(|_| ()),
            When::Once { .. } => Ok(()),
        }
    }

    /// Whether it holds at a time. A zone that this installation does not know holds always: rather no rise than a wrong one.
    pub fn covers(&self, at: Timestamp) -> bool {
        match self {
            When::Once { from, until } => *from <= at && until.is_none_or(|until| at < until),
            When::Weekly { from, until, zone } => {
                let Ok(zone) = zone_of(zone) else { return true };
                let there = at.to_zoned(zone);
                let now = WeekTime::of(there.weekday(), there.hour(), there.minute());
                match from < until {
                    true => *from <= now && now < *until,
                    // Over the end of the week.
                    false => *from <= now || now < *until,
                }
            }
        }
    }

    /// Whether it held at any time of a span, to the minute.
    pub fn touches(&self, from: Timestamp, until: Timestamp) -> bool {
        match self {
            When::Once { from: begins, until: ends } => *begins <= until && ends.is_none_or(|ends| from < ends),
            When::Weekly { from: begins, zone, .. } => {
                let Ok(known) = zone_of(zone) else { return true };
                let there = from.to_zoned(known);
                let WeekTime(first) = WeekTime::of(there.weekday(), there.hour(), there.minute());
                let to_begin = (i64::from(begins.0) - i64::from(first)).rem_euclid(i64::from(7 * DAY));
                self.covers(from) || to_begin <= until.duration_since(from).as_mins()
            }
        }
    }

    fn is_known(&self) -> bool {
        !matches!(self, When::Weekly { zone, .. } if zone_of(zone).is_err())
    }

    /// Whether it will never hold again.
    pub fn is_over(&self, at: Timestamp) -> bool {
        matches!(self, When::Once { until: Some(until), .. } if *until <= at)
    }
}

fn zone_of(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        let shown: String = name.chars().take(40).collect();
        format!("time zone `{shown}` is not accepted: an IANA name such as `Europe/Berlin` is")
    })
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Once { from, until: Some(until) } => write!(f, "from {from:.0} until {until:.0}"),
            When::Once { from, until: None } => write!(f, "from {from:.0} until somebody ends it"),
            When::Weekly { from, until, zone } => write!(f, "every week from {from} until {until}, {zone}"),
        }
    }
}

impl Kind {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Maintenance { .. } => "maintenance",
            Kind::Freeze => "freeze",
            Kind::Stop => "stop",
        }
    }
}

impl Restriction {
    /// What stands for restrictions that could not be read: nothing rises, safety goes on.
    pub fn unknown(id: &str, reason: &str, at: Timestamp) -> Restriction {
        Restriction {
            id: id.to_owned(),
            kind: Kind::Freeze,
            flow: None,
            when: When::Once { from: at, until: None },
            reason: format!("it could not be read: {reason}"),
            by: "nobody".into(),
            ended: None,
        }
    }

    /// Names the one time in which it holds now: those of every week have one each.
    pub fn occurrence(&self, at: Timestamp) -> String {
        let When::Weekly { from, zone, .. } = &self.when else { return self.id.clone() };
        let Ok(zone) = zone_of(zone) else { return self.id.clone() };
        let there = at.to_zoned(zone.clone());
        let WeekTime(now) = WeekTime::of(there.weekday(), there.hour(), there.minute());
        let since = (i64::from(now) - i64::from(from.0)).rem_euclid(i64::from(7 * DAY));
        let began = (at - SignedDuration::from_mins(since)).to_zoned(zone);
        format!("{} of {}", self.id, began.strftime("%Y-%m-%d"))
    }

    /// Whether it concerns a flow now.
    pub fn holds(&self, flow: &FlowName, at: Timestamp) -> bool {
        self.flow.as_ref().is_none_or(|own| own == flow) && self.when.covers(at)
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.flow.as_ref().map_or_else(|| "all flows".to_owned(), |flow| format!("flow {flow}"));
        write!(f, "{} of {of} ({}, {}, set by {}: {})", self.kind.name(), self.id, self.when, self.by, self.reason)
    }
}

/// The maintenance window among those in force, if there is one, and whether it contains; where there are several, one that does.
pub fn maintenance(restrictions: &[Restriction]) -> Option<(&Restriction, bool)> {
    let windows = restrictions.iter().filter_map(|one| match one.kind {
        // By a clock that is not known here it keeps things from rising, and from nothing else.
        Kind::Maintenance { contain } if one.when.is_known() => Some((one, contain)),
        Kind::Maintenance { .. } | Kind::Freeze | Kind::Stop => None,
    });
    windows.reduce(|first, other| if other.1 && !first.1 { other } else { first })
}

/// The maintenance windows of a flow that are over, as of `now`: what was measured in them is not held against anybody.
pub fn forgiven(restrictions: &[Restriction], flow: &FlowName, now: Timestamp) -> Vec<Restriction> {
    let is_past = |one: &&Restriction| {
        matches!(one.kind, Kind::Maintenance { .. }) && one.flow.as_ref().is_none_or(|own| own == flow) && !one.when.covers(now)
    };
    restrictions.iter().filter(is_past).cloned().collect()
}

/// Those that concern a flow now.
pub fn in_force(restrictions: &[Restriction], flow: &FlowName, at: Timestamp) -> Vec<Restriction> {
    restrictions.iter().filter(|one| one.holds(flow, at)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weekly(from: &str, until: &str, zone: &str) -> When {
        When::Weekly { from: from.parse().unwrap(), until: until.parse().unwrap(), zone: zone.into() }
    }

    #[test]
    fn a_weekend_holds_over_the_end_of_the_week_by_the_clocks_of_its_place() {
        let weekend = weekly("Fri 16:00", "Mon 08:00", "Europe/Berlin");
        weekend.check().unwrap();
        // 2026-11-20 is a Friday; Berlin is an hour ahead of UTC in winter, two in summer.
        for (at, holds) in [
            ("2026-11-20T14:59:00Z", false),
            ("2026-11-20T15:00:00Z", true),
            ("2026-11-22T12:00:00Z", true),
            ("2026-11-23T06:59:00Z", true),
            ("2026-11-23T07:00:00Z", false),
            ("2026-07-17T13:59:00Z", false),
            ("2026-07-17T14:00:00Z", true),
            ("2026-07-20T05:59:59Z", true),
            ("2026-07-20T06:00:00Z", false),
        ] {
            assert_eq!(weekend.covers(at.parse().unwrap()), holds, "{at}");
        }
    }

    #[test]
    fn a_night_within_the_week_holds_in_it_alone() {
        let night = weekly("Tue 01:00", "Tue 05:30", "UTC");
        for (at, holds) in [("2026-11-24T00:59:59Z", false), ("2026-11-24T05:29:59Z", true), ("2026-11-24T05:30:00Z", false)] {
            assert_eq!(night.covers(at.parse().unwrap()), holds, "{at}");
        }
    }

    #[test]
    fn a_span_touches_a_time_that_it_reaches_from_before_from_within_and_over_the_week() {
        let minute = jiff::SignedDuration::from_mins(1);
        let touches = |when: &When, from: &str, lasting: i64| {
            let from: Timestamp = from.parse().unwrap();
            when.touches(from, from + minute * lasting as i32)
        };
        let night = weekly("Tue 01:00", "Tue 05:30", "UTC");
        let once = When::Once { from: "2026-11-24T01:00:00Z".parse().unwrap(), until: Some("2026-11-24T05:30:00Z".parse().unwrap()) };
        for when in [&night, &once] {
            assert!(touches(when, "2026-11-24T00:50:00Z", 10) && touches(when, "2026-11-24T00:50:00Z", 400));
            assert!(touches(when, "2026-11-24T05:29:00Z", 0) && touches(when, "2026-11-24T03:00:00Z", 10));
            assert!(!touches(when, "2026-11-24T00:50:00Z", 9) && !touches(when, "2026-11-24T05:30:00Z", 60));
        }
        let weekend = weekly("Fri 16:00", "Mon 08:00", "UTC");
        assert!(touches(&weekend, "2026-11-23T07:50:00Z", 20) && touches(&weekend, "2026-11-20T15:55:00Z", 5));
        assert!(!touches(&weekend, "2026-11-23T08:00:00Z", 60 * 24 * 4));
    }

    #[test]
    fn once_holds_from_its_beginning_to_before_its_end_and_then_is_over() {
        let (from, until): (Timestamp, Timestamp) = ("2026-11-20T09:00:00Z".parse().unwrap(), "2026-11-20T10:00:00Z".parse().unwrap());
        let once = When::Once { from, until: Some(until) };
        let minute = jiff::SignedDuration::from_mins(1);
        assert!(once.covers(from) && once.covers(until - minute) && !once.covers(until) && !once.covers(from - minute));
        assert!(once.is_over(until) && !once.is_over(until - minute));
        let open = When::Once { from, until: None };
        assert!(open.covers(until + minute * 1_000_000) && !open.is_over(until + minute * 1_000_000));
        assert!(When::Once { from: until, until: Some(from) }.check().is_err());
    }

    #[test]
    fn what_is_no_time_of_the_week_is_refused_and_what_is_survives() {
        for text in ["Fri", "Fri 24:00", "Fri 12:60", "Frei 12:00", "Fri 12", "Fri -1:00", ""] {
            assert!(text.parse::<WeekTime>().unwrap_err().contains("is not accepted"), "{text}");
        }
        for text in ["Mon 00:00", "Sun 23:59", "Fri 16:05"] {
            assert_eq!(text.parse::<WeekTime>().unwrap().to_string(), text);
        }
        assert!(weekly("Mon 00:00", "Mon 00:00", "UTC").check().is_err());
        assert!(weekly("Mon 00:00", "Tue 00:00", "Mars/Olympus").check().unwrap_err().contains("Mars/Olympus"));
        assert!(weekly("Mon 00:00", "Tue 00:00", "Mars/Olympus").covers("2026-11-22T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn each_week_is_a_time_of_its_own_and_the_days_of_one_are_one() {
        let restriction = Restriction {
            when: weekly("Fri 16:00", "Mon 08:00", "Europe/Berlin"),
            ..Restriction::unknown("freeze-1", "y", Timestamp::UNIX_EPOCH)
        };
        let named = |at: &str| restriction.occurrence(at.parse().unwrap());
        assert_eq!(named("2026-11-20T15:00:00Z"), "freeze-1 of 2026-11-20");
        assert_eq!(named("2026-11-23T06:59:00Z"), "freeze-1 of 2026-11-20");
        assert_eq!(named("2026-11-27T15:00:00Z"), "freeze-1 of 2026-11-27");
        let once = Restriction::unknown("stop", "y", Timestamp::UNIX_EPOCH);
        assert_eq!(once.occurrence("2026-11-27T15:00:00Z".parse().unwrap()), "stop");
    }

    #[test]
    fn one_that_contains_counts_before_one_that_does_not() {
        let at = Timestamp::UNIX_EPOCH;
        let one = |id: &str, kind| Restriction { kind, ..Restriction::unknown(id, "y", at) };
        let set = [
            one("a", Kind::Freeze),
            one("b", Kind::Maintenance { contain: false }),
            one("c", Kind::Maintenance { contain: true }),
            one("d", Kind::Maintenance { contain: true }),
        ];
        let found = |set: &[Restriction]| maintenance(set).map(|(one, contain)| (one.id.clone(), contain));
        assert_eq!(found(&set), Some(("c".into(), true)));
        assert_eq!((found(&set[..2]), found(&set[..1])), (Some(("b".into(), false)), None));
    }

    #[test]
    fn one_of_a_flow_leaves_the_others_alone() {
        let at: Timestamp = "2026-11-20T09:00:00Z".parse().unwrap();
        let one = Restriction { flow: Some("main_ivr".parse().unwrap()), ..Restriction::unknown("x", "y", at) };
        let (own, other) = ("main_ivr".parse().unwrap(), "sales_ivr".parse().unwrap());
        assert_eq!((in_force(std::slice::from_ref(&one), &own, at).len(), in_force(&[one], &other, at).len()), (1, 0));
        let stored = serde_json::to_string(&Restriction::unknown("x", "y", at)).unwrap();
        assert_eq!(serde_json::from_str::<Restriction>(&stored).unwrap(), Restriction::unknown("x", "y", at));
    }
}
