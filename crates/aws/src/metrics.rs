//! Serin's own metrics: lines in the embedded metric format (EMF) in a function's log, which CloudWatch makes metrics of. No call, no permission, and
//! nothing to wait for.
//!
//! A metric costs by the hour in which it is reported. So what is always there are five, and what tells of trouble is told while there is any.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The namespace of all of them.
pub const NAMESPACE: &str = "Serin";

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Parts of a hundred.
    Percent,
}

/// Figures of one place and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    dimensions: Vec<(&'static str, String)>,
    figures: Vec<(&'static str, Unit, f64)>,
}

impl Metrics {
    /// Of a stage.
    pub fn of(stage: &str) -> Metrics {
        Metrics { dimensions: vec![("Stage", stage.to_owned())], figures: Vec::new() }
    }

    /// Of something in it: a flow, a function.
    pub fn by(mut self, dimension: &'static str, value: &str) -> Metrics {
        self.dimensions.push((dimension, value.to_owned()));
        self
    }

    /// A figure that is told always.
    pub fn with(mut self, name: &'static str, unit: Unit, figure: f64) -> Metrics {
        self.figures.push((name, unit, figure));
        self
    }

    /// A figure that is told where it is known.
    pub fn known(self, name: &'static str, unit: Unit, figure: Option<f64>) -> Metrics {
        match figure {
            Some(figure) => self.with(name, unit, figure),
            None => self,
        }
    }

    /// A count that is told always: silence would be no answer.
    pub fn count(self, name: &'static str, figure: usize) -> Metrics {
        self.with(name, Unit::Count, figure as f64)
    }

    /// A count of trouble, told while there is any.
    pub fn trouble(self, name: &'static str, figure: usize) -> Metrics {
        match figure {
            0 => self,
            some => self.count(name, some),
        }
    }

    /// The line; `None` where there is nothing to tell.
    pub fn line(&self, at: Timestamp) -> Option<Value> {
        if self.figures.is_empty() {
            return None;
        }
        let names: Vec<&str> = self.dimensions.iter().map(|(name, _)| *name).collect();
        let metrics: Vec<Value> = self.figures.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": format!("{unit:?}")})).collect();
        let mut line = Map::new();
        let directive = json!({"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": metrics});
        line.insert("_aws".into(), json!({"Timestamp": at.as_millisecond(), "CloudWatchMetrics": [directive]}));
        line.extend(self.dimensions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        line.extend(self.figures.iter().map(|(name, _, figure)| ((*name).to_owned(), json!(figure))));
        Some(Value::Object(line))
    }
}

/// Tells them.
#[allow(clippy::print_stdout)] // a function's standard output is its log
pub fn emit(metrics: &[Metrics]) {
    let now = Timestamp::now();
    for line in metrics.iter().filter_map(|m| m.line(now)) {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let metrics = Metrics::of("prod").by("Flow", "main_ivr").with("Weight", Unit::Percent, 12.5).count("CanaryCalls", 0);
        let expected = json!({
            "_aws": {"Timestamp": 60_000, "CloudWatchMetrics": [{
                "Namespace": "Serin",
                "Dimensions": [["Stage", "Flow"]],
                "Metrics": [{"Name": "Weight", "Unit": "Percent"}, {"Name": "CanaryCalls", "Unit": "Count"}],
            }]},
            "Stage": "prod",
            "Flow": "main_ivr",
            "Weight": 12.5,
            "CanaryCalls": 0.0,
        });
        assert_eq!(metrics.line(Timestamp::from_second(60).expect("a time")), Some(expected));
    }

    #[test]
    fn trouble_is_told_while_there_is_any() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(Metrics::of("prod").trouble("NeedsHuman", 0).line(at), None);
        assert_eq!(Metrics::of("prod").trouble("NeedsHuman", 2).line(at).expect("a line")["NeedsHuman"], 2.0);
    }
}
