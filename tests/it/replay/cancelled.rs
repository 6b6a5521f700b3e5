//! Replays that are cancelled at any moment, and taken up by the next operator at once: every dead letter tells the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ALL, dead_letters, words};
use crate::support::{World, eventually};

/// Enough to meet each of the races; `WN_TEST_ROUNDS` asks for more.
const ROUNDS: i32 = 12;
/// In a round.
const DEAD_LETTERS: i32 = 40;

#[tokio::test]
async fn whatever_moment_a_replay_is_cancelled_at_each_dead_letter_is_replayed_or_open_truthfully() {
    let rounds = std::env::var("WN_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let world = World::new().await;
    world.crowd(rounds * DEAD_LETTERS).await;
    let daemon = world.daemon().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        dead_letters(&world, round * DEAD_LETTERS + 1, (round + 1) * DEAD_LETTERS).await;
        begun_and_cancelled(&world, &mut chance).await;
        truthful(&world).await;
    }
    let last = world.command(&words(&format!("dlq replay {ALL}"))).await;
    assert!(last.status.success() || last.status.code() == Some(3));
    truthful(&world).await;
    assert_eq!(world.wechat.got_by_all().await, i64::from(rounds * DEAD_LETTERS));
    assert_eq!(world.wechat.doubles().await, 0);
    world.finish(daemon).await;
}

/// One operator begins a replay, another cancels it and a third begins the next one, all within moments.
async fn begun_and_cancelled(world: &World, chance: &mut fastrand::Rng) {
    let before = newest(world).await;
    let line =
        format!("dlq replay --why corrected --yes --rate {}", chance.choice([200, 1_000, 5_000]).unwrap());
    let first = world.start(&words(&line));
    eventually("a replay to begin", async || (newest(world).await > before).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(chance.u64(0..120))).await;
    let cancel = format!("dlq replay --cancel {}", before + 1);
    let (cancel, second) = (world.start(&words(&cancel)), world.start(&words(&line)));
    for (child, name) in [(first, "the first"), (cancel, "the cancelling"), (second, "the second")] {
        let output = child.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let came_too_late = name == "the cancelling" && said.contains("is not running");
        let found_nothing = output.status.code() == Some(3);
        assert!(output.status.success() || came_too_late || found_nothing, "{name}: {said}");
        assert!(!said.contains("error"), "{name}: {said}");
    }
}

async fn newest(world: &World) -> i64 {
    world.db.query_one("SELECT coalesce(max(id), 0) FROM t_wechat_replay", &[]).await.unwrap().get(0)
}

/// Once nothing is on its way: a delivery that was sent has a replayed dead letter, and one that was not has an open one.
async fn truthful(world: &World) {
    const STATES: &str = "
        SELECT d.status || ' and ' || l.state, count(*)
          FROM t_wechat_dead_letter l JOIN t_wechat_delivery d USING (event_id, recipient) GROUP BY 1";
    eventually("nothing to be on its way, and the dead letters to tell the truth", async || {
        let rows = world.db.query(STATES, &[]).await.unwrap();
        let states: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let true_ones = ["sent and replayed", "dead and open"];
        states.keys().all(|state| true_ones.contains(&state.as_str())).then_some(())
    })
    .await;
}
