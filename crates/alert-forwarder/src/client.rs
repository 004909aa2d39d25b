//! The way to a target: one POST per alert, in bounded time, to exactly the address that the secret names.

use crate::address::{Any, Forbidden, Lookup, PublicOnly};
use crate::target::Request;
use jiff::SignedDuration;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How long a try may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
const DEDUP_KEY: &str = "x-serin-dedup-key";

/// Why an alert did not arrive; neither address nor answer is in it. Whatever it is, the queue tries again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undelivered {
    /// The target answered, and did not take it.
    #[error("the target answered {status}")]
    Answered {
        /// Its status.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// Time was up.
    #[error("the target did not answer in time")]
    TooLate,
    /// Nobody there, or a broken connection.
    #[error("the target could not be reached: {0}")]
    Unreached(&'static str),
    /// The name leads inside.
    #[error(r#"the target's name leads to a private address; if it is meant, say "private": true in the secret"#)]
    Private,
    /// It cannot be sent.
    #[error("the alert's dedup key is not plain ASCII")]
    BadKey,
    /// It would come before what it closes.
    #[error("an earlier alert of the same rollout has not arrived yet")]
    TooEarly,
    /// The others of the batch took it.
    #[error("there was no time left to try it")]
    NoTime,
}

impl Undelivered {
    /// Whether the address may have been changed: then the secret is worth another look.
    pub(crate) fn doubts_the_address(&self) -> bool {
        match self {
            Undelivered::Answered { status, .. } => matches!(status, 300..=401 | 403 | 404 | 410),
            other => matches!(other, Undelivered::Unreached(_) | Undelivered::Private),
        }
    }

    /// Whether another try soon may do better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Undelivered::Answered { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            other => matches!(other, Undelivered::TooLate | Undelivered::Unreached(_)),
        }
    }

    /// How long the target asks to be left alone.
    pub(crate) fn asks_for(&self) -> Option<SignedDuration> {
        match self {
            Undelivered::Answered { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A client for targets.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    public: reqwest::Client,
    private: reqwest::Client,
    /// How long a try may take.
    pub(crate) timeout: Duration,
}

impl Client {
    pub(crate) fn new(timeout: Duration, lookup: Lookup) -> Result<Client, reqwest::Error> {
        // One provider for all; whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Client { public: build(timeout, Arc::new(PublicOnly(lookup)))?, private: build(timeout, Arc::new(Any(lookup)))?, timeout })
    }

    /// Sends one alert. What the target says beyond its status is not read.
    pub(crate) async fn post(&self, dedup_key: &str, request: Request) -> Result<(), Undelivered> {
        let key =
            Some(dedup_key).filter(|key| key.is_ascii()).and_then(|key| HeaderValue::from_str(key).ok()).ok_or(Undelivered::BadKey)?;
        let client = if request.private { &self.private } else { &self.public };
        let mut post = client.post(request.url).header(CONTENT_TYPE, "application/json").header(DEDUP_KEY, key).body(request.body);
        for (name, value) in request.headers {
            post = post.header(name, value);
        }
        if let Some((user, password)) = request.login {
            post = post.basic_auth(user, Some(password));
        }
        match post.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Undelivered::Answered { status: answer.status().as_u16(), retry_after: retry_after(&answer) }),
            Err(error) if is_forbidden(&error) => Err(Undelivered::Private),
            Err(error) if error.is_timeout() => Err(Undelivered::TooLate),
            Err(error) if error.is_connect() => Err(Undelivered::Unreached("no connection")),
            Err(_) => Err(Undelivered::Unreached("the connection broke")),
        }
    }
}

fn build(timeout: Duration, resolver: Arc<dyn Resolve>) -> Result<reqwest::Client, reqwest::Error> {
    // A redirect or a proxy would carry the alert to an address that nobody has chosen.
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).dns_resolver(resolver);
    builder.connect_timeout(timeout).timeout(timeout).user_agent(concat!("serin/", env!("CARGO_PKG_VERSION"))).build()
}

/// Seconds; a date is not how any of the targets says it.
fn retry_after(answer: &reqwest::Response) -> Option<SignedDuration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(SignedDuration::from_secs(u32::into(seconds)))
}

fn is_forbidden(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<Forbidden>() {
            return true;
        }
        cause = error.source();
    }
    false
}
