//! The bytes of an event in, an answer out.

use crate::cache::Cache;
use crate::clock::Clock;
use crate::counters::NotDrawn;
use crate::question::{Event, Shape};
use crate::source::Source;
use futures::FutureExt;
use serde::Serialize;
use serin_core::cohort::{Caller, Cohort};
use serin_core::weight::Weight;
use std::panic::AssertUnwindSafe;

/// What a sandbox is.
pub struct Endpoint<S, C> {
    stage: String,
    cache: Cache<S, C>,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Said {
    /// To a data action.
    Flat(Answer),
    /// To whoever asked over HTTP.
    Http(Enveloped),
}

/// Which way.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whole percents, `1..=100`, for a flow that compares numbers itself.
    pub random_pct: u16,
    /// Weight in force, in percent.
    pub percentage: Weight,
    /// Which side.
    pub cohort: Cohort,
    /// Label of the side, empty where it is not known.
    pub canary_version: String,
    /// Rollout that decided, empty where there is none.
    pub rollout: String,
    /// Version that Parameter Store gave the percentage, 0 if unknown.
    pub revision: i64,
    /// Whether stable was answered without drawing.
    pub fallback: bool,
    /// What is wrong with the question, if it was not understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// As a function URL and an HTTP API take it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enveloped {
    status_code: u16,
    headers: Headers,
    body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers {
    content_type: &'static str,
    cache_control: &'static str,
}

impl Answer {
    /// The flow takes its stable branch, and whoever tests the data action reads why. The text is not logged: a mapping gone wrong may have put a
    /// caller's number where the flow's name belongs.
    fn misunderstood(error: String) -> Answer {
        let (canary_version, rollout) = (String::new(), String::new());
        Answer {
            random_pct: 100,
            percentage: Weight::ZERO,
            cohort: Cohort::Stable,
            canary_version,
            rollout,
            revision: 0,
            fallback: true,
            error: Some(error),
        }
    }

    fn shaped(self, shape: Shape) -> Said {
        match shape {
            Shape::Flat => Said::Flat(self),
            Shape::Http => {
                let headers = Headers { content_type: "application/json", cache_control: "no-store" };
                Said::Http(Enveloped { status_code: 200, headers, body: serde_json::to_string(&self).unwrap_or_default() })
            }
        }
    }
}

impl<S: Source, C: Clock> Endpoint<S, C> {
    /// Of a stage.
    pub fn new(stage: String, cache: Cache<S, C>) -> Endpoint<S, C> {
        Endpoint { stage, cache }
    }

    /// Answers one call, whatever was asked.
    pub async fn answer(&mut self, event: &[u8]) -> Said {
        // No panic is known. One all the same would end the sandbox, and the call with it.
        let answered = AssertUnwindSafe(self.decide(event)).catch_unwind().await;
        answered.unwrap_or_else(|_| {
            self.cache.counters.not_drawn(NotDrawn::Fault);
            let shape = std::panic::catch_unwind(|| Event::of(event).shape).unwrap_or(Shape::Flat);
            Answer::misunderstood("a fault of Serin's; please report it".to_owned()).shaped(shape)
        })
    }

    async fn decide(&mut self, event: &[u8]) -> Said {
        let event = Event::of(event);
        let question = match event.question() {
            Ok(question) => question,
            Err(error) => {
                self.cache.look();
                self.cache.counters.not_drawn(NotDrawn::Misunderstood);
                return Answer::misunderstood(error).shaped(event.shape);
            }
        };
        let draw = self.cache.draw();
        let route = self.cache.route(&question.flow).await;
        let caller = Caller { conversation: question.conversation.as_deref(), number: question.caller.as_deref() };
        let assignment = route.router.assign(caller, route.at.timestamp(), draw);
        let answer = Answer {
            random_pct: assignment.bucket / 100 + 1,
            percentage: assignment.weight,
            cohort: assignment.cohort,
            canary_version: assignment.label.to_owned(),
            rollout: assignment.rollout.to_owned(),
            revision: route.revision,
            fallback: assignment.fallback.is_some(),
            error: None,
        };
        let (cohort, fallback, age) = (assignment.cohort, assignment.fallback, route.age);
        match fallback {
            Some(fallback) => self.cache.counters.not_drawn(NotDrawn::Fell(fallback)),
            None => self.cache.counters.drawn(cohort, age),
        }
        answer.shaped(event.shape)
    }

    /// Between two events: reads ahead, and gives the lines for the log. `true` if the process must end: the next one gets new keys.
    pub async fn between(&mut self) -> (Vec<serde_json::Value>, bool) {
        let ahead = AssertUnwindSafe(self.cache.read_ahead()).catch_unwind().await;
        let ends = ahead.is_err() || self.cache.is_locked_out();
        if ends {
            self.cache.counters.ended();
        }
        let now = self.cache.looked();
        (self.cache.counters.due(&self.stage, now), ends)
    }
}
