//! Flows: reading them, publishing a version, and copying a configuration from one flow into another.

use crate::client::{Genesys, Request};
use crate::error::{Error, redact};
use crate::hash::configuration_hash;
use crate::jobs::Started;
use crate::operations;
use crate::token::CredentialsSource;
use crate::yaml;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serin_controller::ports::{Clock, FlowError, FlowState, Flows, Operation, PublicationError, Running};

impl<S: CredentialsSource, C: Clock> Flows for Genesys<S, C> {
    async fn flow(&self, flow: &str) -> Result<FlowState, FlowError> {
        let until = self.deadline();
        let found = self.read_flow(flow, until).await?;
        Ok(self.state(found).await)
    }

    async fn published_versions(&self, flow: &str) -> Result<Vec<String>, FlowError> {
        Ok(latest_published_first(self.versions(flow, self.deadline()).await?))
    }

    async fn export(&self, flow: &str, version: &str) -> Result<String, FlowError> {
        Ok(Genesys::export(self, flow, version, self.clock.now() + self.settings.copy_patience).await?)
    }

    async fn configuration_hash(&self, flow: &str, version: &str) -> Result<String, FlowError> {
        let until = self.deadline();
        let request = Request {
            operation: &operations::GET_CONFIGURATION,
            doing: format!("reading the configuration of flow {flow} version {version}"),
            path: &[flow, version],
            query: &[],
            body: None,
        };
        match self.call::<Value>(&request, until).await {
            Ok(configuration) => Ok(configuration_hash(&configuration)),
            Err(error @ Error::NotFound { .. }) => Err(self.doubt(error, flow, Some(version), until).await.into()),
            Err(error) => Err(error.into()),
        }
    }

    async fn publish(&self, flow: &str, version: &str) -> Result<String, FlowError> {
        let until = self.deadline();
        // For a version that does not exist the vendor answers with success, and then does nothing.
        if !self.versions(flow, until).await?.iter().any(|known| known.id == version) {
            return Err(Error::VersionGone { flow: flow.to_owned(), version: version.to_owned() }.into());
        }
        let request = Request {
            operation: &operations::PUBLISH,
            doing: format!("publishing flow {flow} version {version}"),
            path: &[],
            query: &[("flow", flow), ("version", version)],
            body: None,
        };
        match self.call::<Started>(&request, until).await {
            Ok(started) => Ok(started.id),
            Err(error @ Error::NotFound { .. }) => Err(self.doubt(error, flow, Some(version), until).await.into()),
            Err(error) => Err(self.or_locked(error, flow, until).await.into()),
        }
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), FlowError> {
        let until = self.clock.now() + self.settings.copy_patience;
        let doing = format!("copying flow {from} into flow {to}");
        let (source, target) = (self.read_flow(from, until).await?, self.read_flow(to, until).await?);
        let (version, target_name, flow_type) = self.check_copy(&doing, to, source, target).await?;
        let file = self.export(from, &version, until).await?;
        let file = yaml::rename(&file, &flow_type, &target_name).map_err(|reason| {
            let reason = format!("{reason}; nothing was published. Publish version {version} of flow {from} into it by hand");
            Error::Refused { doing: doing.clone(), reason }
        })?;
        let job = self.hand_over(&doing, &file, until).await?;
        self.see_through(&doing, to, &job, until).await.map_err(FlowError::from)
    }

    async fn check_file(&self, flow: &str, file: &str) -> Result<(), FlowError> {
        let target = self.read_flow(flow, self.deadline()).await?;
        Ok(of_flow(&format!("publishing a file into flow {flow}"), target, file).map(drop)?)
    }

