//! The anytime-valid judge: evidence against the canary that may be looked at every minute without paying for the looks.
//!
//! Every metric keeps an e-process: a nonnegative quantity that, while the canary is no worse than tolerated, has expectation at
//! most 1 at every moment. By Ville's inequality it ever reaches `1 / alpha` with a chance of at most `alpha`, so a rollback
//! there is wrong that rarely, however often, early or late somebody looks. Advancing needs the opposite: evidence against a
//! canary that is worse by a margin.
//!
//! In reading order: [`special`] (the numerical ground), [`eprocess`] (one factor of evidence per block of calls), [`srm`] (is the
//! split what was configured?), [`settings`] (metrics, windows), [`judge`] (blocks, state, decision), [`explain`] (the sentence).
//!
//! Left out: guards that need a clock or a calendar (maintenance windows, lockouts, quarantine) and the watch after 100 %, where
//! no concurrent stable exists any more.

pub mod eprocess;
pub mod explain;
pub mod judge;
pub mod settings;
pub mod special;
pub mod srm;

pub use explain::{Reason, Side, Sides};
pub use judge::{Action, Evidence, Judgement, MetricEvidence, Reading, Sequential};
pub use settings::{Counter, Factor, Figure, Metric, OnCap, Settings, Tally, Window};
