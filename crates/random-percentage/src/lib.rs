//! random-percentage: which way, for one call.
//!
//! It runs on every phone call, so it answers from memory, and it always answers: what it does not understand or does not know goes to stable, and
//! says so.
//!
//! | module | |
//! |---|---|
//! | [`endpoint`] | the bytes of an event in, an answer out; what is done between two events |
//! | [`question`] | what Architect asks, in both of its shapes |
//! | [`cache`] | the parameters in memory, and when they are read again |
//! | [`source`] | where they are read: Parameter Store, or the copy in DynamoDB |
//! | [`counters`] | what the log tells: one line a minute |
//!
//! Nothing in here panics on any input; `fuzz/` looks for one that does. A panic all the same would be caught at the door and answered with stable.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable, clippy::unwrap_used)]

pub mod cache;
pub mod clock;
pub mod counters;
pub mod endpoint;
pub mod question;
pub mod source;
