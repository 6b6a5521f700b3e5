//! What reaches the archive, by whichever way: our own dead letters, the broker's, and foreign messages.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::support::{APP, World, event, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_dead_letter_tells_its_delivery_s_whole_life() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    // Quick retries and one step of the ladder go by before WeChat says what is wrong.
    world.wechat.fault(json!({ "match": { "path": "send" }, "times": 4, "action": { "errcode": -1 } })).await;
    world
        .wechat
        .fault(json!({ "match": { "path": "send" }, "action": { "errcode": 47003,
            "errmsg": "argument invalid! data.amount2.value invalid" } }))
        .await;
    let daemon = world.daemon().await;
    let mut headers = FieldTable::default();
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    let body = event("pay-1").to(&["zhangsan"]).0.to_string();
    let properties = BasicProperties::default().with_headers(headers);
    world.publish_to(&format!("{}.events", world.name), "k", body.as_bytes(), properties).await;
    world.dead_letters_when(1).await;

    let dead_letter = &shown(&world, "1").await;
    let of = |field: &str| dead_letter[field].to_string().replace('"', "");
    for (field, expected) in [
        ("reason", "content"),
        ("class", "content"),
        ("errcode", "47003"),
        ("field", "amount2"),
        ("event_id", "pay-1"),
        ("openid", "o-zhang"),
        ("sys_user_id", "zhangsan"),
        ("trace_id", TRACE),
        ("token_generation", "1"),
    ] {
        assert_eq!(of(field), expected, "{field} of {dead_letter}");
    }
    assert!(
        of("epoch").parse::<i64>().unwrap() >= 1 && of("attempts").parse::<i64>().unwrap() >= 2,
        "{dead_letter}"
    );
    assert!(of("first_failed_at") < of("last_failed_at"), "{dead_letter}");
    let counted = format!(r#"wechat_notifier_dead_letters_total{{app_id="{APP}",reason="content"}}"#);
    eventually("the dead letter to be counted", async || {
        (daemon.metric(&counted).await == 1.0).then_some(())
    })
    .await;
    world.conserved(["pay-1".to_owned()]).await;
}

#[tokio::test]
async fn fifteen_undecodable_messages_with_one_message_id_are_fifteen_dead_letters() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let properties = || BasicProperties::default().with_message_id("the-same".into());
    for (number, exchange) in (0..15).zip(["events", "dead"].iter().cycle()) {
        let body = format!("no event {number}");
        world.publish_to(&format!("{}.{exchange}", world.name), "k", body.as_bytes(), properties()).await;
    }
    assert_eq!(world.dead_letters_when(15).await, ["malformed"; 15]);
    let bodies = world.db.query("SELECT DISTINCT body FROM t_wechat_dead_letter", &[]).await.unwrap();
    assert_eq!(bodies.len(), 15, "each is kept as it came");
}

#[tokio::test]
async fn what_the_broker_dropped_and_what_somebody_put_there_is_kept_with_its_reason() {
    let world = World::new().await;
    // The queues are there, and nobody consumes.
    world.finish(world.daemon().await).await;
    let expiring = BasicProperties::default().with_expiration("1".into());
    let exchange = |name: &str| format!("{}.{name}", world.name);
    let body = event("pay-1").0.to_string();
    world.publish_to(&exchange("events"), "payment.paid", body.as_bytes(), expiring).await;
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), AMQPValue::LongString("blue".into()));
    let foreign = BasicProperties::default().with_headers(headers);
    world.publish_to(&exchange("dead"), "", b"\xff\0 not ours", foreign).await;
    eventually("the broker to drop it", async || (world.depth("dead").await == Some(2)).then_some(())).await;

    let _daemon = world.daemon().await;
    assert_eq!(world.dead_letters_when(2).await, ["delivery_limit", "malformed"]);
    let rows = world
        .db
        .query(
            "SELECT errmsg, event_id, body, headers->>'tenant' FROM t_wechat_dead_letter ORDER BY reason",
            &[],
        )
        .await
        .unwrap();
    let (dropped, foreign) = (&rows[0], &rows[1]);
    assert!(dropped.get::<_, String>(0).contains("expired in queue"), "{dropped:?}");
    assert_eq!(dropped.get::<_, Option<&str>>(1), Some("pay-1"));
    assert_eq!(foreign.get::<_, &[u8]>(2), b"\xff\0 not ours");
    assert_eq!(foreign.get::<_, Option<&str>>(3), Some("blue"));
}

#[tokio::test]
async fn while_postgresql_does_not_answer_dead_letters_wait_and_a_metric_says_for_how_long() {
    const OLDEST: &str = "wechat_notifier_dead_queue_oldest_seconds";
    let mut world = World::new().await;
    let daemon = world.daemon().await;
    let another = world.connect().await;
    let lock = world.db.transaction().await.unwrap();
    lock.execute("LOCK TABLE t_wechat_dead_letter IN ACCESS EXCLUSIVE MODE", &[]).await.unwrap();

    let publisher = format!("{}.events", world.name);
    publish(&world.amqp_url, &publisher, b"no event").await;
    eventually("the dead letter to grow old", async || (daemon.metric(OLDEST).await >= 2.0).then_some(()))
        .await;
    lock.rollback().await.unwrap();

    eventually("the dead letter to be archived", async || {
        let count = another.query_one("SELECT count(*) FROM t_wechat_dead_letter", &[]).await.unwrap();
        (count.get::<_, i64>(0) == 1 && daemon.metric(OLDEST).await == 0.0).then_some(())
    })
    .await;
}

/// As an operator sees it, whole.
async fn shown(world: &World, id: &str) -> serde_json::Value {
    serde_json::from_str(&world.cli(&["dlq", "show", id, "--full", "--json"]).await).unwrap()
}

/// A publisher of its own: the world's connection to the database is in the middle of something.
async fn publish(amqp_url: &str, exchange: &str, body: &[u8]) {
    let connection = lapin::Connection::connect(amqp_url, Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let publish = channel.basic_publish(exchange.into(), "k".into(), Default::default(), body, properties);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
    let _ = connection.close(200, "done".into()).await;
}
