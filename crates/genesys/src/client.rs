//! One request and its retries: pace, token, `Retry-After`, back-off, and what an answer means.

use crate::counted::Counted;
use crate::error::{Error, redact};
use crate::operations::Operation;
use crate::pace::{Limit, Pace};
use crate::settings::{Settings, SettingsError};
use crate::token::{CredentialsSource, SignIn};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serin_controller::ports::Clock;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Genesys Cloud, as one OAuth client sees it.
pub struct Genesys<S, C> {
    pub(crate) settings: Settings,
    pub(crate) source: S,
    pub(crate) clock: C,
    pub(crate) sign_in: tokio::sync::Mutex<SignIn>,
    http: reqwest::Client,
    pace: Mutex<Pace>,
    counted: Mutex<Counted>,
}

impl<S, C> fmt::Debug for Genesys<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Genesys").field("api", &self.settings.api.as_str()).finish_non_exhaustive()
    }
}

const CONNECT: Duration = Duration::from_secs(3);
const REQUEST: Duration = Duration::from_secs(10);
/// A sandbox that was frozen for longer wakes up with dead connections.
const IDLE: Duration = Duration::from_secs(30);
/// More than any flow or aggregate; a bound against an answer that does not end.
const LARGEST: usize = 32 << 20;

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// Nothing is sent yet: credentials are read and signed in with when they are first needed.
    pub fn new(settings: Settings, credentials: S, clock: C) -> Result<Genesys<S, C>, SettingsError> {
        // One provider for all; whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .pool_idle_timeout(IDLE)
            .build();
        let http = http.map_err(|_| SettingsError {
            name: "SSL_CERT_FILE",
            value: std::env::var("SSL_CERT_FILE").unwrap_or_default(),
            accepted: "a file of trusted certificates; without it, those of the system are used",
        })?;
        Ok(Genesys {
            settings,
            source: credentials,
            clock,
            sign_in: Default::default(),
            http,
            pace: Mutex::default(),
            counted: Mutex::default(),
        })
    }

    /// When the patience of a port's call that begins now ends.
    pub(crate) fn deadline(&self) -> Timestamp {
        self.clock.now() + self.settings.patience
    }

    /// Calls one operation.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: &Request<'_>, until: Timestamp) -> Result<T, Error> {
        let answer = self.ask(request, until).await?;
        match answer.status {
            200..300 => answer.json(&request.doing),
            _ => Err(answer.refusal(request)),
        }
    }

    /// Calls one operation, for whoever reads refusals by themselves. A token that is not accepted is renewed once.
    pub(crate) async fn ask(&self, request: &Request<'_>, until: Timestamp) -> Result<Answer, Error> {
        let address = request.address(&self.settings.api);
        let method = Method::from_bytes(request.operation.method.as_bytes()).expect("the table holds methods");
        let exchange = Exchange { doing: &request.doing, repeatable: request.operation.repeatable, paced: true };
        let mut refused = None;
        loop {
            let token = self.token(refused.as_ref(), until).await?;
            let build = |http: &reqwest::Client| {
                let builder = http.request(method.clone(), address.clone()).bearer_auth(&token.value);
                match &request.body {
                    Some(body) => builder.json(body),
                    // The vendor's own clients send this for an operation without a body.
                    None if method == Method::POST => builder.json(&Value::Null),
                    None => builder,
                }
            };
            let answer = self.exchange(&exchange, until, build).await?;
            match answer.status {
                401 if refused.is_none() => refused = Some(token),
                _ => return Ok(Answer { token: Some(token.value), ..answer }),
            }
        }
    }

    /// Sends until there is an answer that means something, or patience ends.
    pub(crate) async fn exchange(
        &self,
        exchange: &Exchange<'_>,
        until: Timestamp,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Answer, Error> {
        let mut backoff = Backoff::default();
        loop {
            if exchange.paced {
                self.keep_pace(exchange.doing, until).await?;
            }
            // Whoever has a second left gets that second: the clock may be a simulated one, the network never is.
            let left = until.duration_since(self.clock.now()).max(SignedDuration::from_secs(1)).unsigned_abs();
            let sent = self.clock.now();
            self.count(|counted| counted.requests += 1);
            let failure = match receive(build(&self.http).timeout(REQUEST.min(left))).await {
                // It would be as large again.
                Err(lost) if lost.too_large => return Err(Error::too_large(exchange.doing, &lost.reason)),
                Err(lost) if exchange.repeatable || !lost.may_have_arrived => {
                    Failure { asked: None, reason: lost.reason, throttled: false }
                }
                Err(lost) => {
                    let reason = format!("{}; it may have arrived: look before asking again", lost.reason);
                    return Err(Error::Unavailable { doing: exchange.doing.to_owned(), reason });
                }
                Ok(mut answer) => {
                    self.note(answer.limit);
                    if answer.status == 429 {
                        self.count(|counted| counted.throttled += 1);
                    }
                    answer.ahead = answer.date.map(|date| ahead(date, sent, self.clock.now()));
                    match answer.failure(exchange.repeatable) {
                        Some(failure) => failure,
                        None => return Ok(answer),
                    }
                }
            };
            let wait = backoff.next(failure.asked);
            tracing::debug!(doing = exchange.doing, reason = failure.reason, wait_ms = wait.as_millis(), "genesys cloud is asked again");
            if backoff.is_spent() || !self.wait(wait, until).await {
                return Err(failure.into_error(exchange.doing, wait));
            }
        }
    }

    /// Waits, unless that would be longer than patience lasts.
    pub(crate) async fn wait(&self, duration: SignedDuration, until: Timestamp) -> bool {
        let in_time = until.duration_since(self.clock.now()) >= duration;
        if in_time {
            self.clock.sleep(duration).await;
        }
        in_time
    }

    async fn keep_pace(&self, doing: &str, until: Timestamp) -> Result<(), Error> {
        let now = self.clock.now();
        let place = self.pace().next(now, until);
        match place.map(|at| at.duration_since(now)) {
            Some(wait) if wait.is_positive() => self.clock.sleep(wait).await,
            Some(_) => {}
            None => return Err(Error::Throttled { doing: doing.to_owned(), retry_after: SignedDuration::from_mins(1) }),
        }
        Ok(())
    }

    /// Answers of the file store and of the login name no limit.
    fn note(&self, limit: Option<Limit>) {
        if let Some(limit) = limit {
            self.pace().note(limit, self.clock.now());
        }
    }

    /// Requests that the vendor still takes of us in this minute; `None` before it first told.
    pub(crate) fn left(&self) -> Option<u32> {
        self.pace().left(self.clock.now())
    }

    /// What was asked since this was called last.
    pub fn counted(&self) -> Counted {
        std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Counted)) {
        add(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of one operation.
pub(crate) struct Request<'a> {
    pub(crate) operation: &'static Operation,
    /// For messages: names flow and version.
    pub(crate) doing: String,
    /// Values of the path's placeholders, in order.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<Value>,
}

impl<'a> Request<'a> {
    /// A call with neither parameters nor a body.
    pub(crate) fn of(operation: &'static Operation, doing: impl Into<String>) -> Request<'a> {
        Request { operation, doing: doing.into(), path: &[], query: &[], body: None }
    }

    fn address(&self, api: &Url) -> Url {
        let mut address = api.clone();
        let mut values = self.path.iter();
        {
            let mut segments = address.path_segments_mut().expect("an http address has a path");
            segments.clear();
            for segment in self.operation.path.trim_start_matches('/').split('/') {
                segments.push(if segment.starts_with('{') { values.next().expect("every placeholder has its value") } else { segment });
            }
        }
        if !self.query.is_empty() {
            address.query_pairs_mut().extend_pairs(self.query);
        }
        address
    }
}

/// How something is sent.
pub(crate) struct Exchange<'a> {
    pub(crate) doing: &'a str,
    /// Whether it may be sent again when it is unknown whether it arrived.
    pub(crate) repeatable: bool,
    /// Whether it counts for the vendor's rate limit.
    pub(crate) paced: bool,
}

/// An answer that came in whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// How far the vendor's clock is ahead of ours, as far as the answer tells.
    pub(crate) ahead: Option<SignedDuration>,
    date: Option<Timestamp>,
    retry_after: Option<SignedDuration>,
    limit: Option<Limit>,
    /// The token that was sent, which the answer might repeat.
    token: Option<String>,
}

