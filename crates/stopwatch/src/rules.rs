//! What an answer may rest on, judged from outside: what was asked of the source and when, what it said, and when it failed.

use crate::faults::Window;
use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Values are read again before they are 0.7 s old; the rest is the read's own time, and room. A rollback promises it from the write.
const WORKING: Duration = Duration::from_millis(1000);
/// The last values answer for 5 s after the last read that worked, which took up to 250 ms.
const GRACE: Duration = Duration::from_millis(5300);
/// Values younger than this must answer: so much less than the grace that nobody can quarrel about it.
const MUST_ANSWER: Duration = Duration::from_millis(4500);
/// An answer of the source that took less than this was surely in time.
const PROMPT: Duration = Duration::from_millis(100);
const KEPT: usize = 32;

/// The endpoint's answer. All fields are there, and no others.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Answer<'a> {
    random_pct: u8,
    percentage: f64,
    cohort: &'a str,
    canary_version: &'a str,
    rollout: &'a str,
    /// Version of the percentage.
    pub(crate) revision: u64,
    /// Stable because something is missing.
    pub(crate) fallback: bool,
}

impl Answer<'_> {
    /// What is wrong with it by itself, given what its version of the percentage says: `0` or `100`, so that the draw is known.
    pub(crate) fn wrong(&self, percentage: Option<&str>, rollout: &str) -> Option<String> {
        if !(1..=100).contains(&self.random_pct) {
            return Some(format!("randomPct is {}, and 1 to 100 are possible", self.random_pct));
        }
        if self.fallback {
            let stable = self.cohort == "stable" && self.percentage == 0.0 && matches!(self.canary_version, "" | "v1");
            return (!stable).then(|| "a fallback that is not stable".to_owned());
        }
        let Some(percentage) = percentage else {
            return Some(format!("revision {} was never put", self.revision));
        };
        let expected = if percentage == "0" { ("stable", "v1") } else { ("canary", "v2") };
        let same = (self.cohort, self.canary_version) == expected && percentage.parse() == Ok(self.percentage) && self.rollout == rollout;
        (!same).then(|| format!("revision {} says {percentage} %, of {rollout}", self.revision))
    }
}

/// A read that worked, by the source's account.
#[derive(Debug, Clone, Copy)]
struct Read {
    revision: u64,
    arrived: Duration,
    took: Duration,
}

/// The last reads of one sandbox that worked.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// In init a read has longer.
    pub(crate) in_init: bool,
    last: VecDeque<Read>,
}

impl Reads {
    /// None so far.
    pub(crate) fn from_init() -> Reads {
        Reads { in_init: true, ..Reads::default() }
    }

    /// A read that came at `arrived` was answered with this version of the percentage.
    pub(crate) fn worked(&mut self, revision: u64, arrived: Duration, took: Duration) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Read { revision, arrived, took });
    }
}

/// Times at which nothing on this CPU got on, from when to when: nobody can be blamed for them.
#[derive(Debug, Default)]
pub(crate) struct Stalls(pub(crate) Vec<(Duration, Duration)>);

impl Stalls {
    fn within(&self, from: Duration, to: Duration) -> Duration {
        let recent = self.0.iter().rev().take_while(|(_, end)| *end > from);
        recent.map(|(begin, end)| (*end).min(to).saturating_sub((*begin).max(from))).sum()
    }
}

/// An answer's place in time, all from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct When {
    /// The event was sent.
    pub(crate) sent: Duration,
    /// The answer was read.
    pub(crate) at: Duration,
}

/// How old the values are that an answer with `revision` rests on, and whether the source worked all the while; or what is wrong with it.
pub(crate) fn age(revision: u64, when: When, reads: &Reads, faults: &[Window], stalls: &Stalls) -> Result<(Duration, bool), String> {
    let Some(read) = reads.last.iter().rev().find(|read| read.revision == revision) else {
        return Err(format!("revision {revision} is not among the last {KEPT} that were read"));
    };
    let age = when.at.saturating_sub(read.arrived);
    if age > GRACE + stalls.within(read.arrived, when.at) {
        return Err(format!("rests on values {:.3} s old, and the grace is 5 s", age.as_secs_f64()));
    }
    let failing = faults.iter().filter(|window| window.from < when.at).map(|window| window.felt().min(when.at)).max().unwrap_or_default();
    let since = read.arrived.max(failing);
    let worked = when.at.saturating_sub(since);
    if worked > WORKING + stalls.within(since, when.at) {
        let (age, worked) = (age.as_secs_f64(), worked.as_secs_f64());
        return Err(format!("rests on values {age:.3} s old, and reads have worked for {worked:.3} s"));
    }
    Ok((age, failing <= read.arrived))
}

