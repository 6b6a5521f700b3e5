//! `dlq resolve`, `dlq purge`, and retention: what is closed, by whom, and what never is.

use serde_json::json;

use super::browsed::{ids, terminal_with_dead_letters};
use crate::cli::terminal::Terminal;
use crate::support::{World, eventually};

#[tokio::test]
async fn resolving_closes_open_dead_letters_once_and_says_who_and_why() {
    let terminal = terminal_with_dead_letters().await;
    assert_eq!(terminal.run("dlq resolve --why done").code, 2, "all dead letters at once are nobody's wish");
    assert_eq!(terminal.run("dlq resolve --group aa").code, 2, "a reason is needed");
    assert_eq!(terminal.run("dlq resolve --state replayed --id 1 --why done").code, 2);

    let asked = terminal.run("dlq resolve --since 1d --why cancelled");
    assert!(asked.code == 1 && asked.stderr.contains("Resolve 2 dead letters?"), "{asked:?}");
    assert_eq!(ids(&terminal, "dlq list --state open"), [4, 3, 2], "without a yes nothing happens");

    assert_eq!(terminal.ok("dlq resolve --since 1d --why cancelled --yes"), "resolved 2 dead letters\n");
    assert_eq!(terminal.run("dlq resolve --since 1d --why cancelled --yes").code, 3, "they are closed");
    assert_eq!(ids(&terminal, "dlq list --state resolved"), [4, 3, 1]);

    let action = &terminal.json("dlq show 3")["actions"][0];
    assert_eq!((&action["action"], &action["why"]), (&json!("resolved"), &json!("cancelled")));
    assert!(!action["operator"].as_str().unwrap().is_empty());
    let account = terminal.json("dlq history");
    assert_eq!((&account[0]["action"], &account[0]["dead_letters"]), (&json!("resolved"), &json!(2)));
    assert_eq!(account[0]["why"], "cancelled");
}

#[tokio::test]
async fn purging_takes_old_closed_dead_letters_and_leaves_the_books_right() {
    let terminal = terminal_with_dead_letters().await;
    assert_eq!(terminal.run("dlq purge --older-than 1d --yes").code, 2, "age alone is not enough");
    assert_eq!(terminal.run("dlq purge --reason content --yes").code, 2, "nor is a filter alone");
    let asked = terminal.run("dlq purge --reason content --older-than 1d");
    assert!(asked.code == 1 && asked.stderr.contains("content of 1 dead letter "), "{asked:?}");
    assert_eq!(terminal.run("dlq purge --reason content --older-than 4d --yes").code, 3, "none is that old");

    assert_eq!(terminal.ok("dlq purge --reason content --older-than 1d --yes"), "purged 1 dead letter\n");
    assert_eq!(ids(&terminal, "dlq list --reason content"), [2], "an open dead letter stays");
    assert_eq!(
        terminal.ok("dlq purge --reason content --state open --older-than 1d --yes"),
        "purged 1 dead letter\n",
        "unless it is named"
    );
    assert!(ids(&terminal, "dlq list --reason content").is_empty());
    assert_eq!(ids(&terminal, "dlq list --reason content --state purged"), [2, 1]);

    let gone = terminal.json("dlq show 1 --full");
    assert_eq!((&gone["body"], &gone["openid"], &gone["headers"]), (&json!(""), &json!(null), &json!({})));
    assert_eq!(gone["actions"][0]["action"], "purged");
    assert_eq!(gaps(&terminal).await, 0, "the ledger's dead row still has had a dead letter");
}

#[tokio::test]
async fn a_dead_letter_in_a_replay_s_hand_is_left_alone() {
    let terminal = terminal_with_dead_letters().await;
    let client = terminal.scratch.client().await;
    client.execute("UPDATE t_wechat_dead_letter SET state = 'replaying' WHERE id = 2", &[]).await.unwrap();
    assert_eq!(terminal.run("dlq resolve --id 2 --why x").code, 3);
    assert_eq!(terminal.run("dlq purge --id 2 --state replaying --older-than 1d --yes").code, 3);
}

#[tokio::test]
async fn the_account_is_only_ever_added_to() {
    let terminal = terminal_with_dead_letters().await;
    terminal.ok("dlq resolve --id 2 --why x");
    let client = terminal.scratch.client().await;
    for statement in [
        "UPDATE t_wechat_dead_letter_action SET why = 'y'",
        "DELETE FROM t_wechat_dead_letter_action",
        "TRUNCATE t_wechat_dead_letter_action",
    ] {
        let refused = client.execute(statement, &[]).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("append-only"), "{refused}");
    }
    let row = client
        .query_one(
            "SELECT action, operator, why, filter->'ids', dead_letters FROM t_wechat_dead_letter_action",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(2)), ("resolved", "x"));
    assert_eq!((row.get::<_, serde_json::Value>(3), row.get::<_, Vec<i64>>(4)), (json!([2]), vec![2]));
}

#[tokio::test]
async fn retention_purges_closed_dead_letters_only_and_says_so() {
    let world = World::new().await;
    world
        .sql(
            "INSERT INTO t_wechat_dead_letter (identity, reason, fingerprint, body, state, archived_at)
             SELECT state, 'content', 'f', 'x', state, now() - days * interval '1 d'
               FROM (VALUES ('open', 9), ('resolved', 9), ('replayed', 1)) dead_letter (state, days)",
        )
        .await;
    let daemon = world.daemon_with(&[("RETENTION__DEAD_LETTERS", "7d")]).await;
    daemon.says(&["retention.dead_letters", "\"purged\":1"]).await;
    let states =
        world.db.query("SELECT identity, state FROM t_wechat_dead_letter ORDER BY 1", &[]).await.unwrap();
    let states: Vec<(String, String)> = states.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [("open", "open"), ("replayed", "replayed"), ("resolved", "purged")];
    assert_eq!(states, expected.map(|(was, is)| (was.to_owned(), is.to_owned())));

    let open = r#"wechat_notifier_dead_letters{reason="content",state="open"}"#;
    eventually("the dead letters to be counted", async || (daemon.metric(open).await == 1.0).then_some(()))
        .await;
}

async fn gaps(terminal: &Terminal) -> i64 {
    let client = terminal.scratch.client().await;
    client.query_one("SELECT count(*) FROM v_wechat_conservation", &[]).await.unwrap().get(0)
}
