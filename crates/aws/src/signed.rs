//! Requests to services of AWS whose SDK would weigh more than they do: signed, sent, and answered in bounded time.

use crate::{Config, tls, with_causes};
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::{SignedDuration, Timestamp};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// What is sent. Header names are lowercase.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    /// As signatures name it.
    pub(crate) service: &'static str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: &'a [u8],
    /// How long the answer may take to come in whole.
    pub(crate) patience: Duration,
}

/// An answer that came in whole, whatever it says.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Headers,
    body: Vec<u8>,
    /// How far the service's clock is ahead of ours, as far as the answer tells.
    pub(crate) ahead: Option<SignedDuration>,
}

/// Why there is none.
pub(crate) struct Failed {
    pub(crate) reason: String,
    /// Whether another try may succeed.
    pub(crate) again: bool,
}

impl Failed {
    pub(crate) fn for_good(reason: String) -> Failed {
        Failed { reason, again: false }
    }
}

/// The address of a service where one is set, as every AWS tool takes it: `AWS_ENDPOINT_URL_…`, then `AWS_ENDPOINT_URL`.
pub(crate) fn endpoint(config: &Config, service: &str) -> Option<String> {
    let named = std::env::var(format!("AWS_ENDPOINT_URL_{service}")).ok().filter(|url| !url.is_empty());
    let url = named.or(config.endpoint_url().map(str::to_owned))?;
    Some(url.trim_end_matches('/').to_owned())
}

/// AWS's own address of a service; `service` may have a bucket before it.
pub(crate) fn address(config: &Config, service: &str) -> String {
    let region = config.region().map_or("us-east-1", |r| r.as_ref());
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://{service}.{region}.{suffix}")
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

impl Request<'_> {
    /// Sends it once.
    pub(crate) async fn send(self, config: &Config) -> Result<Answer, Failed> {
        let patience = self.patience;
        let request = self.signed(config).await.map_err(Failed::for_good)?;
        let sent = Timestamp::now();
        let answer = async {
            // Made here and not at the start of a function that seldom sends anything: it reads the system's certificates.
            let answer = Connector::builder().tls_provider(tls()).build().call(request).await.map_err(|e| with_causes(&e))?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let ahead = headers.get("date").and_then(|date| ahead(date, sent, Timestamp::now()));
            let body = ByteStream::new(answer.into_body()).collect().await.map_err(|e| with_causes(&e))?;
            Ok::<_, String>(Answer { status, headers, body: body.to_vec(), ahead })
        };
        let answer = tokio::time::timeout(patience, answer).await.map_err(|_| format!("no answer within {patience:?}"));
        answer.and_then(|a| a).map_err(|reason| Failed { reason, again: true })
    }

    async fn signed(self, config: &Config) -> Result<HttpRequest, String> {
        let region = config.region().ok_or("no AWS region is set; set AWS_REGION")?.to_string();
        let credentials = config.credentials_provider().ok_or("no AWS credentials are set")?;
        let identity = credentials.provide_credentials().await.map_err(|e| with_causes(&e))?.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params =
            SigningParams::builder().identity(&identity).region(&region).name(self.service).time(SystemTime::now()).settings(settings);
        let params = params.build().map_err(|e| with_causes(&e))?.into();
        let signable = SignableRequest::new(self.method, &self.uri, self.headers.iter().copied(), SignableBody::Bytes(self.body));
        let (instructions, _) = sign(signable.map_err(|e| with_causes(&e))?, &params).map_err(|e| with_causes(&e))?.into_parts();

        let mut request = HttpRequest::new(SdkBody::from(self.body));
        request.set_method(self.method).map_err(|e| with_causes(&e))?;
        for (name, value) in self.headers.iter().copied() {
            request.headers_mut().insert(name, value.to_owned());
        }
        for (name, value) in instructions.headers() {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        request.set_uri(self.uri).map_err(|e| with_causes(&e))?;
        Ok(request)
    }
}

/// The date has whole seconds, and was written somewhere on the way: in the middle, in the middle of its second.
fn ahead(date: &str, sent: Timestamp, received: Timestamp) -> Option<SignedDuration> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp() + SignedDuration::from_millis(500);
    Some(theirs.duration_since(sent + received.duration_since(sent) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_in_the_middle_of_the_way() {
        let at = |second: i64| Timestamp::from_second(1_795_168_800 + second).unwrap();
        let of = |date: &str| ahead(date, at(0), at(2)).map(|ahead| ahead.as_millis());
        assert_eq!(at(0).to_string(), "2026-11-20T10:00:00Z");
        assert_eq!(of("Fri, 20 Nov 2026 10:00:01 GMT"), Some(500));
        assert_eq!(of("Fri, 20 Nov 2026 09:50:00 GMT"), Some(-600_500));
        assert_eq!(of("yesterday"), None);
    }
}
