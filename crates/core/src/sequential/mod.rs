//! The anytime-valid judge: evidence against the canary that may be looked at every minute without paying for the looks.
//!
//! Every metric keeps an e-process: a nonnegative quantity that, while the canary is no worse than tolerated, has expectation at
//! most 1 at every moment. By Ville's inequality it ever reaches `1 / alpha` with a chance of at most `alpha`, so a rollback
//! there is wrong that rarely, however often, early or late somebody looks. Advancing needs the opposite: evidence against a
//! canary that is worse by a margin.
//!
//! In reading order: [`special`] (the numerical ground), [`eprocess`] (one factor of evidence per block of calls), [`srm`] (is the
//! split what was configured?), [`settings`] (metrics, windows), [`ladder`] (the weights), [`judge`] (blocks, state, decision), [`explain`] (the sentence).
//!
//! [`power`] tells what a rollout will see by when. [`alone`] is the watch at 100 %, where no concurrent stable exists any more. Left out: guards that need a clock or a calendar
//! (maintenance windows, lockouts, quarantine).

pub mod alone;
pub mod eprocess;
pub mod explain;
pub mod judge;
pub mod ladder;
pub mod power;
pub mod settings;
pub mod special;
pub mod srm;

pub use explain::{Reason, many, spell};
pub use judge::{Action, Data, Evidence, Judgement, MetricEvidence, Reading, Sequential};
pub use ladder::Exposure;
pub use settings::{Counter, Factor, Figure, Metric, OnCap, Settings, Tally, Window};
