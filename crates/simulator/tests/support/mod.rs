//! A simulator on a free port, and just enough HTTP to talk to it.
#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::{Value, json};
use serin_core::cohort::{Labels, Split, SplitKey, Stickiness};
use serin_simulator::{Organization, Settings, serve};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

pub(crate) struct Simulator {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Simulator {
    /// Starts one; it lives as long as the test's process.
    pub(crate) fn start() -> Simulator {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, Organization::new(Settings::default()).unwrap()).await
            })
        });
        let mut simulator = Simulator { address: receiver.recv().unwrap(), token: String::new() };
        simulator.token = simulator.sign_in("id");
        simulator
    }

    pub(crate) fn sign_in(&self, client: &str) -> String {
        assert_eq!(client, "id", "the header below is id:secret");
        let answer = self.send("POST", "/oauth/token", &[("Authorization", "Basic aWQ6c2VjcmV0")], "grant_type=client_credentials");
        answer.unwrap().json()["access_token"].as_str().unwrap().to_owned()
    }

    /// One request on a connection of its own; `None` if the connection was cut.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n", self.address, body.len());
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        request.push_str(&format!("\r\n{body}"));
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, text) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
        Some(Answer { status, headers, text: text.to_owned() })
    }

    /// A request to the vendor's side.
    pub(crate) fn api(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.send(method, path, &[("Authorization", &bearer), ("Content-Type", "application/json")], body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.api("GET", path, "").json()
    }

    /// A request to the control side, which must succeed.
    pub(crate) fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, &[], &body.to_string()).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        answer.json()
    }

    pub(crate) fn fault(&self, fault: Value) {
        self.control("POST", "/_simulator/faults", json!({"faults": [fault]}));
    }

    pub(crate) fn advance(&self, minutes: u32) -> Value {
        self.control("POST", "/_simulator/advance", json!({"minutes": minutes}))
    }

    /// An aggregates query over `interval`, by flow and way out.
    pub(crate) fn aggregates(&self, interval: &str, metrics: &[&str]) -> Value {
        let query = json!({"interval": interval, "granularity": "PT1M", "metrics": metrics,
            "groupBy": ["flowId", "flowVersion", "exitReason", "transferType"]});
        let answer = self.api("POST", "/api/v2/analytics/flows/aggregates/query", &query.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }
}

/// The wall clock of every advance that is given parameters.
pub(crate) const WALL: &str = "2026-11-21T12:00:00Z";

/// Parameters of a rollout at `percentage`, as an advance takes them.
pub(crate) fn parameters(percentage: &str) -> Value {
    let split = Split {
        rollout: "r-1".into(),
        labels: Labels { stable: "v1".into(), canary: "v2".into() },
        stickiness: Stickiness::Conversation,
        key: SplitKey::derive("test", "main_ivr", "r-1"),
    };
    let rollout = serde_json::to_string(&split).unwrap();
    json!({"percentage": percentage, "rollout": rollout, "heartbeat": WALL, "wall": WALL})
}

/// Lets calls come in while the rollout of `main_ivr` is at `percentage`.
pub(crate) fn advance(simulator: &Simulator, minutes: u32, percentage: &str) -> Value {
    simulator.control("POST", "/_simulator/advance", json!({"minutes": minutes, "parameters": {"main_ivr": parameters(percentage)}}))
}

/// Calls of `flow` that left by `exit` (any, if empty), by `metric`.
pub(crate) fn count(aggregates: &Value, flow: &str, exit: &str, metric: &str) -> u64 {
    let groups = aggregates["results"].as_array().cloned().unwrap_or_default();
    let of_flow = groups.iter().filter(|g| g["group"]["flowId"] == flow && (exit.is_empty() || g["group"]["exitReason"] == exit));
    let data = of_flow.flat_map(|group| group["data"].as_array().cloned().unwrap());
    let metrics = data.flat_map(|datum| datum["metrics"].as_array().cloned().unwrap());
    metrics.filter(|m| m["metric"] == metric).map(|m| m["stats"]["count"].as_u64().unwrap()).sum()
}

/// Waits until `done` holds, as a client would poll.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..200 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not come true");
}
