//! One event for very many.

mod verdicts;

use std::collections::BTreeMap;

use serde_json::json;
use wechat_notifier::clock;

use crate::support::{APP, TEMPLATE, World, event, eventually};

/// Twelve hundred users, of whom ten each refuse, are banned, have used their consent up, or are switched off.
async fn mixed_crowd(world: &World) {
    world.crowd(1200).await;
    world
        .db
        .execute(
            "UPDATE t_wechat_user SET
                 status = CASE WHEN id <= 40 THEN 1 ELSE 0 END,
                 subscribe_template = jsonb_build_object($1::text, ($2::jsonb) -> ((id::int - 1) / 10))
              WHERE id <= 50",
            &[
                &TEMPLATE,
                &json!([{"status": "reject"}, {"status": "ban"}, {"status": "accept", "remaining": 0}, {},
                        {"status": "accept"}]),
            ],
        )
        .await
        .unwrap();
}

fn expected_ends() -> BTreeMap<String, i64> {
    let ends = [
        ("sent", 1150),
        ("skipped:banned", 10),
        ("skipped:disabled", 10),
        ("skipped:not_bound", 2),
        ("skipped:not_subscribed", 10),
        ("skipped:quota_used", 10),
        ("skipped:rejected", 10),
    ];
    ends.map(|(end, count)| (end.to_owned(), count)).into()
}

#[tokio::test]
async fn a_crowd_that_rules_name_is_reached_once_each_or_skipped_with_a_reason() {
    let world = World::new().await;
    mixed_crowd(&world).await;
    world.rule_for_all_and(&["stranger-1", "stranger-2"]).await;
    world.rule_for_all_and(&["stranger-1", ""]).await;
    let daemon = world.daemon().await;

    world.publish(event("news")).await;

    world.all_ended(1202).await;
    assert_eq!(world.ends().await, expected_ends());
    assert_eq!(world.wechat.send_requests().await, 1150);
    assert_eq!(daemon.metric(r#"wechat_notifier_events_total{result="planned"}"#).await, 1.0);
    world.conserved(["news".to_owned()]).await;

    world.publish(event("news")).await;
    eventually("the second publication to count as a duplicate", async || {
        let duplicates = daemon.metric(r#"wechat_notifier_events_total{result="duplicate"}"#).await;
        (duplicates == 1.0).then_some(())
    })
    .await;
    assert_eq!(world.wechat.send_requests().await, 1150, "the second publication was sent again");
}

#[tokio::test]
async fn a_crowd_that_the_event_names_is_reached_just_so() {
    let world = World::new().await;
    mixed_crowd(&world).await;
    let users = (1..=1200).map(|n| format!("user-{n}"));
    let twice_and_strangers = ["user-700", "stranger-1", "stranger-2", "stranger-2"].map(str::to_owned);
    let openids = ["openid-800", "openid-1"];
    let _daemon = world.daemon().await;

    world
        .publish(
            event("named")
                .with("sys_user_ids", users.chain(twice_and_strangers).collect::<Vec<_>>())
                .with("openids", json!(openids)),
        )
        .await;

    world.all_ended(1202).await;
    assert_eq!(world.ends().await, expected_ends());
    assert_eq!(world.wechat.send_requests().await, 1150);
    world.conserved(["named".to_owned()]).await;
}

#[tokio::test]
async fn a_process_killed_in_the_middle_costs_nobody_anything_and_adds_nobody() {
    let world = World::new().await;
    world.crowd(5000).await;
    world.rule_for_all_and(&[]).await;
    world.wechat.tell("latency", json!({"ms": 20})).await;
    let mut first = world.daemon().await;
    world.publish(event("storm")).await;
    world.ends_when("sent", 1000).await;
    first.kill();
    assert!(world.ends().await["planned"] > 1000, "the kill came too late to be in the middle");

    world.user("newcomer", "o-newcomer").await;
    world.rule(&["newcomer"]).await;
    let _second = world.daemon().await;

    world.all_ended(5000).await;
    let unknowns = world.conserved(["storm".to_owned()]).await;
    assert_eq!(world.ends().await, BTreeMap::from([("sent".to_owned(), 5000)]));
    assert_eq!(world.wechat.got("o-newcomer").await, 0, "a rule made later widened the set");
    let requests = world.wechat.send_requests().await;
    assert!(requests <= 5000 + unknowns, "{requests} requests for 5000 people and {unknowns} unknowns");
}

#[tokio::test]
async fn a_stop_in_the_middle_is_quick_and_the_next_process_goes_on() {
    let world = World::new().await;
    world.crowd(2000).await;
    world.rule_for_all_and(&[]).await;
    world.wechat.tell("latency", json!({"ms": 50})).await;
    let mut first = world.daemon().await;
    world.publish(event("stopped")).await;
    world.ends_when("sent", 200).await;

    first.terminate();
    assert_eq!(first.exit().await, Some(0));
    let ends = world.ends().await;
    assert!(ends["planned"] > 500, "the stop waited for the whole event");
    assert_eq!(ends.get("attempting"), None, "a request was left without its settlement");

    let _second = world.daemon().await;
    world.all_ended(2000).await;
    assert_eq!(world.conserved(["stopped".to_owned()]).await, 0);
    assert_eq!(world.wechat.send_requests().await, 2000);
}

#[tokio::test]
async fn a_payment_overtakes_its_own_apps_fan_out() {
    let world = World::new().await;
    world.crowd(5000).await;
    world.rule_for_all_and(&[]).await;
    world.user("payer", "o-payer").await;
    world.wechat.tell("latency", json!({"ms": 50})).await;
    // Sixteen slots at 50 ms: a second is worth 320 requests at most.
    let _daemon = world.daemon_with(&[("DELIVERY__CONCURRENCY", "16")]).await;
    world.publish(event("news")).await;
    world.ends_when("sent", 100).await;

    let before = world.wechat.send_requests().await;
    world.publish(event("payment").to(&["payer"])).await;
    world.row_when("payment", "sent", |row| row.status == "sent").await;

    let payment = world.wechat.ask("requests?path=send&openid=o-payer").await;
    let number = |answer: &serde_json::Value| answer["requests"][0]["number"].as_i64().unwrap();
    let first = world.wechat.ask("requests?path=send&limit=10000").await;
    let overtaken_by = number(&payment) - number(&first) - before;
    assert!(overtaken_by < 320, "{overtaken_by} requests of the fan-out went before the payment");
    assert!(world.ends().await["planned"] > 3000, "the fan-out was nearly over: nothing was overtaken");
}

#[tokio::test]
async fn a_fan_out_of_a_paused_app_waits_as_one_message() {
    let world = World::new().await;
    world.crowd(2000).await;
    world.rule_for_all_and(&[]).await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 40164}})).await;
    let _daemon = world.daemon().await;

    world.publish(event("paused")).await;

    // The lane holds the event itself, beside the few deliveries that found out about the app.
    eventually("the event to wait in the lane", async || {
        world.depth(&format!("lane.{APP}")).await.filter(|depth| (1..200).contains(depth))
    })
    .await;
    assert!(world.ends().await["planned"] >= 1900, "most rows should never have been touched");
    world.wechat.heal().await;
    world.all_ended(2000).await;
    assert_eq!(world.ends().await, BTreeMap::from([("sent".to_owned(), 2000)]));
    assert!(world.ledger().await.iter().all(|row| row.attempts == 1), "the app's fault was charged");
    world.conserved(["paused".to_owned()]).await;
}

