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
    assert_eq!(world.ended("refused-2").await.end(), "skipped:rejected");
    assert_eq!(world.wechat.send_requests().await, 2, "a closed consent was tried again");
}

/// Whoever reads the ledger must see a refusal as one, an unknown openid as one, and neither as a used-up quota.
#[tokio::test]
async fn a_closed_consent_says_for_ever_after_why_it_was_closed() {
    let world = World::new().await;
    world.user_with("refuser", "o-refuser", &json!({"status": "accept", "remaining": 3})).await;
    world.user_with("stranger", "o-stranger", &json!({"status": "accept", "remaining": 3})).await;
    world.user_with("used", "o-used", &json!({"status": "accept", "remaining": 1})).await;
    for (openid, errcode) in [("o-refuser", 43101), ("o-stranger", 40003)] {
        let selector = json!({"path": "send", "openid": openid});
        world.wechat.fault(json!({"match": selector, "action": {"errcode": errcode}})).await;
    }
    // The first request's answer never comes, and the second one is refused: the first has used the last send.
    let selector = json!({"path": "send", "openid": "o-used"});
    world.wechat.fault(json!({"match": selector, "times": 1, "action": "hang"})).await;
    world.wechat.fault(json!({"match": selector, "times": 1, "action": {"errcode": 43101}})).await;
    let _daemon = world.daemon().await;

    let ends = [("refuser", "rejected"), ("stranger", "bad_openid"), ("used", "refused_after_unknown")];
    for (user, reason) in ends {
        world.publish(event(&format!("{user}-1")).to(&[user])).await;
        assert_eq!(world.ended(&format!("{user}-1")).await.end(), format!("skipped:{reason}"));
    }
    world.wechat.heal().await;
    for (user, reason) in [("refuser", "rejected"), ("stranger", "bad_openid"), ("used", "quota_used")] {
        world.publish(event(&format!("{user}-2")).to(&[user])).await;
        assert_eq!(world.ended(&format!("{user}-2")).await.end(), format!("skipped:{reason}"));
    }
    let why = world.cli(&["deliveries", "why", "refuser-2"]).await;
    assert!(why.contains("had refused this template") && !why.contains("used up"), "{why}");
}

#[tokio::test]
async fn a_user_who_is_switched_off_while_waiting_is_disabled() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(2);
    world.publish(event("later").to(&["zhangsan"]).with("deliver_after", soon.to_string())).await;
    world.row_when("later", "planned", |row| row.status == "planned").await;
    world.db.execute("UPDATE t_wechat_user SET status = 0", &[]).await.unwrap();
    assert_eq!(world.ended("later").await.end(), "skipped:disabled");
    assert_eq!(world.wechat.send_requests().await, 0);
}

#[tokio::test]
async fn the_end_of_time_is_a_time_to_expire_at() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;
    let never = "9999-12-31T23:59:59Z";
    world
        .publish_all([
            event("now").to(&["zhangsan"]).with("expires_at", never),
            event("far")
                .to(&["zhangsan"])
                .with("deliver_after", "9999-12-30T00:00:00Z")
                .with("expires_at", never),
        ])
        .await;
    assert_eq!(world.ended("now").await.end(), "sent");
    world.row_when("far", "planned", |row| row.status == "planned").await;
}

/// Anybody who may publish can set any header.
#[tokio::test]
async fn headers_of_ours_on_a_publisher_s_event_mean_nothing() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    let forged = std::collections::BTreeMap::from([
        ("x-wn-even-expired", "true"),
        ("x-wn-due", "4000000000000"),
        ("x-wn-replay", "7"),
        ("x-wn-version", "1"),
        ("x-wn-epoch", "5"),
    ]);
    let body = |event: crate::support::EventBody| vec![event.0.to_string().into_bytes()];
    let old = |id: &str| event(id).to(&["zhangsan"]).with("expires_at", "2020-01-01T00:00:00Z");
    world.publish_raw(body(event("fresh").to(&["zhangsan"])), &forged).await;
    world.publish_raw(body(old("old")), &forged).await;
    let row = world.ended("fresh").await;
    assert_eq!((row.end().as_str(), row.epoch), ("sent", 0));
    assert_eq!(world.ended("old").await.end(), "skipped:expired");

    // Nor by way of the lane, where our own replays come from.
    world.cli(&["app", "pause", crate::support::APP, "--why", "story"]).await;
    let paused =
        format!(r#"wechat_notifier_app_paused{{app_id="{}",reason="by_hand"}}"#, crate::support::APP);
    crate::support::eventually("the pause", async || (daemon.metric(&paused).await == 1.0).then_some(()))
        .await;
    world.publish_raw(body(old("laned")), &forged).await;
    let lane = format!("lane.{}", crate::support::APP);
    crate::support::eventually("the lane", async || (world.depth(&lane).await == Some(1)).then_some(()))
        .await;
    world.cli(&["app", "resume", crate::support::APP]).await;
    assert_eq!(world.ended("laned").await.end(), "skipped:expired");
    assert_eq!(world.wechat.got("o-zhang").await, 1);
}

#[tokio::test]
async fn a_hiccup_is_ridden_out_in_place_and_a_longer_trouble_on_the_ladder() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;

    world.wechat.fault(json!({"match": {"path": "send"}, "times": 2, "action": {"errcode": -1}})).await;
    world.publish(event("hiccup").to(&["zhangsan"])).await;
    let row = world.ended("hiccup").await;
    assert_eq!((row.end().as_str(), row.epoch, row.attempts), ("sent", 0, 3));

    world.wechat.fault(json!({"match": {"path": "send"}, "times": 9, "action": {"http_status": 503}})).await;
    world.publish(event("trouble").to(&["zhangsan"])).await;
    let row = world.ended("trouble").await;
    assert_eq!((row.end().as_str(), row.attempts), ("sent", 10));
    assert!(row.epoch >= 1, "the delivery never went to the ladder");
    assert_eq!(world.wechat.got("o-zhang").await, 2);
}

#[tokio::test]
async fn a_ladder_climbed_to_its_end_leaves_a_dead_letter() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon_with(&[("RETRY__DELAYS", r#"["50ms", "100ms"]"#)]).await;

    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": -1}})).await;
    world.publish(event("doomed").to(&["zhangsan"])).await;

    assert_eq!(world.ended("doomed").await.end(), "dead:exhausted");
    assert_eq!(world.dead_letters_when(1).await, ["exhausted"]);
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
    assert_eq!((row.end().as_str(), row.attempts, row.epoch), ("sent", 1, 0));
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
