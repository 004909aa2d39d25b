//! S3: exports of what was there before a change. One signed PUT, so the whole of the S3 SDK is not worth its weight.

use crate::{Config, tls, with_causes};
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use std::time::{Duration, SystemTime};

/// How long one try may take, the answer included.
const PATIENCE: Duration = Duration::from_secs(3);

/// A versioned bucket: what was kept once is not overwritten by what is kept later under the same key.
#[derive(Debug)]
pub struct S3Exports {
    config: Config,
    bucket: String,
    endpoint: String,
    patience: Duration,
}

/// Why a try failed.
struct Failed {
    reason: String,
    /// Whether another try may succeed.
    again: bool,
}

impl Failed {
    fn for_good(reason: String) -> Failed {
        Failed { reason, again: false }
    }
}

impl S3Exports {
    /// With the bucket's name. Endpoints are taken as every AWS tool takes them: `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`.
    pub fn new(config: &Config, bucket: String) -> S3Exports {
        let named = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
        let endpoint = match named.or(config.endpoint_url().map(str::to_owned)) {
            Some(url) => format!("{}/{bucket}", url.trim_end_matches('/')),
            None => format!("https://{bucket}.s3.{}.amazonaws.com", config.region().map_or("us-east-1", |r| r.as_ref())),
        };
        S3Exports { config: config.clone(), bucket, endpoint, patience: PATIENCE }
    }

    async fn put(&self, key: &str, bytes: &[u8]) -> Result<String, Failed> {
        let request = self.signed(format!("{}/{}", self.endpoint, encoded(key)), bytes).await.map_err(Failed::for_good)?;
        let answer = async {
            // Made here and not at the start of a function that seldom keeps anything: it reads the system's certificates.
            let answer = Connector::builder().tls_provider(tls()).build().call(request).await.map_err(|e| with_causes(&e))?;
            let (status, version) = (answer.status(), answer.headers().get("x-amz-version-id").map(str::to_owned));
            let body = ByteStream::new(answer.into_body()).collect().await.map_err(|e| with_causes(&e))?;
            Ok::<_, String>((status, version, body.into_bytes()))
        };
        let answer = tokio::time::timeout(self.patience, answer).await.map_err(|_| format!("no answer within {:?}", self.patience));
        let (status, version, body) = answer.and_then(|a| a).map_err(|reason| Failed { reason, again: true })?;
        if !status.is_success() {
            let again = status.is_server_error() || status.as_u16() == 429;
            return Err(Failed { reason: format!("status {}{}", status.as_u16(), complaint(&String::from_utf8_lossy(&body))), again });
        }
        match version {
            Some(version) if version != "null" => Ok(version),
            _ => Err(Failed::for_good(
                "the bucket is not versioned, so a later export could overwrite this one; switch versioning on".into(),
            )),
        }
    }

