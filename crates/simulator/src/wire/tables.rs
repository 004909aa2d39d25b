//! The one data table, `Deployment_Control`, and its rows: last writer wins, as with the vendor.

use super::Client;
use super::error::ApiError;
use super::flows::matches;
use super::page::page;
use crate::changes::{Actor, key_of, row_schema};
use crate::organization::{DEPLOYMENT_CONTROL, Shared, enter};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;

type Answer = Result<Json<Value>, ApiError>;
type Parameters = Query<HashMap<String, String>>;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v2/flows/datatables", get(tables))
        .route("/api/v2/flows/datatables/{datatableId}", get(table))
        .route("/api/v2/flows/datatables/{datatableId}/rows", get(rows).post(create))
        .route("/api/v2/flows/datatables/{datatableId}/rows/{rowId}", get(row).put(replace).delete(remove))
}

/// With the schemas only where they are asked for.
async fn tables(Query(query): Parameters) -> Answer {
    let mut table = described();
    if query.get("expand").is_none_or(|expand| expand != "schema") {
        table["schema"] = Value::Null;
    }
    let named = query.get("name").is_none_or(|pattern| matches(pattern, "Deployment_Control"));
    Ok(Json(page(if named { vec![table] } else { vec![] }, &query, "/api/v2/flows/datatables")?))
}

async fn table(Path(table): Path<String>) -> Answer {
    check(&table)?;
    Ok(Json(described()))
}

fn described() -> Value {
    json!({"id": DEPLOYMENT_CONTROL, "name": "Deployment_Control", "division": {"id": "*", "name": "Home"}, "schema": row_schema(),
        "selfUri": format!("/api/v2/flows/datatables/{DEPLOYMENT_CONTROL}")})
}

async fn rows(State(shared): State<Shared>, Path(table): Path<String>, Query(query): Parameters) -> Answer {
    check(&table)?;
    let rows = enter(&shared).rows.values().map(|row| shown(row, &query)).collect();
    Ok(Json(page(rows, &query, &format!("/api/v2/flows/datatables/{table}/rows"))?))
}

async fn row(State(shared): State<Shared>, Path((table, key)): Path<(String, String)>, Query(query): Parameters) -> Answer {
    check(&table)?;
    enter(&shared).rows.get(&key).map(|row| Json(shown(row, &query))).ok_or_else(|| missing(&key))
}

async fn create(State(shared): State<Shared>, Extension(client): Extension<Client>, Path(table): Path<String>, body: Bytes) -> Answer {
    check(&table)?;
    let (key, row) = parse(&body)?;
    let mut organization = enter(&shared);
    if organization.rows.contains_key(&key) {
        return Err(ApiError::new(409, "flows.datatables.row.exists", format!("The row {key} exists already.")));
    }
    organization.write_row(Actor::Client(client.0), &key, row.clone());
    Ok(Json(row))
}

async fn replace(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    Path((table, key)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    check(&table)?;
    let (named, row) = parse(&body)?;
    if named != key {
        return Err(ApiError::bad_request(format!("The key {named} of the row is not the key {key} of the path.")));
    }
    let mut organization = enter(&shared);
    if !organization.rows.contains_key(&key) {
        return Err(missing(&key));
    }
    organization.write_row(Actor::Client(client.0), &key, row.clone());
    Ok(Json(row))
}

async fn remove(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    Path((table, key)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    check(&table)?;
    let existed = enter(&shared).delete_row(Actor::Client(client.0), &key);
    existed.then_some(StatusCode::NO_CONTENT).ok_or_else(|| missing(&key))
}

fn check(table: &str) -> Result<(), ApiError> {
    let missing = || ApiError::not_found("flows.datatables.not.found", format!("Could not find data table {table}."));
    (table == DEPLOYMENT_CONTROL).then_some(()).ok_or_else(missing)
}

fn parse(body: &[u8]) -> Result<(String, Value), ApiError> {
    let row: Value = serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let key = key_of(&row).map_err(|reason| ApiError::new(400, "flows.datatables.schema.exception", reason))?;
    Ok((key, row))
}

/// With `showbrief`, which is the vendor's default, the key alone.
fn shown(row: &Value, query: &HashMap<String, String>) -> Value {
    if query.get("showbrief").is_some_and(|brief| brief == "false") { row.clone() } else { json!({"key": row["key"]}) }
}

fn missing(key: &str) -> ApiError {
    ApiError::not_found("flows.datatables.row.not.found", format!("Could not find row {key}."))
}
