//! A template that WeChat refuses is paused alone.

use serde_json::json;

use crate::support::{APP, EventBody, TEMPLATE, World, event, eventually};

const BROKEN: &str = "broken-template";

/// A user who accepts both the usual template and the broken one, which WeChat does not know.
async fn world_with_a_broken_template() -> World {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let both = json!({ TEMPLATE: {"status": "accept"}, BROKEN: {"status": "accept"} });
    world.db.execute("UPDATE t_wechat_user SET subscribe_template = $1", &[&both]).await.unwrap();
    let selector = json!({ "path": "send", "template_id": BROKEN });
    world.wechat.fault(json!({ "match": selector, "action": { "errcode": 40037 } })).await;
    world
}

fn of_broken(event_id: &str) -> EventBody {
    event(event_id).with("template_id", BROKEN).to(&["zhangsan"])
}

#[tokio::test]
async fn a_refused_template_harms_only_itself_and_heals() {
    let world = world_with_a_broken_template().await;
    let daemon = world.daemon().await;
    world.publish(of_broken("first")).await;
    assert_eq!(world.ended("first").await.end(), "dead:template");

    world.publish_all((1..=5).map(|n| of_broken(&format!("waits-{n}")))).await;
    world.publish_all((1..=5).map(|n| event(&format!("flows-{n}")).to(&["zhangsan"]))).await;
    for n in 1..=5 {
        assert_eq!(world.ended(&format!("flows-{n}")).await.end(), "sent");
        let row = world.row_when(&format!("waits-{n}"), "there", |_| true).await;
        assert_eq!((row.status.as_str(), row.attempts), ("planned", 0));
    }
    assert_eq!(world.wechat.send_requests().await, 6, "the broken template was tried again at once");
    assert_eq!(
        world.depth(&format!("lane.{APP}")).await.unwrap_or(0),
        0,
        "they stand in the way of the others"
    );
    let paused = format!("wechat_notifier_templates_paused{{app_id=\"{APP}\"}}");
    eventually("the metric", async || (daemon.metric(&paused).await == 1.0).then_some(())).await;
    let told = world.cli(&["deliveries", "why", "waits-1"]).await;
    assert!(told.contains("its template is paused as template since"), "{told}");

    world.wechat.heal().await;
    world.all_ended(11).await;
    for n in 1..=5 {
        let row = world.ended(&format!("waits-{n}")).await;
        assert_eq!((row.end().as_str(), row.attempts), ("sent", 1));
    }
    eventually("the metric", async || (daemon.metric(&paused).await == 0.0).then_some(())).await;
    daemon.says(&["template paused", BROKEN, "WeChat's console"]).await;
    world.conserved([]).await;
}

#[tokio::test]
async fn a_probe_of_a_template_that_stays_broken_costs_one_delivery() {
    let world = world_with_a_broken_template().await;
    let _daemon = world.daemon().await;
    world.publish(of_broken("first")).await;
    world.ended("first").await;
    world.publish_all((1..=20).map(|n| of_broken(&format!("waits-{n}")))).await;

    let dead_letters = world.dead_letters_when(2).await;
    assert_eq!(dead_letters, ["template", "template"]);
    eventually("the others to wait", async || {
        let waiting = world.ledger().await.iter().filter(|row| row.status == "planned").count();
        (waiting == 19).then_some(())
    })
    .await;
    assert_eq!(world.wechat.send_requests().await, 2);
}

#[tokio::test]
async fn an_operator_has_a_corrected_template_tried_at_once() {
    let world = world_with_a_broken_template().await;
    let _daemon = world.daemon().await;
    world.publish(of_broken("first")).await;
    world.ended("first").await;
    eventually("the pause to be shown", async || {
        world.cli(&["app", "list", "--json"]).await.contains(BROKEN).then_some(())
    })
    .await;

    world.wechat.heal().await;
    let said = world.cli(&["app", "resume", APP, "--template", BROKEN]).await;
    assert!(said.contains("1 daemons probe template"), "{said}");
    eventually("the pause to be over", async || {
        world.publish(of_broken(&format!("at-{}", world.ledger().await.len()))).await;
        (world.wechat.got("o-zhang").await > 0).then_some(())
    })
    .await;
    let rows = i64::try_from(world.ledger().await.len()).unwrap();
    world.all_ended(rows).await;
    world.conserved([]).await;
}

#[tokio::test]
async fn a_big_event_of_a_refused_template_waits_as_one_message() {
    let world = world_with_a_broken_template().await;
    world.crowd(600).await;
    let record = json!({ BROKEN: {"status": "accept"} });
    world.db.execute("UPDATE t_wechat_user SET subscribe_template = $1", &[&record]).await.unwrap();
    world
        .db
        .execute(
            "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids)
             SELECT 'C001', $1, $2, array_agg(sys_user_id) FROM t_wechat_user WHERE sys_user_id LIKE 'user-%'",
            &[&APP, &BROKEN],
        )
        .await
        .unwrap();
    let _daemon = world.daemon().await;
    world.publish(of_broken("first")).await;
    world.ended("first").await;
    world.publish(event("big").with("template_id", BROKEN)).await;

    eventually("its rows to be written", async || (world.ledger().await.len() == 601).then_some(())).await;
    world.wechat.heal().await;
    world.all_ended(601).await;
    let died = world.ledger().await.iter().filter(|row| row.end() == "dead:template").count();
    assert!(died <= 2, "{died} died of one broken template");
    world.conserved([]).await;
}
