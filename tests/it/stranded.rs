//! Rows whose message is gone, and the operator who closes them.

use serde_json::Value;

use crate::support::{APP, COMPANY, TEMPLATE, World, delivery_message, event, eventually};

/// Nothing of these tests is under way for so long.
const LONG_AGO: &str =
    "UPDATE t_wechat_delivery SET created_at = now() - interval '1 day', due_at = now() - interval '1 day'";

impl World {
    /// A retrying row of epoch 1 whose delivery message somebody has deleted.
    async fn lost_delivery(&self, event_id: &str, openid: &str) {
        self.row(&event(event_id), openid, "retrying", 1, "-1 day").await;
        self.sql(LONG_AGO).await;
    }

    async fn stranded(&self) -> Vec<Value> {
        let listed = self.cli(&["deliveries", "list", "--stranded", "--json"]).await;
        serde_json::from_str(&listed).unwrap()
    }

    async fn close(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let command = [&["deliveries", "close", "--why", "the queue was purged"], arguments].concat();
        let output = self.command(&command).await;
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

#[tokio::test]
async fn a_stranded_delivery_is_found_closed_and_finished_for_whatever_comes_late() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    world.lost_delivery("lost", "o-zhang").await;

    let listed = world.stranded().await;
    assert_eq!((listed.len(), &listed[0]["event_id"]), (1, &"lost".into()));
    let (code, said) = world.close(&["--id", &listed[0]["id"].to_string()]).await;
    assert_eq!((code, said.trim()), (Some(0), "closed 1 deliveries"));

    assert_eq!(world.ended("lost").await.end(), "dead:stranded");
    assert_eq!(world.dead_letters().await, ["stranded"]);
    assert!(world.stranded().await.is_empty());
    let shown: Value = serde_json::from_str(&world.cli(&["dlq", "list", "--json"]).await).unwrap();
    let words = shown[0]["errmsg"].as_str().unwrap();
    assert!(words.contains("the queue was purged") && words.contains("cannot be replayed"), "{words}");

    world.carry(delivery_message(event("lost"), "o-zhang").epoch(1)).await;
    world.carry(delivery_message(event("lost"), "o-zhang").epoch(2)).await;
    world.conserved(["lost".to_owned()]).await;
    world.finish(daemon).await;
    assert_eq!(world.wechat.send_requests().await, 0, "a late delivery message was sent");
    assert_eq!(world.ended("lost").await.end(), "dead:stranded");
}

#[tokio::test]
async fn with_the_event_at_hand_the_dead_letter_can_be_replayed() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.lost_delivery("lost", "o-zhang").await;
    let folder = std::env::temp_dir();
    let [right, wrong] = ["right", "wrong"].map(|name| folder.join(format!("{}-{name}.json", world.name)));
    std::fs::write(&right, event("lost").0.to_string()).unwrap();
    std::fs::write(&wrong, event("lost").with("page", "pages/other").0.to_string()).unwrap();

