//! What became of it, and who did it.

use serde_json::{Value, json};

use super::{ALL, replay, settled, states_when, world_with_dead_letters};
use crate::support::{World, event};

#[tokio::test]
async fn what_wechat_refused_goes_out_when_the_trouble_is_over() {
    let world = World::new().await;
    world.crowd(3).await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 47003}})).await;
    let daemon = world.daemon().await;
    world.publish_all((1..=3).map(|n| event(&format!("pay-{n}")).to(&[&format!("user-{n}")]))).await;
    world.dead_letters_when(3).await;
    world.wechat.heal().await;

    let (code, account) = replay(&world, &format!("--reason content {ALL}")).await;
    assert_eq!((code, &account["state"], &account["published"]), (0, &json!("finished"), &json!(3)));
    let account = settled(&world, account["replay"].as_i64().unwrap()).await;
    assert_eq!(account["outcomes"], json!({"sent": 3}));
    super::everybody_has_his_message(&world, 3).await;
    states_when(&world, "replayed: 3").await;

    let (code, _) = replay(&world, ALL).await;
    assert_eq!(code, 3, "nothing is left to replay");
    assert_eq!(daemon.metric(r#"wechat_notifier_replayed_dead_letters_total{outcome="sent"}"#).await, 3.0);
    let ended = r#"wechat_notifier_replays_total{result="finished"}"#;
    crate::support::eventually("the replay to be counted", async || {
        (daemon.metric(ended).await == 1.0).then_some(())
    })
    .await;
    world.finish(daemon).await;
    world.conserved((1..=3).map(|n| format!("pay-{n}"))).await;
}

#[tokio::test]
async fn what_dies_again_is_linked_to_its_later_dead_letter() {
    let world = world_with_dead_letters(2).await;
    let _daemon = world.daemon().await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 47003}})).await;
    let (_, account) = replay(&world, ALL).await;
    let account = settled(&world, account["replay"].as_i64().unwrap()).await;
    assert_eq!(account["outcomes"], json!({"dead": 2}));
    states_when(&world, "open: 2, replayed: 2").await;

    let history: Value =
        serde_json::from_str(&world.cli(&["dlq", "history", "--id", "1", "--json"]).await).unwrap();
    let fates = history["fates"].as_array().unwrap();
    assert_eq!(
        (&fates[0]["dead_letter"], &fates[0]["outcome"], &fates[0]["reason"]),
        (&json!(1), &json!("dead"), &json!("content"))
    );
    assert!(fates.iter().all(|fate| fate["later_dead_letter"].as_i64().unwrap() > 2), "{fates:?}");

    world.wechat.heal().await;
    let (_, account) = replay(&world, ALL).await;
    assert_eq!(account["dead_letters"], 2, "the later dead letters, and not the first ones again");
    assert_eq!(settled(&world, 2).await["outcomes"], json!({"sent": 2}));
}

#[tokio::test]
async fn the_history_says_who_when_why_and_what() {
    let world = world_with_dead_letters(2).await;
    replay(&world, "--event pay-1").await;
    replay(&world, "--user user-2 --why INC-17").await;
    let history: Value = serde_json::from_str(&world.cli(&["dlq", "history", "--json"]).await).unwrap();
    let (second, first) = (&history[0], &history[1]);
    assert_eq!((&first["filter"], &first["why"]), (&json!({"event_id": "pay-1"}), &Value::Null));
    assert_eq!((&second["filter"], &second["why"]), (&json!({"user": "user-2"}), &json!("INC-17")));
    assert!(!first["operator"].as_str().unwrap().is_empty());
    assert_eq!(first["outcomes"], json!({"in_progress": 1}), "no daemon is at work");
    assert!(world.cli(&["dlq", "history", "--id", "2"]).await.contains("openid…"), "masked");
}

#[tokio::test]
async fn a_skip_comes_back_as_a_skip() {
    let world = world_with_dead_letters(1).await;
    world.sql("UPDATE t_wechat_user SET subscribe_template = '{}'").await;
    let _daemon = world.daemon().await;
    replay(&world, ALL).await;
    let account = settled(&world, 1).await;
    assert_eq!(account["outcomes"], json!({"skipped": 1}), "consent is asked at the claim");
    assert_eq!(world.ledger().await[0].end(), "skipped:not_subscribed");
}
