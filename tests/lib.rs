//! Acceptance tests of Serin, through public interfaces only.
//!
//! [`world`] holds every port in memory, with faults at each call, and says what must hold while they are called; [`drive`] runs
//! ticks of the functions over virtual minutes. [`live`] runs them on the simulated organization instead, over HTTP and through the real
//! client. The tests stand beside this file.
#![allow(clippy::unwrap_used)]

pub mod drive;
pub mod live;
pub mod world;
