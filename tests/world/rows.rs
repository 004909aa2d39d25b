//! The data table that a traffic cop may read, and what a look before a rollout finds.

use super::{Fault, Process, State, TABLE};
use jiff::Timestamp;
use serin_controller::ports::{Dependency, Ended, FlowError, Interface, Pointer, Preflight, RowError, Rows};
use serin_core::rollout::{FlowName, WayBack};
use serin_core::weight::Weight;
use std::collections::BTreeMap;

/// What a look before a rollout finds.
#[derive(Debug, Default)]
pub struct Found {
    /// Permissions that are not granted.
    pub missing: Vec<String>,
    /// What any version needs.
    pub dependencies: Vec<Dependency>,
    /// By flow and version.
    pub interfaces: BTreeMap<(String, String), Interface>,
    /// What data actions answer instead of success.
    pub actions: BTreeMap<String, String>,
    /// What the vendor says against any version.
    pub invalid: Option<String>,
    /// Test calls that ended, and the number they dialled.
    pub test_calls: BTreeMap<String, Ended>,
    /// The organization's region.
    pub region: Option<&'static str>,
    /// Requests left in this minute.
    pub requests_left: Option<u32>,
}

impl State {
    /// The weight that a cop takes from the row: 100 means canary, anything else stable.
    pub fn pointed_weight(&self, flow: &FlowName) -> Weight {
        let is_canary = self.rows.get(flow).is_some_and(|row| row.weight == Weight::FULL);
        if is_canary { Weight::FULL } else { Weight::ZERO }
    }

    /// Somebody changes a row by hand; without one it is deleted.
    pub fn person_points(&mut self, flow: &FlowName, row: Option<Pointer>, by: &str) {
        self.put_row(flow, row);
        self.rows_changed_by = Some(by.to_owned());
    }

    fn put_row(&mut self, flow: &FlowName, row: Option<Pointer>) {
        let before = match row {
            Some(row) => self.rows.insert(flow.clone(), row),
            None => self.rows.remove(flow),
        };
        self.rows_before.insert(flow.clone(), before);
    }

    /// Rows that were given up on, and land now.
    pub(super) fn land_late_rows(&mut self, call: usize) {
        let (due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late_rows).into_iter().partition(|(at, _, _)| *at <= call);
        self.late_rows = waiting;
        for (_, flow, row) in due {
            self.put_row(&flow, Some(row));
        }
    }
}

fn failed(table: &str, row: &FlowName) -> RowError {
    RowError { table: table.to_owned(), row: row.to_string(), reason: "injected".into() }
}

impl Rows for Process {
    async fn pointer(&self, table: &str, row: &FlowName) -> Result<Option<Pointer>, RowError> {
        assert_eq!(table, TABLE);
        let fault = self.begin("rows.pointer", row.to_string()).await;
        let look = |s: &mut State| match s.rows_before.get(row).filter(|_| fault == Some(Fault::Stale)) {
            Some(before) => Ok(before.clone()),
            None => Ok(s.rows.get(row).cloned()),
        };
        self.finish(fault, || failed(table, row), look).await
    }

    async fn point(&self, table: &str, row: &FlowName, to: &Pointer) -> Result<(), RowError> {
        assert_eq!(table, TABLE);
        let fault = self.begin("rows.point", format!("{row} {}", to.weight)).await;
        if let Some(Fault::Late(calls)) = fault {
            let mut state = self.world.state();
            let due = state.calls.len() + calls;
            state.late_rows.push((due, row.clone(), to.clone()));
        }
        let write = |s: &mut State| {
            s.put_row(row, Some(to.clone()));
            s.law_of_the_row(row);
            Ok(())
        };
        self.finish(fault, || failed(table, row), write).await
    }
}

fn later() -> FlowError {
    FlowError::TryLater("injected".into())
}

impl Preflight for Process {
    async fn missing_permissions(&self, flow: &str, _rows: Option<&str>, _back: &WayBack) -> Result<Vec<String>, FlowError> {
        self.step("preflight.missing_permissions", flow, later, |s| Ok(s.found.missing.clone())).await
    }

    async fn dependencies(&self, flow: &str, _version: &str) -> Result<Vec<Dependency>, FlowError> {
        self.step("preflight.dependencies", flow, later, |s| Ok(s.found.dependencies.clone())).await
    }

    async fn interface(&self, flow: &str, version: &str) -> Result<Interface, FlowError> {
        let key = (flow.to_owned(), version.to_owned());
        self.step("preflight.interface", flow, later, |s| Ok(s.found.interfaces.get(&key).cloned().unwrap_or_default())).await
    }

    async fn test_action(&self, action: &str, _input: &serde_json::Value) -> Result<(), FlowError> {
        let ask = |s: &mut State| s.found.actions.get(action).map_or(Ok(()), |said| Err(FlowError::Refused(said.clone())));
        self.step("preflight.test_action", action, later, ask).await
    }

    async fn validate(&self, flow: &str, _version: &str) -> Result<(), FlowError> {
        let ask = |s: &mut State| s.found.invalid.clone().map_or(Ok(()), |said| Err(FlowError::Refused(said)));
        self.step("preflight.validate", flow, later, ask).await
    }

    async fn ended(&self, flow: &str, _version: &str, dnis: &str, _since: Timestamp) -> Result<Ended, FlowError> {
        self.step("preflight.ended", flow, later, |s| Ok(s.found.test_calls.get(dnis).copied().unwrap_or_default())).await
    }

    fn region(&self) -> Option<&'static str> {
        self.world.state().found.region
    }

    fn requests_left(&self) -> Option<u32> {
        self.world.state().found.requests_left
    }
}
