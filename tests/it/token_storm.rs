//! Token trouble under load is the app's affair: no delivery pays for it.

use serde_json::json;

use crate::support::{APP, TEMPLATE, World, event};

const USERS: i32 = 2_000;
/// Requests that meet the dead token, of the 64 that two processes have on their way at once.
const STORM: i64 = 50;
const OTHER_APP: &str = "wx-other";

#[tokio::test]
async fn a_stable_token_killed_under_load_is_fetched_anew_once() {
    a_killed_token_is_fetched_anew_once("stable").await;
}

#[tokio::test]
async fn a_classic_token_killed_under_load_is_fetched_anew_once() {
    a_killed_token_is_fetched_anew_once("classic").await;
}

/// Two processes, many requests on their way, and a third party invalidates the token that all of them use.
async fn a_killed_token_is_fetched_anew_once(token_api: &str) {
    let world = World::new().await;
    world.crowd(USERS).await;
    world.db.execute("UPDATE t_wechat_app SET token_api = $1", &[&token_api]).await.unwrap();
    world.wechat.tell("latency", json!({"ms": 100, "appid": APP})).await;
    // Within such a lease a delivery can outlast the slow refusal and the fetch, and be sent by the same claim.
    let settings =
        [("DELIVERY__CONCURRENCY", "32"), ("AMQP__PREFETCH", "64"), ("DELIVERY__LEASE_MARGIN", "5s")];
    let (one, two) = tokio::join!(world.daemon_with(&settings), world.daemon_with(&settings));
    world.publish_all((1..=USERS).map(|n| event(&format!("pay-{n}")).to(&[&format!("user-{n}")]))).await;
    world.wechat.requests_reach(100).await;
    assert_eq!(world.wechat.token_fetches(APP).await, 1, "the two processes share one token");

    // WeChat takes its time to refuse, so that most slots of both processes are on their way with the dead token.
    let refuse_slowly = json!({"errcode": 40001, "delay_ms": 1_000});
    world.wechat.fault(json!({"match": {"path": "send"}, "times": STORM, "action": refuse_slowly})).await;
    world.wechat.tell("tokens/invalidate", json!({"appid": APP})).await;

    world.all_ended(USERS.into()).await;
    let stats = world.wechat.ask("stats").await;
    let rejected = stats["sends_by_errcode"]["40001"].as_i64().unwrap_or_default();
    assert!(rejected >= STORM, "that was no storm: {rejected} requests met the dead token");
    assert_eq!(
        world.wechat.token_fetches(APP).await,
        2,
        "{rejected} rejections: one fetch more, and no other"
    );
    for row in world.ledger().await {
        assert_eq!((row.end().as_str(), row.attempts, row.unknowns), ("sent", 1, 0), "{row:?}");
    }
    world.finish(one).await;
    world.finish(two).await;
    assert_eq!(world.conserved((1..=USERS).map(|n| format!("pay-{n}"))).await, 0);
    assert_eq!(world.wechat.got_by_all().await, i64::from(USERS));
}

#[tokio::test]
async fn an_app_with_a_wrong_secret_waits_uncharged_while_the_others_flow() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.app(OTHER_APP, "right").await;
    set_secret(&world, "wrong").await;
    bind_to_other_app(&world, "o-other").await;
    let daemon = world.daemon().await;

    let stuck =
        |n: u32| event(&format!("stuck-{n}")).with("app_id", OTHER_APP).with("openids", json!(["o-other"]));
    world.publish_all((1..=5).map(stuck)).await;
    world.publish_all((1..=5).map(|n| event(&format!("flows-{n}")).to(&["zhangsan"]))).await;
    for n in 1..=5 {
        assert_eq!(world.ended(&format!("flows-{n}")).await.end(), "sent");
    }
    assert_eq!(world.wechat.got("o-other").await, 0);
    assert!(
        world.ledger().await.iter().all(|row| row.event_id.starts_with("flows")),
        "a stuck delivery was claimed"
    );

    set_secret(&world, "right").await;
    for n in 1..=5 {
        let row = world.ended(&format!("stuck-{n}")).await;
        assert_eq!(
            (row.end().as_str(), row.attempts),
            ("sent", 1),
            "the app's trouble was charged to a delivery"
        );
    }
    world.finish(daemon).await;
    let ids = (1..=5).flat_map(|n| [format!("stuck-{n}"), format!("flows-{n}")]);
    assert_eq!(world.conserved(ids).await, 0);
    assert_eq!((world.wechat.got("o-other").await, world.wechat.doubles().await), (5, 0));
}

/// What an operator does by hand; nobody tells the daemon.
async fn set_secret(world: &World, secret: &str) {
    let set = "UPDATE t_wechat_app SET app_secret = $2 WHERE app_id = $1";
    world.db.execute(set, &[&OTHER_APP, &secret]).await.unwrap();
}

async fn bind_to_other_app(world: &World, openid: &str) {
    world
        .db
        .execute(
            "INSERT INTO t_wechat_user (app_id, openid, subscribe_template) VALUES ($1, $2, $3)",
            &[&OTHER_APP, &openid, &json!({ TEMPLATE: {"status": "accept"} })],
        )
        .await
        .unwrap();
}
