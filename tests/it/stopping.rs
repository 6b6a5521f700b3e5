//! Stopping: by request, in a hurry, and because a part of the daemon died.

use serde_json::{Value, json};

use crate::support::{Daemon, TEMPLATE, World, event, eventually};

/// Outlasts the simulator's slowest answer here; the drain must be longer by 5 s.
const PATIENT: [(&str, &str); 2] = [("WECHAT__REQUEST_TIMEOUT", "4s"), ("SHUTDOWN__DRAIN", "20s")];

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_leaves_the_rest_to_the_next_process() {
    for signal in ["TERM", "INT"] {
        const EVENTS: usize = 30;
        let world = World::new().await;
        world.crowd(30).await;
        world.wechat.tell("latency", json!({ "ms": 2_000 })).await;
        // One app alone gets five of six: the last slot is kept for another.
        let five_at_a_time = ("DELIVERY__CONCURRENCY", "6");
        let mut daemon = world.daemon_with(&[PATIENT[0], PATIENT[1], five_at_a_time]).await;
        world.publish_all((1..=EVENTS).map(|n| event(&id(n)).to(&[&format!("user-{n}")]))).await;
        in_flight(&daemon, 5.0).await;

        daemon.signal(signal);
        until_draining(&daemon).await;
        let begun = world.wechat.send_requests().await;
        assert!((5..30).contains(&begun), "{begun} requests had begun");
        world.publish(event(&id(EVENTS + 1)).to(&["user-1"])).await;
        assert_eq!(daemon.exit().await, Some(0));

        assert_eq!(world.wechat.send_requests().await, begun, "a request started after the stop");
        let sent = world.ledger().await.iter().filter(|row| row.end() == "sent").count();
        assert_eq!(i64::try_from(sent).unwrap(), begun, "an answer was not settled");
        let left = u32::try_from(EVENTS + 1 - sent).unwrap();
        // What had waited too long for the slow app is in its lane, or on its way round the ladder.
        eventually("the rest to be back in the queues", async || {
            (world.queued().await == left).then_some(())
        })
        .await;

        world.wechat.tell("latency", json!({ "ms": 0 })).await;
        let _next = world.daemon().await;
        world.all_ended(i64::try_from(EVENTS + 1).unwrap()).await;
        assert!(world.ledger().await.iter().all(|row| (row.end().as_str(), row.attempts) == ("sent", 1)));
        assert_eq!(world.conserved((1..=EVENTS + 1).map(id)).await, 0);
    }
}

#[tokio::test]
async fn an_attempt_that_a_stop_keeps_from_being_repeated_is_left_to_the_next_process() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let mut daemon = world.daemon_with(&PATIENT).await;
    let busy = json!({ "errcode": -1, "delay_ms": 2_000 });
    world.wechat.fault(json!({ "match": { "path": "send" }, "action": busy })).await;
    world.publish(event("cut").to(&["zhangsan"])).await;
    in_flight(&daemon, 1.0).await;

    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));

    // The one request that was made counts; what would have followed at once does not.
    let row = world.row_when("cut", "deferred", |row| row.status == "retrying").await;
    assert_eq!((row.attempts, row.unknowns, world.wechat.send_requests().await), (1, 0, 1));
    world.wechat.heal().await;
    let _next = world.daemon().await;
    assert_eq!((world.ended("cut").await.end(), world.wechat.got("o-zhang").await), ("sent".to_owned(), 1));
    world.conserved(["cut".to_owned()]).await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_what_it_cuts_counts_as_unknown() {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let world = World::new().await;
        world.user("zhangsan", "o-zhang").await;
        let mut daemon = world.daemon_with(&PATIENT).await;
        world.wechat.fault(json!({ "match": { "path": "send" }, "action": "hang" })).await;
        world.publish(event("cut").to(&["zhangsan"])).await;
        in_flight(&daemon, 1.0).await;

        daemon.terminate();
        until_draining(&daemon).await;
        daemon.signal(second);
        assert_eq!(daemon.exit().await, Some(code));

        let row = world.row_when("cut", "there", |_| true).await;
        assert_eq!((row.status.as_str(), row.attempts), ("attempting", 0), "it waited for WeChat");
        world.wechat.heal().await;
        let _next = world.daemon().await;
        let row = world.ended("cut").await;
        assert_eq!((row.end().as_str(), row.attempts, row.unknowns), ("sent", 1, 1));
        assert_eq!(world.conserved(["cut".to_owned()]).await, 1);
    }
}