    async fn publish_file(&self, flow: &str, file: &str) -> Result<(), PublicationError> {
        let until = self.clock.now() + self.settings.copy_patience;
        let doing = format!("publishing a file into flow {flow}");
        let file = self.check_target(&doing, flow, file, until).await.map_err(|error| PublicationError::NotPublished(error.into()))?;
        self.publish_by_job(&doing, flow, &file, until).await
    }
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// What a flow runs, and who published it.
    pub(crate) async fn runs_now(&self, flow: &str) -> Result<Running, Error> {
        let found = self.read_flow(flow, self.deadline()).await?;
        let by = found.published_by.and_then(|entity| entity.name.or(entity.id));
        Ok(Running { version: found.published_version.map(|version| version.id), by })
    }

    pub(crate) async fn read_flow(&self, flow: &str, until: Timestamp) -> Result<Flow, Error> {
        match self.get_flow(flow, until).await {
            Err(error @ Error::NotFound { .. }) => Err(self.doubt(error, flow, None, until).await),
            outcome => outcome,
        }
    }

    pub(crate) async fn get_flow(&self, flow: &str, until: Timestamp) -> Result<Flow, Error> {
        let doing = format!("reading flow {flow}");
        self.call(&Request { operation: &operations::GET_FLOW, doing, path: &[flow], query: &[], body: None }, until).await
    }

    /// All versions, as the vendor orders them.
    async fn versions(&self, flow: &str, until: Timestamp) -> Result<Vec<Version>, Error> {
        let doing = format!("listing the versions of flow {flow}");
        self.list(&Request { path: &[flow], ..Request::of(&operations::LIST_VERSIONS, doing) }, until).await
    }

    /// "Not found" may be a throttle in disguise: it stands once the version list says so too.
    pub(crate) async fn doubt(&self, error: Error, flow: &str, version: Option<&str>, until: Timestamp) -> Error {
        let contradicted = |doing: &str| Error::Unavailable {
            doing: doing.to_owned(),
            reason: "genesys cloud does not find what its version list names; look again".to_owned(),
        };
        let doing = match &error {
            Error::NotFound { doing, .. } => doing.clone(),
            _ => return error,
        };
        match (self.versions(flow, until).await, version) {
            (Ok(list), Some(version)) if list.iter().all(|known| known.id != version) => {
                Error::VersionGone { flow: flow.to_owned(), version: version.to_owned() }
            }
            (Ok(_), _) => contradicted(&doing),
            (Err(Error::NotFound { .. }), _) => error,
            (Err(other), _) => other,
        }
    }

    /// No source tells which refusal a lock is; so whatever is refused while somebody else holds the lock is refused for that.
    async fn or_locked(&self, error: Error, flow: &str, until: Timestamp) -> Error {
        let could_be_a_lock = matches!(error, Error::Conflict { .. } | Error::Unauthorized { .. } | Error::Unexpected { status: 400, .. });
        if !could_be_a_lock {
            return error;
        }
        match self.get_flow(flow, until).await {
            Ok(found) => match self.holder(&found).await {
                Some(holder) => Error::FlowLocked { flow: flow.to_owned(), holder },
                None => error,
            },
            Err(_) => error,
        }
    }

    async fn state(&self, found: Flow) -> FlowState {
        let own = self.client_id().await;
        let by = found.published_by.as_ref().filter(|by| own.is_none() || by.id != own);
        FlowState {
            locked_by: self.holder(&found).await,
            published_by: by.and_then(|by| by.name.clone().or_else(|| by.id.clone())),
            name: found.name,
            published: found.published_version.map(|version| version.id),
            operation: found.current_operation.and_then(LatestOperation::into_port),
        }
    }

    /// Person or client that holds the lock, unless that is our own client at work.
    pub(crate) async fn holder(&self, flow: &Flow) -> Option<String> {
        let named = |entity: &Entity| entity.name.clone().or_else(|| entity.id.clone()).unwrap_or_else(|| "somebody".to_owned());
        if let Some(user) = &flow.locked_user {
            return Some(named(user));
        }
        let client = flow.locked_client.as_ref()?;
        let own = self.client_id().await;
        (own.is_none() || client.id != own).then(|| format!("client {}", named(client)))
    }

