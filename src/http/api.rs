//! The listener for business systems and for WeChat's callbacks. It has no routes yet; health and metrics are not here but
//! on the ops listener, which stays inside.

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::problem;

/// The routes.
pub fn router() -> Router {
    Router::new().fallback(not_found)
}

async fn not_found(uri: Uri) -> Response {
    problem(StatusCode::NOT_FOUND, "not_found", &format!("{} does not exist", uri.path()))
}