/// No whole answer.
struct Lost {
    may_have_arrived: bool,
    /// There is more of it than is read.
    too_large: bool,
    reason: String,
}

/// Worth another try.
struct Failure {
    asked: Option<SignedDuration>,
    reason: String,
    throttled: bool,
}

impl Failure {
    fn into_error(self, doing: &str, wait: SignedDuration) -> Error {
        let doing = doing.to_owned();
        match self.throttled {
            true => Error::Throttled { doing, retry_after: wait },
            false => Error::Unavailable { doing, reason: self.reason },
        }
    }
}

/// Growing, jittered waits.
#[derive(Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    const FIRST_MS: i64 = 250;
    const LONGEST_MS: i64 = 5_000;
    /// Patience ends earlier; this is for a clock that stands still.
    const TRIES: u32 = 30;

    /// As long as was asked for and a little more, else a random part, at least half, of a wait that doubles each time.
    pub(crate) fn next(&mut self, asked: Option<SignedDuration>) -> SignedDuration {
        let ceiling = (Self::FIRST_MS << self.tries.min(10)).min(Self::LONGEST_MS);
        self.tries += 1;
        match asked {
            Some(asked) => asked + SignedDuration::from_millis(fastrand::i64(0..=Self::FIRST_MS)),
            None => SignedDuration::from_millis(fastrand::i64(ceiling / 2..=ceiling)),
        }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.tries > Self::TRIES
    }
}

