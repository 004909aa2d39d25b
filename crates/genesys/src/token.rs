//! Signing in: credentials, and the token they are exchanged for.

use crate::client::{Backoff, Exchange, Genesys};
use crate::error::{Error, redact};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serin_controller::ports::Clock;
use std::fmt;
use std::future::Future;

/// An OAuth client's id and secret. Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Credentials {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: String,
}

impl Credentials {
    /// Reads `{"client_id": "…", "client_secret": "…"}`; the error repeats nothing of it.
    pub fn parse(json: &str) -> Result<Credentials, String> {
        let credentials: Option<Credentials> = serde_json::from_str(json).ok();
        let complete = credentials.filter(|c| !c.client_id.trim().is_empty() && !c.client_secret.trim().is_empty());
        complete.ok_or_else(|| r#"the secret is not JSON of the form {"client_id": "…", "client_secret": "…"}"#.to_owned())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// Where credentials are read: once at first, and again when Genesys Cloud no longer accepts them.
pub trait CredentialsSource {
    /// Reads them; the error is shown, so it names where they are and never what they are.
    fn read(&self) -> impl Future<Output = Result<Credentials, String>>;
}

impl<F: AsyncFn() -> Result<Credentials, String>> CredentialsSource for F {
    async fn read(&self) -> Result<Credentials, String> {
        self().await
    }
}

/// What is known of the sign-in.
#[derive(Default)]
pub(crate) struct SignIn {
    credentials: Option<Credentials>,
    token: Option<Token>,
}

/// An access token and until when it is used.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) value: String,
    until: Timestamp,
}

/// A token is renewed this long before it expires, so that it does not expire on the way.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
const DOING: &str = "signing in to genesys cloud";

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    /// A token that is not `stale`: the one in hand, or a new one.
    pub(crate) async fn token(&self, stale: Option<&Token>, until: Timestamp) -> Result<Token, Error> {
        // Held while signing in, so that several calls at once get one token between them.
        let mut sign_in = self.sign_in.lock().await;
        if let Some(token) = sign_in.token.as_ref().filter(|t| Some(*t) != stale && self.clock.now() < t.until) {
            return Ok(token.clone());
        }
        sign_in.token = None;
        let minted = self.mint(&mut sign_in, until).await;
        if minted.is_err() {
            self.count(|counted| counted.token_failures += 1);
        }
        let token = minted?;
        sign_in.token = Some(token.clone());
        Ok(token)
    }

    /// The id of our own OAuth client, once it has signed in.
    pub(crate) async fn client_id(&self) -> Option<String> {
        self.sign_in.lock().await.credentials.as_ref().map(|c| c.client_id.clone())
    }

    async fn mint(&self, sign_in: &mut SignIn, until: Timestamp) -> Result<Token, Error> {
        let (mut credentials, mut fresh) = match sign_in.credentials.take() {
            Some(remembered) => (remembered, false),
            None => (self.read_credentials().await?, true),
        };
        let mut backoff = Backoff::default();
        loop {
            match self.ask_for_token(&credentials, until).await? {
                Grant::Token { value, lifetime } => {
                    let used_for = lifetime - MARGIN.min(lifetime / 2);
                    sign_in.credentials = Some(credentials);
                    return Ok(Token { value, until: self.clock.now() + used_for });
                }
                // They may have been rotated since they were read; fresh ones are not read again.
                Grant::InvalidClient if !fresh => {
                    let again = self.read_credentials().await?;
                    if again == credentials {
                        return Err(not_accepted());
                    }
                    (credentials, fresh) = (again, true);
                }
                Grant::InvalidClient => return Err(not_accepted()),
                Grant::TooMany => {
                    self.count(|counted| counted.throttled += 1);
                    let wait = backoff.next(None);
                    if backoff.is_spent() || !self.wait(wait, until).await {
                        return Err(Error::Throttled { doing: DOING.to_owned(), retry_after: wait });
                    }
                }
            }
        }
    }

    async fn read_credentials(&self) -> Result<Credentials, Error> {
        self.source.read().await.map_err(|reason| Error::Unavailable { doing: DOING.to_owned(), reason: redact(&reason) })
    }

    async fn ask_for_token(&self, credentials: &Credentials, until: Timestamp) -> Result<Grant, Error> {
        let mut address = self.settings.login.clone();
        address.set_path("/oauth/token");
        let build = |http: &reqwest::Client| {
            let request = http.post(address.clone()).basic_auth(&credentials.client_id, Some(&credentials.client_secret));
            request.form(&[("grant_type", "client_credentials")])
        };
        let answer = self.exchange(&Exchange { doing: DOING, repeatable: true, paced: true }, until, build).await?;
        if answer.status == 200 {
            let granted: Granted = answer.json(DOING)?;
            return Ok(Grant::Token {
                value: granted.access_token,
                lifetime: SignedDuration::from_secs(granted.expires_in.clamp(1, A_DAY * 30)),
            });
        }
        let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = format!("{} {} {}", refusal.description, refusal.error_description, refusal.message);
        match answer.status {
            400 if said.to_ascii_lowercase().contains("rate limit exceeded") => Ok(Grant::TooMany),
            400 | 401 if refusal.error == "invalid_client" => Ok(Grant::InvalidClient),
            400 | 401 | 403 => {
                let code = redact(&refusal.error);
                let reason =
                    format!("the login refused the client ({} {code}); it must be of the grant type client credentials", answer.status);
                Err(Error::Unauthorized { doing: DOING.to_owned(), reason })
            }
            500.. => Err(Error::Unavailable { doing: DOING.to_owned(), reason: format!("the login answered {}", answer.status) }),
            // What it says is not repeated: a login that is not Genesys Cloud's could echo what it was sent.
            status => Err(Error::Unexpected {
                doing: DOING.to_owned(),
                status,
                code: redact(&refusal.error),
                message: "check the login address".to_owned(),
            }),
        }
    }
}

/// What the token endpoint says.
enum Grant {
    Token { value: String, lifetime: SignedDuration },
    InvalidClient,
    TooMany,
}

const A_DAY: i64 = 86_400;

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    error: String,
    description: String,
    error_description: String,
    message: String,
}

fn not_accepted() -> Error {
    let reason = "client id or secret are not accepted; renew the secret of this function's oauth client".to_owned();
    Error::Unauthorized { doing: DOING.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_json_and_never_shown() {
        let credentials = Credentials::parse(r#"{"client_id": "reader", "client_secret": "hunter2", "note": "x"}"#).unwrap();
        assert_eq!((credentials.client_id.as_str(), credentials.client_secret.as_str()), ("reader", "hunter2"));
        assert_eq!(format!("{credentials:?}"), "Credentials(hidden)");
        for bad in ["hunter2", r#"{"client_id": "hunter2"}"#, r#"{"client_id": "", "client_secret": "hunter2"}"#] {
            let refused = Credentials::parse(bad).unwrap_err();
            assert!(refused.contains("client_secret") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
