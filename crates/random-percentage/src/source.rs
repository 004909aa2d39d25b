//! Where the parameters are read: one request for all of a flow's values and the heartbeat.

mod dynamodb;
mod parameter_store;
mod request;

pub use dynamodb::{DynamoDb, read_batch_get_item};
pub use parameter_store::{ParameterStore, read_get_parameters};
pub use request::{Address, Connection, read_refusal};

use crate::clock::Clock;
use serin_core::cohort::Parameters;

/// Reads the parameters of one flow.
pub trait Source {
    /// All of its values and the heartbeat, read together. Whoever asks sets the time limit, by dropping the future.
    fn read(&mut self, flow: &str) -> impl Future<Output = Result<Parameters, ReadError>>;
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too many requests of this account.
    #[error("throttled: {0}")]
    Throttled(String),
    /// Whoever asks may not, or cannot prove who they are any more.
    #[error("denied: {0}")]
    Denied(String),
    /// Anything else: no connection, an error of the service, an answer that is none.
    #[error("{0}")]
    Failed(String),
}

/// What the settings chose.
#[derive(Debug)]
pub enum Chosen<C> {
    /// Parameter Store.
    ParameterStore(ParameterStore<C>),
    /// The copy in the ledger's table.
    DynamoDb(DynamoDb<C>),
}

impl<C: Clock> Chosen<C> {
    /// By `SOURCE`: `parameter-store`, which is also meant by nothing, or `dynamodb`.
    pub fn from_environment(stage: &str, clock: C) -> Result<Chosen<C>, String> {
        match std::env::var("SOURCE").unwrap_or_default().as_str() {
            "" | "parameter-store" => {
                Ok(Chosen::ParameterStore(ParameterStore::new(Connection::from_environment("ssm", clock)?, stage.to_owned())))
            }
            "dynamodb" => {
                let table = std::env::var("LEDGER_TABLE").ok().filter(|table| !table.is_empty());
                let table = table.ok_or("setting LEDGER_TABLE is missing: with SOURCE `dynamodb`, the name of the ledger's table")?;
                Ok(Chosen::DynamoDb(DynamoDb::new(Connection::from_environment("dynamodb", clock)?, table)))
            }
            other => Err(format!("setting SOURCE `{other}` is not accepted: `parameter-store` and `dynamodb` are")),
        }
    }
}

impl<C: Clock> Source for Chosen<C> {
    async fn read(&mut self, flow: &str) -> Result<Parameters, ReadError> {
        match self {
            Chosen::ParameterStore(source) => source.read(flow).await,
            Chosen::DynamoDb(source) => source.read(flow).await,
        }
    }
}
