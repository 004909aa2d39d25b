//! The shared core: decides. Pure: no clock, no I/O, no environment, no randomness of its own.
pub mod cohort;
pub mod weight;
