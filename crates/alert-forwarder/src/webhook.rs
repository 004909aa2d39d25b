//! The incident system's webhook: one POST per alert, in bounded time, to exactly the address that the secret names.

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// How long an alert may take. Ten of them in two rounds stay well within the function's 30 s.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
const DEDUP_KEY: &str = "x-serin-dedup-key";

/// Where alerts go. The address is a secret in itself: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target(Url);

#[derive(Deserialize)]
struct Kept {
    url: String,
}

impl Target {
    /// Reads `{"url": "…"}`; the error repeats nothing of it.
    pub(crate) fn parse(secret: &str) -> Result<Target, &'static str> {
        let kept: Kept =
            serde_json::from_str(secret).map_err(|_| r#"the webhook's secret is not JSON of the form {"url": "https://…"}"#)?;
        let url = Url::parse(kept.url.trim()).map_err(|_| "the webhook's secret holds no url")?;
        match is_safe(&url) {
            true => Ok(Target(url)),
            false => Err("the webhook's url is not https; plain http is for the loopback address only"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(hidden)")
    }
}

fn is_safe(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

/// Why an alert did not arrive; neither address nor answer is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undelivered {
    /// The webhook answered, and did not take it.
    #[error("the webhook answered {0}")]
    Answered(u16),
    /// Time was up.
    #[error("the webhook did not answer in time")]
    TooLate,
    /// Nobody there, or a broken connection.
    #[error("the webhook could not be reached: {0}")]
    Unreached(String),
    /// It cannot be sent.
    #[error("the alert's dedup key is not plain ASCII")]
    BadKey,
}

impl Undelivered {
    /// Whether the address may have been changed: then the secret is worth another look.
    pub(crate) fn doubts_the_address(&self) -> bool {
        matches!(self, Undelivered::Answered(300..=399 | 401 | 403 | 404 | 410) | Undelivered::Unreached(_))
    }
}

/// A client for webhooks.
#[derive(Debug, Clone)]
pub(crate) struct Webhook(reqwest::Client);

impl Webhook {
    pub(crate) fn new(timeout: Duration) -> Result<Webhook, reqwest::Error> {
        // One provider for all; whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would carry the alert to an address that nobody has chosen.
        let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        builder.connect_timeout(timeout).timeout(timeout).user_agent(concat!("serin/", env!("CARGO_PKG_VERSION"))).build().map(Webhook)
    }

    /// Sends one alert. What the webhook says beyond its status is not read.
    pub(crate) async fn post(&self, target: &Target, dedup_key: &str, body: String) -> Result<(), Undelivered> {
        let key =
            Some(dedup_key).filter(|key| key.is_ascii()).and_then(|key| HeaderValue::from_str(key).ok()).ok_or(Undelivered::BadKey)?;
        let request = self.0.post(target.0.clone()).header(CONTENT_TYPE, "application/json").header(DEDUP_KEY, key).body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Undelivered::Answered(answer.status().as_u16())),
            Err(error) if error.is_timeout() => Err(Undelivered::TooLate),
            Err(error) if error.is_connect() => Err(Undelivered::Unreached("no connection".to_owned())),
            Err(_) => Err(Undelivered::Unreached("the connection broke".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_the_loopback_address_are_targets() {
        let parse = |url: &str| Target::parse(&format!(r#"{{"url": "{url}"}}"#));
        for good in ["https://events.example.com/hook?key=hunter2", "http://127.0.0.1:8080/x", "http://[::1]:1/", "http://localhost/"] {
            assert_eq!(format!("{:?}", parse(good).unwrap()), "Target(hidden)");
        }
        for bad in [
            "http://events.example.com/hunter2",
            "http://10.0.0.1/hunter2",
            "http://localhost.example.com/hunter2",
            "ftp://127.0.0.1/",
            "hunter2",
        ] {
            assert!(!parse(bad).unwrap_err().contains("hunter2"), "{bad}");
        }
        for bad in ["", "https://hunter2", r#"{"uri": "https://hunter2"}"#] {
            assert!(Target::parse(bad).unwrap_err().contains("not JSON of the form"), "{bad}");
        }
    }
}
