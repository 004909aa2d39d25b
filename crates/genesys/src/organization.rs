//! What the organization as a whole has and may do: flow outcomes and limits.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations;
use crate::token::CredentialsSource;
use serde::Deserialize;
use serin_controller::ports::Clock;

/// A flow outcome.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FlowOutcome {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// A limit of the organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Limit {
    /// Its name, such as `client.credentials.token.rate.per.minute`.
    pub key: String,
    /// How much is allowed, in the unit that the key names.
    pub value: i64,
}

#[derive(Deserialize)]
struct Limits {
    #[serde(default)]
    entities: Vec<Limit>,
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// All flow outcomes.
    pub async fn flow_outcomes(&self) -> Result<Vec<FlowOutcome>, Error> {
        self.list(&Request::of(&operations::LIST_OUTCOMES, "listing flow outcomes"), self.deadline()).await
    }

    /// The limits of a namespace of the vendor's, such as `architect`.
    pub async fn limits(&self, namespace: &str) -> Result<Vec<Limit>, Error> {
        let doing = format!("reading the limits of {namespace}");
        let request = Request { path: &[namespace], ..Request::of(&operations::GET_LIMITS, doing) };
        Ok(self.call::<Limits>(&request, self.deadline()).await?.entities)
    }
}
