//! What more than one endpoint reads from its request.

use axum::http::Method;
use serde::de::DeserializeOwned;

use crate::errcode::{EMPTY_BODY, NOT_JSON, POST_REQUIRED, Refusal};

/// The `access_token` of a query string. Tokens hold nothing that needs decoding.
pub fn access_token(query: Option<&str>) -> String {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.find_map(|pair| pair.strip_prefix("access_token=")).unwrap_or_default().to_owned()
}

/// The JSON body of a POST.
///
/// # Errors
/// 43002 for another verb, 44002 without a body, 47001 if it is no JSON of this shape.
pub fn posted_json<T: DeserializeOwned>(method: &Method, body: &[u8]) -> Result<T, Refusal> {
    if method != Method::POST {
        return Err(Refusal::of(POST_REQUIRED));
    }
    if body.is_empty() {
        return Err(Refusal::of(EMPTY_BODY));
    }
    serde_json::from_slice(body).map_err(|_| Refusal::of(NOT_JSON))
}
