//! What operators see of a pause, and what the documents say of it.

use serde_json::{Value, json};
use wechat_notifier::domain::pause::PauseReason;

use crate::support::{World, event, eventually};

#[tokio::test]
async fn a_blocked_address_stands_in_the_list_of_apps() {
    let world = World::new().await;
    world.crowd(1).await;
    let daemon = world.daemon().await;
    world.wechat.fault(json!({ "match": { "path": "send" }, "action": { "errcode": 40164 } })).await;
    world.publish(event("e-1").to(&["user-1"])).await;

    let pause = eventually("the pause in the list", async || {
        let apps: Value = serde_json::from_str(&world.cli(&["app", "list", "--json"]).await).unwrap();
        apps[0]["pauses"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(
        (&pause["reason"], &pause["errcode"], &pause["detail"]),
        (&json!("ip_not_allowed"), &json!(40164), &json!("127.0.0.1"))
    );
    assert!(world.cli(&["app", "list"]).await.contains("ip_not_allowed (127.0.0.1) since"));
    daemon.says(&["app paused", r#""ip":"127.0.0.1""#, "add the address"]).await;

    world.wechat.heal().await;
    world.all_ended(1).await;
    eventually("the pause to be gone", async || {
        (!world.cli(&["app", "list"]).await.contains("127.0.0.1")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_daemon_left_is_neither_shown_nor_kept() {
    let world = World::new().await;
    world.crowd(1).await;
    world
        .sql(
            "INSERT INTO t_wechat_pause (app_id, process, reason, updated_at)
             SELECT app_id, 'gone:1:0', 'away', now() - interval '31 s' FROM t_wechat_app",
        )
        .await;
    assert!(!world.cli(&["app", "list"]).await.contains("away"), "a dead daemon's word is shown");

    let _daemon = world.daemon().await;
    world.wechat.fault(json!({ "match": { "path": "send" }, "action": { "errcode": 48001 } })).await;
    world.publish(event("e-1").to(&["user-1"])).await;
    eventually("a living daemon to tidy up", async || {
        let rows = world.db.query("SELECT reason FROM t_wechat_pause", &[]).await.ok()?;
        let reasons: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        (reasons == ["not_authorised"]).then_some(())
    })
    .await;
}

#[test]
fn the_operators_book_explains_every_reason_in_the_words_of_the_log() {
    let book = include_str!("../../../docs/OPERATING.md");
    let missing: Vec<String> =
        PauseReason::ALL.iter().filter_map(|reason| unexplained(book, *reason)).collect();
    assert!(
        missing.is_empty(),
        "docs/OPERATING.md differs from src/domain/pause.rs:\n{}",
        missing.join("\n")
    );
}

/// What is missing under the reason's heading.
fn unexplained(book: &str, reason: PauseReason) -> Option<String> {
    let heading = format!("\n### `{reason}`\n");
    let Some((_, after)) = book.split_once(&heading) else { return Some(format!("no heading `{reason}`")) };
    let section = after.split("\n#").next().unwrap_or_default();
    // Lines are broken for reading, and a sentence begins with a capital letter.
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let lacks = |words: &str| !plain(section).contains(&plain(words));
    let lacking = [reason.meaning(), reason.advice()].into_iter().find(|words| lacks(words));
    lacking.map(|words| format!("`{reason}` does not say: {words}"))
}
