//! The services that functions read from: Parameter Store's GetParameter and GetParameters, DynamoDB's BatchGetItem, on one port and with
//! the same values behind them; over HTTPS with certificates made for the run.

use crate::faults::{Fault, Window};
use crate::http::{self, Incoming};
use crate::rules::Reads;
use anyhow::Context;
use fastrand::Rng;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A split as `serin start` writes it.
const ROLLOUT: &str = r#"{"rollout":"r-20261121-1","labels":{"stable":"v1","canary":"v2"},"key":"000102030405060708090a0b0c0d0e0f"}"#;
/// The id in it.
pub(crate) const ROLLOUT_ID: &str = "r-20261121-1";
/// A caller gives up after 250 ms and takes nothing that comes later.
const PATIENCE: Duration = Duration::from_millis(250);

/// The values, and when they were put.
pub(crate) struct World {
    /// The percentage of each version, from version 1.
    percentages: Vec<&'static str>,
    /// When each version was put, from the start of the run.
    pub(crate) puts: Vec<Duration>,
}

impl World {
    /// The version in force.
    pub(crate) fn revision(&self) -> u64 {
        self.percentages.len() as u64
    }

    /// What a version says, if it was ever put.
    pub(crate) fn percentage(&self, revision: u64) -> Option<&'static str> {
        self.percentages.get((revision as usize).checked_sub(1)?).copied()
    }
}

/// A source, for one or more sandboxes.
pub(crate) struct Source {
    began: Instant,
    world: Mutex<World>,
    delay: Duration,
    faults: Vec<Window>,
    seed: u64,
    requests: AtomicU64,
}

impl Source {
    /// Answers after `delay`, save for the faults, whose times count from `began`.
    pub(crate) fn new(percentage: &'static str, began: Instant, delay: Duration, faults: Vec<Window>, seed: u64) -> Source {
        let world = World { percentages: vec![percentage], puts: vec![Duration::ZERO] };
        Source { began, world: Mutex::new(world), delay, faults, seed, requests: AtomicU64::new(0) }
    }

