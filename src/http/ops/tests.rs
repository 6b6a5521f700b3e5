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

async fn connected(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// A connection that has asked and got its answer, and stays.
async fn kept(address: SocketAddr) -> TcpStream {
    let mut connection = connected(address).await;
    connection.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    let length = connection.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    connection
}

/// How long the other side keeps a connection on which it gets one byte every so often.
async fn kept_while_dripping(mut connection: TcpStream, every: Duration) -> Duration {
    let start = tokio::time::Instant::now();
    connection.write_all(b"GET /livez HTTP/1.1\r\nx: ").await.unwrap();
    let (mut reader, mut writer) = connection.into_split();
    let dripping = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(every).await;
        }
    };
    let mut answer = Vec::new();
    let closed = async { reader.read_to_end(&mut answer).await };
    tokio::select! { _ = closed => {}, () = dripping => {} }
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_asks_is_closed() {
    let world = world().await;
    let start = tokio::time::Instant::now();
    let mut connection = connected(world.ops).await;
    let _reset_or_closed = connection.read_to_end(&mut Vec::new()).await;
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_drips_in_is_cut_off_in_time() {
    let world = world().await;
    let fresh = connected(world.ops).await;
    assert_eq!(kept_while_dripping(fresh, Duration::from_secs(1)).await.as_secs(), 15);
    let used = kept(world.ops).await;
    assert_eq!(kept_while_dripping(used, Duration::from_secs(1)).await.as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_between_two_scrapes_but_not_forever() {
    let world = world().await;
    let mut connection = kept(world.ops).await;
    let start = tokio::time::Instant::now();
    let mut more = Vec::new();
    let _reset_or_closed = connection.read_to_end(&mut more).await;
    assert_eq!((start.elapsed().as_secs(), more.len()), (75, 0));
}

/// More than there are places: some drip, some are silent, some have had an answer and stay.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_at_once_when_all_places_are_taken() {
    let world = world().await;
    Part::ALL.iter().for_each(|part| world.sources.readiness.set(*part, Ok(())));
    let mut holders = Vec::new();
    for n in 0..400 {
        let holder = async { if n % 4 == 0 { kept(world.ops).await } else { connected(world.ops).await } };
        let mut holder = tokio::time::timeout(Duration::from_secs(1), holder).await.expect("a place at once");
        holders.push(tokio::spawn(async move {
            if n % 4 == 1 {
                return tokio::time::sleep(Duration::from_secs(60)).await;
            }
            while holder.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(1), json_answer(world.ops, "/readyz")).await;
        assert_eq!(answer.expect("an answer within a second").0, 200);
    }
    holders.iter().for_each(tokio::task::JoinHandle::abort);
}
