//! An app is sent to at its rate and no oftener in a day than its quota allows, however many processes send.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{APP, Daemon, EventBody, World, event, eventually};

const OTHER: &str = "wx-other";
/// What a bucket may hold, and what a second's edge may shift, in requests.
const SLACK: usize = 5;

fn payments(count: i32) -> impl Iterator<Item = EventBody> {
    (1..=count).map(|n| event(&format!("e-{n}")).to(&[&format!("user-{n}")]))
}

impl World {
    /// Changes a column of the usual app's row, as an operator would.
    async fn limit(&self, option: &str, limit: &str) {
        self.cli(&["app", "set", "--app-id", APP, option, limit]).await;
    }

    /// When WeChat received each request to send for an app, in seconds, in their order.
    async fn request_times(&self, app_id: &str) -> Vec<f64> {
        let answer = self.wechat.ask(&format!("requests?path=send&appid={app_id}&limit=10000")).await;
        let requests = answer["requests"].as_array().unwrap().iter();
        requests.map(|request| request["received_us"].as_f64().unwrap() / 1e6).collect()
    }

    async fn lane_holds(&self, count: u32) {
        eventually(&format!("the lane to hold {count}"), async || {
            (self.depth(&format!("lane.{APP}")).await == Some(count)).then_some(())
        })
        .await;
    }

    async fn usual_app(&self) -> Value {
        let apps: Value = serde_json::from_str(&self.cli(&["app", "list", "--json"]).await).unwrap();
        apps.as_array().unwrap().iter().find(|app| app["app_id"] == APP).unwrap().clone()
    }
}

/// The most requests in any second.
fn busiest_second(times: &[f64]) -> usize {
    let within = |from: &f64| times.iter().filter(|at| (*from..*from + 1.0).contains(*at)).count();
    times.iter().map(within).max().unwrap_or_default()
}

fn span(times: &[f64]) -> f64 {
    times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0)
}

#[tokio::test]
async fn an_app_is_sent_to_at_its_rate_and_another_as_fast_as_it_goes() {
    let world = World::new().await;
    world.crowd(120).await;
    world.app(OTHER, "secret").await;
    for n in 1..=50 {
        let (user, openid) = (format!("other-{n}"), format!("o-{n}"));
        world.user_of(OTHER, &user, &openid, &json!({"status": "accept"})).await;
    }
    world.limit("--rate-per-second", "20").await;
    let _daemon = world.daemon().await;

    world.publish_all(payments(120)).await;
    world
        .publish_all(
            (1..=50).map(|n| event(&format!("o-{n}")).with("app_id", OTHER).to(&[&format!("other-{n}")])),
        )
        .await;

    eventually("the other app's events to be sent", async || {
        (world.wechat.ask(&format!("sent?appid={OTHER}")).await["total"] == 50).then_some(())
    })
    .await;
    let meanwhile = world.request_times(APP).await.len();
    assert!(meanwhile < 110, "the other app waited for {meanwhile} of the limited one's 120");
    world.all_ended(170).await;
    let times = world.request_times(APP).await;
    assert!(busiest_second(&times) <= 20 + SLACK, "{} in one second", busiest_second(&times));
    assert!(span(&times) < 10.0, "a hundred and twenty at 20/s took {} s", span(&times));
    assert!(world.ledger().await.iter().all(|row| row.end() == "sent" && row.attempts == 1));
    world.conserved([]).await;
}

#[tokio::test]
async fn two_processes_share_a_rate_and_a_newcomer_takes_nothing_on_top() {
    let world = World::new().await;
    world.crowd(300).await;
    world.limit("--rate-per-second", "20").await;
    let _first = world.daemon().await;
    world.publish_all(payments(300)).await;
    world.ends_when("sent", 20).await;

    let _second = world.daemon().await;
    world.all_ended(300).await;

    let times = world.request_times(APP).await;
    assert!(busiest_second(&times) <= 20 + SLACK, "{} in one second", busiest_second(&times));
    assert!(span(&times) < 25.0, "three hundred at 20/s took {} s", span(&times));
    assert!(world.ledger().await.iter().all(|row| row.end() == "sent" && row.attempts == 1));
    world.conserved([]).await;
}

#[tokio::test]
async fn a_payment_overtakes_the_fan_out_of_its_limited_app() {
    let world = World::new().await;
    world.crowd(600).await;
    world.rule_for_all_and(&[]).await;
    world.user("payer", "o-payer").await;
    world.limit("--rate-per-second", "10").await;
    let _daemon = world.daemon().await;
    world.publish(event("news")).await;
    world.ends_when("sent", 10).await;

    world.publish(event("payment").to(&["payer"])).await;
    let before = world.wechat.send_requests().await;
    world.row_when("payment", "sent", |row| row.status == "sent").await;

    let overtaken_by = world.wechat.send_requests().await - before;
    assert!(overtaken_by <= 10, "{overtaken_by} requests of the fan-out went before the payment");
    world.limit("--rate-per-second", "0").await;
    world.all_ended(601).await;
    world.conserved(["news".to_owned()]).await;
}