    /// Time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A moment as time since the run began.
    pub(crate) fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.began)
    }

    /// Requests so far, whatever became of them.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> &[Window] {
        &self.faults
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PutParameter: a new version of the percentage.
    pub(crate) fn put(&self, percentage: &'static str) {
        let mut world = self.world();
        world.percentages.push(percentage);
        let at = self.now();
        world.puts.push(at);
    }

    fn fault(&self, at: Duration, rng: &mut Rng) -> Option<Fault> {
        match self.faults.iter().find(|window| window.holds(at))?.fault {
            Fault::Unsteady => rng.bool().then(|| Fault::of_one_request(rng)),
            fault => Some(fault),
        }
    }

    /// Until when the port is closed, if it is.
    fn gone_until(&self) -> Option<Duration> {
        let now = self.now();
        self.faults.iter().find(|window| window.fault == Fault::Gone && window.holds(now)).map(|window| window.to)
    }

    /// A port of its own for one sandbox, so that its reads are known from the others'.
    pub(crate) fn open(self: &Arc<Self>, tls: Option<Arc<rustls::ServerConfig>>, reads: Arc<Mutex<Reads>>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        if self.faults.iter().any(|window| window.fault == Fault::Gone) {
            let source = Arc::clone(self);
            thread::spawn(move || source.knock(address));
        }
        let source = Arc::clone(self);
        thread::spawn(move || source.listen(listener, address, tls, &reads));
        Ok(address)
    }

    /// Wakes the listener when the port is to be closed: it waits for a connection and sees nothing else.
    fn knock(&self, address: SocketAddr) {
        for window in self.faults.iter().filter(|window| window.fault == Fault::Gone) {
            thread::sleep(window.from.saturating_sub(self.now()));
            let _ = TcpStream::connect(address);
        }
    }

    fn listen(
        self: &Arc<Self>,
        mut listener: TcpListener,
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        reads: &Arc<Mutex<Reads>>,
    ) {
        for connection in 0.. {
            let accepted = listener.accept();
            if let Some(until) = self.gone_until() {
                drop((accepted, listener));
                thread::sleep(until.saturating_sub(self.now()));
                listener = match TcpListener::bind(address) {
                    Ok(listener) => listener,
                    Err(error) => return eprintln!("the source cannot come back on {address}: {error}"),
                };
                continue;
            }
            let Ok((stream, _)) = accepted else { return };
            let (source, tls, reads) = (Arc::clone(self), tls.clone(), Arc::clone(reads));
            let rng = Rng::with_seed(self.seed ^ connection);
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                match tls.map(rustls::ServerConnection::new) {
                    // A broken connection is the other side's business.
                    Some(Ok(connection)) => source.converse(rustls::StreamOwned::new(connection, stream), |s| s.get_ref(), rng, &reads),
                    Some(Err(error)) => eprintln!("TLS: {error}"),
                    None => source.converse(stream, |s| s, rng, &reads),
                }
            });
        }
    }

    /// One connection, to its end.
    fn converse<S: Read + Write>(&self, mut stream: S, socket: impl Fn(&S) -> &TcpStream, mut rng: Rng, reads: &Mutex<Reads>) {
        let mut incoming = Incoming::default();
        loop {
            // Closed with a request unread, a connection is reset.
            if !matches!(socket(&stream).peek(&mut [0]), Ok(1)) || self.gone_until().is_some() {
                return;
            }
            let Ok(Some(request)) = incoming.next(&mut stream) else { return };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let arrived = self.now();
            let dynamo = request.target.starts_with("DynamoDB");
            let fault = self.fault(arrived, &mut rng);
            let (revision, answer) = self.answer(&request.target, &request.body);
            thread::sleep(match fault {
                Some(Fault::Slow) => Duration::from_millis(rng.u64(20..400)),
                _ => self.delay,
            });
            let mut closes = false;
            let answer = match fault {
                None | Some(Fault::Slow) => response("200 OK", dynamo, answer.to_string().as_bytes()),
                Some(Fault::Hangs | Fault::Gone | Fault::Unsteady) => {
                    let _ = stream.read(&mut [0]);
                    return;
                }
                Some(Fault::Throttled) => refusal(dynamo, throttling(dynamo, &mut rng)),
                Some(Fault::Denied) => {
                    let codes = ["AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException"];
                    refusal(dynamo, codes[rng.usize(..codes.len())])
                }
                Some(Fault::Broken) if rng.bool() => response("500 Internal Server Error", dynamo, br#"{"__type":"InternalServerError"}"#),
                Some(Fault::Broken) => response("503 Service Unavailable", dynamo, b""),
                Some(Fault::Unprocessed) if dynamo => {
                    response("200 OK", dynamo, unprocessed(answer, &request.body, &mut rng).to_string().as_bytes())
                }
                Some(Fault::Unprocessed) => refusal(dynamo, throttling(dynamo, &mut rng)),
                Some(Fault::Garbage) => {
                    let (bytes, last) = garbage(&answer.to_string(), dynamo, &mut rng);
                    closes = last;
                    bytes
                }
            };
            // Held until the read is noted: the function may answer with it before this thread runs again.
            let mut reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = http::send(&mut stream, &answer).is_ok();
            let took = self.now() - arrived;
            if sent && matches!(fault, None | Some(Fault::Slow)) && (took < PATIENCE || reads.in_init) {
                reads.worked(revision, arrived, took);
            }
            drop(reads);
            if closes || !sent {
                return;
            }
        }
    }

    /// What the service says when nothing is wrong, and the version that it rests on.
    fn answer(&self, target: &str, body: &[u8]) -> (u64, Value) {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let world = self.world();
        let revision = world.revision();
        let percentage = world.percentage(revision).unwrap_or_default();
        drop(world);
        let answer = match target.rsplit('.').next().unwrap_or_default() {
            "GetParameter" => match parameter(asked["Name"].as_str().unwrap_or_default(), percentage, revision) {
                Some(parameter) => json!({"Parameter": parameter}),
                None => json!({"__type": "ParameterNotFound"}),
            },
            "GetParameters" => {
                let names: Vec<&str> = asked["Names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let found: Vec<Value> = names.iter().filter_map(|name| parameter(name, percentage, revision)).collect();
                let missing: Vec<&&str> = names.iter().filter(|name| parameter(name, percentage, revision).is_none()).collect();
                json!({"Parameters": found, "InvalidParameters": missing})
            }
            "BatchGetItem" => {
                let tables = asked["RequestItems"].as_object().into_iter().flatten();
                let responses = tables.map(|(table, wanted)| {
                    let keys = wanted["Keys"].as_array().into_iter().flatten();
                    (table.clone(), keys.filter_map(|key| item(key, percentage, revision)).collect())
                });
                json!({"Responses": responses.collect::<serde_json::Map<String, Value>>(), "UnprocessedKeys": {}})
            }
            other => json!({"__type": "UnknownOperationException", "message": other}),
        };
        (revision, answer)
    }
}

fn heartbeat() -> String {
    jiff::Timestamp::now().to_string()
}

/// One parameter by the last part of its name; others do not exist.
fn parameter(name: &str, percentage: &str, revision: u64) -> Option<Value> {
    let (value, version) = match name.rsplit('/').next()? {
        "percentage" => (percentage.to_owned(), revision),
        "rollout" => (ROLLOUT.to_owned(), 1),
        "heartbeat" => (heartbeat(), 1000 + revision),
        _ => return None,
    };
    Some(json!({
        "ARN": format!("arn:aws:ssm:eu-central-1:000000000000:parameter{name}"), "DataType": "text", "LastModifiedDate": 1795251600.5,
        "Name": name, "Type": "String", "Value": value, "Version": version,
    }))
}

/// One item of the ledger's table.
fn item(key: &Value, percentage: &str, revision: u64) -> Option<Value> {
    let (pk, sk) = (&key["pk"], &key["sk"]);
    match sk["S"].as_str()? {
        "HEARTBEAT" => Some(json!({"pk": pk, "sk": sk, "at": {"S": heartbeat()}})),
        flow if flow.starts_with("FLOW#") => {
            let revision = revision.to_string();
            Some(json!({"pk": pk, "sk": sk, "percentage": {"S": percentage}, "revision": {"N": revision}, "rollout": {"S": ROLLOUT}}))
        }
        _ => None,
    }
}

/// All keys come back, or one of each table.
fn unprocessed(mut answer: Value, body: &[u8], rng: &mut Rng) -> Value {
    let mut left: Value = serde_json::from_slice::<Value>(body).unwrap_or_default()["RequestItems"].take();
    let one = rng.bool();
    for (table, wanted) in left.as_object_mut().into_iter().flatten() {
        let Some(keys) = wanted["Keys"].as_array_mut() else { continue };
        if one && !keys.is_empty() {
            *keys = vec![keys[rng.usize(..keys.len())].clone()];
        }
        if let Some(items) = answer["Responses"][table].as_array_mut() {
            items.retain(|item| !keys.iter().any(|key| key["sk"] == item["sk"]));
        }
    }
    answer["UnprocessedKeys"] = left;
    answer
}

fn throttling(dynamo: bool, rng: &mut Rng) -> &'static str {
    match (dynamo, rng.bool()) {
        (true, true) => "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        (true, false) => "com.amazon.coral.availability#ThrottlingException",
        (false, _) => "ThrottlingException",
    }
}

