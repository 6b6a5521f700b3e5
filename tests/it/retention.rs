//! Retention of the ledger: what was settled long ago goes, in small batches; what still has a part to play stays.

use crate::support::{COMPANY, TEMPLATE, World, event, eventually};

/// Rows and their dead letters: event, status, days since they were settled, and the state of the dead letter, if any.
const ROWS: &str = "
    WITH given AS (
        SELECT * FROM (VALUES
            ('sent-old', 'sent', 9, NULL), ('skipped-old', 'skipped', 9, NULL), ('sent-young', 'sent', 6, NULL),
            ('planned', 'planned', 9, NULL), ('retrying', 'retrying', 9, NULL), ('attempting', 'attempting', 9, NULL),
            ('dead-open', 'dead', 9, 'open'), ('dead-replaying', 'dead', 9, 'replaying'),
            ('sent-replaying', 'sent', 9, 'replaying'), ('dead-resolved', 'dead', 9, 'resolved'),
            ('dead-purged', 'dead', 9, 'purged'), ('sent-replayed', 'sent', 9, 'replayed'),
            ('dead-not-archived', 'dead', 9, NULL), ('whole-event-open', 'sent', 9, 'open')) g (event, status, days, dead_letter)
    ), rows AS (
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, status, content_hash, created_at,
                                       settled_at, claimed_until)
        SELECT $1, 'wx1', $2, event, 'oAlice', status, '', now() - days * interval '1 day', now() - days * interval '1 day',
               now() + interval '1 h' FROM given
    )
    INSERT INTO t_wechat_dead_letter (identity, reason, fingerprint, body, event_id, recipient, state)
    SELECT event, 'content', 'f', 'x', event, CASE event WHEN 'whole-event-open' THEN NULL ELSE 'oAlice' END, dead_letter
      FROM given WHERE dead_letter IS NOT NULL";

async fn left(world: &World) -> Vec<String> {
    let rows = world.db.query("SELECT event_id FROM t_wechat_delivery ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn what_was_settled_long_ago_is_removed_and_what_still_matters_stays() {
    let world = World::new().await;
    world.db.execute(ROWS, &[&COMPANY, &TEMPLATE]).await.unwrap();
    // More than a batch, with rows to remove on both sides.
    world
        .sql(
            "INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, status, content_hash,
                                            created_at, settled_at)
             SELECT 'C001', 'wx1', 'T1', 'many-' || n, 'oAlice', 'sent', '', now() - interval '8 days',
                    now() - interval '8 days' FROM generate_series(1, 1200) n",
        )
        .await;
    let daemon = world.daemon_with(&[("RETENTION__DEAD_LETTERS", ""), ("RETENTION__DELIVERIES", "7d")]).await;
    daemon.says(&["retention.deliveries", "\"removed\":1205"]).await;
    let stay = [
        "sent-young",
        "planned",
        "retrying",
        "attempting",
        "dead-open",
        "dead-replaying",
        "sent-replaying",
        "dead-not-archived",
        "whole-event-open",
    ];
    assert_eq!(left(&world).await, stay);
    assert_eq!(daemon.metric("wechat_notifier_deliveries_removed_total").await, 1205.0);
}

#[tokio::test]
async fn it_is_off_unless_it_is_asked_for() {
    let world = World::new().await;
    world.db.execute(ROWS, &[&COMPANY, &TEMPLATE]).await.unwrap();
    world.user("zhangsan", "o-zhang").await;
    world.rule(&["zhangsan"]).await;
    let daemon = world.daemon().await;
    world.publish(event("pay-1")).await;
    world.ended("pay-1").await;
    assert_eq!(left(&world).await.len(), 15);
    assert_eq!(daemon.metric("wechat_notifier_deliveries_removed_total").await, 0.0);
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_left_for_the_next_pass() {
    let world = World::new().await;
    world.db.execute(ROWS, &[&COMPANY, &TEMPLATE]).await.unwrap();
    let mut holder = world.connect().await;
    let holder = holder.transaction().await.unwrap();
    holder
        .execute("SELECT FROM t_wechat_delivery WHERE event_id = 'sent-old' FOR UPDATE", &[])
        .await
        .unwrap();
    let _daemon = world.daemon_with(&[("RETENTION__DELIVERIES", "7d")]).await;
    eventually("the others to be removed", async || {
        let left = left(&world).await;
        (!left.contains(&"skipped-old".to_owned())).then(|| assert!(left.contains(&"sent-old".to_owned())))
    })
    .await;
}
