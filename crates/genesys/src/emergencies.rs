//! Emergency groups: a switch that leads IVR configurations to a flow for emergencies, whatever else they say.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::ivrs::{Reference, expect_version};
use crate::operations;
use crate::token::CredentialsSource;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serin_controller::ports::Clock;

/// An emergency group, as far as Serin reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyGroup {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Grows with every change.
    pub version: i64,
    /// Whether an emergency is declared.
    pub enabled: bool,
    /// What happens then.
    pub flows: Vec<EmergencyFlow>,
}

/// A flow for emergencies, and what leads to it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyFlow {
    /// Id of the flow.
    pub flow: Option<String>,
    /// Ids of the IVR configurations.
    pub ivrs: Vec<String>,
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// An emergency group.
    pub async fn emergency_group(&self, id: &str) -> Result<EmergencyGroup, Error> {
        let doing = format!("reading emergency group {id}");
        let request = Request { path: &[id], ..Request::of(&operations::GET_EMERGENCY_GROUP, doing) };
        Ok(EmergencyGroup::from(self.call::<Wire>(&request, self.deadline()).await?))
    }

    /// Declares an emergency, or ends it, everything else staying as it is: a group that is sent without its flows loses its IVR
    /// configurations. The group after it; `Conflict` if it no longer has this version: look again. One that is so already is left
    /// alone, whatever its version.
    pub async fn set_emergency(&self, id: &str, enabled: bool, version: i64) -> Result<EmergencyGroup, Error> {
        let until = self.deadline();
        let doing = format!("{} the emergency of group {id}", if enabled { "declaring" } else { "ending" });
        let get = Request { path: &[id], ..Request::of(&operations::GET_EMERGENCY_GROUP, &doing) };
        let mut found: Map<String, Value> = self.call(&get, until).await?;
        if found.get("enabled") != Some(&json!(enabled)) {
            expect_version(&doing, &found, version)?;
            found.insert("enabled".to_owned(), json!(enabled));
            let put = Request { path: &[id], body: Some(found.into()), ..Request::of(&operations::PUT_EMERGENCY_GROUP, &doing) };
            found = self.put_versioned(&put, until).await?;
        }
        let read = serde_json::from_value::<Wire>(found.into()).map_err(|_| Error::unreadable(&doing, "it is no emergency group"))?;
        Ok(EmergencyGroup::from(read))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    #[serde(default)]
    name: String,
    version: i64,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    emergency_call_flows: Option<Vec<WireFlow>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFlow {
    emergency_flow: Option<Reference>,
    #[serde(default)]
    ivrs: Option<Vec<Reference>>,
}

impl From<Wire> for EmergencyGroup {
    fn from(wire: Wire) -> EmergencyGroup {
        let flow = |one: WireFlow| EmergencyFlow {
            flow: one.emergency_flow.and_then(|flow| flow.id),
            ivrs: one.ivrs.unwrap_or_default().into_iter().filter_map(|ivr| ivr.id).collect(),
        };
        EmergencyGroup {
            id: wire.id,
            name: wire.name,
            version: wire.version,
            enabled: wire.enabled,
            flows: wire.emergency_call_flows.unwrap_or_default().into_iter().map(flow).collect(),
        }
    }
}
