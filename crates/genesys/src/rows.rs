//! Rows of data tables, which a traffic cop reads on every call.
//!
//! The vendor takes whole rows only, so what a row holds beside Serin's columns is read and written back as it is; and it has no version
//! of a row, so what was written is read back.

use crate::client::{Genesys, Request};
use crate::error::Error;
use crate::operations;
use crate::token::CredentialsSource;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use serin_controller::ports::{Clock, Pointer, RowError, Rows};
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;

const KEY: &str = "key";
const ACTIVE_FLOW: &str = "Active_Flow_ID";
const WEIGHT: &str = "Traffic_Weight";
const REVISION: &str = "revision";
const OWNER: &str = "owner";

/// How long a row that gives calls may be on its way.
const PROMPT: SignedDuration = SignedDuration::from_secs(5);

type Row = Map<String, Value>;

impl<S: CredentialsSource, C: Clock> Rows for Genesys<S, C> {
    async fn pointer(&self, table: &str, row: &FlowName) -> Result<Option<Pointer>, RowError> {
        let found = self.read_pointer(table, row.as_str(), self.deadline()).await;
        found.map_err(|error| refused(table, row, &error))
    }

    async fn point(&self, table: &str, row: &FlowName, to: &Pointer) -> Result<(), RowError> {
        self.write_pointer(table, row.as_str(), to, self.deadline()).await.map_err(|error| refused(table, row, &error))
    }
}

fn refused(table: &str, row: &FlowName, error: &Error) -> RowError {
    RowError { table: table.to_owned(), row: row.to_string(), reason: error.to_string() }
}

impl<S: CredentialsSource, C: Clock> Genesys<S, C> {
    async fn read_pointer(&self, table: &str, key: &str, until: Timestamp) -> Result<Option<Pointer>, Error> {
        let unreadable = |reason: String| Error::Refused { doing: "reading a row".to_owned(), reason };
        self.row(table, key, until).await?.map(|row| pointer(&row).map_err(unreadable)).transpose()
    }

    async fn write_pointer(&self, table: &str, key: &str, to: &Pointer, until: Timestamp) -> Result<(), Error> {
        const DOING: &str = "writing a row";
        let row = self.row(table, key, until).await?;
        let operation = match &row {
            None => &operations::ADD_ROW,
            Some(_) if to.weight == Weight::FULL => &operations::PUT_ROW,
            Some(_) => &operations::CONTAIN_ROW,
        };
        // A row that gives calls and waits for long may overtake one that takes them away.
        let soon = if to.weight == Weight::FULL { until.min(self.clock.now() + PROMPT) } else { until };
        let place = [table, key];
        let path = if row.is_some() { &place[..] } else { &place[..1] };
        let row = with_pointer(row.unwrap_or_default(), key, to);
        self.call::<Value>(&Request { path, body: Some(Value::Object(row)), ..Request::of(operation, DOING) }, soon).await?;
        match self.read_pointer(table, key, until).await? {
            Some(now) if now == *to => Ok(()),
            now => {
                let reason = format!("it is {} right after, not {}; somebody else writes it too", shown(now.as_ref()), shown(Some(to)));
                Err(Error::Conflict { doing: DOING.to_owned(), reason })
            }
        }
    }

