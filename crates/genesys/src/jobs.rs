//! Jobs on flows: exporting a version, publishing a file, validating a version. They are started, looked at, and end.

use crate::client::{Exchange, Genesys, Request};
use crate::error::{Error, redact};
use crate::flows::Entity;
use crate::operations::{self, Operation};
use crate::settings::is_safe;
use crate::token::CredentialsSource;
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_controller::ports::{Clock, PublicationError};
use std::collections::BTreeMap;

/// How often a job is looked at.
pub(crate) const POLL: SignedDuration = SignedDuration::from_secs(1);

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// A version as a file.
    pub(crate) async fn export(&self, flow: &str, version: &str, until: Timestamp) -> Result<String, Error> {
        let doing = format!("exporting flow {flow} version {version}");
        let request = Request { body: Some(export_of(flow, version)), ..Request::of(&operations::EXPORT, &doing) };
        let started: Started = self.call(&request, until).await?;
        let job = self.end_of(&operations::GET_EXPORT, &doing, &started.id, until).await?;
        match (job.went_well(), &job.download_url) {
            (true, Some(address)) => self.download(&doing, address, until).await,
            (true, None) => Err(Error::Unavailable { doing, reason: "the export has no file".to_owned() }),
            (false, _) => Err(Error::Refused { doing, reason: job.complaint() }),
        }
    }

    /// A signed address: it gets no token of ours.
    async fn download(&self, doing: &str, address: &str, until: Timestamp) -> Result<String, Error> {
        let address = signed(doing, address)?;
        let answer = self.exchange(&Exchange { doing, repeatable: true, paced: false }, until, |http| http.get(address.clone())).await?;
        if answer.status != 200 {
            return Err(Error::Unavailable { doing: doing.to_owned(), reason: format!("the file store answered {}", answer.status) });
        }
        let not_text = |_| Error::Refused { doing: doing.to_owned(), reason: "the exported file is not text".to_owned() };
        String::from_utf8(answer.body).map_err(not_text)
    }

    /// Publishes a file that is meant for the flow `to`, and waits for the end.
    pub(crate) async fn publish_by_job(&self, doing: &str, to: &str, file: &str, until: Timestamp) -> Result<(), PublicationError> {
        let not_published = |error: Error| PublicationError::NotPublished(error.into());
        // From the upload on whatever hides the end says nothing about it.
        let unseen = |error: Error| PublicationError::Unseen(error.to_string());
        let (job, address) = self.register(doing, until).await.map_err(not_published)?;
        match self.upload(doing, &job, &address, file, until).await.map_err(unseen)? {
            200..300 => {}
            status @ 400..500 => return Err(not_published(not_stored(doing, status))),
            status => return Err(unseen(not_stored(doing, status))),
        }
        let job = self.end_of(&operations::GET_JOB, doing, &job.id, until).await.map_err(unseen)?;
        match job.elsewhere(to) {
            Some(flow) => Err(PublicationError::Elsewhere { flow: flow.to_owned() }),
            None => self.outcome(doing, to, &job, until).await.map_err(not_published),
        }
    }

    /// Hands a file over for publishing; returns the job's id.
    pub(crate) async fn hand_over(&self, doing: &str, file: &str, until: Timestamp) -> Result<String, Error> {
        let (job, address) = self.register(doing, until).await?;
        match self.upload(doing, &job, &address, file, until).await? {
            200..300 => Ok(job.id),
            status => Err(not_stored(doing, status)),
        }
    }

    /// A job that waits for its file, and where to put it.
    async fn register(&self, doing: &str, until: Timestamp) -> Result<(Registered, Url), Error> {
        let register = Request { body: Some(registration()), ..Request::of(&operations::REGISTER_JOB, doing) };
        let registered: Registered = self.call(&register, until).await?;
        let address = signed(doing, &registered.presigned_url)?;
        Ok((registered, address))
    }

    /// The file store's answer.
    async fn upload(&self, doing: &str, job: &Registered, address: &Url, file: &str, until: Timestamp) -> Result<u16, Error> {
        // What is signed is the address with these headers: all of them, and no token of ours. The same file twice is one job.
        let upload = |http: &reqwest::Client| {
            let put = http.put(address.clone()).body(file.to_owned());
            job.headers.iter().fold(put, |put, (name, value)| put.header(name, value))
        };
        Ok(self.exchange(&Exchange { doing, repeatable: true, paced: false }, until, upload).await?.status)
    }

    /// Waits for the end of a publish job that was meant for the flow `to`.
    pub(crate) async fn see_through(&self, doing: &str, to: &str, id: &str, until: Timestamp) -> Result<(), Error> {
        let job = self.end_of(&operations::GET_JOB, doing, id, until).await?;
        match job.elsewhere(to) {
            Some(other) => {
                let reason = format!("it was published into flow {other} instead; look at both by hand");
                Err(Error::Refused { doing: doing.to_owned(), reason })
            }
            None => self.outcome(doing, to, &job, until).await,
        }
    }

    /// How a publish job ended.
    async fn outcome(&self, doing: &str, to: &str, job: &Job, until: Timestamp) -> Result<(), Error> {
        if job.went_well() {
            return Ok(());
        }
        if !job.is_about_a_lock() {
            return Err(Error::Refused { doing: doing.to_owned(), reason: job.complaint() });
        }
        let holder = match self.get_flow(to, until).await {
            Ok(found) => self.holder(&found).await,
            Err(_) => None,
        };
        let holder = holder.unwrap_or_else(|| "another entity".to_owned());
        Err(Error::FlowLocked { flow: to.to_owned(), holder })
    }

    /// Asks for the vendor's complaints about a version.
    pub(crate) async fn complaints(&self, flow: &str, version: &str, until: Timestamp) -> Result<(), Error> {
        let doing = format!("validating flow {flow} version {version}");
        let body = Some(json!({"flows": [{"flow": {"id": flow, "version": version}}]}));
        let started: Started = self.call(&Request { body, ..Request::of(&operations::VALIDATE, &doing) }, until).await?;
        let job = self.end_of(&operations::GET_VALIDATION, &doing, &started.id, until).await?;
        if job.went_well() { Ok(()) } else { Err(Error::Refused { doing, reason: job.complaint() }) }
    }

    /// A job that has ended, well or not.
    async fn end_of(&self, operation: &'static Operation, doing: &str, id: &str, until: Timestamp) -> Result<Job, Error> {
        let look = Request { path: &[id], query: &[("expand", "messages")], ..Request::of(operation, doing) };
        loop {
            let job: Job = self.call(&look, until).await?;
            if job.has_ended() {
                return Ok(job);
            }
            if !self.wait(POLL, until).await {
                let reason = "the job still runs; look at the flow again".to_owned();
                return Err(Error::Unavailable { doing: doing.to_owned(), reason });
            }
        }
    }
}

