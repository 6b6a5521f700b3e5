//! Bringing dead letters back: judged, published with confirm, and only then marked. It can be killed anywhere and resumed.
//!
//! The set, and the epoch that each dead letter goes out with, are fixed in the database before anything is published. A command
//! that is killed between the broker's confirm and the mark publishes the same message again; with the same epoch, one of the
//! two is an echo (`docs/ARCHITECTURE.md`, the delivery protocol). What becomes of the dead letters is read from the ledger.

mod canary;
mod contents;
mod judge;
mod preview;
mod publish;
mod watch;

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::amqp::{PublishError, Publisher, Topology};
use crate::db::{self, Database, replay};
use crate::domain::dead_letter::About;
use crate::domain::event::{Arrival, Event, Malformed};
use crate::domain::replay::{Place, State};
use crate::failpoint::crash_point;

use contents::Replay;
pub use judge::Terms;
use judge::View;
pub use preview::{Group, Preview, preview};
pub use watch::Watch;

/// Why a replay ended before its end. It can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error("cannot publish a dead letter: {0}")]
    Publish(#[from] PublishError),
    #[error("there is no such replay")]
    Unknown,
}

/// Publishes the dead letters of replays.
pub struct Replayer {
    pub db: Database,
    pub publisher: Publisher,
    pub topology: Topology,
    pub terms: Terms,
}

impl Replayer {
    /// Works on one replay until nothing is left of it, or an operator or a canary ends it; returns its state then.
    /// `told` hears of every step. The caller holds the replay (see [`replay::hold`]).
    pub async fn run(&self, id: i64, mut told: impl FnMut(&replay::Standing)) -> Result<State, Fault> {
        let mut pace = None;
        let pauses = replay::pauses(&self.db).await?;
        loop {
            let now = replay::standing(&self.db, id).await?.ok_or(Fault::Unknown)?;
            told(&now);
            if now.state != State::Running {
                return Ok(now.state);
            }
            match now.canary.place(now.published, now.steps_passed) {
                Place::Check { step } => self.check(id, &now, step).await?,
                Place::Go { step, at_most } => {
                    let pace = pace.get_or_insert_with(|| Pace::of(now.rate_per_second));
                    let batch = pace.next().await.min(at_most.unwrap_or(i64::MAX));
                    let replay::Standing { even_expired, re_resolve, .. } = now;
                    let replay = Replay { id, even_expired };
                    let view = View { terms: &self.terms, even_expired, re_resolve, pauses: &pauses };
                    if !self.publish_some(&replay, &view, step, batch).await? {
                        crash_point("replay_emptied");
                        replay::move_on(&self.db, id, State::Finished, None).await?;
                    }
                }
            }
        }
    }
}

/// Reads a body that an operator has edited, with the daemon's own complaint where it is no event.
pub fn read_edited(body: Vec<u8>, terms: &Terms) -> Result<replay::EditedBody, Malformed> {
    let arrival = Arrival {
        message_id: None,
        timestamp: None,
        first_seen: crate::clock::now(),
        default_ttl: terms.default_ttl,
    };
    let event = Event::decode(&body, &arrival)?;
    Ok(replay::EditedBody { body, about: About::event(&event) })
}

/// The rate, as batches of a tenth of a second: one statement and one confirm for several dead letters.
struct Pace {
    batch: i64,
    ticks: Interval,
}

impl Pace {
    fn of(rate_per_second: i32) -> Self {
        let rate = i64::from(rate_per_second.max(1));
        let batch = (rate / 10).clamp(1, replay::PAGE);
        #[expect(clippy::cast_precision_loss, reason = "rates are small")]
        let every = Duration::from_secs_f64(batch as f64 / rate as f64);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { batch, ticks }
    }

    /// Waits until a batch may go out, and says how large.
    async fn next(&mut self) -> i64 {
        self.ticks.tick().await;
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dead_letters_go_out_at_their_rate() {
        for rate in [1, 7, 20, 1_000, 5_000] {
            let mut pace = Pace::of(rate);
            let started = tokio::time::Instant::now();
            let mut dead_letters = 0;
            while started.elapsed() < Duration::from_secs(10) {
                dead_letters += pace.next().await;
            }
            let expected = i64::from(rate) * 10;
            assert!(
                (expected..=expected + expected / 8 + 1).contains(&dead_letters),
                "{rate}/s: {dead_letters} in 10 s"
            );
        }
    }
}
