//! What is sent to AWS, and what is made of the answers.

#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use aws_credential_types::Credentials;
use proptest::prelude::*;
use random_percentage::source::{
    Address, Connection, DynamoDb, ParameterStore, ReadError, Source, read_batch_get_item, read_get_parameters, read_refusal,
};
use serde_json::{Value, json};
use serin_core::cohort::Parameters;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::World;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the service does with a request.
#[derive(Debug, Clone)]
enum Reply {
    Answer(u16, String),
    /// Bytes, and the end of the connection.
    Raw(&'static [u8]),
    Hang,
    /// An answer that nobody waits for any more, and the end of the connection.
    Late(String),
    /// It answers, and closes the connection afterwards.
    AnswerAndClose(String),
}

/// A request as it came: connection, head in lower case, body.
type Asked = Arc<Mutex<Vec<(usize, String, Value)>>>;

/// A service that replies in this order, on a port of this machine.
async fn service(replies: Vec<Reply>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let (replies, seen) = (Arc::new(Mutex::new(replies.into_iter())), asked.clone());
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream, connection, replies.clone(), seen.clone()));
        }
    });
    (url, asked)
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    replies: Arc<Mutex<std::vec::IntoIter<Reply>>>,
    asked: Asked,
) {
    while let Some((head, body)) = request(&mut stream).await {
        asked.lock().unwrap().push((connection, head, serde_json::from_slice(&body).unwrap()));
        let reply = replies.lock().unwrap().next().expect("one more request than replies");
        let answer = |status: u16, body: &str| format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        match reply {
            Reply::Answer(status, body) => stream.write_all(answer(status, &body).as_bytes()).await.unwrap(),
            Reply::AnswerAndClose(body) => return stream.write_all(answer(200, &body).as_bytes()).await.unwrap(),
            Reply::Raw(bytes) => return stream.write_all(bytes).await.unwrap(),
            Reply::Hang => std::future::pending().await,
            Reply::Late(body) => {
                tokio::time::sleep(Duration::from_millis(150)).await;
                let _ = stream.write_all(answer(200, &body).as_bytes()).await;
                return;
            }
        }
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&some[..read]);
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if bytes.len() >= end + 4 + length {
            return Some((head, bytes[end + 4..].to_vec()));
        }
    }
}

fn connection(url: &str, service: &'static str, world: &World) -> Connection<World> {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("session".into()), None, "test");
    Connection::new(Address::of(url).unwrap(), service, "eu-west-1".into(), credentials, None, world.clone()).unwrap()
}

fn parameter_store(url: &str, world: &World) -> ParameterStore<World> {
    ParameterStore::new(connection(url, "ssm", world), "prod".into())
}

fn all_four() -> String {
    let parameter =
        |name: &str, value: &str, version: i64| json!({"Name": name, "Value": value, "Version": version, "Type": "String", "ARN": "a"});
    json!({"InvalidParameters": [], "Parameters": [
        parameter("/genesys/canary/prod/main_ivr/percentage", "5", 12),
        parameter("/genesys/canary/prod/main_ivr/rollout", "{\"rollout\":\"r-1\"}", 1),
        parameter("/genesys/canary/prod/heartbeat", "2026-11-20T10:00:00Z", 77),
        parameter("/genesys/canary/prod/main_ivr/halt", "r-0", 3),
        parameter("/genesys/canary/prod/other/percentage", "99", 4),
    ]})
    .to_string()
}

fn read() -> Parameters {
    Parameters {
        percentage: Some("5".into()),
        revision: 12,
        rollout: Some("{\"rollout\":\"r-1\"}".into()),
        halt: Some("r-0".into()),
        heartbeat: Some("2026-11-20T10:00:00Z".into()),
    }
}

#[tokio::test]
async fn parameter_store_is_asked_once_for_all_of_a_flow() {
    let (url, asked) = service(vec![Reply::Answer(200, all_four())]).await;
    assert_eq!(parameter_store(&url, &World::new()).read("main_ivr").await, Ok(read()));
    let asked = asked.lock().unwrap();
    let [(_, head, body)] = asked.as_slice() else { panic!("{asked:?}") };
    let names =
        ["main_ivr/percentage", "main_ivr/rollout", "main_ivr/halt", "heartbeat"].map(|leaf| format!("/genesys/canary/prod/{leaf}"));
    assert_eq!(*body, json!({"Names": names}));
    let host = url.strip_prefix("http://").unwrap();
    for expected in [
        "post / http/1.1".to_owned(),
        format!("host: {host}"),
        "content-type: application/x-amz-json-1.1".into(),
        "x-amz-target: amazonssm.getparameters".into(),
        "x-amz-security-token: session".into(),
    ] {
        assert!(head.lines().any(|line| line == expected), "{expected} in {head}");
    }
    let signed = head.lines().find(|l| l.starts_with("authorization: ")).expect(head);
    assert!(signed.contains("aws4-hmac-sha256 credential=akidexample/") && signed.contains("/eu-west-1/ssm/aws4_request"), "{signed}");
    assert!(signed.contains("signedheaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target"), "{signed}");
}