    async fn signed(&self, uri: String, bytes: &[u8]) -> Result<HttpRequest, String> {
        let region = self.config.region().ok_or("no AWS region is set; set AWS_REGION")?.to_string();
        let credentials = self.config.credentials_provider().ok_or("no AWS credentials are set")?;
        let identity = credentials.provide_credentials().await.map_err(|e| with_causes(&e))?.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = SigningParams::builder().identity(&identity).region(&region).name("s3").time(SystemTime::now()).settings(settings);
        let params = params.build().map_err(|e| with_causes(&e))?.into();
        let signable = SignableRequest::new("PUT", &uri, std::iter::empty(), SignableBody::Bytes(bytes)).map_err(|e| with_causes(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| with_causes(&e))?.into_parts();

        let mut request = HttpRequest::new(SdkBody::from(bytes));
        request.set_method("PUT").map_err(|e| with_causes(&e))?;
        for (name, value) in instructions.headers() {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        request.set_uri(uri).map_err(|e| with_causes(&e))?;
        Ok(request)
    }
}

impl S3Exports {
    /// Keeps bytes under a key, each time as a version of its own; answers where they lie, `s3://bucket/key?versionId=…`. In bounded time;
    /// the error names the object and says why.
    pub async fn keep(&self, key: &str, bytes: &[u8]) -> Result<String, String> {
        let put = match self.put(key, bytes).await {
            Err(Failed { again: true, .. }) => self.put(key, bytes).await,
            put => put,
        };
        let object = format!("s3://{}/{key}", self.bucket);
        match put {
            Ok(version) => Ok(format!("{object}?versionId={version}")),
            Err(Failed { reason, .. }) => Err(format!("{object} could not be written: {reason}")),
        }
    }
}

/// A key as it stands in a path: everything but letters, digits and `/-._~` as `%XX`.
fn encoded(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What S3 says was wrong: code and message of its XML, nothing else of it.
fn complaint(body: &str) -> String {
    let field = |name: &str| {
        let from = body.split_once(&format!("<{name}>"))?.1;
        from.split_once(&format!("</{name}>")).map(|(text, _)| format!(", {text}"))
    };
    ["Code", "Message"].into_iter().filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use axum::body::Bytes;
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
    use std::sync::{Arc, Mutex};

    type Asked = (Method, Uri, HeaderMap, Bytes);
    type Answer = (StatusCode, Option<&'static str>, &'static str);

    /// Exports into a bucket behind a server that gives these answers in turn and then none; with what it was asked.
    async fn exports(answers: Vec<Answer>) -> (S3Exports, Arc<Mutex<Vec<Asked>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (asked.clone(), Arc::new(Mutex::new(answers.into_iter())));
        let serve = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            seen.lock().unwrap().push((method, uri, headers, body));
            let next = answers.lock().unwrap().next();
            let Some((status, version, body)) = next else { return std::future::pending().await };
            let version = version.map(|v| (HeaderName::from_static("x-amz-version-id"), HeaderValue::from_static(v)));
            (status, HeaderMap::from_iter(version), body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(serve)).await });
        let credentials = Credentials::new("key-id", "secret", Some("token".into()), None, "test");
        let config = Config::builder()
            .endpoint_url(url)
            .region(aws_config::Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        let exports = S3Exports::new(&config.build(), "exports".into());
        (S3Exports { patience: Duration::from_millis(200), ..exports }, asked)
    }

    const KEPT: Answer = (StatusCode::OK, Some("v1"), "");
    const SLOW_DOWN: Answer = (StatusCode::SERVICE_UNAVAILABLE, None, "<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>");

    #[tokio::test]
    async fn bytes_are_put_signed_under_their_key_and_the_answer_names_the_version() {
        let (exports, asked) = exports(vec![KEPT]).await;
        assert_eq!(
            exports.keep("main_ivr/r-1/before finalizing.yaml", b"flow").await.unwrap(),
            "s3://exports/main_ivr/r-1/before finalizing.yaml?versionId=v1"
        );
        let asked = asked.lock().unwrap();
        let [(method, uri, headers, body)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((method.as_str(), uri.path(), &body[..]), ("PUT", "/exports/main_ivr/r-1/before%20finalizing.yaml", &b"flow"[..]));
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.contains("/eu-west-1/s3/aws4_request"), "{authorization}");
        // The body is signed with the rest: what arrives is what was sent.
        assert!(authorization.contains("host;x-amz-content-sha256;x-amz-date;x-amz-security-token"), "{authorization}");
        assert_eq!(headers["x-amz-content-sha256"], serin_core::ledger::Hash::of("flow").as_str());
        assert_eq!(headers["x-amz-security-token"], "token");
    }

    #[tokio::test]
    async fn trouble_is_tried_once_more_and_a_refusal_is_not() {
        let (again, asked) = exports(vec![SLOW_DOWN, KEPT]).await;
        assert!(again.keep("key", b"flow").await.unwrap().ends_with("versionId=v1"));
        assert_eq!(asked.lock().unwrap().len(), 2);

        let (trouble, asked) = exports(vec![SLOW_DOWN, SLOW_DOWN, KEPT]).await;
        assert_eq!(trouble.keep("key", b"").await.unwrap_err(), "s3://exports/key could not be written: status 503, SlowDown, Reduce");
        assert_eq!(asked.lock().unwrap().len(), 2);

        let (refused, asked) =
            exports(vec![(StatusCode::FORBIDDEN, None, "<Code>AccessDenied</Code><AWSAccessKeyId>x</AWSAccessKeyId>"), KEPT]).await;
        assert_eq!(refused.keep("key", b"").await.unwrap_err(), "s3://exports/key could not be written: status 403, AccessDenied");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn silence_is_waited_for_twice_and_no_longer() {
        let (silent, asked) = exports(vec![]).await;
        assert_eq!(silent.keep("key", b"").await.unwrap_err(), "s3://exports/key could not be written: no answer within 200ms");
        assert_eq!(asked.lock().unwrap().len(), 2);
        assert_eq!(PATIENCE, Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_bucket_that_keeps_no_versions_keeps_nothing() {
        for version in [None, Some("null")] {
            let (unversioned, _) = exports(vec![(StatusCode::OK, version, "")]).await;
            assert!(unversioned.keep("key", b"").await.unwrap_err().contains("the bucket is not versioned"));
        }
    }
}
