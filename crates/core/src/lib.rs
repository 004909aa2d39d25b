//! The shared core: decides. Pure: no clock, no I/O, no environment, no randomness of its own.
//!
//! In reading order: [`weight`], [`cohort`], [`policy`], [`measurement`], [`analysis`] (with [`rules`], the anytime-valid
//! judge [`sequential`] and its [`summary`], [`guards`]), [`rollout`] and its [`refusal`]s, [`projection`], [`calendar`], [`decision`], [`explain`], [`phase`], [`ledger`], [`alert`] and its
//! [`wording`].

pub mod alert;
pub mod analysis;
pub mod calendar;
pub mod cohort;
pub mod decision;
pub mod explain;
pub mod guards;
pub mod ledger;
pub mod measurement;
pub mod phase;
pub mod policy;
pub mod projection;
pub mod refusal;
pub mod rollout;
pub mod rules;
#[cfg(feature = "schema")]
pub mod schema;
pub mod sequential;
pub mod summary;
pub mod weight;
pub mod wording;