#[tokio::test]
async fn dynamodb_is_asked_once_for_a_flows_item_and_the_heartbeat() {
    let items = json!({"Responses": {"serin-prod": [
        {"pk": {"S": "PARAMETERS"}, "sk": {"S": "HEARTBEAT"}, "at": {"S": "2026-11-20T10:00:00Z"}},
        {"pk": {"S": "PARAMETERS"}, "sk": {"S": "FLOW#main_ivr"}, "percentage": {"S": "5"}, "revision": {"N": "12"},
         "rollout": {"S": "{\"rollout\":\"r-1\"}"}, "halt": {"S": "r-0"}, "more": {"BOOL": true}},
    ]}, "UnprocessedKeys": {}});
    let (url, asked) = service(vec![Reply::Answer(200, items.to_string())]).await;
    let mut source = DynamoDb::new(connection(&url, "dynamodb", &World::new()), "serin-prod".into());
    assert_eq!(source.read("main_ivr").await, Ok(read()));
    let asked = asked.lock().unwrap();
    let [(_, head, body)] = asked.as_slice() else { panic!("{asked:?}") };
    let key = |sk: &str| json!({"pk": {"S": "PARAMETERS"}, "sk": {"S": sk}});
    let keys = json!({"Keys": [key("FLOW#main_ivr"), key("HEARTBEAT")], "ConsistentRead": true});
    assert_eq!(*body, json!({"RequestItems": {"serin-prod": keys}}));
    assert!(head.contains("x-amz-target: dynamodb_20120810.batchgetitem") && head.contains("/eu-west-1/dynamodb/aws4_request"), "{head}");
    assert!(head.contains("content-type: application/x-amz-json-1.0"), "{head}");
}

#[test]
fn what_is_not_there_is_absent_and_what_was_not_looked_up_is_a_failed_read() {
    let names =
        ["main_ivr/percentage", "main_ivr/rollout", "main_ivr/halt", "heartbeat"].map(|leaf| format!("/genesys/canary/prod/{leaf}"));
    let none = json!({"InvalidParameters": names, "Parameters": []}).to_string();
    assert_eq!(read_get_parameters("prod", "main_ivr", none.as_bytes()), Ok(Parameters::default()));
    // A halt marker may be what an answer leaves out.
    for left_out in 0..names.len() {
        let told: Vec<_> = names.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, name)| name).collect();
        let read = read_get_parameters("prod", "main_ivr", json!({"InvalidParameters": told, "Parameters": []}).to_string().as_bytes());
        assert!(matches!(&read, Err(ReadError::Failed(why)) if why.contains(&names[left_out])), "{read:?}");
    }
    let none = json!({"Responses": {"serin-prod": []}, "UnprocessedKeys": {}}).to_string();
    assert_eq!(read_batch_get_item("serin-prod", "main_ivr", none.as_bytes()), Ok(Parameters::default()));
    let left_out = json!({"Responses": {"serin-prod": []}, "UnprocessedKeys": {"serin-prod": {"Keys": []}}}).to_string();
    let read = read_batch_get_item("serin-prod", "main_ivr", left_out.as_bytes());
    assert!(matches!(&read, Err(ReadError::Throttled(_))), "{read:?}");
    for garbage in [
        "",
        "{}",
        "null",
        "[]",
        "{\"Parameters\":[]}",
        "{\"Responses\":{\"other\":[]}}",
        "{\"Parameters\":null}",
        "{\"Responses\":7}",
        "<html>",
        "{\"Parameters\":[{\"Name\":\"a\"}]}",
    ] {
        let read = [read_get_parameters("prod", "f", garbage.as_bytes()), read_batch_get_item("t", "f", garbage.as_bytes())];
        assert!(read.iter().all(|read| matches!(read, Err(ReadError::Failed(_)))), "{garbage}: {read:?}");
    }
}

