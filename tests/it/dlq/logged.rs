//! What the daemon's log says of dead letters.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Daemon, World, event};

/// The log's lines about dead letters.
fn lines(daemon: &Daemon) -> Vec<Value> {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with("dead letters")))
        .collect()
}

#[tokio::test]
async fn a_flood_of_dead_letters_is_a_line_a_second_for_each_kind() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let mut daemon = world.daemon().await;
    let begun = Instant::now();
    let malformed = (0..300).map(|n| event(&format!("bad-{n}")).with("data", 17));
    let unregistered =
        (0..100).map(|n| event(&format!("lost-{n}")).with("app_id", format!("wx-nowhere-{n}")));
    world.publish_all(malformed.chain(unregistered)).await;
    world.dead_letters_when(400).await;
    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));
    let seconds = begun.elapsed().div_duration_f64(Duration::from_secs(1)).ceil();

    for (reason, count, id) in [("malformed", 300, "bad-"), ("unknown_app", 100, "lost-")] {
        let of_kind: Vec<Value> =
            lines(&daemon).into_iter().filter(|line| line["reason"] == reason).collect();
        let told: i64 = of_kind.iter().map(|line| line["count"].as_i64().unwrap()).sum();
        assert_eq!(told, count, "{of_kind:#?}");
        // One at once, one each second, and one at the stop.
        assert!(of_kind.len() as f64 <= seconds + 2.0, "{} lines in {seconds} s", of_kind.len());
        for line in of_kind {
            assert!(line["event_id"].as_str().is_some_and(|event| event.starts_with(id)), "{line}");
            assert_eq!(line["routing_key"], "payment.paid", "{line}");
        }
    }
}
