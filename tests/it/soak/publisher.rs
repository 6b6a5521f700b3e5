//! The steady load: business systems that publish, each until the broker has confirmed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::task::JoinHandle;
use wechat_notifier::clock;

use super::stage::{APPS, USERS};
use crate::support::{EventBody, Exchange, World, event};

/// Between two batches of events.
const EVERY: Duration = Duration::from_millis(250);
const BATCH: u32 = 5;
/// One batch in so many holds an event for everybody.
const CROWD_EVERY: u32 = 60;
/// The broker confirms within this, or is asked again: it may have restarted.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was confirmed.
#[derive(Default)]
pub struct Published {
    /// Messages, duplicates included.
    pub messages: u64,
    /// How many people each event names.
    pub events: BTreeMap<String, i64>,
}

impl Published {
    /// Every event has a row for everybody it names, sent or skipped or dead.
    pub fn least_rows(&self) -> i64 {
        self.events.values().sum()
    }
}

pub struct Publisher {
    task: JoinHandle<Published>,
}

impl Publisher {
    /// Publishes for so long.
    pub fn start(world: &World, seed: u64, length: Duration) -> Self {
        // Another row of chances than the plan's.
        let desk = Desk {
            chance: Rng::with_seed(!seed),
            made: 0,
            recent: Vec::new(),
            published: Published::default(),
        };
        Self { task: tokio::spawn(desk.publish(world.exchange(), length)) }
    }

    /// Waits for the last confirm.
    pub async fn ends(self) -> Published {
        self.task.await.unwrap()
    }
}

struct Desk {
    chance: Rng,
    made: u32,
    /// What may be published a second time.
    recent: Vec<EventBody>,
    published: Published,
}

impl Desk {
    async fn publish(mut self, exchange: Exchange, length: Duration) -> Published {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(EVERY);
        while began.elapsed() < length {
            ticks.tick().await;
            let batch: Vec<EventBody> = (0..BATCH).map(|_| self.next()).collect();
            while !confirmed(&exchange, &batch).await {
                tokio::time::sleep(EVERY).await;
            }
            for event in batch {
                let id = event.0["event_id"].as_str().unwrap().to_owned();
                let people = event.0["sys_user_ids"].as_array().unwrap().len();
                self.published.events.insert(id, i64::try_from(people).unwrap());
                self.published.messages += 1;
                self.recent.push(event);
            }
            let old = self.recent.len().saturating_sub(100);
            self.recent.drain(..old);
        }
        self.published
    }

    fn next(&mut self) -> EventBody {
        if !self.recent.is_empty() && self.chance.u32(..100) < 8 {
            return self.recent[self.chance.usize(..self.recent.len())].clone();
        }
        self.made += 1;
        let people = match self.chance.u32(..100) {
            _ if self.made.is_multiple_of(CROWD_EVERY * BATCH) => (1..=USERS).collect(),
            0..20 => self.some(8),
            _ => self.some(1),
        };
        let users: Vec<String> = people.iter().map(|n| format!("user-{n}")).collect();
        let app = APPS[self.chance.usize(..APPS.len())];
        let event = event(&format!("e-{}", self.made)).with("app_id", app).with("sys_user_ids", json!(users));
        let soon = |seconds: i64| -> Timestamp { clock::now() + SignedDuration::from_secs(seconds) };
        match self.chance.u32(..100) {
            0..10 => event.with("on_unknown", "park"),
            10..18 => event.with("deliver_after", soon(self.chance.i64(1..7)).to_string()),
            18..24 => event.with("expires_at", soon(self.chance.i64(1..4)).to_string()),
            _ => event,
        }
    }

    /// Up to so many users, each once.
    fn some(&mut self, most: u32) -> std::collections::BTreeSet<u32> {
        let count = if most == 1 { 1 } else { self.chance.u32(2..=most) };
        (0..count).map(|_| self.chance.u32(1..=USERS)).collect()
    }
}

async fn confirmed(exchange: &Exchange, batch: &[EventBody]) -> bool {
    let bodies: Vec<Vec<u8>> = batch.iter().map(|event| event.0.to_string().into_bytes()).collect();
    let no_headers = BTreeMap::new();
    let publishing = exchange.publish(bodies, &no_headers);
    matches!(tokio::time::timeout(PATIENCE, publishing).await, Ok(Ok(true)))
}
