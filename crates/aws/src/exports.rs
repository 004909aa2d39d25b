//! S3: exports of what was there before a change. One signed PUT, so the whole of the S3 SDK is not worth its weight.

use crate::Config;
use crate::signed::{Failed, Request, address, endpoint};
use std::time::Duration;

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

impl S3Exports {
    /// With the bucket's name. Endpoints are taken as every AWS tool takes them: `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`.
    pub fn new(config: &Config, bucket: String) -> S3Exports {
        let endpoint = match endpoint(config, "S3") {
            Some(url) => format!("{url}/{bucket}"),
            None => address(config, &format!("{bucket}.s3")),
        };
        S3Exports { config: config.clone(), bucket, endpoint, patience: PATIENCE }
    }

    async fn put(&self, key: &str, bytes: &[u8]) -> Result<String, Failed> {
        let uri = format!("{}/{}", self.endpoint, encoded(key));
        let request = Request { method: "PUT", uri, service: "s3", headers: &[], body: bytes, patience: self.patience };
        let answer = request.send(&self.config).await?;
        if !(200..300).contains(&answer.status) {
            let again = answer.status >= 500 || answer.status == 429;
            return Err(Failed { reason: format!("status {}{}", answer.status, complaint(&answer.text())), again });
        }
        match answer.header("x-amz-version-id") {
            Some(version) if version != "null" => Ok(version.to_owned()),
            _ => Err(Failed::for_good(
                "the bucket is not versioned, so a later export could overwrite this one; switch versioning on".into(),
            )),
        }
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