#[tokio::test]
async fn a_changed_rate_holds_without_a_restart_and_what_waited_did_not_cycle() {
    let world = World::new().await;
    world.crowd(200).await;
    world.limit("--rate-per-second", "1").await;
    let daemon = world.daemon_with(&[("DELIVERY__MAX_HOLD", "4s")]).await;
    world.publish_all(payments(200)).await;
    eventually("most to wait in the lane", async || {
        world.depth(&format!("lane.{APP}")).await.filter(|depth| *depth > 190)
    })
    .await;
    world.ends_when("sent", 4).await;
    assert_eq!(world.depth("retry.100ms").await, Some(0), "the lane's messages go round the ladder");

    world.limit("--rate-per-second", "500").await;
    world.all_ended(200).await;
    let claims = daemon.metric(r#"wechat_notifier_batch_size_sum{statement="claim"}"#).await;
    assert_eq!(claims, 200.0);
    world.conserved([]).await;
}

#[tokio::test]
async fn two_processes_never_exceed_the_days_quota_and_the_rest_waits_uncharged() {
    let world = World::new().await;
    world.crowd(80).await;
    world.limit("--daily-quota", "50").await;
    let (first, _second) = (world.daemon().await, world.daemon().await);

    world.publish_all(payments(80)).await;
    world.ends_when("sent", 50).await;
    world.lane_holds(30).await;
    assert_eq!(world.wechat.send_requests().await, 50);
    let app = world.usual_app().await;
    assert_eq!((&app["daily_quota"], &app["quota_used"]), (&json!(50), &json!(50)));
    assert!(world.cli(&["app", "list"]).await.contains("50/50"));
    let paused = format!("wechat_notifier_app_paused{{app_id=\"{APP}\",reason=\"quota\"}}");
    eventually("the pause in the metrics", async || (first.metric(&paused).await == 1.0).then_some(())).await;

    world.limit("--daily-quota", "70").await;
    world.ends_when("sent", 70).await;
    world.lane_holds(10).await;
    assert_eq!(world.wechat.send_requests().await, 70);

    world.limit("--daily-quota", "0").await;
    world.all_ended(80).await;
    assert!(world.ledger().await.iter().all(|row| row.end() == "sent" && row.attempts == 1));
    world.conserved([]).await;
}

#[tokio::test]
async fn a_stop_gives_unspent_quota_back_and_a_crash_never_invents_any() {
    let world = World::new().await;
    world.crowd(60).await;
    world.limit("--daily-quota", "40").await;
    let first = world.daemon().await;
    world.publish_all(payments(10)).await;
    world.all_ended(10).await;
    stop(first).await;
    assert_eq!(world.usual_app().await["quota_used"], 10, "what was not spent did not come back");

    let mut second = world.daemon().await;
    world.publish_all((11..=20).map(|n| event(&format!("e-{n}")).to(&[&format!("user-{n}")]))).await;
    world.all_ended(20).await;
    second.kill();

    let _third = world.daemon().await;
    world.publish_all((21..=60).map(|n| event(&format!("e-{n}")).to(&[&format!("user-{n}")]))).await;
    eventually("the quota to be used up", async || {
        (world.usual_app().await["quota_used"] == 40).then_some(())
    })
    .await;
    // What the killed one held in hand counts as used: a tenth of what was left, and one.
    let expected = 36..=40;
    eventually("the rest to wait", async || {
        let sent = world.wechat.send_requests().await;
        let lane = i64::from(world.depth(&format!("lane.{APP}")).await?);
        (expected.contains(&sent) && sent + lane == 60).then_some(())
    })
    .await;
}

#[tokio::test]
async fn quota_in_hand_outlives_a_database_that_refuses_to_take_it_back() {
    let world = World::new().await;
    world.crowd(2).await;
    // A tenth of it, and one, are taken at once: three.
    world.limit("--daily-quota", "20").await;
    let daemon = world.daemon().await;
    world.publish(event("e-1").to(&["user-1"])).await;
    world.ends_when("sent", 1).await;
    assert_eq!(world.usual_app().await["quota_used"], 3);

    world.sql("ALTER TABLE t_wechat_quota ADD CONSTRAINT refused CHECK (used > 2)").await;
    world.limit("--daily-quota", "30").await;
    world.publish(event("e-2").to(&["user-2"])).await;
    daemon.says(&["cannot reserve quota"]).await;
    world.sql("ALTER TABLE t_wechat_quota DROP CONSTRAINT refused").await;
    world.ends_when("sent", 2).await;
    stop(daemon).await;
    assert_eq!(world.usual_app().await["quota_used"], 2, "permits were lost on the way");
}

#[tokio::test]
async fn yesterdays_use_does_not_count_today() {
    let world = World::new().await;
    world.crowd(20).await;
    world.limit("--daily-quota", "10").await;
    let _daemon = world.daemon().await;
    world.publish_all(payments(20)).await;
    world.ends_when("sent", 10).await;
    world.lane_holds(10).await;

    // Midnight, for once, comes by moving the books.
    world.sql("UPDATE t_wechat_quota SET day = day - 1").await;

    world.all_ended(20).await;
    assert_eq!(world.ends().await, BTreeMap::from([("sent".to_owned(), 20)]));
    world.conserved([]).await;
}

async fn stop(mut daemon: Daemon) {
    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));
}