#[tokio::test]
async fn a_wechat_that_hangs_does_not_hold_a_stop_up_beyond_the_requests_own_timeout() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let mut daemon = world.daemon().await;
    world.wechat.fault(json!({ "match": { "path": "send" }, "action": "hang" })).await;
    world.publish(event("hung").to(&["zhangsan"])).await;
    in_flight(&daemon, 1.0).await;

    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));

    let row = world.row_when("hung", "deferred", |row| row.status == "retrying").await;
    assert_eq!((row.attempts, row.unknowns, row.epoch), (1, 1, 1));
    world.wechat.heal().await;
    let _next = world.daemon().await;
    assert_eq!(world.ended("hung").await.end(), "sent");
    world.conserved(["hung".to_owned()]).await;
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_off_and_loses_nothing() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.wechat.tell("latency", json!({ "ms": 2_000 })).await;
    let short = [("WECHAT__REQUEST_TIMEOUT", "3s"), ("SHUTDOWN__DRAIN", "9s")];
    let mut daemon = world.daemon_with(&short).await;
    let mut locker = world.connect().await;
    world.publish(event("stuck").to(&["zhangsan"])).await;
    in_flight(&daemon, 1.0).await;

    // The answer comes, but the ledger cannot be written.
    let lock = locker.transaction().await.unwrap();
    lock.execute("LOCK TABLE t_wechat_delivery IN ACCESS EXCLUSIVE MODE", &[]).await.unwrap();
    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));
    let log = daemon.log();
    assert!(log.contains("shutdown.drain (9s) is over") && log.contains(r#"tasks":"[\"events\""#), "{log}");
    // PostgreSQL does not notice that nobody waits for the settlement any more: without this it would still be made.
    world.db.execute(TERMINATE_WAITING, &[]).await.unwrap();
    lock.rollback().await.unwrap();

    world.wechat.tell("latency", json!({ "ms": 0 })).await;
    let _next = world.daemon().await;
    let row = world.ended("stuck").await;
    assert_eq!((row.end().as_str(), row.attempts, row.unknowns), ("sent", 1, 1));
    assert_eq!(world.conserved(["stuck".to_owned()]).await, 1);
}

const TERMINATE_WAITING: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE relation = 't_wechat_delivery'::regclass AND NOT granted";

#[tokio::test]
async fn a_daemon_that_still_waits_for_its_servers_can_be_stopped() {
    let world = World::new().await;
    let nowhere = [
        ("DATABASE__URL", "postgres://nobody@127.0.0.1:9/nowhere"),
        ("AMQP__URL", "amqp://guest:guest@127.0.0.1:9/%2f"),
    ];
    let mut daemon = world.spawn(&nowhere);
    eventually("the daemon to wait for PostgreSQL", async || {
        daemon.log().contains("waiting for PostgreSQL").then_some(())
    })
    .await;

    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));
}

#[tokio::test]
async fn a_part_that_dies_ends_the_process_which_names_it() {
    for (point, task) in [("archiver", "archiver"), ("refresher", "token refresher")] {
        let world = World::new().await;
        let mut daemon = world.spawn(&[("FAILPOINT", point)]);
        assert_eq!(daemon.exit().await, Some(1));
        let named = daemon.log().lines().any(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            entry["level"] == "ERROR" && entry["task"] == task
        });
        assert!(named, "no error names {task}:\n{}", daemon.log());
    }
}

#[tokio::test]
async fn a_panic_in_one_delivery_is_a_dead_letter_and_not_the_end() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon_with(&[("FAILPOINT", "attempt")]).await;

    world.publish(event("clumsy").to(&["zhangsan"])).await;
    assert_eq!(world.ended("clumsy").await.end(), "dead:panicked");
    world.publish(event("next").to(&["zhangsan"])).await;
    assert_eq!(world.ended("next").await.end(), "sent");

    assert_eq!(world.dead_letters_when(1).await, ["panicked"]);
    assert_eq!(daemon.page("/livez").await.0, 200);
    assert!(!daemon.log().contains(TEMPLATE), "the log tells of a template's message");
    world.conserved(["clumsy", "next"].map(str::to_owned)).await;
}

#[tokio::test]
async fn a_panic_with_the_claim_in_hand_strands_no_row() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon_with(&[("FAILPOINT", "settle")]).await;

    world.publish(event("clumsy").to(&["zhangsan"])).await;

    // The message went out, and then nobody knew: the archiver closes the row once the claim has run out.
    let row = world.ended("clumsy").await;
    assert_eq!((row.end().as_str(), row.unknowns), ("dead:panicked", 1));
    assert_eq!(world.wechat.got("o-zhang").await, 1);
    assert_eq!(world.conserved(["clumsy".to_owned()]).await, 1);
}

#[tokio::test]
async fn a_listener_whose_port_is_taken_is_a_start_that_failed() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut daemon = world.spawn(&[("OPS__LISTEN", &address)]);
    assert_eq!(daemon.exit().await, Some(1));
    let log = daemon.log();
    assert!(log.contains("ops.listen") && log.contains(&address), "{log}");
}

fn id(n: usize) -> String {
    format!("stop-{n}")
}

async fn in_flight(daemon: &Daemon, requests: f64) {
    eventually(&format!("{requests} requests in flight"), async || {
        (daemon.metric("wechat_notifier_in_flight").await == requests).then_some(())
    })
    .await;
}

async fn until_draining(daemon: &Daemon) {
    eventually("/readyz to speak of draining", async || {
        let (status, page) = daemon.page("/readyz").await;
        (status == 503 && page.contains(r#""draining""#)).then_some(())
    })
    .await;
}
