//! The listeners as a probe meets them: over a socket.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::{Listener, api, serve};
use crate::lifecycle::Part;

/// A daemon's ops listener, and the API's beside it.
struct World {
    ops: SocketAddr,
    api: SocketAddr,
    sources: Sources,
    draining: CancellationToken,
}

async fn world() -> World {
    let draining = CancellationToken::new();
    let sources = Sources {
        metrics: Arc::new(Metrics::new()),
        heartbeats: Heartbeats::new(),
        readiness: Readiness::new(draining.clone()),
    };
    let ops = listen(router(sources.clone())).await;
    World { ops, api: listen(api::router()).await, sources, draining }
}

/// Serves the routes on a port of their own until the test ends.
async fn listen(router: Router) -> SocketAddr {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), "ops.listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, CancellationToken::new()));
    address
}

/// The status line, the headers and the body of an answer, as they came.
async fn answer(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The status code and the body, which is JSON.
async fn json_answer(address: SocketAddr, path: &str) -> (u16, Value) {
    let answer = answer(address, path).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn metrics_come_as_prometheus_text() {
    let world = world().await;
    let answer = answer(world.ops, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\nwechat_notifier_build_info{"), "{answer}");
}

#[tokio::test]
async fn readyz_says_what_is_missing() {
    let world = world().await;
    Part::ALL.iter().for_each(|part| world.sources.readiness.set(*part, Ok(())));
    assert_eq!(json_answer(world.ops, "/readyz").await, (200, json!({ "ready": true, "missing": {} })));

    world.sources.readiness.set(Part::BrokerPublishing, Err("connecting".to_owned()));
    let wanted = json!({ "ready": false, "missing": { "broker_publishing": "connecting" } });
    assert_eq!(json_answer(world.ops, "/readyz").await, (503, wanted));
}

#[tokio::test]
async fn a_draining_process_is_alive_but_not_ready() {
    let world = world().await;
    world.draining.cancel();
    let (status, body) = json_answer(world.ops, "/readyz").await;
    assert_eq!((status, body["missing"]["draining"].is_string()), (503, true));
    assert_eq!(json_answer(world.ops, "/livez").await.0, 200);
}

#[tokio::test]
async fn livez_names_the_loop_that_stalls() {
    let world = world().await;
    let _beat = world.sources.heartbeats.register("events consumer", Duration::ZERO);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while world.sources.heartbeats.stalled().is_empty() && tokio::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    let (status, body) = json_answer(world.ops, "/livez").await;
    assert_eq!((status, &body["alive"]), (503, &false.into()));
    assert!(body["stalled"][0].as_str().unwrap().starts_with("events consumer"), "{body}");
}

#[tokio::test]
async fn the_api_listener_has_no_health_routes() {
    let world = world().await;
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        let (status, body) = json_answer(world.api, path).await;
        assert_eq!((status, &body["error"]), (404, &"not_found".into()), "{path}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_its_key() {
    let world = world().await;
    let fault = Listener::bind(world.ops, "ops.listen").await.err().unwrap().to_string();
    assert!(fault.starts_with(&format!("cannot listen on {} (`ops.listen`)", world.ops)), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_silent_is_closed() {
    let world = world().await;
    let start = tokio::time::Instant::now();
    let mut connection = TcpStream::connect(world.ops).await.unwrap();
    connection.write_all(b"GET /livez HTT").await.unwrap();
    let mut answer = Vec::new();
    let _reset_or_closed = connection.read_to_end(&mut answer).await;
    assert!(start.elapsed() >= Duration::from_secs(75), "closed after {:?}", start.elapsed());
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}
