//! IVR configurations: which flow a dialled number leads to. The vendor gives each a version, and refuses a change of another one.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations;
use crate::token::CredentialsSource;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serin_controller::ports::{Clock, Entrances, FlowError};

/// An IVR configuration, as far as Serin reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ivr {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Grows with every change.
    pub version: i64,
    /// Numbers that lead here, as the vendor writes them.
    pub dnis: Vec<String>,
    /// Id of the flow of the open hours, or of all hours where there is no schedule.
    pub open_flow: Option<String>,
    /// Id of the flow of the closed hours.
    pub closed_flow: Option<String>,
    /// Id of the flow of holidays.
    pub holiday_flow: Option<String>,
}

const OPEN: &str = "openHoursFlow";

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// All IVR configurations.
    pub async fn ivrs(&self) -> Result<Vec<Ivr>, Error> {
        let found: Vec<Wire> = self.list(&Request::of(&operations::LIST_IVRS, "listing ivr configurations"), self.deadline()).await?;
        Ok(found.into_iter().map(Ivr::from).collect())
    }

    /// An IVR configuration.
    pub async fn ivr(&self, id: &str) -> Result<Ivr, Error> {
        let doing = format!("reading ivr configuration {id}");
        read(&doing, self.whole_ivr(&doing, id, self.deadline()).await?)
    }

    /// Leads the open hours' calls to another flow, everything else staying as it is; the configuration after it. `Conflict` if it no
    /// longer has this version: look again. One that leads there already is left alone, whatever its version.
    pub async fn repoint(&self, id: &str, to_flow: &str, version: i64) -> Result<Ivr, Error> {
        let until = self.deadline();
        let doing = format!("leading ivr configuration {id} to flow {to_flow}");
        let mut found = self.whole_ivr(&doing, id, until).await?;
        let leads_there = found.get(OPEN).and_then(|flow| flow["id"].as_str()) == Some(to_flow);
        if !leads_there {
            expect_version(&doing, &found, version)?;
            found.insert(OPEN.to_owned(), json!({"id": to_flow}));
            let put = Request { path: &[id], body: Some(found.into()), ..Request::of(&operations::PUT_IVR, &doing) };
            found = self.put_versioned(&put, until).await?;
        }
        read(&doing, found)
    }

    /// With what Serin does not read of it. "Not found" may be a throttle in disguise: it stands once the list is without it, too.
    async fn whole_ivr(&self, doing: &str, id: &str, until: Timestamp) -> Result<Map<String, Value>, Error> {
        match self.call(&Request { path: &[id], ..Request::of(&operations::GET_IVR, doing) }, until).await {
            Err(not_found @ Error::NotFound { .. }) => {
                let all: Vec<Map<String, Value>> = self.list(&Request::of(&operations::LIST_IVRS, doing), until).await?;
                all.into_iter().find(|ivr| ivr.get("id").and_then(Value::as_str) == Some(id)).ok_or(not_found)
            }
            answer => answer,
        }
    }

    /// Sends something that holds the version that it is based on. The vendor says in several ways that it has another by now.
    pub(crate) async fn put_versioned(&self, put: &Request<'_>, until: Timestamp) -> Result<Map<String, Value>, Error> {
        let answer = self.ask(put, until).await?;
        let refusal = match answer.status {
            200..300 => return answer.json(&put.doing),
            _ => answer.refusal(put),
        };
        let is_of_version = match &refusal {
            Error::Unexpected { status: 400, message, .. } => message.contains("does not match the current version"),
            _ => answer.status == 408,
        };
        match is_of_version {
            true => Err(changed_meanwhile(&put.doing)),
            false => Err(refusal),
        }
    }
}

/// Looks that a change may take: one before, one after, one more where somebody else's came first.
const TRIES: u32 = 3;

impl<S: CredentialsSource, C: Clock> Entrances for Genesys<S, C> {
    async fn open_hours(&self, ivr: &str) -> Result<Option<String>, FlowError> {
        Ok(self.ivr(ivr).await?.open_flow)
    }

    async fn lead(&self, ivr: &str, from: &str, to: &str) -> Result<bool, FlowError> {
        for _ in 0..TRIES {
            let found = self.ivr(ivr).await?;
            match found.open_flow.as_deref() {
                Some(flow) if flow == to => return Ok(true),
                Some(flow) if flow == from => {}
                _ => return Ok(false),
            }
            // Whatever comes of it, what is read next decides.
            match self.repoint(ivr, to, found.version).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(FlowError::TryLater(format!("ivr configuration {ivr} does not read back as leading to {to}")))
    }

    async fn emergency(&self, group: &str) -> Result<bool, FlowError> {
        Ok(self.emergency_group(group).await?.enabled)
    }

    async fn declare_emergency(&self, group: &str) -> Result<(), FlowError> {
        for _ in 0..TRIES {
            let found = self.emergency_group(group).await?;
            if found.enabled {
                return Ok(());
            }
            match self.set_emergency(group, true, found.version).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(FlowError::TryLater(format!("emergency group {group} does not read back as declared")))
    }
}

fn read(doing: &str, ivr: Map<String, Value>) -> Result<Ivr, Error> {
    let wire: Wire = serde_json::from_value(ivr.into()).map_err(|_| Error::unreadable(doing, "it is no ivr configuration"))?;
    Ok(Ivr::from(wire))
}

/// What is based on another version is not sent: the vendor would refuse it, or not.
pub(crate) fn expect_version(doing: &str, found: &Map<String, Value>, version: i64) -> Result<(), Error> {
    match found.get("version").and_then(Value::as_i64) {
        Some(now) if now == version => Ok(()),
        Some(_) => Err(changed_meanwhile(doing)),
        None => Err(Error::unreadable(doing, "it comes without its version")),
    }
}

fn changed_meanwhile(doing: &str) -> Error {
    Error::Conflict { doing: doing.to_owned(), reason: "somebody changed it meanwhile; look at it again".to_owned() }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    #[serde(default)]
    name: String,
    version: i64,
    #[serde(default)]
    dnis: Option<Vec<String>>,
    open_hours_flow: Option<Reference>,
    closed_hours_flow: Option<Reference>,
    holiday_hours_flow: Option<Reference>,
}

/// What is named by its id.
#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) id: Option<String>,
}

impl From<Wire> for Ivr {
    fn from(wire: Wire) -> Ivr {
        let id = |flow: Option<Reference>| flow.and_then(|flow| flow.id);
        Ivr {
            id: wire.id,
            name: wire.name,
            version: wire.version,
            dnis: wire.dnis.unwrap_or_default(),
            open_flow: id(wire.open_hours_flow),
            closed_flow: id(wire.closed_hours_flow),
            holiday_flow: id(wire.holiday_hours_flow),
        }
    }
}
