//! The daemon is killed again and again under load, and nobody notices but the books.

use serde_json::json;

use crate::support::{APP, World, event};

const USERS: i32 = 3_000;
const KILLS: u32 = 20;
/// Requests in flight at once; no kill can leave more outcomes unknown than that.
const CONCURRENCY: u32 = 32;
/// Requests that WeChat receives from one daemon before it is killed. The most of them at every kill still leaves work
/// for the last daemon.
const REQUESTS_PER_LIFE: std::ops::RangeInclusive<i64> = 10..=130;

#[tokio::test]
async fn twenty_kills_under_load_lose_nothing_and_double_only_what_is_counted() {
    let seed: u64 =
        std::env::var("WN_TEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("WN_TEST_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = World::new().await;
    world.crowd(USERS).await;
    // Slow enough that a kill always finds requests on their way.
    world.wechat.tell("latency", json!({"ms": 20, "appid": APP})).await;
    let concurrency = CONCURRENCY.to_string();
    let settings = [("DELIVERY__CONCURRENCY", concurrency.as_str())];
    let mut daemon = world.daemon_with(&settings).await;
    world.publish_all((1..=USERS).map(|n| event(&format!("pay-{n}")).to(&[&format!("user-{n}")]))).await;

    for _ in 0..KILLS {
        let requests = world.wechat.send_requests().await + chance.i64(REQUESTS_PER_LIFE);
        world.wechat.requests_reach(requests).await;
        daemon.kill();
        daemon = world.spawn(&settings);
    }
    let sent_before_the_last_life = world.wechat.got_by_all().await;
    assert!(sent_before_the_last_life < i64::from(USERS), "the last kills met no load");

    world.all_ended(USERS.into()).await;
    world.finish(daemon).await;
    let unknowns = world.conserved((1..=USERS).map(|n| format!("pay-{n}"))).await;
    println!(
        "{KILLS} kills, {USERS} events: {unknowns} outcomes unknown, {} doubles",
        world.wechat.doubles().await
    );
    assert!(
        unknowns <= i64::from(KILLS * CONCURRENCY),
        "more outcomes are unknown than requests can have been out"
    );
    world.each_was_sent_to_once_or_is_counted(USERS.unsigned_abs()).await;
}
