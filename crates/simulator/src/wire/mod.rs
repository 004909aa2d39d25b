//! The vendor's side: what every request passes (faults, token, rate limit, permissions, the contract), and the paths.

mod account;
mod actions;
mod analytics;
mod audits;
pub(crate) mod contract;
pub(crate) mod dependencies;
mod entrances;
mod error;
mod flows;
mod jobs;
mod oauth;
mod page;
mod tables;
mod validations;

use crate::connection::Plug;
use crate::faults::Harm;
use crate::organization::{Budget, Shared, enter};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use contract::Misfit;
use error::ApiError;

/// Longest body of a request: what axum's own extractors accept.
const LARGEST: usize = 2 << 20;

/// The OAuth client that a request comes from.
#[derive(Debug, Clone)]
struct Client(String);

/// The vendor's paths, and those it hands out for uploads and downloads.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .merge(oauth::routes())
        .merge(flows::routes())
        .merge(jobs::routes())
        .merge(tables::routes())
        .merge(validations::routes())
        .merge(entrances::routes())
        .merge(dependencies::routes())
        .merge(actions::routes())
        .merge(audits::routes())
        .merge(account::routes())
        .merge(analytics::routes())
        .fallback(unserved)
        .method_not_allowed_fallback(unserved)
}

/// What the contract has and nobody here answers, and what lies outside of the vendor's API.
async fn unserved(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found("not.simulated", format!("{method} {} is not simulated", uri.path()))
}

/// Puts what every request passes around the paths.
pub(crate) fn guarded(router: Router, shared: Shared) -> Router {
    router.layer(from_fn_with_state(shared, guard))
}

async fn guard(State(shared): State<Shared>, ConnectInfo(plug): ConnectInfo<Plug>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if is_control(request.method(), &path) {
        return next.run(request).await;
    }
    let template = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let harm = {
        let mut organization = enter(&shared);
        let (operation, wall) = (format!("{} {template}", request.method()), organization.wall.now());
        let client = bearer(request.headers()).and_then(|token| organization.client_of(token, wall)).map(str::to_owned);
        organization.meter.count(client.as_deref(), &operation, wall);
        *organization.requests.entry(operation).or_default() += 1;
        organization.faults.strike(request.method().as_str(), &path)
    };
    match harm {
        Some(Harm::Drop { after: false }) => {
            plug.pull();
            ().into_response()
        }
        Some(Harm::Drop { after: true }) => {
            let response = admitted(&shared, request, next, &path).await;
            plug.pull();
            response
        }
        Some(Harm::Status { status, retry_after }) => ApiError::of_status(status, retry_after).into_response(),
        Some(Harm::MaskedNotFound) => ApiError::masked(&path).into_response(),
        Some(Harm::Slow(duration)) => {
            let wall = enter(&shared).wall.clone();
            wall.wait(duration).await;
            admitted(&shared, request, next, &path).await
        }
        None => admitted(&shared, request, next, &path).await,
    }
}

/// Faults strike what the functions call, never what steers the simulation.
fn is_control(method: &Method, path: &str) -> bool {
    let called = ["/_simulator/upload/", "/_simulator/download/"].iter().any(|prefix| path.starts_with(prefix));
    let delivered = path == "/_simulator/webhook" && method == Method::POST;
    path.starts_with("/_simulator/") && !called && !delivered
}

/// Token, rate limit, permissions and contract, where the path needs them.
async fn admitted(shared: &Shared, request: Request, next: Next, path: &str) -> Response {
    if !path.starts_with("/api/v2/") {
        return next.run(request).await;
    }
    let Some(token) = bearer(request.headers()) else {
        return ApiError::new(401, "authentication.required", "No authentication bearer token specified in authorization header.")
            .into_response();
    };
    let spent = {
        let mut organization = enter(shared);
        let wall = organization.wall.now();
        organization.spend(token, wall)
    };
    let Some((client, budget)) = spent else {
        return ApiError::new(401, "bad.credentials", "Invalid login credentials.").into_response();
    };
    if budget.used > budget.allowed {
        return ApiError::throttled(budget.reset_s).into_response();
    }
    // Before anything else is looked at: who may not look learns nothing of what is there.
    let operation = contract::find(request.method().as_str(), path);
    let missing = operation.and_then(|operation| operation.missing(|permission| !enter(shared).faults.forbids(&client, permission)));
    let mut response = match missing {
        Some(needed) => ApiError::forbidden(&needed).into_response(),
        None => fitting(request, Client(client), next).await,
    };
    tell(response.headers_mut(), budget, enter(shared).mint("correlation"));
    response
}

/// Holds the request to the contract, and the answer too: one that the vendor could not have given is a defect here.
async fn fitting(request: Request, client: Client, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return ApiError::new(413, "request.entity.too.large", "The request is too large.").into_response();
    };
    let operation = match contract::check_request(parts.method.as_str(), &parts.uri, &body) {
        Ok(operation) => operation,
        Err(Misfit::NoSuchOperation) => {
            let message = format!("there is no operation {} {}", parts.method, parts.uri.path());
            return ApiError::not_found("not.found", message).into_response();
        }
        Err(Misfit::Malformed(reason)) => return ApiError::bad_request(reason).into_response(),
    };
    parts.extensions.insert(client);
    let (parts, body) = next.run(Request::from_parts(parts, Body::from(body))).await.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    match operation.check_answer(parts.status.as_u16(), &body) {
        Ok(()) => Response::from_parts(parts, Body::from(body)),
        Err(reason) => {
            let message = format!("the simulator's own answer to {} {} does not fit: {reason}", operation.method, operation.path);
            ApiError::new(500, "simulator.defect", message).into_response()
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn tell(headers: &mut HeaderMap, budget: Budget, correlation: String) {
    headers.insert("inin-ratelimit-count", HeaderValue::from(budget.used));
    headers.insert("inin-ratelimit-allowed", HeaderValue::from(budget.allowed));
    headers.insert("inin-ratelimit-reset", HeaderValue::from(budget.reset_s));
    if let Ok(value) = HeaderValue::from_str(&correlation) {
        headers.insert("inin-correlation-id", value);
    }
}
