//! Use cases: observe, decide, record, act; and the ports they need.
#![allow(async_fn_in_trait)]

pub mod contain;
pub mod deploy;
pub mod evaluate;
pub mod intervene;
pub mod outbox;
pub mod pointer;
pub mod ports;
pub mod preflight;
pub mod record;
pub mod rehearse;
pub mod work;
