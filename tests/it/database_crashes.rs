//! PostgreSQL crashes again and again under load, every second time together with the daemon. A crash of PostgreSQL loses
//! whatever did not wait for its disk; a daemon that dies with it cannot remember it either. Claims and settlements must
//! both be on the disk, then, or a message goes out twice without a row that says so.
//!
//! `WN_TEST_CRASHES=100 tests/run database_crashes` is the long form; each crash takes some 11 s.

use fastrand::Rng;
use serde_json::json;

use crate::support::{APP, Daemon, Servers, World, event};

const CRASHES: u32 = 6;
/// Events between two crashes, each for a user of its own.
const EVENTS: u32 = 200;
/// Requests in flight at once.
const CONCURRENCY: u32 = 64;
/// Long enough that requests go out in waves, with moments in between in which no settlement takes the claims before it
/// to the disk.
const LATENCY_MS: u64 = 250;
/// Requests that WeChat receives before the crash. The most of them still leave work for afterwards.
const REQUESTS_BEFORE: std::ops::RangeInclusive<i64> = 5..=140;

#[tokio::test]
async fn crashes_of_postgresql_under_load_double_only_what_is_counted() {
    let crashes = number("WN_TEST_CRASHES").map_or(CRASHES, |crashes| u32::try_from(crashes).unwrap());
    let seed = number("WN_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("WN_TEST_SEED={seed}");
    let mut chance = Rng::with_seed(seed);
    let mut stage = Stage::set(crashes).await;

    for crash in 1..=crashes {
        stage.work_is_under_way(crash, chance.i64(REQUESTS_BEFORE)).await;
        if crash.is_multiple_of(2) {
            stage.database_and_daemon_crash(chance.bool()).await;
        } else {
            stage.database_crashes().await;
        }
        stage.the_books_add_up(crash).await;
    }
    stage.world.finish(stage.daemon).await;
    stage.world.each_was_sent_to_once_or_is_counted(crashes * EVENTS).await;
}

struct Stage {
    // In this order they end: the daemon first, the servers last.
    daemon: Daemon,
    world: World,
    servers: Servers,
}

impl Stage {
    async fn set(crashes: u32) -> Self {
        let servers = Servers::start("postgres-crashes");
        let world = World::on(&servers.amqp_url, &servers.database_url).await;
        // PostgreSQL writes by itself, several times a second, what nobody waits for. A crash must not find that done by luck.
        world.sql("ALTER SYSTEM SET wal_writer_delay = '10s'").await;
        world.sql("SELECT pg_reload_conf()").await;
        world.crowd(i32::try_from(crashes * EVENTS).unwrap()).await;
        world.wechat.tell("latency", json!({"ms": LATENCY_MS, "appid": APP})).await;
        let daemon = spawn(&world);
        daemon.until_ready().await;
        Self { daemon, world, servers }
    }

    /// Publishes this round's events, and returns in the middle of the work on them.
    async fn work_is_under_way(&self, round: u32, requests: i64) {
        let before = self.world.wechat.send_requests().await;
        let mine = events_until(round - 1) + 1..=events_until(round);
        let events = mine.map(|n| event(&event_id(n)).to(&[&format!("user-{n}")]));
        self.world.publish_all(events).await;
        self.world.wechat.requests_reach(before + requests).await;
    }

    async fn database_crashes(&self) {
        self.servers.tell("postgres-stop-immediate").await;
        self.servers.tell("postgres-start").await;
    }

    /// Both, one right after the other, and a daemon anew.
    async fn database_and_daemon_crash(&mut self, daemon_first: bool) {
        if daemon_first {
            self.daemon.kill();
        }
        self.servers.tell("postgres-stop-immediate").await;
        self.daemon.kill();
        self.servers.tell("postgres-start").await;
        self.daemon = spawn(&self.world);
    }

    /// Everything so far has ended, nothing is lost, and no more is doubled than unknown.
    async fn the_books_add_up(&mut self, round: u32) {
        let (world, published) = (&mut self.world, events_until(round));
        world.reconnect().await;
        world.all_ended(published.into()).await;
        let unknowns = world.conserved((1..=published).map(event_id)).await;
        println!("crash {round}: {unknowns} outcomes unknown, {} doubles", world.wechat.doubles().await);
    }
}

fn spawn(world: &World) -> Daemon {
    world.spawn(&[("DELIVERY__CONCURRENCY", &CONCURRENCY.to_string())])
}

fn events_until(round: u32) -> u32 {
    round * EVENTS
}

fn event_id(n: u32) -> String {
    format!("pay-{n}")
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}
