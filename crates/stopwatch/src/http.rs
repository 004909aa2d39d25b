//! As much of HTTP/1.1 as the stubs need: requests whose length is said, answers in one piece, connections that stay open.

use std::io::{self, Read, Write};
use std::time::Instant;

const MOST_HEADERS: usize = 64;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    /// When its last byte was read; parsing comes after.
    pub(crate) arrived: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    /// The `X-Amz-Target` header, empty if there is none.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// What was read of a connection and not yet taken.
#[derive(Default)]
pub(crate) struct Incoming(Vec<u8>);

impl Incoming {
    /// The next request; `None` where the other side closed. A request that cannot be read is an error, and the connection is over.
    pub(crate) fn next(&mut self, stream: &mut impl Read) -> io::Result<Option<Request>> {
        let mut arrived = Instant::now();
        loop {
            if let Some((request, length)) = parse(&self.0, arrived)? {
                self.0.drain(..length);
                return Ok(Some(request));
            }
            let mut some = [0; 4096];
            let count = stream.read(&mut some)?;
            arrived = Instant::now();
            if count == 0 {
                return Ok(None);
            }
            self.0.extend_from_slice(&some[..count]);
        }
    }
}

/// A whole request and its length in bytes, if it is all there.
fn parse(bytes: &[u8], arrived: Instant) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let unreadable = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let httparse::Status::Complete(begin) = head.parse(bytes).map_err(|e| unreadable(e.to_string()))? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok().map(str::trim)
    };
    if header("transfer-encoding").is_some() {
        return Err(unreadable("a body in chunks is not understood here".into()));
    }
    let length = header("content-length").map_or(Ok(0), str::parse::<usize>).map_err(|e| unreadable(format!("content-length: {e}")))?;
    let Some(body) = bytes.get(begin..begin + length) else {
        return Ok(None);
    };
    let request = Request {
        arrived,
        method: head.method.unwrap_or_default().into(),
        path: head.path.unwrap_or_default().into(),
        target: header("x-amz-target").unwrap_or_default().into(),
        body: body.to_vec(),
    };
    Ok(Some((request, begin + length)))
}

/// Head and body of an answer, to be written at once. `headers` end with a line break each.
pub(crate) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Writes all of it, through TLS too.
pub(crate) fn send(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_however_they_are_cut() {
        let first = b"POST /a HTTP/1.1\r\nX-Amz-Target: T\r\nContent-Length: 3\r\n\r\nabc";
        let both: Vec<u8> = [&first[..], b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        for cut in 1..both.len() {
            let mut stream = io::Read::chain(&both[..cut], &both[cut..]);
            let mut incoming = Incoming::default();
            let one = incoming.next(&mut stream).unwrap().unwrap();
            assert_eq!((one.method.as_str(), one.path.as_str(), one.target.as_str(), &one.body[..]), ("POST", "/a", "T", &b"abc"[..]));
            let two = incoming.next(&mut stream).unwrap().unwrap();
            assert_eq!((two.method.as_str(), two.path.as_str(), two.body.len()), ("GET", "/b", 0));
            assert!(incoming.next(&mut stream).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in
            ["nonsense\r\n\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
        {
            assert!(Incoming::default().next(&mut bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
