//! `POST /oauth/token`: client credentials only; every client is known unless a fault refuses it.

use crate::organization::{Shared, TOKEN_LIFE_S, enter};
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/oauth/token", post(token))
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
    let Some(client) = headers.get(AUTHORIZATION).and_then(|value| basic_client(value.to_str().ok()?)) else {
        return refusal(StatusCode::UNAUTHORIZED, "invalid_client", "client credentials are missing or malformed");
    };
    if !body.trim().split('&').any(|pair| pair == "grant_type=client_credentials") {
        return refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", "grant_type must be client_credentials");
    }
    let mut organization = enter(&shared);
    if organization.faults.refuses(&client) {
        return refusal(StatusCode::BAD_REQUEST, "invalid_client", "client not found or invalid client secret");
    }
    let wall = organization.wall.now();
    let token = organization.issue_token(&client, wall);
    (StatusCode::OK, Json(json!({"access_token": token, "token_type": "bearer", "expires_in": TOKEN_LIFE_S})))
}

fn refusal(status: StatusCode, error: &str, description: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({"error": error, "description": description, "error_description": description})))
}

/// The client id of a Basic header; id and secret must both be there.
fn basic_client(header: &str) -> Option<String> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = String::from_utf8(base64(encoded.trim())?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    (scheme.eq_ignore_ascii_case("basic") && !id.is_empty() && !secret.is_empty()).then(|| id.to_owned())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | DIGITS.iter().position(|d| *d == digit)? as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_read_from_a_basic_header() {
        assert_eq!(basic_client("Basic aWQ6c2VjcmV0").as_deref(), Some("id"));
        assert_eq!(basic_client("basic cmVhZGVyOmEtYg==").as_deref(), Some("reader"));
        for bad in ["Basic aWQ=", "Bearer aWQ6c2VjcmV0", "Basic !", "Basic OnNlY3JldA=="] {
            assert_eq!(basic_client(bad), None, "{bad}");
        }
    }
}
