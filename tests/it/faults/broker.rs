//! The broker is unreachable, in the ways a network has, and full.

use serde_json::json;

use super::load::{Load, Toll, USERS};
use crate::support::{APP, Proxy, eventually};

#[tokio::test]
async fn a_daemon_cut_off_from_the_broker_goes_on_sending_and_nothing_is_doubled() {
    let load = Load::new().await;
    let road = Proxy::to(&load.world.amqp_url).await;
    let one = load.daemon(&[("AMQP__URL", &road.url)]).await;
    load.begins().await;

    // The broker hands what the first one holds to the second; the first one does not know.
    road.part();
    let two = load.daemon(&[]).await;
    let before = attempts(&one).await;
    eventually("the one that was cut off to send on", async || (attempts(&one).await > before).then_some(()))
        .await;
    load.sent_reaches(i64::from(USERS) * 9 / 10).await;
    road.heal();

    one.says(&["lost the connection to the broker"]).await;
    assert_eq!(load.everybody_is_served([one, two]).await.doubles, 0, "the ledger knew of each");
}

async fn attempts(daemon: &crate::support::Daemon) -> f64 {
    daemon.metric("wechat_notifier_attempt_seconds_count").await
}

#[tokio::test]
async fn connections_to_the_broker_that_break_again_and_again_cost_nothing() {
    let load = Load::new().await;
    let road = Proxy::to(&load.world.amqp_url).await;
    let daemon = load.daemon(&[("AMQP__URL", &road.url)]).await;
    load.begins().await;

    for part in 2..6 {
        road.cut();
        load.sent_reaches(i64::from(USERS) * part / 8).await;
    }
    assert_eq!(load.everybody_is_served([daemon]).await, Toll::NOTHING);
}

#[tokio::test]
async fn a_broker_that_is_slow_and_then_stands_still_is_waited_for() {
    let load = Load::new().await;
    let road = Proxy::to(&load.world.amqp_url).await;
    // Silence is noticed after two heartbeats, which are further apart unless the URL says so.
    let url = format!("{}?heartbeat=2", road.url);
    let daemon = load.daemon(&[("AMQP__URL", &url)]).await;
    load.begins().await;

    road.delay(std::time::Duration::from_millis(100));
    load.sent_reaches(i64::from(USERS) / 2).await;
    road.stall();
    daemon.not_ready("broker_consuming").await;
    road.heal();
    assert_eq!(load.everybody_is_served([daemon]).await, Toll::NOTHING);
}

/// In a memory alarm the broker reads from nobody who publishes. Consuming, and acks, must not stand behind that.
#[tokio::test]
async fn a_broker_in_alarm_is_said_to_be_and_holds_up_only_what_must_be_published() {
    let load = Load::on_own_servers("alarm").await;
    let servers = load.servers.as_ref().unwrap();
    let daemon = load.daemon(&[]).await;
    load.begins().await;
    // The broker blocks whoever publishes: while the alarm comes up, there must be somebody who has to be tried again.
    let away = json!({"http_status": 503, "headers": {"Retry-After": "0"}});
    let rule = json!({"match": {"path": "send"}, "every": 8, "times": 20, "action": away});
    load.world.wechat.fault(rule).await;
    load.world.wechat.tell("latency", json!({"ms": 400, "appid": APP})).await;

    servers.tell("rabbitmqctl set_vm_memory_high_watermark 0.00001").await;
    daemon.not_ready("blocked by the broker").await;
    assert_eq!(daemon.metric("wechat_notifier_broker_blocked").await, 1.0);
    let sent = load.world.wechat.got_by_all().await;
    load.sent_reaches((sent + 50).min(i64::from(USERS) * 9 / 10)).await;

    servers.tell("rabbitmqctl set_vm_memory_high_watermark absolute 1GB").await;
    daemon.until_ready().await;
    assert_eq!(daemon.metric("wechat_notifier_broker_blocked").await, 0.0);
    assert_eq!(load.everybody_is_served([daemon]).await.doubles, 0);
}
