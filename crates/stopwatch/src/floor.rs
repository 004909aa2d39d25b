//! The least a function can be: it asks, and answers the same to everything. What it costs is this machine's, and nobody's to save.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::TcpStream;

const ANSWER: &str =
    r#"{"randomPct":37,"percentage":5.0,"cohort":"stable","canaryVersion":"v1","rollout":"","revision":1,"fallback":false}"#;
const BEGIN: &str = "/2018-06-01/runtime/invocation";

/// Answers until the Runtime API is gone.
pub(crate) fn run() -> anyhow::Result<()> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").context("AWS_LAMBDA_RUNTIME_API is missing: Lambda sets it")?;
    let mut stream = TcpStream::connect(&api)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let head = exchange(&mut stream, &mut buffer, &format!("GET {BEGIN}/next HTTP/1.1\r\nHost: {api}\r\n\r\n"))?;
        let id = header(&head, "lambda-runtime-aws-request-id").context("an event without an id")?;
        let length = ANSWER.len();
        let post = format!("POST {BEGIN}/{id}/response HTTP/1.1\r\nHost: {api}\r\nContent-Length: {length}\r\n\r\n{ANSWER}");
        exchange(&mut stream, &mut buffer, &post)?;
    }
}

/// Sends a request and reads the answer to it, whose head it returns.
fn exchange(stream: &mut TcpStream, buffer: &mut [u8], request: &str) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            bail!("the Runtime API is gone");
        }
        filled += count;
        if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length: usize = header(&head, "content-length").map_or(Ok(0), str::parse)?;
            if filled == end + 4 + length {
                return Ok(head);
            }
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