    /// "Not found" may be a throttle in disguise, or mean the table: it stands once the table lists its rows without this one. Where it
    /// lists the row, that is the row: taking calls away must not wait for the other answer to come right.
    async fn row(&self, table: &str, key: &str, until: Timestamp) -> Result<Option<Row>, Error> {
        let whole = [("showbrief", "false")];
        let get = Request { path: &[table, key], query: &whole, ..Request::of(&operations::GET_ROW, "reading a row") };
        match self.call(&get, until).await {
            Ok(row) => return Ok(Some(row)),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let list = Request { path: &[table], query: &whole, ..Request::of(&operations::LIST_ROWS, "listing the rows") };
        let rows: Vec<Row> = self.list(&list, until).await?;
        Ok(rows.into_iter().find(|row| row.get(KEY).and_then(Value::as_str) == Some(key)))
    }
}

/// A column that was never written is empty. One that holds something else than it should is not guessed at.
fn pointer(row: &Row) -> Result<Pointer, String> {
    let told = |column: &str| row.get(column).filter(|value| !value.is_null());
    let wrong = |column: &str, value: &Value, accepted: &str| {
        let shown: String = value.to_string().chars().take(60).collect();
        format!("column {column} holds {shown}, which is not {accepted}")
    };
    let text = |column: &str| match told(column) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(wrong(column, other, "text")),
    };
    let weight = match told(WEIGHT) {
        None => Weight::ZERO,
        Some(value) => {
            let percent = value.as_f64().and_then(|percent| Weight::try_from(percent).ok());
            percent.ok_or_else(|| wrong(WEIGHT, value, "a percentage from 0 to 100"))?
        }
    };
    let revision = match told(REVISION) {
        None => 0,
        Some(value) => whole(value).ok_or_else(|| wrong(REVISION, value, "a whole number"))?,
    };
    Ok(Pointer { active_flow: text(ACTIVE_FLOW)?, weight, revision, owner: text(OWNER)? })
}

/// A table's number columns may answer `3.0`.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64))
}

fn with_pointer(mut row: Row, key: &str, to: &Pointer) -> Row {
    // Whole percents as whole numbers: the column may be one of integers.
    let weight = match to.weight.basis_points() {
        points if points % 100 == 0 => json!(points / 100),
        _ => json!(to.weight.percent()),
    };
    let columns = [
        (KEY, json!(key)),
        (ACTIVE_FLOW, json!(to.active_flow)),
        (WEIGHT, weight),
        (REVISION, json!(to.revision)),
        (OWNER, json!(to.owner)),
    ];
    row.extend(columns.map(|(column, value)| (column.to_owned(), value)));
    row
}

fn shown(pointer: Option<&Pointer>) -> String {
    match pointer {
        None => "gone".to_owned(),
        Some(Pointer { active_flow, weight, revision, owner }) => {
            format!("flow {active_flow} at {weight} of revision {revision} by `{owner}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_row_is_read_as_the_traffic_cop_reads_it() {
        let full = row(
            json!({"key": "main_ivr", "Active_Flow_ID": "green", "Traffic_Weight": 100, "revision": 7.0, "owner": "serin-prod", "note": 1}),
        );
        let expected = Pointer { active_flow: "green".into(), weight: Weight::FULL, revision: 7, owner: "serin-prod".into() };
        assert_eq!(pointer(&full), Ok(expected));
        let bare = Pointer { active_flow: String::new(), weight: Weight::ZERO, revision: 0, owner: String::new() };
        assert_eq!(pointer(&row(json!({"key": "main_ivr", "owner": null}))), Ok(bare));
        for (bad, said) in [
            (json!({"Traffic_Weight": 150}), "column Traffic_Weight holds 150"),
            (json!({"Traffic_Weight": "100"}), "column Traffic_Weight holds \"100\""),
            (json!({"revision": 1.5}), "column revision holds 1.5"),
            (json!({"owner": 3}), "column owner holds 3"),
        ] {
            let refused = pointer(&row(bad)).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn other_columns_stay_as_they_are() {
        let to = Pointer { active_flow: "green".into(), weight: Weight::FULL, revision: 8, owner: "serin-prod".into() };
        let written = with_pointer(row(json!({"key": "main_ivr", "Traffic_Weight": 0, "note": {"by": "Pat"}})), "main_ivr", &to);
        let expected = json!({"key": "main_ivr", "Active_Flow_ID": "green", "Traffic_Weight": 100, "revision": 8, "owner": "serin-prod", "note": {"by": "Pat"}});
        assert_eq!(Value::Object(written), expected);
        let half = Pointer { weight: Weight::try_from(2.5).unwrap(), ..to };
        assert_eq!(with_pointer(Row::new(), "x", &half)["Traffic_Weight"], json!(2.5));
    }
}
