//! One signed request over a connection that is kept: all the endpoint needs of AWS, at a fifth of the weight of an SDK.

use super::ReadError;
use crate::clock::{Clock, Moment};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection that was idle for longer is not trusted: the other side, or what translates addresses on the way, may have forgotten it while
/// the sandbox was frozen, and a request into the void costs a caller the whole time limit.
const IDLE: Duration = Duration::from_secs(4);
/// Our four values have some hundred bytes each, a parameter 4 KB at most.
const MOST_BYTES: usize = 64 * 1024;

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    secure: bool,
    host: String,
    port: u16,
}

impl Address {
    /// Of a URL without a path, such as `https://ssm.eu-central-1.amazonaws.com`.
    pub fn of(url: &str) -> Result<Address, String> {
        let refuse = || format!("address `{url}` is not accepted: one such as https://ssm.eu-central-1.amazonaws.com is");
        let uri: http::Uri = url.trim_end_matches('/').parse().map_err(|_| refuse())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refuse)?.to_owned();
        if uri.path_and_query().is_some_and(|path| path != "/") {
            return Err(refuse());
        }
        Ok(Address { secure, host, port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }) })
    }

    /// As every AWS tool finds it: `AWS_ENDPOINT_URL_…`, `AWS_ENDPOINT_URL`, AWS's own.
    fn from_environment(service: &str, region: &str) -> Result<Address, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
        let suffix = match region.split('-').next() {
            Some("cn") => "amazonaws.com.cn",
            Some("eusc") => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        let url = set(&format!("AWS_ENDPOINT_URL_{}", service.to_uppercase())).or_else(|| set("AWS_ENDPOINT_URL"));
        Address::of(&url.unwrap_or_else(|| format!("https://{service}.{region}.{suffix}")))
    }

    fn url(&self) -> String {
        format!("http{}://{}:{}/", if self.secure { "s" } else { "" }, self.host, self.port)
    }

    /// As the header `host` names it.
    fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The way to one service of AWS.
pub struct Connection<C> {
    address: Address,
    service: &'static str,
    region: String,
    credentials: Credentials,
    /// `None` where the address is not secure.
    tls: Option<TlsConnector>,
    kept: Option<(SendRequest<Full<Bytes>>, Moment)>,
    clock: C,
}

impl<C> fmt::Debug for Connection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).field("service", &self.service).finish_non_exhaustive()
    }
}

impl<C: Clock> Connection<C> {
    /// Keys, token and region stand in a function's environment and do not change in a sandbox's life, so nothing is looked up.
    pub fn from_environment(service: &'static str, clock: C) -> Result<Connection<C>, String> {
        let setting = |name: &str| std::env::var(name).map_err(|_| format!("setting {name} is missing: Lambda sets it"));
        let region = setting("AWS_REGION")?;
        let (key, secret, token) =
            (setting("AWS_ACCESS_KEY_ID")?, setting("AWS_SECRET_ACCESS_KEY")?, std::env::var("AWS_SESSION_TOKEN").ok());
        let address = Address::from_environment(service, &region)?;
        let bundle = std::env::var("AWS_CA_BUNDLE").ok().filter(|path| !path.is_empty());
        Connection::new(address, service, region, Credentials::new(key, secret, token, None, "environment"), bundle.as_deref(), clock)
    }

    /// To an address; `bundle` is a PEM file of the only certificates to trust, in place of those of the web's authorities, which are built in.
    pub fn new(
        address: Address,
        service: &'static str,
        region: String,
        credentials: Credentials,
        bundle: Option<&str>,
        clock: C,
    ) -> Result<Connection<C>, String> {
        let tls = if address.secure { Some(tls(bundle)?) } else { None };
        Ok(Connection { address, service, region, credentials, tls, kept: None, clock })
    }

    /// The body of the answer to one request. A connection that fails is not used again, nor is one whose answer was not
    /// waited for.
    pub async fn ask(&mut self, target: &'static str, content_type: &'static str, body: Vec<u8>) -> Result<Bytes, ReadError> {
        let now = self.clock.now();
        let request = self.signed(target, content_type, body)?;
        let kept = self.kept.take().filter(|(sender, used)| now.since(*used) < IDLE && !sender.is_closed());
        // The other side may have ended what was kept, and its word of that be on its way yet: that says nothing about the service.
        let again = match kept {
            Some((mut sender, _)) => send(&mut sender, request.clone()).await.ok().map(|answer| (sender, answer)),
            None => None,
        };
        let (sender, answer) = match again {
            Some(sent) => sent,
            None => {
                let mut sender = self.connect().await?;
                let answer = send(&mut sender, request).await?;
                (sender, answer)
            }
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|e| ReadError::Failed(e.to_string()))?.to_bytes();
        self.kept = Some((sender, now));
        if status.is_success() { Ok(body) } else { Err(read_refusal(status.as_u16(), &body)) }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ReadError> {
        // An IPv6 address is in brackets in a URL alone.
        let host = self.address.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.address.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(failed)?;
                self.shake(tls.connect(name, stream).await.map_err(failed)?).await
            }
            None => self.shake(stream).await,
        }
    }

    async fn shake<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, ReadError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // It moves the bytes of the request that is waited for, and does nothing of its own. It ends when the sender is dropped.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn signed(&self, target: &'static str, content_type: &'static str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, ReadError> {
        let identity = self.credentials.clone().into();
        let params = SigningParams::builder().identity(&identity).region(&self.region).name(self.service);
        let params = params.time(SystemTime::now()).settings(SigningSettings::default()).build().map_err(failed)?.into();
        let headers = [("content-type", content_type), ("x-amz-target", target)];
        let url = self.address.url();
        let signable = SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(&body)).map_err(failed)?;
        let (instructions, _) = sign(signable, &params).map_err(failed)?.into_parts();
        let mut request = Request::post("/").header("host", self.address.authority());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::new(Bytes::from(body))).map_err(failed)?;
        for (name, value) in instructions.headers() {
            let value = http::HeaderValue::from_str(value).map_err(failed)?;
            request.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes()).map_err(failed)?, value);
        }
        Ok(request)
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, ReadError> {
    sender.ready().await.map_err(failed)?;
    sender.send_request(request).await.map_err(failed)
}

fn failed(error: impl fmt::Display) -> ReadError {
    ReadError::Failed(error.to_string())
}

/// TLS by ring. The web's authorities are built in: reading the system's bundle would cost each sandbox more than everything else it does.
fn tls(bundle: Option<&str>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match bundle {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let refuse = |e: &dyn fmt::Display| format!("the certificates of AWS_CA_BUNDLE ({path}) cannot be read: {e}");
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refuse(&e))? {
                roots.add(certificate.map_err(|e| refuse(&e))?).map_err(|e| refuse(&e))?;
            }
            if roots.is_empty() {
                return Err(refuse(&"there is none in it"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// Why a service said no, by the name it gives in `__type`.
pub fn read_refusal(status: u16, body: &[u8]) -> ReadError {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(rename = "__type", borrow, default)]
        kind: Cow<'a, str>,
    }
    let kind = serde_json::from_slice::<Refusal<'_>>(body).map(|refusal| refusal.kind).unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let said = format!("{status} {}", kind.chars().take(80).collect::<String>());
    match kind {
        "ThrottlingException"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "TooManyUpdates" => ReadError::Throttled(said),
        "AccessDeniedException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "UnrecognizedClientException" => ReadError::Denied(said),
        _ if status == 429 => ReadError::Throttled(said),
        _ if matches!(status, 401 | 403) => ReadError::Denied(said),
        _ => ReadError::Failed(said),
    }
}
