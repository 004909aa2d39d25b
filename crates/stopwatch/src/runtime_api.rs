//! Lambda's Runtime API, for one sandbox at a time: hands out events, takes answers, and tells a script when.

use crate::http::{self, Incoming};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Whoever decides what the sandbox is asked. Called on the connection's thread, so it must be quick.
pub(crate) trait Script: Send + Sync + 'static {
    /// The sandbox asks for an event. `None` keeps it waiting for ever, as Lambda does with a frozen one.
    fn polled(&self, at: Instant) -> Option<Event>;
    /// The event is about to be written.
    fn sent(&self, at: Instant);
    /// An answer, as the sandbox posted it.
    fn answered(&self, at: Instant, body: &[u8]);
    /// An error was posted in place of an answer, or in init.
    fn failed(&self, at: Instant, body: &[u8]);
}

/// What a sandbox is asked next.
pub(crate) struct Event {
    /// Different for each event of a sandbox.
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
    /// Waited before the event is sent.
    pub(crate) gap: Duration,
}

/// Serves until the process ends; the address is what `AWS_LAMBDA_RUNTIME_API` says.
pub(crate) fn serve(script: Arc<impl Script>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = Arc::clone(&script);
            thread::spawn(move || converse(stream, &*script));
        }
    });
    Ok(address)
}

/// One connection, to its end. A sandbox that is killed closes it in the middle, which is no error.
fn converse(mut stream: TcpStream, script: &impl Script) {
    let mut incoming = Incoming::default();
    let _ = stream.set_nodelay(true);
    loop {
        let request = match incoming.next(&mut stream) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => return script.failed(Instant::now(), format!("on the Runtime API: {error}").as_bytes()),
        };
        let last = request.path.rsplit('/').next().unwrap_or_default();
        let answer = match (request.method.as_str(), last) {
            ("GET", "next") => {
                let Some(event) = script.polled(request.arrived) else {
                    let _ = stream.read(&mut [0]);
                    return;
                };
                let bytes = invocation(&event);
                if !event.gap.is_zero() {
                    thread::sleep(event.gap);
                }
                script.sent(Instant::now());
                bytes
            }
            ("POST", "response") => {
                script.answered(request.arrived, &request.body);
                accepted()
            }
            ("POST", "error") => {
                script.failed(request.arrived, &request.body);
                accepted()
            }
            _ => http::response("404 Not Found", "", b""),
        };
        if http::send(&mut stream, &answer).is_err() {
            return;
        }
    }
}

fn invocation(event: &Event) -> Vec<u8> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis()) + 3000;
    let headers = format!(
        "Content-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 0b7c1c2e-3f54-4a68-8d10-{:012x}\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:000000000000:function:measured\r\n\
         Lambda-Runtime-Trace-Id: Root=1-65a0c1d2-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0\r\n",
        event.number
    );
    http::response("200 OK", &headers, &event.body)
}

fn accepted() -> Vec<u8> {
    http::response("202 Accepted", "Content-Type: application/json\r\n", b"{\"status\":\"OK\"}\n")
}
