//! The wall clock: by it tokens end, publishes take their time, and answers are late. It has nothing to do with when callers call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// This machine's clock, or one that stands still unless somebody waits on it.
#[derive(Debug, Clone, Default)]
pub struct Wall(Option<Standing>);

#[derive(Debug, Clone)]
struct Standing {
    start: Instant,
    passed: Arc<Mutex<Duration>>,
}

impl Wall {
    /// A clock that nobody has to wait for: whoever waits moves it on, for all who share it.
    pub fn standing() -> Wall {
        Wall(Some(Standing { start: Instant::now(), passed: Arc::default() }))
    }

    /// Waits.
    pub async fn wait(&self, duration: Duration) {
        match &self.0 {
            Some(standing) => *standing.passed.lock().unwrap_or_else(PoisonError::into_inner) += duration,
            None => tokio::time::sleep(duration).await,
        }
    }

    /// How long everybody has waited; nothing by this machine's clock.
    pub fn passed(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |standing| *standing.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |standing| standing.start) + self.passed()
    }
}
