//! Adapter: Genesys Cloud's public API as the [`Analytics`](serin_controller::ports::Analytics) and
//! [`Flows`](serin_controller::ports::Flows) of the use cases.
//!
//! Retries, rate limits, tokens and locks end here: what comes out is split by what the caller does next. Left out: unlocking by
//! force and taking a flow out of service, which Serin never does.

pub mod error;
pub mod operations;

mod analytics;
mod client;
mod details;
mod flows;
mod hash;
mod kept;
mod pace;
mod settings;
mod token;
mod yaml;

pub use client::Genesys;
pub use error::Error;
pub use hash::configuration_hash;
pub use kept::OAuthClient;
pub use settings::{Settings, SettingsError};
pub use token::{Credentials, CredentialsSource};