    /// The file as it is handed over, if its flow is free and it is that flow's.
    async fn check_target(&self, doing: &str, flow: &str, file: &str, until: Timestamp) -> Result<String, Error> {
        let target = self.read_flow(flow, until).await?;
        self.expect_free(doing, flow, &target).await?;
        of_flow(doing, target, file)
    }

    /// Whether nobody edits the flow and nothing runs on it.
    async fn expect_free(&self, doing: &str, id: &str, flow: &Flow) -> Result<(), Error> {
        if let Some(holder) = self.holder(flow).await {
            return Err(Error::FlowLocked { flow: id.to_owned(), holder });
        }
        if flow.current_operation.as_ref().is_some_and(LatestOperation::runs) {
            return Err(Error::Conflict {
                doing: doing.to_owned(),
                reason: "an operation runs on the target; wait for its end".to_owned(),
            });
        }
        Ok(())
    }

    /// Published version of the source, name and type of the target; nothing else is copied into, ever.
    async fn check_copy(&self, doing: &str, to: &str, source: Flow, target: Flow) -> Result<(String, String, String), Error> {
        let refused = |reason: String| Error::Refused { doing: doing.to_owned(), reason };
        self.expect_free(doing, to, &target).await?;
        match (source.published_version, source.flow_type, target.flow_type) {
            _ if source.id == target.id || source.name == target.name => Err(refused("they are the same flow".to_owned())),
            (None, _, _) => Err(refused("the source has no published version".to_owned())),
            (Some(version), Some(of_source), Some(of_target)) if of_source == of_target => Ok((version.id, target.name, of_target)),
            (_, of_source, of_target) => {
                let shown = |flow_type: Option<String>| flow_type.unwrap_or_else(|| "unknown".to_owned());
                Err(refused(format!("their types differ: {} and {}", shown(of_source), shown(of_target))))
            }
        }
    }
}

/// The file as it is handed over, if it bears the flow's name and type.
fn of_flow(doing: &str, flow: Flow, file: &str) -> Result<String, Error> {
    let refused = |reason: String| Error::Refused { doing: doing.to_owned(), reason };
    let flow_type = flow.flow_type.ok_or_else(|| refused("genesys cloud does not tell its type".to_owned()))?;
    yaml::expect(file, &flow_type, &flow.name).map_err(refused)
}

fn latest_published_first(versions: Vec<Version>) -> Vec<String> {
    let was_published = |v: &Version| v.date_published.is_some() || v.kind.as_deref() == Some("PUBLISH");
    let mut published: Vec<(Option<Timestamp>, String)> = versions
        .into_iter()
        .filter(was_published)
        .map(|v| (v.date_published.as_deref().and_then(|date| date.parse().ok()), v.id))
        .collect();
    // Stable: what has no date keeps the vendor's order, behind what has one.
    published.sort_by_key(|(date, _)| std::cmp::Reverse(*date));
    published.into_iter().map(|(_, id)| id).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flow {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    pub(crate) flow_type: Option<String>,
    published_version: Option<Version>,
    published_by: Option<Entity>,
    locked_user: Option<Entity>,
    locked_client: Option<Entity>,
    current_operation: Option<LatestOperation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    id: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    date_published: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Entity {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LatestOperation {
    id: Option<String>,
    complete: Option<bool>,
    action_status: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
}

impl LatestOperation {
    fn runs(&self) -> bool {
        self.complete == Some(false)
    }

    fn into_port(self) -> Option<Operation> {
        let failed = self.action_status.as_deref() == Some("FAILURE");
        let running = self.runs();
        let code = self.error_code.unwrap_or_else(|| "FAILURE".to_owned());
        let why = match self.error_message.filter(|message| !message.is_empty()) {
            Some(message) => format!("{code}: {message}"),
            None => format!("{code}, without a reason"),
        };
        Some(Operation { id: self.id?, running, failure: failed.then(|| redact(&why)) })
    }
}
