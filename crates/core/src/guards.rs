//! What stands over every rule: a trip-wire that needs no comparison, and a look at whether stable got worse too.

use crate::analysis::{Breach, Proof};
use crate::measurement::{Comparison, Metric, Sides, WINDOW, Window, total};
use crate::policy::Catastrophe;
use jiff::{SignedDuration, Timestamp};

/// How far the trip-wire reaches back for its calls.
const REACH: SignedDuration = SignedDuration::from_mins(60);
/// The minutes in which stable is asked whether it got worse.
const LATELY: SignedDuration = SignedDuration::from_mins(15);
/// Stable calls below which nothing is said about a common cause.
const ENOUGH: u32 = 20;
/// Stable calls below which the trip-wire does not ask them.
const WITNESSES: f64 = 5.0;
/// Standard deviations, and points, by which stable must be worse than it was before.
const STRIKING: f64 = 4.0;
const STRIKING_POINTS: f64 = 2.0;

/// Errors or hang-ups that no healthy flow has, in the latest canary calls since the weight took effect. Errors are looked at in
/// every minute, settled or not, however young the cohort; hang-ups come early in a call, so their minutes must be `fair`.
pub fn catastrophe(limit: Catastrophe, fresh: &[Window], fair: &[Window], now: Timestamp) -> Option<Breach> {
    [(Metric::Error, fresh), (Metric::Abandon, fair)].into_iter().find_map(|(metric, windows)| {
        let latest = latest_calls(windows, limit.calls, now)?;
        let (sides, limit) = (latest.sides(metric), limit.percent / 100.0);
        // Half as bad on stable is not the canary's doing alone; a stray call of stable's is no witness.
        let own = sides.stable.calls < WITNESSES || sides.stable.figure() < sides.canary.figure() / 2.0;
        (sides.canary.figure() >= limit && own).then_some(Breach { sides, limit, proof: Proof::AtOnce })
    })
}

/// Errors or hang-ups that no healthy flow has, in the canary and at least half as many in stable, by enough calls of both: nobody can
/// say from here where callers are better off.
pub fn both_failing(limit: Catastrophe, fresh: &[Window], fair: &[Window], now: Timestamp) -> Option<Sides> {
    [(Metric::Error, fresh), (Metric::Abandon, fair)].into_iter().find_map(|(metric, windows)| {
        let sides = latest_calls(windows, limit.calls, now)?.sides(metric);
        let gross = sides.canary.figure() >= limit.percent / 100.0 && sides.stable.figure() >= sides.canary.figure() / 2.0;
        (gross && sides.stable.calls >= f64::from(ENOUGH)).then_some(sides)
    })
}

/// The fewest latest minutes that hold so many canary calls.
fn latest_calls(windows: &[Window], calls: u32, now: Timestamp) -> Option<Comparison> {
    let mut sum = Comparison::default();
    for window in windows.iter().rev().take_while(|w| w.start > now - REACH) {
        sum += window.counts;
        if sum.canary.calls >= calls {
            return Some(sum);
        }
    }
    None
}

/// Stable itself got strikingly worse in the last minutes: whatever broke, it is not the canary alone, and nothing rises meanwhile.
/// `canary` in the answer is stable before, so that both figures are stable's.
pub fn common_cause(usable: &[Window], now: Timestamp) -> Option<Sides> {
    let lately = now - LATELY - WINDOW;
    let (before, after): (Vec<Window>, Vec<Window>) = usable.iter().partition(|w| w.start < lately);
    let (before, after) = (total(&before).stable, total(&after).stable);
    if before.calls < ENOUGH || after.calls < ENOUGH {
        return None;
    }
    [Metric::Error, Metric::Abandon].into_iter().find_map(|metric| {
        let sides = Comparison { stable: after, canary: before }.sides(metric);
        let (earlier, now) = (sides.canary.figure(), sides.stable.figure());
        let pooled = (sides.canary.sum + sides.stable.sum) / (sides.canary.calls + sides.stable.calls);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / sides.canary.calls + 1.0 / sides.stable.calls)).sqrt();
        let striking = now - earlier > STRIKING * deviation && 100.0 * (now - earlier) > STRIKING_POINTS;
        striking.then_some(sides)
    })
}

/// Whether stable shares at least half of what an absolute limit on errors found in the canary: then it proves nothing about the
/// change. Other breaches are relative to stable already.
pub fn is_shared(breach: &Breach) -> bool {
    breach.sides.metric == Metric::Error.name()
        && breach.sides.stable.calls >= f64::from(ENOUGH)
        && breach.sides.stable.figure() >= breach.sides.canary.figure() / 2.0
}
