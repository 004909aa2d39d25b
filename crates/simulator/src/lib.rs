//! A Genesys Cloud organization over HTTP: flows, analytics, callers, a virtual clock, and faults.
//!
//! The vendor's side (`/oauth/token`, `/api/v2/…`) keeps to the published contract: tokens, rate limits, error bodies, publishing
//! that takes a while, counts that come late. The control side (`/_simulator/…`) moves the clock and breaks things.
//! Left out: everything of the vendor's that Serin does not call; such paths answer 404 in the vendor's form.

pub mod callers;
mod chance;
mod changes;
mod connection;
mod control;
mod faults;
mod flow;
mod meter;
mod organization;
mod reports;
mod traffic;
mod wall;
mod wire;
mod yaml;

pub use flow::Behavior;
pub use organization::{
    CopReads, DEFAULT_START, DEPLOYMENT_CONTROL, EMERGENCY, Entry, FlowSettings, MAIN_IVR_CANARY, MAIN_IVR_CANARY_OUTCOME, MAIN_IVR_COP,
    MAIN_IVR_DNIS, MAIN_IVR_IVR, MAIN_IVR_STABLE, MAIN_IVR_STABLE_OUTCOME, MAIN_IVR_TEST_DNIS, MAIN_IVR_TEST_IVR, Organization,
    RANDOM_PERCENTAGE_ACTION, Settings, SlotSettings,
};

pub use wall::Wall;

use axum::Router;
use connection::{Plug, Switchboard};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Serves the organization until the listener fails or the future is dropped.
pub async fn serve(listener: TcpListener, organization: Organization) -> io::Result<()> {
    let shared = Arc::new(Mutex::new(organization));
    let router: Router = wire::routes().merge(control::routes()).with_state(shared.clone());
    let router = wire::guarded(router, shared);
    axum::serve(Switchboard(listener), router.into_make_service_with_connect_info::<Plug>()).await
}
