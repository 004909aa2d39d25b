//! A stub that plays recorded answers and remembers what it was asked, and a clock that jumps instead of waiting.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a stub may fail loudly")]

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use serin_controller::ports::Clock;
use serin_genesys::{Credentials, CredentialsSource, Genesys, Settings};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Reads a recorded answer.
pub(crate) fn data(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// One planned answer.
#[derive(Clone)]
pub(crate) struct Planned {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    /// The connection is closed in the middle of the answer.
    breaks: bool,
}

/// 200 with a recorded body.
pub(crate) fn ok(name: &str) -> Planned {
    text(200, &data(name))
}

/// A refusal with a recorded body.
pub(crate) fn refusal(status: u16, name: &str) -> Planned {
    Planned { status, ..ok(name) }
}

/// The connection is closed in the middle of the answer.
pub(crate) fn broken() -> Planned {
    Planned { breaks: true, ..text(200, "") }
}

/// Any body.
pub(crate) fn text(status: u16, body: &str) -> Planned {
    Planned { status, headers: Vec::new(), body: body.to_owned(), breaks: false }
}

impl Planned {
    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    pub(crate) fn after(self, seconds: &'static str) -> Planned {
        self.with("retry-after", seconds)
    }

    pub(crate) fn with(mut self, header: &'static str, value: &'static str) -> Planned {
        self.headers.push((header, value));
        self
    }
}

/// What the stub was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

#[derive(Default)]
pub(crate) struct Script {
    plan: HashMap<String, VecDeque<Planned>>,
    asked: Vec<Asked>,
    tokens: usize,
}

/// A stub of Genesys Cloud.
#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) base: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Stub {
    pub(crate) async fn start() -> Stub {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stub = Stub { base, script: Arc::default() };
        let router = Router::new().fallback(answer).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stub.on("POST /oauth/token", [ok("token.json")])
    }

    /// Answers to a method and path, in order; the last one is repeated.
    pub(crate) fn on<const N: usize>(self, line: &str, answers: [Planned; N]) -> Stub {
        self.script.lock().unwrap().plan.insert(line.to_owned(), answers.into());
        self
    }

    pub(crate) fn asked(&self, line: &str) -> Vec<Asked> {
        self.script.lock().unwrap().asked.iter().filter(|a| a.line == line).cloned().collect()
    }

    /// Bodies that came with a method and path.
    pub(crate) fn bodies(&self, line: &str) -> Vec<Value> {
        self.asked(line).iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.iter().map(|a| a.line.clone()).collect()
    }
}

async fn answer(State(stub): State<Stub>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let line = format!("{} {}", parts.method, parts.uri.path());
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let mut script = stub.script.lock().unwrap();
    script.asked.push(Asked { line: line.clone(), query, headers: parts.headers, body });
    let planned = match script.plan.get_mut(&line) {
        Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
        Some(answers) => answers[0].clone(),
        None => text(404, "{}"),
    };
    if line == "POST /oauth/token" {
        script.tokens += 1;
    }
    let body = planned.body.replace("{base}", &stub.base).replace("{n}", &script.tokens.to_string());
    let mut response = Response::builder().status(planned.status);
    for (name, value) in planned.headers {
        response = response.header(name, value);
    }
    if planned.breaks {
        let cut = Err::<Vec<u8>, _>(std::io::Error::other("cut"));
        return response.header("content-length", "1000").body(Body::from_stream(futures::stream::iter([cut]))).unwrap();
    }
    response.body(Body::from(body)).unwrap()
}

/// A clock that jumps instead of waiting.
#[derive(Clone)]
pub(crate) struct JumpingClock(Arc<Mutex<(Timestamp, Vec<SignedDuration>)>>);

impl JumpingClock {
    pub(crate) fn new() -> JumpingClock {
        JumpingClock(Arc::new(Mutex::new(("2026-11-20T10:00:00Z".parse().unwrap(), Vec::new()))))
    }

    pub(crate) fn pass(&self, duration: SignedDuration) {
        self.0.lock().unwrap().0 += duration;
    }

    pub(crate) fn slept(&self) -> Vec<SignedDuration> {
        self.0.lock().unwrap().1.clone()
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    async fn sleep(&self, duration: SignedDuration) {
        {
            let mut clock = self.0.lock().unwrap();
            clock.0 += duration;
            clock.1.push(duration);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Credentials whose secret has a number that grows with every read.
#[derive(Clone, Default)]
pub(crate) struct Vault {
    pub(crate) reads: Arc<Mutex<usize>>,
    pub(crate) rotates: bool,
}

impl Vault {
    pub(crate) fn times_read(&self) -> usize {
        *self.reads.lock().unwrap()
    }
}

impl CredentialsSource for Vault {
    async fn read(&self) -> Result<Credentials, String> {
        let mut reads = self.reads.lock().unwrap();
        *reads += 1;
        let number = if self.rotates { *reads } else { 1 };
        Credentials::parse(&format!(r#"{{"client_id": "reader", "client_secret": "hunter{number}"}}"#))
    }
}

/// A client of the stub.
pub(crate) fn client(stub: &Stub, clock: &JumpingClock, vault: &Vault) -> Genesys<Vault, JumpingClock> {
    Genesys::new(Settings::new(&stub.base, None).unwrap(), vault.clone(), clock.clone()).unwrap()
}