/// What is wrong with an answer that fell back, if anything: values that were read lately have to be used.
pub(crate) fn early(when: When, reads: &Reads, stalls: &Stalls) -> Option<String> {
    let read = reads.last.iter().rev().find(|read| read.took < PROMPT && read.arrived + read.took <= when.sent)?;
    let age = when.at.saturating_sub(read.arrived);
    let unsure = stalls.within(read.arrived.saturating_sub(GRACE), when.at) > PROMPT;
    (age < MUST_ANSWER && !unsure).then(|| format!("fell back, and its values were {:.3} s old", age.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn when(at: u64) -> When {
        When { sent: ms(at - 1), at: ms(at) }
    }

    fn reads(of: &[(u64, u64)]) -> Reads {
        let mut reads = Reads::default();
        for (revision, arrived) in of {
            reads.worked(*revision, ms(*arrived), ms(2));
        }
        reads
    }

    fn fault(from: u64, to: u64) -> [Window; 1] {
        [Window { from: ms(from), to: ms(to), fault: Fault::Broken }]
    }

    #[test]
    fn while_reads_work_an_answer_is_a_second_old_at_most() {
        let reads = reads(&[(1, 100), (2, 10_000)]);
        assert_eq!(age(2, when(11_000), &reads, &[], &Stalls::default()), Ok((ms(1000), true)));
        assert!(age(2, when(11_001), &reads, &[], &Stalls::default()).unwrap_err().contains("worked for 1.001 s"));
        assert!(age(1, when(10_001), &reads, &[], &Stalls::default()).is_err(), "the version before, long after it was read");
        assert!(age(3, when(10_001), &reads, &[], &Stalls::default()).is_err(), "a version that was never read");
    }

    #[test]
    fn with_faults_the_grace_holds_and_a_second_after_them_no_longer() {
        let reads = reads(&[(2, 10_000)]);
        let (during, over) = (fault(10_300, 20_000), fault(10_300, 12_000));
        assert_eq!(age(2, when(15_200), &reads, &during, &Stalls::default()), Ok((ms(5200), false)));
        assert!(age(2, when(15_301), &reads, &during, &Stalls::default()).unwrap_err().contains("grace"));
        assert!(age(2, when(13_000), &reads, &over, &Stalls::default()).is_ok());
        assert!(age(2, when(13_001), &reads, &over, &Stalls::default()).is_err());
        let hung = [Window { fault: Fault::Hangs, ..over[0] }];
        assert!(age(2, when(14_000), &reads, &hung, &Stalls::default()).is_ok(), "what hung is given up a second later");
        assert!(age(2, when(14_001), &reads, &hung, &Stalls::default()).is_err());
        let stalls = Stalls(vec![(ms(12_500), ms(12_900))]);
        assert!(age(2, when(13_400), &reads, &over, &stalls).is_ok(), "the machine stood still for 0.4 s of it");
        assert!(age(2, when(13_401), &reads, &over, &stalls).is_err());
    }

    #[test]
    fn a_fallback_is_refused_while_the_last_values_would_do() {
        let reads = reads(&[(2, 10_000)]);
        assert!(early(when(14_499), &reads, &Stalls::default()).is_some());
        assert!(early(when(14_501), &reads, &Stalls::default()).is_none());
        assert!(early(when(9_000), &reads, &Stalls::default()).is_none(), "asked before anything was read");
        assert!(early(when(12_000), &reads, &Stalls(vec![(ms(9_000), ms(9_200))])).is_none(), "the read may have come too late");
    }

    #[test]
    fn an_answer_says_what_its_version_says() {
        let canary =
            r#"{"randomPct":37,"percentage":100.0,"cohort":"canary","canaryVersion":"v2","rollout":"r-1","revision":2,"fallback":false}"#;
        let wrong = |text: &str, percentage| match serde_json::from_str::<Answer<'_>>(text) {
            Ok(answer) => answer.wrong(percentage, "r-1"),
            Err(error) => Some(error.to_string()),
        };
        assert_eq!(wrong(canary, Some("100")), None);
        assert!(wrong(canary, Some("0")).is_some() && wrong(canary, None).is_some());
        assert!(wrong(&canary.replace("37", "0"), Some("100")).is_some());
        assert!(wrong(&canary.replace("r-1", ""), Some("100")).is_some());
        assert!(wrong(&canary.replace("false", "true"), Some("100")).is_some(), "a canary fallback");
        assert!(wrong(&canary.replace(",\"fallback\":false", ""), Some("100")).is_some());
        assert!(wrong(&canary.replace("{", "{\"error\":\"x\","), Some("100")).is_some());
    }
}