fn refusal(dynamo: bool, code: &str) -> Vec<u8> {
    response(
        "400 Bad Request",
        dynamo,
        json!({"__type": code, "message": "refused, as the schedule of faults has it"}).to_string().as_bytes(),
    )
}

fn response(status: &str, dynamo: bool, body: &[u8]) -> Vec<u8> {
    let version = if dynamo { "1.0" } else { "1.1" };
    let headers = format!("Content-Type: application/x-amz-json-{version}\r\nx-amzn-RequestId: 0b7c1c2e-3f54-4a68-8d10-000000000000\r\n");
    http::response(status, &headers, body)
}

/// What is no answer, and whether the connection ends with it.
fn garbage(answer: &str, dynamo: bool, rng: &mut Rng) -> (Vec<u8>, bool) {
    let half = &answer[..answer.len() / 2]; // our own words: ASCII
    match rng.u8(..9) {
        0 => (response("200 OK", dynamo, b"<html><body>Service Unavailable</body></html>"), false),
        1 => (response("200 OK", dynamo, half.as_bytes()), false),
        2 => (response("200 OK", dynamo, br#"{"Parameters":5,"Responses":5}"#), false),
        3 => (response("200 OK", dynamo, b""), false),
        4 => (response("200 OK", dynamo, b"[[[[[["), false),
        // Half an HTTP answer: more is promised than comes.
        5 => {
            let whole = response("200 OK", dynamo, answer.as_bytes());
            (whole[..whole.len() * 2 / 3].to_vec(), true)
        }
        6 => (b"HTTP/1.1 200".to_vec(), true),
        7 => (response("200 OK", dynamo, b"{}"), false),
        _ => ((0..200).map(|_| rng.u8(..)).collect(), true),
    }
}

/// A throw-away authority and a certificate of its making for localhost.
pub(crate) struct Authority {
    /// PEM file with the authority's certificate, after the ones it was given. Removed when dropped.
    pub(crate) bundle: PathBuf,
    pub(crate) server: Arc<rustls::ServerConfig>,
}

impl Authority {
    /// `others`: a bundle of real authorities, for programs that read one of that size on Lambda.
    pub(crate) fn new(others: Option<&Path>) -> anyhow::Result<Authority> {
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "stopwatch");
        let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate()?)?;
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = rcgen::KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let mut pem = match others {
            Some(path) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
            None => String::new(),
        };
        pem += &authority.pem();
        let bundle = std::env::temp_dir().join(format!("stopwatch-{}.pem", std::process::id()));
        std::fs::write(&bundle, pem).with_context(|| bundle.display().to_string())?;
        Ok(Authority { bundle, server: Arc::new(server) })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.bundle);
    }
}
