//! Ages that hold across Lambda's freeze.

use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on two clocks: since the machine started, time asleep included, and the wall clock. Lambda freezes a sandbox between two events and
/// thaws it minutes later; a snapshot of it may start elsewhere. No one clock is promised to go on meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the machine started.
    pub boot: Duration,
    /// Since 1970.
    pub wall: Duration,
}

impl Moment {
    /// How long ago `earlier` was: the longer of what both clocks say. One that went back makes everything old.
    pub fn since(self, earlier: Moment) -> Duration {
        match (self.boot.checked_sub(earlier.boot), self.wall.checked_sub(earlier.wall)) {
            (Some(boot), Some(wall)) => boot.max(wall),
            _ => Duration::MAX,
        }
    }

    /// On the wall clock.
    pub fn timestamp(self) -> Timestamp {
        let wall = jiff::SignedDuration::try_from(self.wall).unwrap_or(jiff::SignedDuration::ZERO);
        Timestamp::from_duration(wall).unwrap_or(Timestamp::MAX)
    }
}

/// Tells the time.
pub trait Clock {
    /// Now.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl Clock for Machine {
    fn now(&self) -> Moment {
        Moment { boot: boot(), wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

#[cfg(target_os = "linux")]
fn boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

/// Only tests run here.
#[cfg(not(target_os = "linux"))]
fn boot() -> Duration {
    static STARTED: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    STARTED.elapsed()
}
