//! Rows of data tables: read, written whole, and read back.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use serde_json::json;
use serin_controller::ports::{Pointer, RowError, Rows};
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use support::{JumpingClock, Planned, Stub, Vault, broken, client, ok, refusal, text};

const ROW: &str = "GET /api/v2/flows/datatables/table-1/rows/main_ivr";
const PUT: &str = "PUT /api/v2/flows/datatables/table-1/rows/main_ivr";
const ROWS: &str = "GET /api/v2/flows/datatables/table-1/rows";
const ADD: &str = "POST /api/v2/flows/datatables/table-1/rows";

fn name() -> FlowName {
    "main_ivr".parse().unwrap()
}

fn pointing(weight: Weight) -> Pointer {
    let (active_flow, revision) = if weight == Weight::FULL { ("green", 7) } else { ("blue", 6) };
    Pointer { active_flow: active_flow.into(), weight, revision, owner: "serin-prod".into() }
}

fn missing() -> Planned {
    refusal(404, "error_404.json")
}

async fn read(stub: &Stub) -> Result<Option<Pointer>, RowError> {
    client(stub, &JumpingClock::new(), &Vault::default()).pointer("table-1", &name()).await
}

async fn write(stub: &Stub, to: Weight) -> Result<(), RowError> {
    client(stub, &JumpingClock::new(), &Vault::default()).point("table-1", &name(), &pointing(to)).await
}

#[tokio::test]
async fn a_row_is_read_whole() {
    let stub = Stub::start().await.on(ROW, [ok("row.json")]);
    assert_eq!(read(&stub).await.unwrap(), Some(pointing(Weight::ZERO)));
    assert_eq!(stub.asked(ROW)[0].query, "showbrief=false");
}

#[tokio::test]
async fn there_is_no_row_only_if_the_table_says_so() {
    let stub = Stub::start().await.on(ROW, [missing()]).on(ROWS, [ok("rows_other.json")]);
    assert_eq!(read(&stub).await.unwrap(), None);

    let masked = Stub::start().await.on(ROW, [missing()]).on(ROWS, [ok("rows.json")]);
    assert_eq!(read(&masked).await.unwrap(), Some(pointing(Weight::ZERO)));
    assert_eq!(masked.asked(ROWS)[0].query, "showbrief=false&pageNumber=1&pageSize=100");

    let no_table = Stub::start().await.on(ROW, [missing()]).on(ROWS, [missing()]);
    let error = read(&no_table).await.unwrap_err();
    assert_eq!((error.table.as_str(), error.row.as_str()), ("table-1", "main_ivr"));
    assert!(error.reason.contains("does not know it"), "{error}");

    let forbidden = Stub::start().await.on(ROW, [refusal(403, "error_403.json")]);
    let error = read(&forbidden).await.unwrap_err();
    assert!(error.reason.contains("architect:datatable:view or architect:datatableRow:view"), "{error}");
}

#[tokio::test]
async fn what_serin_does_not_know_of_a_row_is_kept() {
    let stub = Stub::start().await.on(ROW, [ok("row.json"), ok("row_pointed.json")]).on(PUT, [ok("row_pointed.json")]);
    write(&stub, Weight::FULL).await.unwrap();
    let expected = json!({"key": "main_ivr", "Active_Flow_ID": "green", "Traffic_Weight": 100, "revision": 7, "owner": "serin-prod", "note": "ask Pat"});
    assert_eq!(stub.bodies(PUT), [expected]);
}

#[tokio::test]
async fn a_row_that_is_not_there_is_made() {
    let stub = Stub::start()
        .await
        .on(ROW, [missing(), ok("row_pointed.json")])
        .on(ROWS, [ok("rows_other.json")])
        .on(ADD, [ok("row_pointed.json")]);
    write(&stub, Weight::FULL).await.unwrap();
    assert_eq!(stub.bodies(ADD)[0]["key"], "main_ivr");
    assert!(stub.asked(PUT).is_empty());
}

#[tokio::test]
async fn a_row_that_reads_otherwise_right_after_is_said() {
    let stub = Stub::start().await.on(ROW, [ok("row.json")]).on(PUT, [ok("row_pointed.json")]);
    let error = write(&stub, Weight::FULL).await.unwrap_err();
    assert!(error.reason.contains("flow blue at 0") && error.reason.contains("flow green at 100"), "{error}");
}

#[tokio::test]
async fn nothing_is_written_over_a_row_that_could_not_be_read() {
    for answer in [text(500, ""), refusal(403, "error_403.json"), text(200, "<html>")] {
        let stub = Stub::start().await.on(ROW, [answer]).on(PUT, [ok("row.json")]).on(ADD, [ok("row.json")]);
        assert!(write(&stub, Weight::ZERO).await.is_err());
        assert!(stub.asked(PUT).is_empty() && stub.asked(ADD).is_empty());
    }
}

#[tokio::test]
async fn a_row_that_gives_calls_is_not_sent_twice_and_one_that_takes_them_away_is() {
    let stub = Stub::start().await.on(ROW, [ok("row.json")]).on(PUT, [broken(), ok("row.json")]);
    let error = write(&stub, Weight::FULL).await.unwrap_err();
    assert!(error.reason.contains("may have arrived"), "{error}");
    assert_eq!(stub.asked(PUT).len(), 1);

    let stub = Stub::start().await.on(ROW, [ok("row_pointed.json"), ok("row.json")]).on(PUT, [broken(), text(408, ""), ok("row.json")]);
    write(&stub, Weight::ZERO).await.unwrap();
    assert_eq!(stub.asked(PUT).len(), 3);
}

#[tokio::test]
async fn a_throttled_write_waits_as_long_as_it_is_asked_to() {
    let throttled = || refusal(429, "error_429.json").after("2");
    let stub = Stub::start().await.on(ROW, [ok("row.json"), ok("row_pointed.json")]).on(PUT, [throttled(), ok("row_pointed.json")]);
    let clock = JumpingClock::new();
    client(&stub, &clock, &Vault::default()).point("table-1", &name(), &pointing(Weight::FULL)).await.unwrap();
    assert!(clock.slept().iter().all(|wait| (2000..=2250).contains(&wait.as_millis())) && clock.slept().len() == 1, "{:?}", clock.slept());
}

#[tokio::test]
async fn a_row_that_gives_calls_does_not_wait_for_long_and_one_that_takes_them_away_does() {
    let answers = || [refusal(429, "error_429.json").after("8"), ok("row.json")];
    let stub = Stub::start().await.on(ROW, [ok("row.json")]).on(PUT, answers());
    let error = write(&stub, Weight::FULL).await.unwrap_err();
    assert!(error.reason.contains("try again in 8 s") && stub.asked(PUT).len() == 1, "{error}");
    let stub = Stub::start().await.on(ROW, [ok("row.json")]).on(PUT, answers());
    write(&stub, Weight::ZERO).await.unwrap();
    assert_eq!(stub.asked(PUT).len(), 2);
}

#[tokio::test]
async fn a_row_that_somebody_broke_can_still_take_the_calls_away() {
    let odd = r#"{"key": "main_ivr", "Traffic_Weight": "lots"}"#;
    let stub = Stub::start().await.on(ROW, [text(200, odd)]);
    let error = read(&stub).await.unwrap_err();
    assert!(error.reason.contains("Traffic_Weight"), "{error}");
    let stub = Stub::start().await.on(ROW, [text(200, odd), ok("row.json")]).on(PUT, [ok("row.json")]);
    write(&stub, Weight::ZERO).await.unwrap();
}
