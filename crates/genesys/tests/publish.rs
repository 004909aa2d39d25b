//! Reading and publishing flows, and copying a configuration.

mod support;

use serin_controller::ports::{Clock, FlowError, Flows, Operation, PublicationError};
use support::{JumpingClock, Stub, Vault, broken, client, data, ok, refusal, text};

const GREEN: &str = "GET /api/v2/flows/green";
const BLUE: &str = "GET /api/v2/flows/blue";
const VERSIONS: &str = "GET /api/v2/flows/green/versions";
const CONFIGURATION: &str = "GET /api/v2/flows/green/versions/3.0/configuration";
const PUBLISH: &str = "POST /api/v2/flows/actions/publish";
const EXPORT: &str = "POST /api/v2/flows/export/jobs";
const EXPORT_JOB: &str = "GET /api/v2/flows/export/jobs/export-1";
const DOWNLOAD: &str = "GET /files/export-1";
const REGISTER: &str = "POST /api/v2/flows/jobs";
const UPLOAD: &str = "PUT /files/job-1";
const JOB: &str = "GET /api/v2/flows/jobs/job-1";

#[tokio::test]
async fn a_flow_is_read_with_its_lock_and_its_operation() {
    let stub = Stub::start().await.on(GREEN, [ok("flow_green.json"), ok("flow_locked.json"), ok("flow_failed.json")]);
    let stub = stub.on(BLUE, [ok("flow_blue.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let flow = genesys.flow("green").await.unwrap();
    assert_eq!((flow.name.as_str(), flow.published.as_deref(), flow.locked_by.as_deref()), ("Main_IVR_Green", Some("3.0"), None));
    assert_eq!(flow.operation, Some(Operation { id: "op-1".into(), running: false, failure: None }));
    assert_eq!(genesys.flow("green").await.unwrap().locked_by.as_deref(), Some("Pat Doe"));
    // Our own client's lock is no lock, and a failure says why.
    let flow = genesys.flow("green").await.unwrap();
    assert_eq!((flow.published, flow.locked_by), (None, None));
    assert_eq!(flow.operation.unwrap().failure.as_deref(), Some("flow.publish.failed: queue Sales does not exist"));
    assert_eq!(genesys.flow("blue").await.unwrap().operation, None);
}

#[tokio::test]
async fn published_versions_come_from_all_pages_latest_publish_first() {
    let stub = Stub::start().await.on(VERSIONS, [ok("versions_1.json"), ok("versions_2.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    assert_eq!(genesys.published_versions("green").await.unwrap(), ["2.0", "3.0", "1.0"]);
    assert_eq!(stub.asked(VERSIONS)[1].query, "pageNumber=2&pageSize=100");
}

#[tokio::test]
async fn a_missing_flow_is_gone_only_if_its_version_list_is_too() {
    let missing = || refusal(404, "error_404.json");
    let stub = Stub::start().await.on(GREEN, [missing()]).on(VERSIONS, [missing()]);
    let error = client(&stub, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&error, FlowError::Gone(said) if said.contains("flow green")), "{error}");

    let stub = Stub::start().await.on(GREEN, [missing()]).on(VERSIONS, [ok("versions_2.json")]);
    let error = client(&stub, &JumpingClock::new(), &Vault::default()).flow("green").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(_)), "{error}");
}

#[tokio::test]
async fn a_configuration_is_hashed_and_a_missing_version_is_gone() {
    let stub = Stub::start().await.on(CONFIGURATION, [ok("configuration.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let expected = serin_genesys::configuration_hash(&serde_json::json!({"type": "INBOUNDCALL", "tasks": [{"id": "t1", "name": "route"}]}));
    assert_eq!(genesys.configuration_hash("green", "3.0").await.unwrap(), expected);

    let missing = || refusal(404, "error_404.json");
    let stub = Stub::start().await.on(CONFIGURATION, [missing()]).on(VERSIONS, [ok("versions_2.json")]);
    let stub = stub.on("GET /api/v2/flows/green/versions/2.0/configuration", [missing()]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let gone = genesys.configuration_hash("green", "3.0").await.unwrap_err();
    assert!(matches!(&gone, FlowError::Gone(said) if said.contains("flow green has no version 3.0")), "{gone}");
    let doubtful = genesys.configuration_hash("green", "2.0").await.unwrap_err();
    assert!(matches!(&doubtful, FlowError::TryLater(_)), "{doubtful}");
}

#[tokio::test]
async fn a_version_is_published_only_if_it_is_in_the_list() {
    let stub = Stub::start().await.on(VERSIONS, [ok("versions_2.json")]).on(PUBLISH, [ok("operation.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    assert_eq!(genesys.publish("green", "2.0").await.unwrap(), "op-3");
    assert_eq!(stub.asked(PUBLISH)[0].query, "flow=green&version=2.0");
    assert_eq!(stub.asked(PUBLISH)[0].body, "null");
    let gone = genesys.publish("green", "99.0").await.unwrap_err();
    assert!(matches!(&gone, FlowError::Gone(said) if said.contains("no version 99.0")), "{gone}");
    assert_eq!(stub.asked(PUBLISH).len(), 1);
}

#[tokio::test]
async fn a_refusal_while_somebody_holds_the_lock_names_them() {
    for status in [400, 403, 409, 423] {
        let stub = Stub::start()
            .await
            .on(VERSIONS, [ok("versions_2.json")])
            .on(PUBLISH, [refusal(status, "error_409.json")])
            .on(GREEN, [ok("flow_locked.json")]);
        let error = client(&stub, &JumpingClock::new(), &Vault::default()).publish("green", "2.0").await.unwrap_err();
        assert!(matches!(&error, FlowError::Locked { flow, holder } if flow == "green" && holder == "Pat Doe"), "{status}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_without_a_lock_keeps_its_reason() {
    let refused = async |status, name| {
        let stub = Stub::start()
            .await
            .on(VERSIONS, [ok("versions_2.json")])
            .on(PUBLISH, [refusal(status, name)])
            .on(GREEN, [ok("flow_green.json")]);
        client(&stub, &JumpingClock::new(), &Vault::default()).publish("green", "2.0").await.unwrap_err()
    };
    let forbidden = refused(403, "error_403.json").await;
    assert!(
        matches!(&forbidden, FlowError::Refused(said) if said.contains("grant the oauth client's role architect:flow:publish")),
        "{forbidden}"
    );
    assert!(matches!(refused(409, "error_409.json").await, FlowError::TryLater(_)));
    assert!(matches!(refused(400, "error_409.json").await, FlowError::Refused(_)));
    assert!(matches!(refused(500, "error_503.json").await, FlowError::TryLater(_)));
}

#[tokio::test]
async fn a_publish_that_may_have_arrived_is_not_sent_again() {
    for answer in [broken(), text(504, "")] {
        let stub = Stub::start().await.on(VERSIONS, [ok("versions_2.json")]).on(PUBLISH, [answer, ok("operation.json")]);
        let error = client(&stub, &JumpingClock::new(), &Vault::default()).publish("green", "2.0").await.unwrap_err();
        assert!(matches!(&error, FlowError::TryLater(_)), "{error}");
        assert_eq!(stub.asked(PUBLISH).len(), 1);
    }
    let busy = [refusal(429, "error_429.json").after("1"), refusal(503, "error_503.json").after("1"), ok("operation.json")];
    let stub = Stub::start().await.on(VERSIONS, [ok("versions_2.json")]).on(PUBLISH, busy);
    client(&stub, &JumpingClock::new(), &Vault::default()).publish("green", "2.0").await.unwrap();
    assert_eq!(stub.asked(PUBLISH).len(), 3);
}

async fn copying() -> Stub {
    Stub::start()
        .await
        .on(GREEN, [ok("flow_green.json")])
        .on(BLUE, [ok("flow_blue.json")])
        .on(EXPORT, [ok("export_registered.json")])
        .on(EXPORT_JOB, [ok("export_started.json"), ok("export_done.json")])
        .on(DOWNLOAD, [ok("flow.yaml")])
        .on(REGISTER, [ok("job_registered.json")])
        .on(UPLOAD, [text(200, "")])
        .on(JOB, [ok("job_started.json"), ok("job_started.json"), ok("job_done.json")])
}

async fn copy(stub: &Stub) -> Result<(), FlowError> {
    client(stub, &JumpingClock::new(), &Vault::default()).copy("green", "blue").await
}

#[tokio::test]
async fn a_configuration_is_copied_under_the_name_of_its_target() {
    let stub = copying().await;
    copy(&stub).await.unwrap();
    let export: serde_json::Value = serde_json::from_str(&stub.asked(EXPORT)[0].body).unwrap();
    assert_eq!(export["flows"][0]["flow"], serde_json::json!({"id": "green", "version": "3.0"}));
    let upload = &stub.asked(UPLOAD)[0];
    assert_eq!(upload.body, data("flow.yaml").replace("name: Main_IVR_Green", "name: \"Main_IVR_Blue\""));
    assert_eq!(
        (&upload.headers["x-amz-meta-jobid"], &upload.headers["x-amz-server-side-encryption"]),
        (&"job-1".parse().unwrap(), &"AES256".parse().unwrap())
    );
    for line in [UPLOAD, DOWNLOAD] {
        assert!(!stub.asked(line)[0].headers.contains_key("authorization"), "{line}");
        assert_eq!(stub.asked(line)[0].query, "signature=SIGNED");
    }
    assert_eq!(stub.asked(JOB)[0].query, "expand=messages");
}

#[tokio::test]
async fn a_copy_that_fails_says_what_comes_next() {
    let locked = copying().await.on(JOB, [ok("job_locked.json")]).on(BLUE, [ok("flow_blue.json"), ok("flow_blue_locked.json")]);
    let error = copy(&locked).await.unwrap_err();
    assert!(matches!(&error, FlowError::Locked { flow, holder } if flow == "blue" && holder == "user-7"), "{error}");

    let failed = copying().await.on(JOB, [ok("job_failed.json")]);
    let error = copy(&failed).await.unwrap_err();
    let expected = "copying flow green into flow blue: the job failed: Could not find queue Sales, see <address>";
    assert!(matches!(&error, FlowError::Refused(said) if said == expected), "{error}");

    let slow = copying().await.on(JOB, [ok("job_started.json")]);
    let clock = JumpingClock::new();
    let before = clock.now();
    let error = client(&slow, &clock, &Vault::default()).copy("green", "blue").await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if said.contains("still runs")), "{error}");
    assert!((35..=40).contains(&clock.now().duration_since(before).as_secs()));

    let expired = copying().await.on(UPLOAD, [text(403, "<Error>SIGNED</Error>")]);
    let error = copy(&expired).await.unwrap_err();
    assert!(matches!(&error, FlowError::TryLater(said) if !said.contains("SIGNED")), "{error}");
}

#[tokio::test]
async fn nothing_is_uploaded_that_is_not_surely_meant() {
    let other_type = data("flow_blue.json").replace("INBOUNDCALL", "WORKFLOW");
    let busy = data("flow_blue.json").replace(r#""division""#, r#""currentOperation": {"id": "op-9", "complete": false}, "division""#);
    for (stub, said) in [
        (copying().await.on(BLUE, [ok("flow_blue_locked.json")]), "locked by user-7"),
        (copying().await.on(BLUE, [text(200, &other_type)]), "their types differ"),
        (copying().await.on(BLUE, [text(200, &busy)]), "an operation runs"),
        (copying().await.on(BLUE, [ok("flow_green.json")]), "the same flow"),
        (copying().await.on(DOWNLOAD, [text(200, "inboundEmail:\n  name: A\n")]), "not a flow of type INBOUNDCALL"),
        (copying().await.on(DOWNLOAD, [text(302, "")]), "answered 302"),
        (copying().await.on(EXPORT_JOB, [text(200, r#"{"status": "Success", "downloadUrl": "http://files.example.com/x"}"#)]), "not https"),
    ] {
        let error = copy(&stub).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(stub.asked(REGISTER).is_empty(), "{error}");
    }
}

/// A file that somebody wrote for the flow `blue`.
fn written() -> String {
    data("flow.yaml").replace("name: Main_IVR_Green", "name: Main_IVR_Blue  # stable")
}

async fn publish_file(stub: &Stub, file: &str) -> Result<(), PublicationError> {
    client(stub, &JumpingClock::new(), &Vault::default()).publish_file("blue", file).await
}

#[tokio::test]
async fn a_file_is_published_into_the_flow_whose_name_it_bears() {
    let stub = copying().await;
    publish_file(&stub, &written()).await.unwrap();
    assert_eq!(stub.asked(UPLOAD)[0].body, data("flow.yaml").replace("name: Main_IVR_Green", "name: \"Main_IVR_Blue\""));
    assert!(stub.asked(EXPORT).is_empty() && stub.asked(PUBLISH).is_empty());
}

#[tokio::test]
async fn a_file_that_is_not_surely_the_flow_s_is_not_uploaded() {
    let busy = data("flow_blue.json").replace(r#""division""#, r#""currentOperation": {"id": "op-9", "complete": false}, "division""#);
    for (stub, file, said) in [
        (copying().await, data("flow.yaml"), "the file is of flow `Main_IVR_Green`, and this flow is `Main_IVR_Blue`"),
        (copying().await, written().replace("inboundCall", "inboundChat"), "the file holds `inboundChat:`, not a flow of type INBOUNDCALL"),
        (copying().await, "<html>".to_owned(), "the file holds `<html>`"),
        (copying().await, String::new(), "the file is empty"),
        (copying().await.on(BLUE, [ok("flow_blue_locked.json")]), written(), "locked by user-7"),
        (copying().await.on(BLUE, [text(200, &busy)]), written(), "an operation runs"),
    ] {
        let looked = client(&stub, &JumpingClock::new(), &Vault::default()).check_file("blue", &file).await;
        assert_eq!(looked.is_err(), said.starts_with("the file"), "{said}: a look is about the file alone");
        let error = publish_file(&stub, &file).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(stub.asked(REGISTER).is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_file_counts_as_published_only_if_it_went_into_the_flow() {
    let elsewhere = data("job_done.json").replace("\"blue\"", "\"green\"");
    let error = publish_file(&copying().await.on(JOB, [text(200, &elsewhere)]), &written()).await.unwrap_err();
    assert!(matches!(&error, PublicationError::Elsewhere { flow } if flow == "green"), "{error}");
    let error = publish_file(&copying().await.on(JOB, [ok("job_failed.json")]), &written()).await.unwrap_err();
    let PublicationError::NotPublished(FlowError::Refused(said)) = &error else { panic!("{error}") };
    assert!(said.contains("Could not find queue Sales"), "{said}");
    let locked = copying().await.on(JOB, [ok("job_locked.json")]).on(BLUE, [ok("flow_blue.json"), ok("flow_blue_locked.json")]);
    let error = publish_file(&locked, &written()).await.unwrap_err();
    assert!(matches!(&error, PublicationError::NotPublished(FlowError::Locked { holder, .. }) if holder == "user-7"), "{error}");
}

#[tokio::test]
async fn what_was_not_taken_over_was_not_published() {
    for (stub, said) in [
        (copying().await.on(REGISTER, [refusal(429, "error_429.json").after("90")]), "fewer requests"),
        (copying().await.on(REGISTER, [refusal(403, "error_403.json")]), "not permitted"),
        (copying().await.on(REGISTER, [text(200, "<html>")]), "unreadable"),
        (copying().await.on(UPLOAD, [text(403, "<Error>SIGNED</Error>")]), "the file store answered 403"),
    ] {
        let error = publish_file(&stub, &written()).await.unwrap_err();
        assert!(matches!(&error, PublicationError::NotPublished(_)) && error.to_string().contains(said), "{error:?}");
        assert!(stub.asked(JOB).is_empty(), "{error}");
    }
}

#[tokio::test]
async fn whatever_hides_the_end_of_a_file_that_was_taken_over_leaves_it_open() {
    for (stub, said) in [
        (copying().await.on(JOB, [ok("job_started.json")]), "still runs"),
        (copying().await.on(JOB, [refusal(404, "error_404.json")]), "does not know it"),
        (copying().await.on(JOB, [refusal(401, "error_401.json")]), "not accepted"),
        (copying().await.on(JOB, [refusal(403, "error_403.json")]), "not permitted"),
        (copying().await.on(JOB, [text(200, "<html>")]), "unreadable"),
        (copying().await.on(UPLOAD, [text(500, "")]), "the file store answered 500"),
        (copying().await.on(UPLOAD, [broken()]), "no answer"),
    ] {
        let error = publish_file(&stub, &written()).await.unwrap_err();
        assert!(matches!(&error, PublicationError::Unseen(text) if text.contains(said)), "{said}: {error:?}");
    }
}
