//! Seeded callers for the statistical tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses a part of it

use serin_core::sequential::{Action, Counter, Reading, Sequential, Settings, Tally, Window};

/// xorshift64*: small, seeded, good enough for coins.
pub struct Draw(u64);

impl Draw {
    pub fn seeded(seed: u64) -> Draw {
        let mut draw = Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            draw.bits();
        }
        draw
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Arrivals of a minute, by exponential gaps.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let (mut count, mut time) = (0, -self.uniform().ln());
        while time < mean {
            count += 1;
            time -= self.uniform().ln();
        }
        count
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// What happens to a cohort's calls.
#[derive(Clone, Copy)]
pub struct Rates {
    pub error: f64,
    pub abandon: f64,
    pub transfer: f64,
    pub handle: f64,
    pub sigma: f64,
}

pub const USUAL: Rates = Rates { error: 0.015, abandon: 0.06, transfer: 0.22, handle: 240.0, sigma: 0.9 };

impl Rates {
    /// Another contact center: rates and spread differ as in the bench's public set.
    pub fn jittered(self, draw: &mut Draw) -> Rates {
        let mut by = |x: f64, share: f64| x * draw.between(1.0 - share, 1.0 + share);
        Rates {
            error: by(self.error, 0.25),
            abandon: by(self.abandon, 0.25),
            transfer: by(self.transfer, 0.15),
            handle: by(self.handle, 0.2),
            sigma: by(self.sigma, 0.1),
        }
    }

    /// Every metric worse by exactly its tolerance.
    pub fn at_tolerance(self) -> Rates {
        Rates {
            error: self.error + 0.005,
            abandon: self.abandon + 0.005,
            transfer: self.transfer + 0.01,
            handle: self.handle * 1.05,
            ..self
        }
    }
}

pub fn settings(volume: f64, hints: Rates, draw: &mut Draw) -> Settings {
    let mut settings = Settings { expected_calls_per_hour: volume, ..Settings::default() };
    for metric in &mut settings.metrics {
        let figure = match metric.name.as_str() {
            "error" => hints.error,
            "abandon" => hints.abandon,
            "transfer" => hints.transfer,
            _ => hints.handle,
        };
        metric.hint = figure * draw.between(0.7, 1.3);
    }
    settings
}

/// One minute of calls.
pub fn minute(draw: &mut Draw, start: i64, weight: f64, volume: f64, stable: Rates, canary: Rates) -> Window {
    let mut sums = [[0.0; 8]; 2];
    for _ in 0..draw.poisson(volume / 60.0) {
        let is_canary = draw.uniform() * 100.0 < weight;
        let (sum, rates) = if is_canary { (&mut sums[1], canary) } else { (&mut sums[0], stable) };
        sum[0] += 1.0;
        let fate = draw.uniform();
        if fate < rates.abandon {
            sum[1] += 1.0;
            continue;
        }
        let end = if fate < rates.abandon + rates.error {
            3
        } else if fate < rates.abandon + rates.error + rates.transfer {
            2
        } else {
            4
        };
        sum[end] += 1.0;
        let time = rates.handle * (rates.sigma * draw.normal() - rates.sigma * rates.sigma / 2.0).exp();
        sum[5] += 1.0;
        sum[6] += time;
        sum[7] += time * time;
    }
    Window { start, revision: 0, weight, stable: tally(sums[0]), canary: tally(sums[1]) }
}

pub fn tally(values: [f64; 8]) -> Tally {
    let counters = [
        Counter::Calls,
        Counter::Abandons,
        Counter::Transfers,
        Counter::Errors,
        Counter::Contained,
        Counter::Handled,
        Counter::HandleSum,
        Counter::HandleSquares,
    ];
    counters.into_iter().zip(values).fold(Tally::default(), |tally, (counter, value)| tally.with(counter, value))
}

/// How a rollout ended, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    RolledBack(u32),
    Promoted(u32),
    Stalled,
}

/// Looks every minute and obeys. At 100 % nothing is compared any more, so it ends there.
pub fn rollout(draw: &mut Draw, volume: f64, stable: Rates, canary: Rates, horizon: u32) -> End {
    let (mut judge, first) = Sequential::start(settings(volume, stable, draw)).unwrap();
    let mut weight = first.weight;
    for now in 0..horizon {
        let window = minute(draw, i64::from(now), weight, volume, stable, canary);
        let said = judge.look(weight, Reading::Windows(&[window]));
        match said.action {
            Action::Rollback => return End::RolledBack(now + 1),
            Action::Promote => return End::Promoted(now + 1),
            Action::Hold | Action::Advance => weight = said.weight,
        }
    }
    End::Stalled
}

/// The largest evidence of harm ever seen in a rollout that nobody stops, whose weight rises by the clock.
pub fn most_evidence(draw: &mut Draw, volume: f64, stable: Rates, canary: Rates, horizon: u32) -> f64 {
    let settings = Settings { min_step: 100_000, max_step: 100_001, ..settings(volume, stable, draw) };
    let (mut judge, first) = Sequential::start(settings).unwrap();
    let mut most = 0.0f64;
    for now in 0..horizon {
        let weight = match now {
            0..180 => first.weight,
            180..360 => 25.0,
            _ => 50.0,
        };
        let window = minute(draw, i64::from(now), weight, volume, stable, canary);
        judge.look(weight, Reading::Windows(&[window]));
        most = most.max(judge.evidence().harm);
    }
    most
}