#[test]
fn refusals_are_told_apart() {
    let named = |kind: &str| format!(r#"{{"__type":"{kind}","message":"no"}}"#);
    let throttled = ["ThrottlingException", "com.amazon.coral.availability#ThrottlingException", "ProvisionedThroughputExceededException"];
    let denied = ["AccessDeniedException", "ExpiredTokenException", "com.amazon.coral.service#UnrecognizedClientException"];
    for (kind, class) in throttled.map(|kind| (kind, "throttled")).into_iter().chain(denied.map(|kind| (kind, "denied"))) {
        assert!(read_refusal(400, named(kind).as_bytes()).to_string().starts_with(class), "{kind}");
    }
    let said = |status, body: &[u8]| read_refusal(status, body).to_string();
    assert_eq!(said(500, b"InternalServerError"), "500 ");
    assert_eq!(said(400, named("ValidationException").as_bytes()), "400 ValidationException");
    assert!(said(403, b"<html>").starts_with("denied") && said(429, b"").starts_with("throttled"));
}

#[tokio::test]
async fn a_connection_is_kept_and_replaced_when_it_ended_or_was_idle() {
    let answer = |_| Reply::Answer(200, all_four());
    let mut replies: Vec<Reply> = (0..3).map(answer).collect();
    replies.push(Reply::AnswerAndClose(all_four()));
    replies.extend((0..4).map(answer));
    let (url, asked) = service(replies).await;
    let world = World::new();
    let mut source = parameter_store(&url, &world);
    for read in 0..8 {
        // A sandbox that was frozen for four seconds does not trust what it left.
        world.pass(Duration::from_millis(if read == 6 { 4000 } else { 700 }));
        assert_eq!(source.read("main_ivr").await, Ok(self::read()), "read {read}");
        // The end of a connection takes a moment to arrive.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connections: Vec<usize> = asked.lock().unwrap().iter().map(|(connection, ..)| *connection).collect();
    assert_eq!(connections, [0, 0, 0, 0, 1, 1, 2, 2]);
}

#[tokio::test]
async fn after_a_read_that_went_wrong_the_next_one_works() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"Parameters\":[";
    let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
    let old = all_four().replace("\"5\"", "\"100\"");
    let wrongs = [
        Reply::Late(old),
        Reply::Raw(b""),
        Reply::Raw(b"SSH-2.0\r\n"),
        Reply::Raw(half),
        Reply::Raw(endless),
        Reply::Hang,
        Reply::Answer(500, "oh".into()),
    ];
    for wrong in wrongs {
        let (url, _) = service(vec![wrong.clone(), Reply::Answer(200, all_four()), Reply::Answer(200, all_four())]).await;
        let mut source = parameter_store(&url, &World::new());
        let first = tokio::time::timeout(Duration::from_millis(100), source.read("main_ivr")).await;
        assert!(!matches!(first, Ok(Ok(_))), "{wrong:?}: {first:?}");
        for wait in [0, 100] {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            assert_eq!(source.read("main_ivr").await, Ok(read()), "{wrong:?}");
        }
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let read = parameter_store(&format!("http://{gone}"), &World::new()).read("main_ivr").await;
    assert!(matches!(&read, Err(ReadError::Failed(_))), "{read:?}");
}

/// The web's authorities do not know this service, so only the right bundle opens the connection, and only under the certificate's name.
#[tokio::test]
async fn a_service_is_trusted_by_its_certificate_and_name_alone() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let replies = Arc::new(Mutex::new(vec![Reply::Answer(200, all_four()); 2].into_iter()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(converse(stream, 0, replies.clone(), Asked::default()));
            }
        }
    });
    let folder = std::env::temp_dir().join(format!("serin-source-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).display().to_string()
    };
    let own = file("own.pem", &certified.cert.pem());
    let other = file("other.pem", &rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem());
    let empty = file("empty.pem", "");
    let world = World::new();
    let open = |host: &str, bundle: Option<&str>| {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let address = Address::of(&format!("https://{host}:{port}")).unwrap();
        Connection::new(address, "ssm", "eu-west-1".into(), credentials, bundle, world.clone())
    };
    let mut source = ParameterStore::new(open("localhost", Some(&own)).unwrap(), "prod".into());
    for _ in 0..2 {
        assert_eq!(source.read("main_ivr").await, Ok(read()));
    }
    for (host, bundle, expected) in
        [("localhost", Some(&other), "certificate"), ("localhost", None, "UnknownIssuer"), ("127.0.0.1", Some(&own), "not valid for name")]
    {
        let mut source = ParameterStore::new(open(host, bundle.map(String::as_str)).unwrap(), "prod".into());
        let read = source.read("main_ivr").await;
        assert!(matches!(&read, Err(ReadError::Failed(why)) if why.contains(expected)), "{host} {bundle:?}: {read:?}");
    }
    for bundle in [&empty, &"/nowhere/ca.pem".to_owned()] {
        let said = open("localhost", Some(bundle)).unwrap_err();
        assert!(said.contains("AWS_CA_BUNDLE") && said.contains(bundle.as_str()), "{said}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn addresses_that_cannot_be_meant_are_refused_by_name() {
    for wrong in ["", "ssm.eu-west-1.amazonaws.com", "ftp://a", "https://", "https://a/path", "https://a?b"] {
        assert!(Address::of(wrong).is_err_and(|said| said.contains(&format!("`{wrong}`"))), "{wrong}");
    }
    for right in ["https://ssm.eu-west-1.amazonaws.com", "http://127.0.0.1:4566/", "http://[::1]:4566"] {
        assert!(Address::of(right).is_ok(), "{right}");
    }
}

proptest! {
    #[test]
    fn no_answer_of_a_service_is_a_fault(answer: Vec<u8>, text in ".*") {
        for bytes in [answer.as_slice(), text.as_bytes()] {
            let _ = read_get_parameters("prod", "main_ivr", bytes);
            let _ = read_batch_get_item("serin-prod", "main_ivr", bytes);
            let _ = read_refusal(400, bytes);
        }
    }
}
