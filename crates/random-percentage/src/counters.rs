//! What the log tells: lines in the embedded metric format, of which CloudWatch makes metrics. No call to AWS, no permission. Calls are counted in
//! memory and told in one line a minute, since a line for each would cost more than the calls.

use crate::clock::Moment;
use crate::source::ReadError;
use serde_json::{Map, Value, json};
use serin_core::cohort::{Cohort, Fallback};
use std::time::Duration;

/// How often a sandbox tells, at most.
const QUIET: Duration = Duration::from_secs(60);
/// Calls that were not drawn raise an alarm: the first is told at once, for the sandbox may never be asked again; more of them with the next event
/// after this.
const PRESSING: Duration = Duration::from_secs(1);

/// Why a call went to stable without being drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDrawn {
    /// What was read does not allow it.
    Fell(Fallback),
    /// The question is none: the data action's mapping is wrong.
    Misunderstood,
    /// We are.
    Fault,
}

impl NotDrawn {
    const ALL: [NotDrawn; 7] = [
        NotDrawn::Fell(Fallback::UnknownFlow),
        NotDrawn::Fell(Fallback::MalformedRollout),
        NotDrawn::Fell(Fallback::MalformedPercentage),
        NotDrawn::Fell(Fallback::NoHeartbeat),
        NotDrawn::Fell(Fallback::Unreadable),
        NotDrawn::Misunderstood,
        NotDrawn::Fault,
    ];

    /// Name in metrics.
    fn name(self) -> &'static str {
        match self {
            NotDrawn::Fell(fallback) => fallback.name(),
            NotDrawn::Misunderstood => "Misunderstood",
            NotDrawn::Fault => "Fault",
        }
    }

    /// Flows that nobody rolls out are asked about all day, and nothing is wrong with them.
    fn is_alarming(self) -> bool {
        self != NotDrawn::Fell(Fallback::UnknownFlow)
    }
}

/// What happened since it was told last.
#[derive(Debug, Default)]
pub struct Counters {
    told: Option<Moment>,
    told_pressing: Option<Moment>,
    canary: u32,
    stable: u32,
    age: Duration,
    reads: u32,
    failed: u32,
    throttled: u32,
    denied: u32,
    ended: u32,
    not_drawn: [u32; NotDrawn::ALL.len()],
}

impl Counters {
    /// An answer that was not drawn.
    pub fn not_drawn(&mut self, why: NotDrawn) {
        for (count, reason) in self.not_drawn.iter_mut().zip(NotDrawn::ALL) {
            *count += u32::from(reason == why);
        }
    }

    /// One that was, and how old the values were that it rests on.
    pub fn drawn(&mut self, cohort: Cohort, age: Duration) {
        match cohort {
            Cohort::Canary => self.canary += 1,
            Cohort::Stable => self.stable += 1,
        }
        self.age = self.age.max(age);
    }

    /// A read of the source.
    pub fn read(&mut self) {
        self.reads += 1;
    }

    /// One that gave nothing; `None` if it took too long.
    pub fn failed(&mut self, why: Option<&ReadError>) {
        self.failed += 1;
        match why {
            Some(ReadError::Throttled(_)) => self.throttled += 1,
            Some(ReadError::Denied(_)) => self.denied += 1,
            Some(ReadError::Failed(_)) | None => {}
        }
    }

    /// The process ends itself.
    pub fn ended(&mut self) {
        self.ended += 1;
        self.told = None;
    }

    /// What there is to tell now, if it is time: the line of the stage, then one for each reason of a fallback.
    pub fn due(&mut self, stage: &str, now: Moment) -> Vec<Value> {
        let pressing = self.not_drawn.iter().zip(NotDrawn::ALL).any(|(count, reason)| *count > 0 && reason.is_alarming());
        let over = |told: Option<Moment>, wait| told.is_none_or(|told| now.since(told) >= wait);
        let is_due = over(self.told, QUIET) || (pressing && over(self.told_pressing, PRESSING));
        if !is_due {
            return Vec::new();
        }
        let told_pressing = if pressing { Some(now) } else { self.told_pressing };
        let at = now.timestamp().as_millisecond();
        let told = std::mem::replace(self, Counters { told: Some(now), told_pressing, ..Counters::default() });
        let mut lines = Vec::new();
        if told.canary + told.stable + told.reads + told.ended > 0 {
            lines.push(told.line(stage, at));
        }
        for (count, reason) in told.not_drawn.into_iter().zip(NotDrawn::ALL).filter(|(count, _)| *count > 0) {
            lines.push(fallbacks(stage, reason, count, at));
        }
        lines
    }

    fn line(&self, stage: &str, at: i64) -> Value {
        let age = u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX);
        let always = [("CanaryAnswers", self.canary), ("StableAnswers", self.stable), ("Reads", self.reads)];
        let trouble =
            [("ReadsFailed", self.failed), ("ReadsThrottled", self.throttled), ("ReadsDenied", self.denied), ("ProcessEnded", self.ended)];
        let counts = || always.into_iter().chain(trouble.into_iter().filter(|(_, count)| *count > 0));
        let mut metrics: Vec<Value> = counts().map(|(name, _)| json!({"Name": name, "Unit": "Count"})).collect();
        let mut line: Map<String, Value> = counts().map(|(name, count)| (name.to_owned(), count.into())).collect();
        // Without an answer there is no age, and 0 would be a good one.
        if self.canary + self.stable > 0 {
            metrics.push(json!({"Name": "AnswerAge", "Unit": "Milliseconds"}));
            line.insert("AnswerAge".into(), age.into());
        }
        line.insert("Stage".into(), stage.into());
        line.insert("_aws".into(), directive(at, &json!([["Stage"]]), &json!(metrics)));
        Value::Object(line)
    }
}

fn directive(at: i64, dimensions: &Value, metrics: &Value) -> Value {
    json!({"Timestamp": at, "CloudWatchMetrics": [{"Namespace": "Serin", "Dimensions": dimensions, "Metrics": metrics}]})
}

fn fallbacks(stage: &str, reason: NotDrawn, count: u32, at: i64) -> Value {
    // The stage's own figure is alarmed.
    let dimensions = if reason.is_alarming() { json!([["Stage"], ["Stage", "Reason"]]) } else { json!([["Stage", "Reason"]]) };
    json!({
        "_aws": directive(at, &dimensions, &json!([{"Name": "Fallback", "Unit": "Count"}])),
        "Stage": stage,
        "Reason": reason.name(),
        "Fallback": count,
    })
}