#[tokio::test]
async fn a_fan_out_for_later_is_in_the_books_at_once_and_out_in_time() {
    let world = World::new().await;
    world.crowd(600).await;
    world.rule_for_all_and(&[]).await;
    let _daemon = world.daemon().await;
    let soon = clock::now() + jiff::SignedDuration::from_secs(3);

    world.publish(event("later").with("deliver_after", soon.to_string())).await;

    world.ends_when("planned", 600).await;
    assert!(clock::now() < soon, "the rows came too late to tell");
    assert_eq!(world.wechat.send_requests().await, 0);
    world.all_ended(600).await;
    assert!(clock::now() >= soon, "sent before its time");
    assert_eq!(world.ends().await, BTreeMap::from([("sent".to_owned(), 600)]));
    world.conserved(["later".to_owned()]).await;
}

#[tokio::test]
async fn an_app_removed_in_the_middle_leaves_a_dead_letter_for_everybody_who_was_left() {
    let world = World::new().await;
    world.crowd(600).await;
    world.rule_for_all_and(&[]).await;
    let mut first = world.daemon_with(&[("FAILPOINT", "set_written")]).await;
    world.publish(event("orphaned")).await;
    first.exit().await;
    assert_eq!(world.ends().await, BTreeMap::from([("planned".to_owned(), 600)]));

    world.db.execute("DELETE FROM t_wechat_app WHERE app_id = $1", &[&APP]).await.unwrap();
    let _second = world.daemon().await;

    world.all_ended(600).await;
    assert_eq!(world.ends().await, BTreeMap::from([("dead:unknown_app".to_owned(), 600)]));
    world.dead_letters_when(600).await;
    world.conserved(["orphaned".to_owned()]).await;
}

#[tokio::test]
async fn another_event_under_the_same_id_is_refused_however_many_it_names() {
    let world = World::new().await;
    world.crowd(600).await;
    world.rule_for_all_and(&[]).await;
    let _daemon = world.daemon().await;
    world.publish(event("twice")).await;
    world.all_ended(600).await;

    world.publish(event("twice").with("page", "pages/other")).await;

    assert_eq!(world.dead_letters_when(1).await, ["event_id_reused"]);
    assert_eq!(world.wechat.send_requests().await, 600);
}
