//! Adapter: Genesys Cloud's public API as the [`Analytics`](serin_controller::ports::Analytics), [`Flows`](serin_controller::ports::Flows),
//! [`Rows`](serin_controller::ports::Rows) and [`Preflight`](serin_controller::ports::Preflight) of the use cases; and, for the operator's
//! tool, IVR configurations, emergency groups, flow outcomes, limits and what detail jobs tell.
//!
//! Retries, rate limits, tokens and locks end here: what comes out is split by what the caller does next. Left out: unlocking by
//! force and taking a flow out of service, which Serin never does.

pub mod error;
pub mod operations;

mod analytics;
mod audits;
mod checkup;
mod client;
mod conversations;
mod counted;
mod details;
mod emergencies;
mod flows;
mod hash;
mod interface;
mod ivrs;
mod jobs;
mod kept;
mod organization;
mod pace;
mod pages;
mod preflight;
mod rows;
mod settings;
mod token;
mod yaml;

pub use checkup::{DataAction, Permission};
pub use client::Genesys;
pub use conversations::Conversation;
pub use counted::Counted;
pub use emergencies::{EmergencyFlow, EmergencyGroup};
pub use error::Error;
pub use hash::configuration_hash;
pub use ivrs::Ivr;
pub use kept::OAuthClient;
pub use organization::{FlowOutcome, Limit};
pub use settings::{Settings, SettingsError};
pub use token::{Credentials, CredentialsSource};