async fn receive(request: RequestBuilder) -> Result<Answer, Lost> {
    let lost = |error: reqwest::Error| {
        let may_have_arrived = !(error.is_connect() || error.is_builder());
        Lost { may_have_arrived, too_large: false, reason: describe(error) }
    };
    let mut response = request.send().await.map_err(lost)?;
    let (status, header) = (response.status().as_u16(), response.headers().get(RETRY_AFTER).cloned());
    let (limit, date) = (limit(response.headers()), date(response.headers()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > LARGEST {
            let reason = format!("the answer is larger than {} MB", LARGEST >> 20);
            return Err(Lost { may_have_arrived: true, too_large: true, reason });
        }
        body.extend_from_slice(&chunk);
    }
    let retry_after = header.and_then(|value| seconds(value.to_str().ok()?)).or_else(|| told_in_words(status, &body));
    Ok(Answer { status, body, ahead: None, date, retry_after, limit, token: None })
}

/// What the vendor says of its rate limit.
fn limit(headers: &HeaderMap) -> Option<Limit> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
    let (allowed, count) = (number("inin-ratelimit-allowed")?, number("inin-ratelimit-count")?);
    Some(Limit { allowed, count, reset: number("inin-ratelimit-reset") })
}

/// When the answer was made, by the vendor's clock.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

/// The date has whole seconds, and was written somewhere on the way: in the middle, in the middle of its second.
fn ahead(date: Timestamp, sent: Timestamp, received: Timestamp) -> SignedDuration {
    let theirs = date + SignedDuration::from_millis(500);
    theirs.duration_since(sent + received.duration_since(sent) / 2)
}

fn seconds(text: &str) -> Option<SignedDuration> {
    let seconds: u32 = text.trim().parse().ok()?;
    Some(SignedDuration::from_secs(i64::from(seconds)))
}

/// Some throttles name the seconds in the message alone: `Retry the request in [42] seconds`.
fn told_in_words(status: u16, body: &[u8]) -> Option<SignedDuration> {
    let body: ErrorBody = (status == 429).then(|| serde_json::from_slice(body).ok())??;
    seconds(body.message.split_once('[')?.1.split_once(']')?.0)
}

/// What went wrong on the way, without the address.
fn describe(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    redact(&format!("no answer: {cause}"))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorBody {
    message: String,
    code: String,
}

impl Answer {
    /// Whether another try may get a better answer. What a gateway says is no answer to something that must not be done twice.
    fn failure(&self, repeatable: bool) -> Option<Failure> {
        let again = match self.status {
            429 | 503 => true,
            408 | 502 | 504 => repeatable,
            _ => false,
        };
        let reason = || format!("genesys cloud answered {}", StatusCode::from_u16(self.status).map_or(String::new(), |s| s.to_string()));
        again.then(|| Failure { asked: self.retry_after, reason: reason(), throttled: self.status == 429 })
    }

    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, doing: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Unexpected {
            doing: doing.to_owned(),
            status: self.status,
            code: "unreadable".to_owned(),
            // The parser's own words may repeat the body.
            message: format!("not the expected json at line {} column {}", error.line(), error.column()),
        })
    }

    /// What a refusal means.
    pub(crate) fn refusal(&self, request: &Request<'_>) -> Error {
        let body: ErrorBody = serde_json::from_slice(&self.body).unwrap_or_default();
        let clean = |text: &str| match &self.token {
            Some(token) => redact(&text.replace(token, "<token>")),
            None => redact(text),
        };
        let (code, message, doing) = (clean(&body.code), clean(&body.message), request.doing.clone());
        match self.status {
            401 => Error::Unauthorized { doing, reason: "a token that was just issued is not accepted; check the oauth client".to_owned() },
            403 if request.operation.permissions.is_empty() => {
                Error::Unauthorized { doing, reason: format!("not permitted ({code}): {message}") }
            }
            403 => {
                let permissions = request.operation.permissions.join(" or ");
                Error::Unauthorized { doing, reason: format!("not permitted ({code}): grant the oauth client's role {permissions}") }
            }
            404 | 410 => Error::NotFound { doing, code },
            409 | 423 => Error::Conflict { doing, reason: format!("{code}: {message}") },
            408 | 500.. => Error::Unavailable { doing, reason: format!("genesys cloud answered {} {code}", self.status) },
            status => Error::Unexpected { doing, status, code, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations;

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        let request = Request {
            operation: &operations::GET_CONFIGURATION,
            doing: String::new(),
            path: &["a/../b?c", "14.0"],
            query: &[("x", "1&y=2")],
            body: None,
        };
        let address = request.address(&Url::parse("https://api.example.com/").unwrap());
        assert_eq!(address.as_str(), "https://api.example.com/api/v2/flows/a%2F..%2Fb%3Fc/versions/14.0/configuration?x=1%26y%3D2");
    }

    #[test]
    fn waits_grow_are_jittered_and_never_shorter_than_asked() {
        let mut backoff = Backoff::default();
        for ceiling in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            let wait = backoff.next(None).as_millis();
            assert!((ceiling / 2..=ceiling).contains(&wait), "{wait} of {ceiling}");
        }
        assert!(backoff.next(Some(SignedDuration::from_secs(7))) >= SignedDuration::from_secs(7));
    }
}