    let (code, said) = world.close(&["--stranded", "--event-file", wrong.to_str().unwrap()]).await;
    assert!(code == Some(1) && said.contains("other content"), "{said}");
    let (code, said) = world.close(&["--stranded", "--event-file", right.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{said}");

    // What a replay publishes: the dead letter's body, with the next epoch.
    let body = world.db.query_one("SELECT body FROM t_wechat_dead_letter", &[]).await.unwrap();
    let carried: Value = serde_json::from_slice(body.get(0)).unwrap();
    assert_eq!((&carried["recipient"]["openid"], &carried["event"]), (&"o-zhang".into(), &event("lost").0));
    let daemon = world.daemon().await;
    world.carry(delivery_message(event("lost"), "o-zhang").epoch(2).replayed()).await;
    world.row_when("lost", "sent", |row| row.status == "sent").await;
    world.finish(daemon).await;
    [right, wrong].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[tokio::test]
async fn what_may_still_move_is_left_alone() {
    let world = World::new().await;
    world.row(&event("young"), "o-1", "retrying", 1, "-1 hour").await;
    let (code, said) = world.close(&["--stranded"]).await;
    assert!(code == Some(3) && said.contains("without movement"), "{said}");

    world.lost_delivery("a", "o-1").await;
    world.lost_delivery("b", "o-1").await;
    let (code, said) = world.close(&["--stranded"]).await;
    assert!(code == Some(1) && said.contains("--yes"), "several are closed without a question: {said}");

    world.fill_lane().await;
    // As when the daemon that paused the app has been gone for a while.
    world.sql("DELETE FROM t_wechat_pause").await;
    let (code, said) = world.close(&["--stranded", "--yes"]).await;
    assert!(code == Some(1) && said.contains("lane"), "{said}");
    let theirs = world.ledger().await.into_iter().filter(|row| row.recipient == "o-1");
    assert_eq!(theirs.map(|row| row.status).collect::<Vec<_>>(), ["retrying"; 3]);
}

#[tokio::test]
async fn what_a_pause_or_its_event_carries_is_not_stranded() {
    let world = World::new().await;
    world.lost_delivery("paused", "o-1").await;
    world.cli(&["app", "pause", APP, "--template", crate::support::TEMPLATE, "--why", "wrong price"]).await;
    let (code, said) = world.close(&["--stranded"]).await;
    assert!(
        code == Some(3) && said.contains("without movement"),
        "a paused template's row was found: {said}"
    );
    world.cli(&["app", "resume", APP, "--template", crate::support::TEMPLATE]).await;
    let (code, said) = world.close(&["--stranded"]).await;
    assert_eq!(code, Some(0), "{said}");

    world.row(&event("big"), "o-1", "planned", 0, "-1 day").await;
    world.sql(LONG_AGO).await;
    world.row(&event("big"), "o-2", "sent", 0, "-1 day").await;
    let (code, said) = world.close(&["--stranded"]).await;
    assert_eq!(code, Some(3), "a fan-out at work was closed: {said}");
    world.sql(LONG_AGO).await;
    let (code, said) = world.close(&["--stranded"]).await;
    assert_eq!((code, said.trim()), (Some(0), "closed 1 deliveries"));
}

impl World {
    /// A message waits in the usual app's lane, and no daemon takes it.
    async fn fill_lane(&self) {
        self.sql("UPDATE t_wechat_app SET app_secret = 'wrong', access_token = NULL").await;
        let mut daemon = self.daemon().await;
        // The first event of an app makes its breaker known.
        self.publish(event("first")).await;
        daemon.says(&["app paused"]).await;
        self.publish(event("waits")).await;
        crate::support::eventually("the lane to hold a message", async || {
            (self.depth(&format!("lane.{APP}")).await == Some(1)).then_some(())
        })
        .await;
        daemon.terminate();
        daemon.exit().await;
    }
}

/// Two rows that no message will ever move, one of them since long ago, among more finished ones than a page of the census.
#[tokio::test]
async fn what_is_unfinished_and_what_is_stranded_shows_in_the_metrics() {
    const ROW: &str = "INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, status,
                                                      content_hash, created_at, settled_at)
                       SELECT $1, $2, $3, $4 || n, 'o', 'o', $5, '', now() - $6 * interval '1 s', now() - $6 * interval '1 s'
                         FROM generate_series(1, $7) n";
    let world = World::new().await;
    for (event, status, age_s, count) in
        [("old-", "planned", 7_200.0, 1), ("done-", "sent", 3_600.0, 12_000), ("new-", "planned", 10.0, 1)]
    {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&COMPANY, &APP, &TEMPLATE, &event, &status, &age_s, &count];
        world.db.execute(ROW, &values).await.unwrap();
    }
    let daemon = world.daemon().await;
    eventually("the rows to be counted", async || {
        let unfinished = daemon.metric("wechat_notifier_unfinished").await;
        let stranded = daemon.metric("wechat_notifier_stranded").await;
        (unfinished == 2.0 && stranded == 1.0).then_some(())
    })
    .await;
    assert!(daemon.metric("wechat_notifier_unfinished_oldest_seconds").await >= 7_200.0);

    world
        .db
        .execute("UPDATE t_wechat_delivery SET status = 'sent' WHERE event_id LIKE 'old-%'", &[])
        .await
        .unwrap();
    eventually("the next look", async || {
        (daemon.metric("wechat_notifier_unfinished").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(daemon.metric("wechat_notifier_stranded").await, 0.0);
}
