//! The table of pauses and the breakers, kept in step: this process shows what it has paused, and hears what operators want.
//!
//! Only operators depend on the table. While PostgreSQL is away the breakers go on working, and the last orders stay in force.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::breakers::{Breakers, ByHand};
use super::notices::Notice;
use super::pause::Facts;
use crate::db::registry::pauses;
use crate::db::{self, Database};
use crate::domain::ids::AppId;
use crate::lifecycle::Beat;

/// Orders are announced; polling finds those whose announcement is lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Changes that come together are written together.
const GATHER: Duration = Duration::from_millis(100);

/// Keeps table and breakers in step. Cheap to clone.
#[derive(Clone)]
pub struct PauseReport {
    pub db: Database,
    pub breakers: Breakers,
}

impl PauseReport {
    /// Runs forever; `announced` hurries it. Nothing is sent before it has read the orders once.
    pub async fn keep_in_step(self, announced: Arc<Notify>, beat: Arc<Beat>) {
        let mut board = Board::new(self.db);
        loop {
            beat.beat();
            let kept = board.keep_in_step(&self.breakers).await;
            board.log_failure(kept);
            tokio::select! {
                () = self.breakers.changed() => {}
                () = announced.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// What this process shows.
struct Board {
    db: Database,
    process: String,
    posted: Vec<pauses::Posted>,
    posted_at: Instant,
    /// It cannot be kept in step, and the log says so.
    is_failure_logged: bool,
}

impl Board {
    fn new(db: Database) -> Self {
        Self {
            db,
            process: name_of_process(),
            posted: Vec::new(),
            posted_at: Instant::now(),
            is_failure_logged: false,
        }
    }

    async fn keep_in_step(&mut self, breakers: &Breakers) -> Result<(), db::Error> {
        obey(breakers, pauses::orders(&self.db, &self.process).await?);
        let now: Vec<_> = breakers.notices().into_iter().map(posted).collect();
        let needs_refresh = !now.is_empty() && self.posted_at.elapsed() >= pauses::REFRESH_EVERY;
        if is_news(&self.posted, &now) || needs_refresh {
            pauses::post(&self.db, &self.process, &now).await?;
            (self.posted, self.posted_at) = (now, Instant::now());
        }
        Ok(())
    }

    /// A database that is away is reported elsewhere; one that refuses needs an operator.
    fn log_failure(&mut self, kept: Result<(), db::Error>) {
        match kept {
            Ok(()) => self.is_failure_logged = false,
            Err(error) if !error.needs_operator() => {
                tracing::debug!(%error, "the table of pauses waits for PostgreSQL")
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failure_logged, true) {
                    tracing::error!(%error, "cannot read or write the table of pauses (t_wechat_pause); a daemon that starts \
                         sends nothing before it knows what operators have paused");
                }
            }
        }
    }
}

fn obey(breakers: &Breakers, orders: pauses::Orders) {
    let mut by_hand = HashMap::<AppId, ByHand>::new();
    for pauses::Order { app_id, template_id, why, since } in orders.paused {
        let facts = Arc::new(Facts { since, errcode: None, detail: why });
        let of_app = by_hand.entry(app_id).or_default();
        match template_id {
            Some(template_id) => drop(of_app.templates.insert(template_id, facts)),
            None => of_app.app = Some(facts),
        }
    }
    breakers.set_by_hand(by_hand);
    for (app_id, template_id) in orders.probes {
        breakers.of(&app_id).probe_now(template_id.as_ref());
    }
}

/// The time of the next probe alone is no news: it moves every few seconds, and a refresh shows it early enough.
fn is_news(posted: &[pauses::Posted], now: &[pauses::Posted]) -> bool {
    let key =
        |pause: &pauses::Posted| (pause.app_id.clone(), pause.template_id.clone(), pause.reason, pause.since);
    let (mut before, mut after): (Vec<_>, Vec<_>) =
        (posted.iter().map(key).collect(), now.iter().map(key).collect());
    before.sort();
    after.sort();
    before != after
}

fn posted((app_id, notice): (AppId, Notice)) -> pauses::Posted {
    let Notice { template_id, reason, facts, until } = notice;
    let Facts { since, errcode, detail } = (*facts).clone();
    pauses::Posted { app_id, template_id, reason, errcode, detail, since, until }
}

/// `host:pid:nonce`: people know the first two; the third distinguishes two containers that share both.
fn name_of_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let nonce = Uuid::new_v4().simple().to_string();
    format!("{}:{}:{}", host.trim(), std::process::id(), &nonce[..8])
}
