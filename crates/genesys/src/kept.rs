//! An OAuth client kept as a secret: JSON with `client_id` and `client_secret`.

use crate::{Credentials, CredentialsSource};
use serin_controller::ports::Secret;

/// An OAuth client kept as a secret.
pub struct OAuthClient<S>(S);

impl<S: Secret> OAuthClient<S> {
    /// Where it is kept.
    pub fn kept_in(secret: S) -> OAuthClient<S> {
        OAuthClient(secret)
    }
}

impl<S: Secret> CredentialsSource for OAuthClient<S> {
    async fn read(&self) -> Result<Credentials, String> {
        Credentials::parse(&self.0.read().await?)
    }
}
