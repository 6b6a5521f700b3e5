//! `app pause` and `app resume`.

use serde_json::{Value, json};

use crate::support::{APP, Daemon, EventBody, TEMPLATE, World, event, eventually};

const OTHER: &str = "wx-other";

fn paused(app_id: &str) -> String {
    format!("wechat_notifier_app_paused{{app_id=\"{app_id}\",reason=\"by_hand\"}}")
}

async fn is_paused(daemon: &Daemon) {
    eventually("the daemon to hear of the pause", async || {
        (daemon.metric(&paused(APP)).await == 1.0).then_some(())
    })
    .await;
}

fn to_user(n: usize) -> EventBody {
    event(&format!("e-{n}")).to(&[&format!("user-{n}")])
}

async fn is_shown_as_paused(world: &World, reason: &str) -> bool {
    let apps: Value = serde_json::from_str(&world.cli(&["app", "list", "--json"]).await).unwrap();
    apps[0]["pauses"].as_array().unwrap().iter().any(|pause| pause["reason"] == reason)
}

async fn lane_holds(world: &World, messages: u32) {
    eventually(&format!("{messages} messages in the lane"), async || {
        (world.depth(&format!("lane.{APP}")).await == Some(messages)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pause_by_hand_holds_for_all_processes_and_over_a_restart() {
    let world = World::new().await;
    world.crowd(15).await;
    world.app(OTHER, "secret").await;
    world.user_of(OTHER, "other", "o-other", &json!({ "status": "accept" })).await;
    let (mut one, other) = (world.daemon().await, world.daemon().await);
    world.cli(&["app", "pause", APP, "--why", "wrong price"]).await;
    is_paused(&one).await;
    is_paused(&other).await;

    world.publish_all((1..=10).map(to_user)).await;
    lane_holds(&world, 10).await;
    one.kill();
    // It consumes from its first moment on, and must not send over the operator's head.
    let _next = world.daemon().await;
    world.publish_all((11..=15).map(to_user)).await;
    world.publish(event("flows").with("app_id", OTHER).to(&["other"])).await;
    assert_eq!(world.ended("flows").await.end(), "sent");
    lane_holds(&world, 15).await;
    assert_eq!(world.wechat.send_requests().await, 1, "the paused app was sent to");
    assert!(world.cli(&["app", "list"]).await.contains("wrong price"));

    world.cli(&["app", "resume", APP]).await;
    world.all_ended(16).await;
    assert!(world.ledger().await.iter().all(|row| (row.end().as_str(), row.attempts) == ("sent", 1)));
    assert_eq!(other.metric(&paused(APP)).await, 0.0);
    world.conserved([]).await;
}

#[tokio::test]
async fn why_names_the_pause_that_a_delivery_waits_for() {
    let world = World::new().await;
    world.crowd(1).await;
    let _daemon = world.daemon().await;
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    world.publish(to_user(1).with("deliver_after", tomorrow.to_string())).await;
    world.row_when("e-1", "planned", |row| row.status == "planned").await;
    world.cli(&["app", "pause", APP, "--why", "wrong price"]).await;

    let told = world.cli(&["deliveries", "why", "e-1"]).await;
    for words in ["its app is paused as by_hand since", "wrong price", "what to do: ask that operator"] {
        assert!(told.contains(words), "`{words}` is missing in {told}");
    }
    let output = world.command(&["deliveries", "why", "never-seen"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("app {APP} is paused: the event may wait in its lane")), "{said}");
    let told: Value =
        serde_json::from_str(&world.cli(&["deliveries", "why", "e-1", "--json"]).await).unwrap();
    assert_eq!(told["pauses"][0]["reason"], "by_hand");
}

#[tokio::test]
async fn a_template_paused_by_hand_waits_for_the_hand() {
    let world = World::new().await;
    world.crowd(2).await;
    let daemon = world.daemon().await;
    world.cli(&["app", "pause", APP, "--template", TEMPLATE, "--why", "wrong price"]).await;
    daemon.says(&["template paused", "by_hand"]).await;
    world.publish(to_user(1)).await;
    world.row_when("e-1", "planned", |row| row.status == "planned").await;
    assert_eq!(world.wechat.send_requests().await, 0);

    world.cli(&["app", "resume", APP, "--template", TEMPLATE]).await;
    daemon.says(&["template resumed", "by_hand"]).await;
    world.publish(to_user(2)).await;
    assert_eq!(world.ended("e-2").await.end(), "sent");
    world.all_ended(2).await;
    world.conserved([]).await;
}

#[tokio::test]
async fn what_a_daemon_paused_by_itself_is_tried_at_an_operators_word() {
    let world = World::new().await;
    world.crowd(3).await;
    let _daemon = world.daemon().await;
    world.wechat.fault(json!({ "match": { "path": "send" }, "action": { "errcode": 45009 } })).await;
    world.publish_all((1..=3).map(to_user)).await;
    eventually("the pause to be shown", async || is_shown_as_paused(&world, "quota").await.then_some(()))
        .await;
    lane_holds(&world, 3).await;

    world.wechat.heal().await;
    world.cli(&["app", "resume", APP]).await;
    world.all_ended(3).await;
    assert!(world.ledger().await.iter().all(|row| (row.end().as_str(), row.attempts) == ("sent", 1)));
    eventually("the pause to be gone", async || (!is_shown_as_paused(&world, "quota").await).then_some(()))
        .await;
    world.conserved([]).await;
}

#[tokio::test]
async fn what_does_not_exist_can_be_neither_paused_nor_resumed() {
    let world = World::new().await;
    for (arguments, words) in [
        (&["app", "pause", "wx-nobody", "--why", "x"][..], "app wx-nobody is not registered"),
        (&["app", "resume", "wx-nobody"], "app wx-nobody is not registered"),
        (&["app", "resume", APP], "is not paused"),
        (&["app", "resume", APP, "--template", TEMPLATE], "is not paused"),
    ] {
        let output = world.command(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(world.command(&["app", "pause", APP]).await.status.code(), Some(2), "a pause has a why");
}
