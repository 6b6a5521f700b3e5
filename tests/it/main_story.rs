//! The main job: an event in, the right people's WeChat out.

use serde_json::json;

use crate::support::{World, event};

#[tokio::test]
async fn a_payment_reaches_the_user_whom_the_rule_names() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.rule(&["zhangsan"]).await;
    let _daemon = world.daemon().await;

    world.publish(event("pay-1")).await;

    let row = world.ended("pay-1").await;
    assert_eq!((row.end().as_str(), row.recipient.as_str(), row.attempts), ("sent", "o-zhang", 1));
    assert_eq!(world.wechat.got("o-zhang").await, 1);
    world.conserved(["pay-1".to_owned()]).await;
}

#[tokio::test]
async fn everybody_who_gets_nothing_is_in_the_ledger_with_a_reason() {
    let world = World::new().await;
    world.user_with("no", "o-no", &json!({"status": "reject"})).await;
    world.user_with("banned", "o-banned", &json!({"status": "ban"})).await;
    world.user_with("used", "o-used", &json!({"status": "accept", "remaining": 0})).await;
    world.user_with("silent", "o-silent", &json!({})).await;
    world.rule(&["no", "banned", "used", "silent", "stranger"]).await;
    let _daemon = world.daemon().await;

    world.publish_all([event("skip-1"), event("skip-2").with("template_id", "another")]).await;

    world.all_ended(6).await;
    let ends: Vec<_> =
        world.ledger().await.into_iter().map(|row| (row.recipient.clone(), row.end())).collect();
    let expected = [
        ("@stranger", "skipped:not_bound"),
        ("o-banned", "skipped:banned"),
        ("o-no", "skipped:rejected"),
        ("o-silent", "skipped:not_subscribed"),
        ("o-used", "skipped:quota_used"),
        ("", "skipped:no_recipients"),
    ];
    assert_eq!(ends, expected.map(|(recipient, end)| (recipient.to_owned(), end.to_owned())));
    assert_eq!(
        world.wechat.send_requests().await,
        0,
        "WeChat was asked for somebody who must not be sent to"
    );
}

#[tokio::test]
async fn an_empty_list_of_recipients_reaches_nobody() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.user("lisi", "o-li").await;
    world.rule(&["zhangsan", "lisi"]).await;
    let _daemon = world.daemon().await;

    world
        .publish_all([
            event("no-users").with("sys_user_ids", json!([])),
            event("no-openids").with("openids", json!([])).with("sys_user_ids", json!(null)),
            event("only-li").with("sys_user_ids", json!([])).with("openids", json!(["o-li"])),
            event("rules").with("sys_user_ids", json!(null)).with("openids", json!(null)),
        ])
        .await;

    world.all_ended(5).await;
    let ends: Vec<_> = world
        .ledger()
        .await
        .into_iter()
        .map(|row| (row.event_id.clone(), row.recipient.clone(), row.end()))
        .collect();
    let expected = [
        ("no-openids", "", "skipped:no_recipients"),
        ("no-users", "", "skipped:no_recipients"),
        ("only-li", "o-li", "sent"),
        ("rules", "o-li", "sent"),
        ("rules", "o-zhang", "sent"),
    ];
    assert_eq!(ends, expected.map(|(event, who, end)| (event.to_owned(), who.to_owned(), end.to_owned())));
    let why = world.cli(&["deliveries", "why", "no-users"]).await;
    assert!(why.contains("empty list"), "{why}");
}

