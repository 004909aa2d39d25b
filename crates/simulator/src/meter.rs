//! What the organization was asked, by client and by path. Counted by the wall clock, in minutes like those of the rate limit.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Requests since the start or the last reset.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Meter {
    /// By id; requests without a valid token are nobody's.
    clients: BTreeMap<String, Requests>,
    /// By method and path template.
    by_path: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Requests {
    total: u64,
    busiest_minute: u64,
    /// When the running minute began, and how many came in it.
    #[serde(skip)]
    minute: (Instant, u64),
}

impl Meter {
    pub(crate) fn count(&mut self, client: Option<&str>, operation: &str, wall: Instant) {
        *self.by_path.entry(operation.to_owned()).or_default() += 1;
        let Some(client) = client else { return };
        let fresh = || Requests { total: 0, busiest_minute: 0, minute: (wall, 0) };
        let requests = self.clients.entry(client.to_owned()).or_insert_with(fresh);
        // A minute begins with the first request after the last one ended.
        if wall.duration_since(requests.minute.0) >= MINUTE {
            requests.minute = (wall, 0);
        }
        requests.total += 1;
        requests.minute.1 += 1;
        requests.busiest_minute = requests.busiest_minute.max(requests.minute.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_minute_is_not_the_total() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        for second in [0, 10, 59, 60, 61, 180] {
            meter.count(Some("a"), "GET /", start + Duration::from_secs(second));
        }
        meter.count(None, "GET /", start);
        let seen = serde_json::to_value(&meter).unwrap();
        assert_eq!(seen, serde_json::json!({"clients": {"a": {"total": 6, "busiest_minute": 3}}, "by_path": {"GET /": 7}}));
    }
}
