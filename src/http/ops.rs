//! The listener for operators: `/metrics`, `/livez`, `/readyz`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::problem;
use crate::lifecycle::{Heartbeats, Readiness};
use crate::metrics::{self, Metrics};

/// What the answers are made from.
#[derive(Clone)]
pub struct Sources {
    pub metrics: Arc<Metrics>,
    pub heartbeats: Heartbeats,
    pub readiness: Readiness,
}

/// The routes. All answer from memory: a probe costs no query and does not wait.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .with_state(sources)
}

/// Are the loops alive? A 503 asks for a restart, and names the loop that hangs.
async fn livez(State(sources): State<Sources>) -> Response {
    let stalled: Vec<_> = sources.heartbeats.stalled().iter().map(ToString::to_string).collect();
    let alive = stalled.is_empty();
    (status(alive), Json(json!({ "alive": alive, "stalled": stalled }))).into_response()
}

/// Can events be processed? A 503 says what is missing and why; it ends without help or an operator must act, but a restart does
/// not help.
async fn readyz(State(sources): State<Sources>) -> Response {
    let missing: Map<String, Value> = sources
        .readiness
        .missing()
        .into_iter()
        .map(|missing| (missing.part.to_owned(), missing.why.into()))
        .collect();
    let ready = missing.is_empty();
    (status(ready), Json(json!({ "ready": ready, "missing": missing }))).into_response()
}

async fn metrics(State(sources): State<Sources>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], sources.metrics.render()).into_response()
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "not_found", "this listener has /metrics, /livez and /readyz")
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests;
