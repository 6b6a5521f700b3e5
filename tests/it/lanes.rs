//! One bad app harms only itself: pauses, probes, lanes and shares.

use serde_json::json;

use crate::support::{APP, World, event, eventually};

const OTHER: &str = "wx-other";

/// A second app, with one user of its own.
async fn with_other_app(world: &World) {
    world.app(OTHER, "secret").await;
    let record = json!({ crate::support::TEMPLATE: {"status": "accept"} });
    world
        .db
        .execute(
            "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template) VALUES ($1, 'o-other', 'other', $2)",
            &[&OTHER, &record],
        )
        .await
        .unwrap();
}

fn of_other(event_id: &str) -> crate::support::EventBody {
    event(event_id).with("app_id", OTHER).to(&["other"])
}

#[tokio::test]
async fn a_wrong_secret_stops_that_app_alone_until_it_is_corrected() {
    let world = World::new().await;
    with_other_app(&world).await;
    world.crowd(30).await;
    world
        .db
        .execute("UPDATE t_wechat_app SET app_secret = 'wrong' WHERE app_id = $1", &[&APP])
        .await
        .unwrap();
    let daemon = world.daemon().await;

    world.publish_all((1..=30).map(|n| event(&format!("waits-{n}")).to(&[&format!("user-{n}")]))).await;
    world.publish(of_other("flows")).await;

    assert_eq!(world.ended("flows").await.end(), "sent");
    eventually("the lane to hold the waiting events", async || {
        (world.depth(&format!("lane.{APP}")).await == Some(30)).then_some(())
    })
    .await;
    let paused = format!("wechat_notifier_app_paused{{app_id=\"{APP}\",reason=\"secret_wrong\"}}");
    assert_eq!(daemon.metric(&paused).await, 1.0);
    let lane = |metric: &str| format!("wechat_notifier_lane_{metric}{{app_id=\"{APP}\"}}");
    eventually("the lane's depth and age to show", async || {
        let (depth, age) =
            (daemon.metric(&lane("depth")).await, daemon.metric(&lane("filled_seconds")).await);
        (depth == 30.0 && age > 0.0).then_some(())
    })
    .await;
    // Nothing is written of it yet, and still its account says where it may be.
    let why = world.command(&["deliveries", "why", "waits-7"]).await;
    let said = String::from_utf8_lossy(&why.stderr);
    assert!(said.contains(&format!("wait at the broker: {}.lane.{APP} (30)", world.name)), "{said}");
    assert_eq!(why.status.code(), Some(3));

    world
        .db
        .execute("UPDATE t_wechat_app SET app_secret = 'secret' WHERE app_id = $1", &[&APP])
        .await
        .unwrap();
    world.all_ended(31).await;
    assert!(world.ledger().await.iter().all(|row| row.end() == "sent" && row.attempts == 1));
    assert_eq!(daemon.metric(&paused).await, 0.0);
    world.conserved([]).await;
}

#[tokio::test]
async fn a_refused_app_is_probed_and_its_messages_wait_uncharged() {
    let world = World::new().await;
    world.crowd(40).await;
    let _daemon = world.daemon().await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 48001}})).await;

    world.publish_all((1..=40).map(|n| event(&format!("e-{n}")).to(&[&format!("user-{n}")]))).await;
    // Everything has ended up in the lane, but for the probe that may be out.
    eventually("the lane to fill", async || {
        world.depth(&format!("lane.{APP}")).await.filter(|depth| *depth >= 39)
    })
    .await;
    let asked = world.wechat.send_requests().await;
    assert!(asked < 60, "{asked} requests to an app that refuses all of them");

    world.wechat.heal().await;
    world.all_ended(40).await;
    assert!(world.ledger().await.iter().all(|row| row.end() == "sent" && row.attempts == 1));
    world.conserved([]).await;
}

#[tokio::test]
async fn a_lane_that_a_dead_process_left_is_found_by_the_next() {
    let world = World::new().await;
    world.crowd(10).await;
    world
        .db
        .execute("UPDATE t_wechat_app SET app_secret = 'wrong' WHERE app_id = $1", &[&APP])
        .await
        .unwrap();
    let mut daemon = world.daemon().await;
    world.publish_all((1..=10).map(|n| event(&format!("e-{n}")).to(&[&format!("user-{n}")]))).await;
    eventually("the lane to fill", async || {
        world.depth(&format!("lane.{APP}")).await.filter(|depth| *depth == 10)
    })
    .await;
    daemon.kill();

    world
        .db
        .execute("UPDATE t_wechat_app SET app_secret = 'secret' WHERE app_id = $1", &[&APP])
        .await
        .unwrap();
    let _next = world.daemon().await;
    world.all_ended(10).await;
    world.conserved([]).await;
}

#[tokio::test]
async fn a_slow_app_does_not_delay_another() {
    let world = World::new().await;
    with_other_app(&world).await;
    world.crowd(2_000).await;
    world.wechat.tell("latency", json!({"ms": 1_500, "appid": APP})).await;
    let _daemon = world.daemon().await;

    world.publish_all((1..=2_000).map(|n| event(&format!("slow-{n}")).to(&[&format!("user-{n}")]))).await;
    eventually("the slow app to have its share", async || {
        (world.wechat.send_requests().await >= 100).then_some(())
    })
    .await;
    world
        .publish_all((1..=50).map(|n| of_other(&format!("quick-{n}")).with("deliver_after", json!(null))))
        .await;

    eventually("the other app's events to be sent", async || {
        (world.wechat.ask(&format!("sent?appid={OTHER}")).await["total"] == 50).then_some(())
    })
    .await;
    let slow = world.wechat.ask(&format!("sent?appid={APP}")).await["total"].as_i64().unwrap();
    assert!(slow < 1_500, "the other app had to wait until {slow} of the slow one's 2,000 were through");
    world.all_ended(2_050).await;
    world.conserved([]).await;
}
