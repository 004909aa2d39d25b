//! Acceptance tests of Serin, through public interfaces only.
//!
//! [`world`] holds every port in memory, with faults at each call, and says what must hold while they are called; [`drive`] runs
//! ticks of the functions over virtual minutes. The tests stand beside this file: `rollout.rs` · `crash_recovery.rs` ·
//! `break_glass.rs` · `laws.rs`.
#![allow(clippy::unwrap_used)]

pub mod drive;
pub mod world;
