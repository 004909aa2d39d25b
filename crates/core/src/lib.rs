//! The shared core: decides. Pure: no clock, no I/O, no environment, no randomness of its own.
//!
//! In reading order: [`weight`], [`cohort`], [`policy`], [`measurement`], [`analysis`], [`rollout`], [`projection`], [`decision`],
//! [`phase`], [`ledger`], [`alert`]; and, by itself, the anytime-valid judge: [`sequential`].

pub mod alert;
pub mod analysis;
pub mod cohort;
pub mod decision;
pub mod ledger;
pub mod measurement;
pub mod phase;
pub mod policy;
pub mod projection;
pub mod rollout;
pub mod sequential;
pub mod weight;
