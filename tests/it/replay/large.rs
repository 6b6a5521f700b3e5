//! Many dead letters: bounded memory, and fresh events in front.

use std::time::Duration;

use serde_json::json;

use super::{ALL, dead_letters, settled, words, world_with_dead_letters};
use crate::support::{APP, event};

/// What the command may hold at most, in KiB; a debug build with its connections takes some 40 MiB.
const MAX_MEMORY_KIB: u64 = 96 * 1024;

#[tokio::test]
async fn thousands_of_dead_letters_are_replayed_in_bounded_memory() {
    let count: i32 = std::env::var("WN_TEST_DEAD_LETTERS").map_or(5_000, |count| count.parse().unwrap());
    let world = world_with_dead_letters(count).await;
    let daemon = world.daemon().await;
    let started = std::time::Instant::now();
    let mut command = world.start(&words("dlq replay --why corrected --yes --rate 10000"));
    let mut peak_kib = 0;
    while command.try_wait().unwrap().is_none() {
        peak_kib = peak_kib.max(peak_memory_kib(command.id()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{count} dead letters published in {:?}, {peak_kib} KiB at most", started.elapsed());
    assert!((1..MAX_MEMORY_KIB).contains(&peak_kib), "{peak_kib} KiB");
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"sent": count}));
    println!("all outcomes known after {:?}", started.elapsed());
    super::everybody_has_his_message(&world, count.into()).await;
    world.finish(daemon).await;
}

fn peak_memory_kib(process: Option<u32>) -> u64 {
    let Some(process) = process else { return 0 };
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn fresh_events_do_not_wait_behind_a_large_replay() {
    let world = world_with_dead_letters(2_000).await;
    world.wechat.tell("latency", json!({"ms": 50, "appid": APP})).await;
    let daemon = world.daemon_with(&[("DELIVERY__CONCURRENCY", "8")]).await;
    world.user("zhangsan", "o-zhang").await;
    world.cli(&words(&format!("dlq replay {ALL}0"))).await;
    world.wechat.requests_reach(100).await;

    world.publish(event("fresh").to(&["zhangsan"])).await;
    assert_eq!(world.ended("fresh").await.end(), "sent");
    let sent = world.ends().await["sent"];
    assert!(sent < 1_000, "{sent} dead letters went first");
    drop(daemon);
}

/// Beyond a page, with other dead letters in between: every page goes on where the one before ended.
#[tokio::test]
async fn a_set_of_several_pages_is_whole() {
    let world = world_with_dead_letters(150).await;
    world.sql("UPDATE t_wechat_dead_letter SET state = 'resolved' WHERE id % 3 = 0").await;
    dead_letters(&world, 151, 300).await;
    let (code, survey) = super::replay(&world, "--dry-run").await;
    assert_eq!((code, &survey["going"], &survey["refused"]), (0, &json!(250), &json!({"resolved": 50})));
    let (_, account) = super::replay(&world, ALL).await;
    assert_eq!((&account["dead_letters"], &account["published"]), (&json!(250), &json!(250)));
}