/// Asks for a version as a file.
pub(crate) fn export_of(flow: &str, version: &str) -> Value {
    json!({"flows": [{"flow": {"id": flow, "version": version}, "exportType": "Yaml"}]})
}

/// Asks where to put a file.
pub(crate) fn registration() -> Value {
    json!({"createStubs": false})
}

/// An address that the vendor hands out, if a flow may travel to it. It is a secret in itself.
fn signed(doing: &str, address: &str) -> Result<Url, Error> {
    let url = Url::parse(address).ok().filter(is_safe);
    url.ok_or_else(|| Error::Refused { doing: doing.to_owned(), reason: "the file store's address is not https".to_owned() })
}

/// Such an address is good for a while only; the next attempt gets a new one.
fn not_stored(doing: &str, status: u16) -> Error {
    Error::Unavailable { doing: doing.to_owned(), reason: format!("the file store answered {status} to the upload") }
}

/// What was started has an id.
#[derive(Deserialize)]
pub(crate) struct Started {
    pub(crate) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    id: String,
    presigned_url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    status: Option<String>,
    download_url: Option<String>,
    flow: Option<Entity>,
    messages: Option<Vec<Message>>,
}

/// Its `details` are not read: they may hold whole requests and answers.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
}

impl Job {
    fn has_ended(&self) -> bool {
        matches!(self.status.as_deref(), Some("Success" | "Failure"))
    }

    fn went_well(&self) -> bool {
        self.status.as_deref() == Some("Success")
    }

    /// Its errors, or everything it says.
    fn complaint(&self) -> String {
        let messages = self.messages.as_deref().unwrap_or_default();
        let of = |wanted: fn(&Message) -> bool| -> Vec<&str> {
            messages.iter().filter(|m| wanted(m)).filter_map(|m| m.text.as_deref()).collect()
        };
        let errors = of(|m| m.kind.as_deref() == Some("Error"));
        let said = if errors.is_empty() { of(|_| true) } else { errors };
        if said.is_empty() { "the job failed without a reason".to_owned() } else { redact(&format!("the job failed: {}", said.join("; "))) }
    }

    fn is_about_a_lock(&self) -> bool {
        let mut said = self.messages.iter().flatten().filter_map(|message| message.text.as_deref());
        said.any(|text| text.to_ascii_lowercase().contains("is locked by"))
    }

    /// The flow that it went into, if that is not this one.
    fn elsewhere(&self, to: &str) -> Option<&str> {
        self.flow.as_ref().and_then(|flow| flow.id.as_deref()).filter(|flow| self.went_well() && *flow != to)
    }
}
