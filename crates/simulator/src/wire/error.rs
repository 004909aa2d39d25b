//! The vendor's `ErrorBody`. Which status and code a case has is published for a few only; the rest is our assumption.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal in the vendor's form.
#[derive(Debug)]
pub(super) struct ApiError {
    status: u16,
    code: String,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> ApiError {
        ApiError { status, code: code.to_owned(), message: message.into(), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "bad.request", message)
    }

    pub(super) fn not_found(code: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(404, code, message)
    }

    /// A client without the permission; `needed` are those that would do.
    pub(super) fn forbidden(needed: &str) -> ApiError {
        let message = format!("Unable to perform the requested action. You are missing the following permission(s): {needed}");
        ApiError::new(403, "missing.permissions", message)
    }

    /// What the vendor says of a path that leads nowhere, whether or not it does.
    pub(super) fn masked(path: &str) -> ApiError {
        let table = path.strip_prefix("/api/v2/flows/datatables/");
        match table {
            Some(rest) if rest.contains("/rows/") => ApiError::not_found("flows.datatables.row.not.found", "Could not find the row."),
            Some(_) => ApiError::not_found("flows.datatables.not.found", "Could not find the data table."),
            None if path.starts_with("/api/v2/flows/") => ApiError::no_flow(),
            None => ApiError::of_status(404, None),
        }
    }

    pub(super) fn no_flow() -> ApiError {
        ApiError::not_found("architect.flow.not.found", "Could not find flow with specified ID.")
    }

    pub(super) fn throttled(seconds: u64) -> ApiError {
        let message = format!("Rate limit exceeded the maximum. Retry the request in [{seconds}] seconds");
        ApiError { retry_after: Some(seconds), ..ApiError::new(429, "too.many.requests.retry.after", message) }
    }

    /// A refusal of which only the status is given.
    pub(super) fn of_status(status: u16, retry_after: Option<u64>) -> ApiError {
        if status == 429 {
            // Without the header too, the vendor's clients see the seconds in the message alone.
            return ApiError { retry_after, ..ApiError::throttled(retry_after.unwrap_or(1)) };
        }
        let (code, message) = match status {
            401 => ("bad.credentials", "Invalid login credentials."),
            403 => ("missing.permissions", "Unable to perform the requested action. You are missing the required permission(s)."),
            404 => ("not.found", "The requested resource was not found."),
            500 => {
                ("internal.server.error", "The server encountered an unexpected condition which prevented it from fulfilling the request.")
            }
            503 => (
                "service.unavailable",
                "Service Unavailable - The server is currently unavailable (because it is overloaded or down for maintenance).",
            ),
            504 => ("request.timeout", "The request timed out."),
            _ => ("simulated.fault", "The request was refused."),
        };
        ApiError { retry_after, ..ApiError::new(status, code, message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({
            "message": self.message, "code": self.code, "status": status.as_u16(), "contextId": "c0ffee00-0000-4000-8000-000000000000",
            "messageParams": {}, "details": [], "errors": [],
        });
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