#[tokio::test]
async fn consent_is_counted_down_and_closed_when_wechat_refuses() {
    let world = World::new().await;
    world.user_with("once", "o-once", &json!({"status": "accept", "remaining": 1})).await;
    world.user("closed", "o-closed").await;
    world
        .wechat
        .tell(
            "consent",
            json!({"openid": "o-closed", "template_id": crate::support::TEMPLATE, "remaining": 0}),
        )
        .await;
    let _daemon = world.daemon().await;

    world.publish(event("count-1").to(&["once"])).await;
    assert_eq!(world.ended("count-1").await.end(), "sent");
    world.publish(event("count-2").to(&["once"])).await;
    assert_eq!(world.ended("count-2").await.end(), "skipped:quota_used");

    world.publish(event("refused-1").to(&["closed"])).await;
    assert_eq!(world.ended("refused-1").await.end(), "skipped:rejected");
    world.publish(event("refused-2").to(&["closed"])).await;
    assert_eq!(world.ended("refused-2").await.end(), "skipped:quota_used");
    assert_eq!(world.wechat.send_requests().await, 2, "a closed consent was tried again");
}

#[tokio::test]
async fn a_hiccup_is_ridden_out_in_place_and_a_longer_trouble_on_the_ladder() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;

    world.wechat.fault(json!({"match": {"path": "send"}, "times": 2, "action": {"errcode": -1}})).await;
    world.publish(event("hiccup").to(&["zhangsan"])).await;
    let row = world.ended("hiccup").await;
    assert_eq!((row.end().as_str(), row.turn, row.attempts), ("sent", 0, 3));

    world.wechat.fault(json!({"match": {"path": "send"}, "times": 9, "action": {"http_status": 503}})).await;
    world.publish(event("trouble").to(&["zhangsan"])).await;
    let row = world.ended("trouble").await;
    assert_eq!((row.end().as_str(), row.attempts), ("sent", 10));
    assert!(row.turn >= 1, "the delivery never went to the ladder");
    assert_eq!(world.wechat.got("o-zhang").await, 2);
}

#[tokio::test]
async fn a_ladder_climbed_to_its_end_leaves_a_letter() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon_with(&[("RETRY__DELAYS", r#"["50ms", "100ms"]"#)]).await;

    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": -1}})).await;
    world.publish(event("doomed").to(&["zhangsan"])).await;

    assert_eq!(world.ended("doomed").await.end(), "dead:exhausted");
    assert_eq!(world.letters_when(1).await, ["exhausted"]);
    world.conserved(["doomed".to_owned()]).await;
}

#[tokio::test]
async fn an_event_for_later_waits_and_one_too_late_is_skipped() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;
    let now = jiff::Timestamp::now();
    let soon = now + jiff::SignedDuration::from_secs(2);

    world
        .publish_all([
            event("later").to(&["zhangsan"]).with("deliver_after", soon.to_string()),
            event("late").to(&["zhangsan"]).with("expires_at", "2020-01-01T00:00:00Z"),
            event("old").to(&["zhangsan"]).with("occurred_at", "2020-01-01T00:00:00Z"),
        ])
        .await;

    world.row_when("later", "planned", |row| row.status == "planned").await;
    let row = world.ended("later").await;
    assert_eq!((row.end().as_str(), row.attempts, row.turn), ("sent", 1, 0));
    assert!(jiff::Timestamp::now() >= soon, "sent before its time");
    assert_eq!(world.ended("late").await.end(), "skipped:expired");
    assert_eq!(world.ended("old").await.end(), "skipped:expired");
    assert_eq!(world.wechat.got("o-zhang").await, 1);
}

#[tokio::test]
async fn the_last_counted_send_is_used_once_however_many_events_want_it() {
    let world = World::new().await;
    world.user_with("once", "o-once", &json!({"status": "accept", "remaining": 1})).await;
    world.wechat.tell("latency", json!({"ms": 50})).await;
    let _daemon = world.daemon().await;

    world.publish_all((1..=20).map(|n| event(&format!("rush-{n}")).to(&["once"]))).await;

    world.all_ended(20).await;
    let mut ends: Vec<String> = world.ledger().await.iter().map(|row| row.end()).collect();
    ends.sort();
    ends.dedup();
    assert_eq!(ends, ["sent", "skipped:quota_used"]);
    assert_eq!(world.wechat.send_requests().await, 1, "WeChat was asked although the consent was used up");
}
