//! Operators who meet: two at once, and one who stops what another began.

use serde_json::{Value, json};

use super::{
    ALL, everybody_has_his_message, replay, settled, states, states_when, words, world_with_dead_letters,
};
use crate::support::{World, eventually};

#[tokio::test]
async fn two_operators_at_once_share_the_dead_letters() {
    let world = world_with_dead_letters(200).await;
    let daemon = world.daemon().await;
    let ((one, first), (other, second)) = tokio::join!(replay(&world, ALL), replay(&world, ALL));
    let dead_letters = |account: &Value| account["dead_letters"].as_i64().unwrap_or_default();
    assert_eq!(dead_letters(&first) + dead_letters(&second), 200, "{one}: {first}\n{other}: {second}");
    for account in [first, second].iter().filter(|account| !account.is_null()) {
        settled(&world, account["replay"].as_i64().unwrap()).await;
    }
    everybody_has_his_message(&world, 200).await;
    world.finish(daemon).await;
}

#[tokio::test]
async fn the_second_is_told_what_the_first_has() {
    let world = world_with_dead_letters(2).await;
    let line = format!("dlq replay {ALL} --event pay-1");
    world.command_with(&words(&line), &[("FAILPOINT", "replay_set_fixed")]).await;
    let (code, survey) = replay(&world, "--dry-run").await;
    assert_eq!((code, &survey["going"], &survey["refused"]), (0, &json!(1), &json!({"being_replayed": 1})));
}

/// Between the second's look at the dead letters and his taking them, the first takes them all.
#[tokio::test]
async fn the_second_of_two_at_once_is_told_what_the_first_has() {
    let world = world_with_dead_letters(3).await;
    let mut first = world.connect().await;
    let first = first.transaction().await.unwrap();
    first.execute("SELECT FROM t_wechat_dead_letter FOR UPDATE", &[]).await.unwrap();
    let pid: i32 = first.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let second = replay(&world, ALL);
    let take = async {
        waited_for(&world, pid).await;
        let statements = [
            "INSERT INTO t_wechat_replay (operator, filter, cut_off, state, dead_letters) VALUES ('first', '{}', 3, 'running', 3)",
            "UPDATE t_wechat_dead_letter SET state = 'replaying'",
            "INSERT INTO t_wechat_replay_dead_letter (replay, dead_letter, had_rows) SELECT max(p.id), l.id, false FROM t_wechat_replay p, t_wechat_dead_letter l GROUP BY l.id",
        ];
        for statement in statements {
            first.execute(statement, &[]).await.unwrap();
        }
        first.commit().await.unwrap();
    };
    let ((code, account), ()) = tokio::join!(second, take);
    assert_eq!((code, account), (3, Value::Null));
    let replays = world.db.query_one("SELECT count(*) FROM t_wechat_replay", &[]).await.unwrap();
    assert_eq!(replays.get::<_, i64>(0), 1, "of nothing there is no replay");
}

/// Waits until somebody waits for this connection.
async fn waited_for(world: &World, pid: i32) {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    eventually("the second to wait for the dead letters", async || {
        let waiting = world.db.query_one(WAITING, &[&pid]).await.unwrap();
        (waiting.get::<_, i64>(0) > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_cancelled_from_another_terminal() {
    let world = world_with_dead_letters(30).await;
    let _daemon = world.daemon().await;
    let mut command = world.start(&words("dlq replay --why corrected --yes --rate 2"));
    published_at_least(&world, 2).await;
    let (code, _) = replay(&world, "--resume 1").await;
    assert_eq!(code, 1, "one command a replay");

    let (code, account) = replay(&world, "--pause 1").await;
    assert_eq!((code, &account["state"]), (0, &json!("paused")));
    assert!(command.wait().await.unwrap().success(), "its command ends");
    let before = published(&world).await;

    let mut command = world.start(&words("dlq replay --resume 1"));
    published_at_least(&world, before + 2).await;
    let (code, account) = replay(&world, "--cancel 1").await;
    assert_eq!((code, &account["state"]), (0, &json!("cancelled")));
    assert!(command.wait().await.unwrap().success());

    let account = settled(&world, 1).await;
    let gone = account["published"].as_i64().unwrap();
    assert_eq!(account["outcomes"], json!({"sent": gone, "cancelled": 30 - gone}));
    states_when(&world, &format!("open: {}, replayed: {gone}", 30 - gone)).await;
    assert_eq!(replay(&world, "--resume 1").await.1["state"], "cancelled", "over is over");

    replay(&world, ALL).await;
    settled(&world, 2).await;
    everybody_has_his_message(&world, 30).await;
}

async fn published(world: &World) -> i64 {
    world.db.query_one("SELECT published FROM t_wechat_replay", &[]).await.unwrap().get(0)
}

async fn published_at_least(world: &World, count: i64) {
    eventually(&format!("{count} dead letters to be out"), async || {
        let row = world.db.query_opt("SELECT published FROM t_wechat_replay", &[]).await.unwrap()?;
        (row.get::<_, i64>(0) >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn above_one_dead_letter_there_must_be_a_reason_and_a_yes() {
    let world = world_with_dead_letters(2).await;
    for (arguments, expected) in [("--yes", 2), ("--why corrected", 1)] {
        let (code, _) = replay(&world, arguments).await;
        assert_eq!((code, states(&world).await.as_str()), (expected, "open: 2"), "{arguments}");
    }
    assert_eq!(replay(&world, "--id 1").await.0, 0, "one dead letter needs neither");
    assert_eq!(replay(&world, "--resume 1 --rate 5").await.0, 2, "what was ordered stands");
}
