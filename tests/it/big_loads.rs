//! Loads that would stop a daemon that does not keep apps apart, and one that holds a crowd in memory.
//!
//! Their bounds are in seconds and bytes, so each has the machine alone (`tests/nextest.toml`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{APP, Daemon, EventBody, TEMPLATE, World, event, eventually};

const OTHER: &str = "wx-other";
/// Events of the app that answers in five seconds.
const FLOOD: i32 = 10_000;
/// Events of the other app.
const FEW: i32 = 50;
/// What the flood may cost the other app.
const ALLOWED: Duration = Duration::from_secs(1);

fn flood() -> impl Iterator<Item = EventBody> {
    (1..=FLOOD).map(|n| event(&format!("flood-{n}")).to(&[&format!("user-{n}")]))
}

fn few(round: &str) -> impl Iterator<Item = EventBody> {
    (1..=FEW).map(move |n| event(&format!("{round}-{n}")).with("app_id", OTHER).to(&[&format!("other-{n}")]))
}

impl World {
    /// A world with two apps and their users.
    async fn with_two_apps() -> Self {
        let world = Self::new().await;
        world.crowd(FLOOD).await;
        world.app(OTHER, "secret").await;
        world
            .db
            .execute(
                "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template)
                 SELECT $1, 'o-' || n, 'other-' || n, jsonb_build_object($2::text, '{\"status\": \"accept\"}'::jsonb)
                   FROM generate_series(1, $3::int) n",
                &[&OTHER, &TEMPLATE, &FEW],
            )
            .await
            .unwrap();
        world
    }

    /// The usual app answers in five seconds from now on.
    async fn slow_down(&self) {
        self.wechat.tell("latency", json!({"ms": 5_000, "appid": APP})).await;
    }

    /// Publishes the other app's events and waits until its users have got so many in all. How long that took.
    async fn few_take(&self, round: &str, sent_in_all: i64) -> Duration {
        let published = Instant::now();
        self.publish_all(few(round)).await;
        eventually("the other app's events to be sent", async || {
            let sent = self.wechat.ask(&format!("sent?appid={OTHER}")).await;
            (sent["total"] == sent_in_all).then_some(())
        })
        .await;
        published.elapsed()
    }

    /// The flood may end now; everything of it must.
    async fn let_all_end(&self, rows: i64) {
        self.wechat.tell("latency", json!({"ms": 0, "appid": APP})).await;
        self.all_ended(rows).await;
        assert_eq!(self.ends().await.get("sent"), Some(&rows));
        self.conserved([]).await;
    }
}

/// A slow app's requests take longer than the tests' usual patience with WeChat.
async fn patient_daemon(world: &World) -> Daemon {
    world
        .daemon_with(&[
            ("WECHAT__REQUEST_TIMEOUT", "10s"),
            ("DELIVERY__LEASE_MARGIN", "10s"),
            ("DELIVERY__MAX_HOLD", "30s"),
            ("SHUTDOWN__DRAIN", "20s"),
        ])
        .await
}

/// How long publishing the flood and moving it out of the way takes by itself: of an app that is paused.
async fn time_to_move() -> Duration {
    let world = World::new().await;
    world.sql("UPDATE t_wechat_app SET app_secret = 'wrong'").await;
    let daemon = patient_daemon(&world).await;
    // The first event of an app makes its breaker known.
    world.publish(event("first")).await;
    daemon.says(&["app paused"]).await;
    let began = Instant::now();
    world.publish_all(flood()).await;
    eventually("the flood to be moved", async || (world.depth("events").await == Some(0)).then_some(()))
        .await;
    began.elapsed()
}

#[tokio::test]
async fn a_slow_apps_flood_two_seconds_ago_does_not_delay_another_app() {
    let moving = time_to_move().await;
    let world = World::with_two_apps().await;
    let _daemon = patient_daemon(&world).await;
    let alone = world.few_take("alone", i64::from(FEW)).await;
    // Its token is here already: what is slow are its answers to sends.
    world.publish(event("flood-0").to(&["user-1"])).await;
    world.ended("flood-0").await;
    world.slow_down().await;

    let began = Instant::now();
    world.publish_all(flood()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A slow machine may still be moving then.
    let still_moving = moving.saturating_sub(began.elapsed());
    let beside = world.few_take("beside", i64::from(2 * FEW)).await;

    println!("alone {alone:?}, two seconds behind the flood {beside:?}; moving it takes {moving:?}");
    assert!(beside <= alone + still_moving + ALLOWED, "{beside:?} behind the flood, {alone:?} alone");
    world.let_all_end(i64::from(1 + FLOOD + 2 * FEW)).await;
}

#[tokio::test]
async fn right_behind_a_slow_apps_flood_another_app_waits_for_the_moving_and_no_longer() {
    let moving = time_to_move().await;
    let world = World::with_two_apps().await;
    // Even its first token takes five seconds.
    world.slow_down().await;
    let _daemon = patient_daemon(&world).await;
    let alone = world.few_take("alone", i64::from(FEW)).await;

    let began = Instant::now();
    world.publish_all(flood()).await;
    world.few_take("beside", i64::from(2 * FEW)).await;
    let beside = began.elapsed();

    println!("alone {alone:?}, with the flood in front {beside:?}; moving it takes {moving:?}");
    assert!(beside <= moving + alone + ALLOWED, "{beside:?} with the flood in front, {moving:?} to move it");
    world.let_all_end(i64::from(FLOOD + 2 * FEW)).await;
}

/// In CI; a tenth of what one rule may well name.
#[tokio::test]
async fn a_crowd_survives_a_kill_in_the_middle_in_bounded_memory() {
    a_crowd_survives_a_kill(20_000).await;
}

/// Run it by hand (docs/ARCHITECTURE.md).
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_hundred_thousand_survive_a_kill_in_the_middle_in_bounded_memory() {
    a_crowd_survives_a_kill(100_000).await;
}

/// The most memory that either daemon may ever have held.
const MAX_MEMORY_KIB: u64 = 128 * 1024;

async fn a_crowd_survives_a_kill(people: i32) {
    let world = World::new().await;
    world.crowd(people).await;
    world.rule_for_all_and(&[]).await;
    let people = i64::from(people);
    let mut first = world.daemon().await;
    let began = Instant::now();
    world.publish(event("everybody")).await;
    world.wechat.requests_reach(people / 3).await;
    let first_kib = first.peak_memory_kib();
    first.kill();
    assert!(world.ends().await["planned"] > people / 3, "the kill came too late to be in the middle");

    let second = world.daemon().await;
    for tenth in 4..=10 {
        world.wechat.requests_reach(people * tenth / 10).await;
    }
    world.all_ended(people).await;

    let second_kib = second.peak_memory_kib();
    println!("{people} people in {:?}; VmHWM {first_kib} KiB, then {second_kib} KiB", began.elapsed());
    assert!(first_kib.max(second_kib) < MAX_MEMORY_KIB, "{first_kib} KiB, then {second_kib} KiB");
    let unknowns = world.conserved(["everybody".to_owned()]).await;
    assert_eq!(world.ends().await, BTreeMap::from([("sent".to_owned(), people)]));
    let requests = world.wechat.send_requests().await;
    assert!(requests <= people + unknowns, "{requests} requests for {people} people and {unknowns} unknowns");
    assert_eq!(world.wechat.got_by_all().await - world.wechat.doubles().await, people);
}
