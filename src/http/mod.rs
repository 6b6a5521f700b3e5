//! The only place that names axum: the listener for operators, and the one for business systems and WeChat.

pub mod api;
mod listener;
pub mod ops;
mod places;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

pub use listener::{BindError, Listener};

/// Our answers take milliseconds; one that takes this long never comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `stop` is cancelled, then finishes the requests in flight.
///
/// Bounds: connections, the time of a request and the silence between two in [`Listener`], the time of an answer here, a
/// body's size (2 MiB) by axum, the head of a request (100 headers, some 400 KiB) by hyper.
pub async fn serve(listener: Listener, router: Router, stop: CancellationToken) {
    let router = router.layer(middleware::from_fn(in_time));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "an HTTP listener stopped");
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "took_too_long", "the answer took too long"),
    }
}

/// The error format of every listener: a word for programs and a sentence for people.
fn problem(status: StatusCode, word: &'static str, sentence: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": word, "message": sentence }))).into_response()
}
