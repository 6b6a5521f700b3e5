//! The command dies, anywhere; somebody resumes it; each dead letter is replayed once.

use serde_json::json;

use super::{
    ALL, dead_letters, everybody_has_his_message, replay, settled, states_when, words,
    world_with_dead_letters,
};
use crate::support::{APP, World, eventually};

const DEAD_LETTERS: i32 = 7;

macro_rules! crash_points {
    ($($name:ident at $arrow:literal,)+) => { $(
        #[tokio::test]
        async fn $name() {
            crash_and_resume($arrow).await;
        }
    )+ };
}

crash_points! {
    crash_with_the_set_fixed at "replay_set_fixed",
    crash_with_the_first_dead_letter_out at "replay_dead_letter_published",
    crash_with_the_third_dead_letter_out at "replay_dead_letter_published:3",
    crash_with_a_batch_out_and_unmarked at "replay_published",
    crash_with_a_later_batch_out_and_unmarked at "replay_published:2",
    crash_with_a_batch_marked at "replay_marked",
    crash_with_a_step_checked at "replay_step_checked",
    crash_with_nothing_left at "replay_emptied",
}

/// The daemon works all the while: what was published before the crash may be sent before the resume.
async fn crash_and_resume(arrow: &str) {
    let world = world_with_dead_letters(DEAD_LETTERS).await;
    let daemon = world.daemon().await;
    // A step of two, and then batches of three.
    let line = "dlq replay --canary 2 --why corrected --yes --rate 30";
    let crashed = world.command_with(&words(line), &[("FAILPOINT", arrow)]).await;
    assert_eq!(crashed.status.code(), None, "it did not abort: {}", String::from_utf8_lossy(&crashed.stderr));

    let (code, account) = replay(&world, "--resume 1").await;
    assert_eq!(
        (code, &account["state"], &account["published"]),
        (0, &json!("finished"), &json!(DEAD_LETTERS))
    );
    all_is_well(&world, DEAD_LETTERS).await;
    world.finish(daemon).await;
    world.conserved((1..=DEAD_LETTERS).map(|n| format!("pay-{n}"))).await;
}

async fn all_is_well(world: &World, count: i32) {
    assert_eq!(settled(world, 1).await["outcomes"], json!({"sent": count}));
    everybody_has_his_message(world, count.into()).await;
    states_when(world, &format!("replayed: {count}")).await;
    let epochs = world.ledger().await;
    assert!(
        epochs.iter().all(|row| row.epoch == 1 && row.attempts == 2),
        "one send per dead letter: {epochs:?}"
    );
}

#[tokio::test]
async fn twenty_kills_replay_each_dead_letter_once() {
    /// Far more than twenty lives publish: at most two batches of ten beyond each mark.
    const COUNT: i32 = 1_000;
    const KILLS: u32 = 20;
    let seed: u64 =
        std::env::var("WN_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("WN_TEST_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = world_with_dead_letters(COUNT).await;
    let daemon = world.daemon().await;

    let mut command = world.start(&words("dlq replay --why corrected --yes --rate 100"));
    for _ in 0..KILLS {
        // From where it is, up to so many marks; and then somewhere within the next batch.
        let marked = published(&world).await + chance.i64(0..=20);
        eventually("the command to come further", async || {
            (published(&world).await >= marked && is_fixed(&world).await).then_some(())
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_millis(chance.u64(0..=100))).await;
        command.kill().await.unwrap();
        command = world.start(&words("dlq replay --resume 1"));
    }
    assert!(published(&world).await < i64::from(COUNT), "the last kills met no work");
    command.wait().await.unwrap();
    replay(&world, "--resume 1").await;
    all_is_well(&world, COUNT).await;
    world.finish(daemon).await;
    world.conserved((1..=COUNT).map(|n| format!("pay-{n}"))).await;
}

async fn published(world: &World) -> i64 {
    let count = "SELECT coalesce(sum(published), 0)::bigint FROM t_wechat_replay";
    world.db.query_one(count, &[]).await.unwrap().get(0)
}

async fn is_fixed(world: &World) -> bool {
    !world.db.query("SELECT FROM t_wechat_replay", &[]).await.unwrap().is_empty()
}

/// What the daemon had in hand comes again; an outcome that nobody knows is counted, as ever.
#[tokio::test]
async fn a_daemon_that_dies_in_the_middle_loses_none_of_a_replay() {
    const COUNT: i32 = 300;
    let world = world_with_dead_letters(COUNT).await;
    world.wechat.tell("latency", json!({"ms": 20, "appid": APP})).await;
    let mut daemon = world.daemon_with(&[("DELIVERY__CONCURRENCY", "8")]).await;
    let mut command = world.start(&words("dlq replay --why corrected --yes --rate 200"));
    for requests in [20, 120, 200] {
        world.wechat.requests_reach(requests).await;
        daemon.kill();
        daemon = world.daemon_with(&[("DELIVERY__CONCURRENCY", "8")]).await;
    }
    assert!(command.wait().await.unwrap().success());
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"sent": COUNT}));
    world.finish(daemon).await;
    world.conserved((1..=COUNT).map(|n| format!("pay-{n}"))).await;
}

#[tokio::test]
async fn what_arrives_during_a_replay_is_not_taken_along() {
    let world = world_with_dead_letters(3).await;
    let _daemon = world.daemon().await;
    let line = format!("dlq replay {ALL}");
    world.command_with(&words(&line), &[("FAILPOINT", "replay_set_fixed")]).await;
    world
        .sql("INSERT INTO t_wechat_user (app_id, openid, sys_user_id) SELECT app_id, 'openid-4', 'user-4' FROM t_wechat_app")
        .await;
    dead_letters(&world, 4, 4).await;

    replay(&world, "--resume 1").await;
    assert_eq!(settled(&world, 1).await["dead_letters"], 3);
    states_when(&world, "open: 1, replayed: 3").await;
    assert_eq!(world.wechat.got("openid-4").await, 0);
}

#[tokio::test]
async fn what_was_sent_meanwhile_is_not_sent_again() {
    let world = world_with_dead_letters(2).await;
    let _daemon = world.daemon().await;
    let line = format!("dlq replay {ALL}");
    world.command_with(&words(&line), &[("FAILPOINT", "replay_set_fixed")]).await;
    // An attempt whose claim was lost long ago comes back with WeChat's yes, which always wins.
    world.sql("UPDATE t_wechat_delivery SET status = 'sent', reason = NULL WHERE event_id = 'pay-1'").await;

    let (_, account) = replay(&world, "--resume 1").await;
    assert_eq!(account["refusals"], json!({"already_sent": 1}));
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"refused": 1, "sent": 1}));
    assert_eq!((world.wechat.got("openid-1").await, world.wechat.got("openid-2").await), (0, 1));
}
