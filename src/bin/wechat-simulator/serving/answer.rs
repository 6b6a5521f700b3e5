//! HTTP answers: the honest one, and the ways a fault can spoil it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};

use super::wire::Peer;
use crate::errcode::{IP_NOT_ALLOWED, Refusal};
use crate::traffic::Endpoint;

/// HTTP 200: WeChat says its errors in the body.
pub fn json(endpoint: Endpoint, body: String) -> Response {
    labelled(endpoint, Body::from(body))
}

/// The first half of the body at once, the second after `pause`.
pub fn slowly(endpoint: Endpoint, body: String, pause: Duration) -> Response {
    let mut first = Bytes::from(body);
    let rest = first.split_off(first.len() / 2);
    let later = stream::once(async move {
        tokio::time::sleep(pause).await;
        Ok(rest)
    });
    labelled(endpoint, Body::from_stream(stream::iter([Ok::<_, Infallible>(first)]).chain(later)))
}

/// Cuts the connection; what is returned is never written.
pub fn reset(peer: &Peer) -> Response {
    peer.cut();
    StatusCode::OK.into_response()
}

/// Looks like an answer, and is not JSON.
pub fn garbage(endpoint: Endpoint) -> Response {
    labelled(endpoint, Body::from("{\"errcode\":0,\"errm\u{0}\u{fffd}"))
}

/// What a proxy in between says. A status or header that HTTP cannot carry becomes a 500 that says so.
pub fn http(status: u16, body: String, headers: &BTreeMap<String, String>) -> Response {
    try_http(status, body, headers).unwrap_or_else(|| {
        (StatusCode::INTERNAL_SERVER_ERROR, "fault rule: bad status or header").into_response()
    })
}

fn try_http(status: u16, body: String, headers: &BTreeMap<String, String>) -> Option<Response> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    for (name, value) in headers {
        let name: HeaderName = name.parse().ok()?;
        response.headers_mut().insert(name, value.parse().ok()?);
    }
    Some(response)
}

/// The refusal a fault rule asks for, in the rule's words or WeChat's.
pub fn fault_refusal(errcode: i64, errmsg: Option<String>, peer: &Peer) -> Refusal {
    match errmsg {
        Some(errmsg) => Refusal::saying(errcode, errmsg),
        None if errcode == IP_NOT_ALLOWED => Refusal::ip_not_allowed(peer.ip),
        None => Refusal::of(errcode),
    }
}

fn labelled(endpoint: Endpoint, body: Body) -> Response {
    let mut response = Response::new(body);
    let label = HeaderValue::from_static(endpoint.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, label);
    response
}
