//! Genesys Cloud, as the operator's tool sees it: signed in to only where a command needs it, and most do not.

use crate::failure::Failure;
use crate::output::note;
use anyhow::{Context, anyhow};
use jiff::SignedDuration;
use serin_aws::{Config, SecureParameter, WallClock};
use serin_controller::pointer::is_foreign;
use serin_controller::ports::{Flows, Pointer, RowError, Rows};
use serin_core::rollout::FlowName;
use serin_genesys::{Genesys, OAuthClient, Settings};
use std::time::Duration;

/// The client that may publish, as the executor has it.
pub(crate) type Client = Genesys<OAuthClient<SecureParameter>, WallClock>;

/// How long somebody at a terminal waits for a publish job.
const PUBLISHING: SignedDuration = SignedDuration::from_mins(2);

/// How long a row is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which of the two OAuth clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The evaluator's, which only looks.
    Read,
    /// The executor's.
    Publish,
}

/// Where Genesys Cloud is, and where the key is kept.
pub(crate) struct Place<'a> {
    pub(crate) aws: &'a Config,
    pub(crate) stage: &'a str,
    pub(crate) api: Option<&'a str>,
}

impl Place<'_> {
    /// The client that may publish; nothing is sent yet.
    pub(crate) fn connect(&self) -> anyhow::Result<Client> {
        self.connect_as(Key::Publish)
    }

    /// One of the two.
    pub(crate) fn connect_as(&self, key: Key) -> anyhow::Result<Client> {
        let key = match key {
            Key::Read => "read",
            Key::Publish => "publish",
        };
        let api = self.api.context("the address of Genesys Cloud is not known: say --genesys-api https://api.mypurecloud.com (your region's), set GENESYS_API, or keep it in a context")?;
        let login = std::env::var("GENESYS_LOGIN").ok();
        let settings = Settings::new(api, login.as_deref())?.with_copy_patience(PUBLISHING);
        let secret = SecureParameter::new(self.aws, format!("/serin/{}/genesys/{key}", self.stage));
        Ok(Genesys::new(settings, OAuthClient::kept_in(secret), WallClock)?)
    }

    fn client(&self, table: &str, row: &FlowName) -> Result<Client, RowError> {
        self.connect().map_err(|error| RowError { table: table.to_owned(), row: row.to_string(), reason: format!("{error:#}") })
    }
}

/// Whoever may not write the row here need not wait for it: the functions write it from what was recorded.
impl Rows for Place<'_> {
    async fn pointer(&self, table: &str, row: &FlowName) -> Result<Option<Pointer>, RowError> {
        let client = self.client(table, row)?;
        let found = within(table, row, client.pointer(table, row)).await?;
        if let Some(found) = found.as_ref().filter(|found| is_foreign(found, self.stage)) {
            note(&format!(
                "warning: row {row} of data table {table} belongs to `{}`, is not written, and sends calls to flow {}",
                found.owner, found.active_flow
            ));
        }
        Ok(found)
    }

    async fn point(&self, table: &str, row: &FlowName, to: &Pointer) -> Result<(), RowError> {
        let written = match self.client(table, row) {
            Ok(client) => within(table, row, client.point(table, row, to)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &written {
            note(&format!("warning: {error}; it is not written from here, and the functions write it within a minute"));
        }
        written
    }
}

/// Taking calls away, and recording that, must not wait for a vendor that does not answer.
async fn within<T>(table: &str, row: &FlowName, asked: impl Future<Output = Result<T, RowError>>) -> Result<T, RowError> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let reason = format!("Genesys Cloud did not answer within {} seconds", PATIENCE.as_secs());
        Err(RowError { table: table.to_owned(), row: row.to_string(), reason })
    })
}

/// What the way from a number to its flow looks like, and what is to be done about it.
pub(crate) struct Adoption {
    client: Client,
    ivr: serin_genesys::Ivr,
    /// Id and name.
    from: (String, String),
    to: (String, String),
    undo: bool,
}

impl Adoption {
    /// Looks; changes nothing. `stable` is the flow that callers have without a traffic cop.
    pub(crate) async fn plan(client: Client, ivr: &str, stable: &str, cop: &str, undo: bool) -> Result<Adoption, Failure> {
        let found = client.ivr(ivr).await?;
        let (from, to) = if undo { (cop, stable) } else { (stable, cop) };
        let leads_to = found.open_flow.clone().unwrap_or_else(|| "none".to_owned());
        if leads_to == to {
            return Err(Failure::refused(anyhow!("IVR {} leads to flow {to} already; nothing was changed", found.name)));
        }
        if leads_to != from {
            return Err(Failure::refused(anyhow!(
                "IVR {} leads to flow {leads_to}, and not to {from} as the rollout file and the arguments say; nothing was changed",
                found.name
            )));
        }
        let (source, target) = (client.flow(from).await?, client.flow(to).await?);
        if target.published.is_none() {
            let unpublished = anyhow!("flow {to} ({}) is not published: callers would reach nothing; nothing was changed", target.name);
            return Err(Failure::refused(unpublished));
        }
        Ok(Adoption { client, ivr: found, from: (from.to_owned(), source.name), to: (to.to_owned(), target.name), undo })
    }

    /// For people: what is there, what comes, and what reports show then.
    pub(crate) fn described(&self) -> String {
        let Adoption { ivr, from, to, undo, .. } = self;
        let numbers = if ivr.dnis.is_empty() { "no number yet".to_owned() } else { ivr.dnis.join(", ") };
        let after = match undo {
            true => "Reports: the traffic cop's entries end; each call is one flow entry again.".to_owned(),
            false => format!(
                "Reports: each call enters two flows from then on. {} shows one entry per call that ends as a transfer to a flow (transferType \
                 FLOW), beside the entry of the flow behind it: sums of flow entries over all flows double, figures per flow stay. Its time \
                 adds some tenths of a second to the time in flows. Conversations, queues and agents do not change.",
                to.1
            ),
        };
        format!(
            "IVR {} ({numbers}), version {}\n  now    open hours lead to {} ({})\n  then   open hours lead to {} ({})\n{after}\n\
             Closed and holiday hours stay as they are. Calls that are in a flow stay there.",
            ivr.name, ivr.version, from.1, from.0, to.1, to.0
        )
    }

    /// Does it, on the version that was looked at: whoever changed the IVR meanwhile is not overwritten.
    pub(crate) async fn apply(&self) -> anyhow::Result<i64> {
        let changed = self.client.repoint(&self.ivr.id, &self.to.0, self.ivr.version).await;
        let changed = changed.with_context(|| format!("IVR {} was not changed; look again with `serin adopt`", self.ivr.name))?;
        Ok(changed.version)
    }
}
