//! What it came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Order;
use super::plan::Plan;
use super::publisher::Published;
use super::stage::Stage;

pub struct Account {
    seed: u64,
    minutes: f64,
    processes: usize,
    messages: u64,
    events: usize,
    rows: BTreeMap<String, i64>,
    dead_letters: BTreeMap<String, i64>,
    requests: i64,
    got: i64,
    doubled: i64,
    unknowns: i64,
    conservation: i64,
    /// Events with neither a row nor a dead letter.
    lost: i64,
    /// From the last fault to the last row; nothing: not in time.
    settled_after: Option<Duration>,
    faults: BTreeMap<&'static str, usize>,
}

impl Account {
    pub async fn of(
        stage: &Stage,
        order: &Order,
        plan: &Plan,
        published: &Published,
        settled_after: Option<Duration>,
    ) -> Self {
        let world = &stage.world;
        let number = async |sql: &str| -> i64 { world.db.query_one(sql, &[]).await.unwrap().get(0) };
        Self {
            seed: order.seed,
            minutes: order.length.as_secs_f64() / 60.0,
            processes: order.processes,
            messages: published.messages,
            events: published.events.len(),
            rows: world.ends().await,
            dead_letters: counted(world.dead_letters().await),
            requests: world.wechat.send_requests().await,
            got: world.wechat.got_by_all().await,
            doubled: world.wechat.doubles().await,
            unknowns: number("SELECT coalesce(sum(unknowns), 0)::bigint FROM t_wechat_delivery").await,
            conservation: stage.gaps().await,
            lost: lost(stage, published).await,
            settled_after,
            faults: plan.counts(),
        }
    }

    /// Which promises were broken; none, if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |holds: bool, broken: String| {
            if !holds {
                faults.push(broken);
            }
        };
        expect(self.settled_after.is_some(), "not everything ended".to_owned());
        expect(self.conservation == 0, format!("{} rows of the conservation view", self.conservation));
        expect(self.lost == 0, format!("{} events have neither a row nor a dead letter", self.lost));
        expect(self.doubled <= self.unknowns, format!("{} doubled, {} unknown", self.doubled, self.unknowns));
        let sent = self.rows.get("sent").copied().unwrap_or_default();
        expect(self.got >= sent, format!("{sent} rows say sent, and users got {}", self.got));
        faults
    }

    fn as_json(&self) -> Value {
        json!({
            "seed": self.seed, "minutes": self.minutes, "processes": self.processes,
            "published": self.messages, "events": self.events, "rows": self.rows, "dead_letters": self.dead_letters,
            "requests": self.requests, "got": self.got, "doubled": self.doubled, "unknowns": self.unknowns,
            "conservation": self.conservation, "lost": self.lost,
            "settled_after_s": self.settled_after.map(|took| took.as_secs_f64()), "faults": self.faults,
            "held": self.faults().is_empty(),
        })
    }
}

fn counted(words: Vec<String>) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

async fn lost(stage: &Stage, published: &Published) -> i64 {
    let ids: Vec<&String> = published.events.keys().collect();
    let sql = "SELECT count(*) FROM unnest($1::text[]) e
                WHERE NOT EXISTS (SELECT FROM t_wechat_delivery WHERE event_id = e)
                  AND NOT EXISTS (SELECT FROM t_wechat_dead_letter WHERE event_id = e)";
    stage.world.db.query_one(sql, &[&ids]).await.unwrap().get(0)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:24} {value:>10}");
        line("messages published", &self.messages)?;
        line("events", &self.events)?;
        for (end, count) in &self.rows {
            line(&format!("  rows {end}"), count)?;
        }
        for (reason, count) in &self.dead_letters {
            line(&format!("  dead letters {reason}"), count)?;
        }
        line("requests to send", &self.requests)?;
        line("messages users got", &self.got)?;
        line("doubled", &self.doubled)?;
        line("unknown outcomes", &self.unknowns)?;
        line("conservation view", &self.conservation)?;
        line("events lost", &self.lost)?;
        let settled =
            self.settled_after.map_or("never".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
        line("settled after", &settled)?;
        for (fault, count) in &self.faults {
            line(&format!("  {fault}"), count)?;
        }
        write!(f, "{}", self.as_json())
    }
}
