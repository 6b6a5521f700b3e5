//! The task that drains the dead queue into the archive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::archive::{Verdict, archive_batch, unreadable};
use super::read::read;
use crate::amqp::{AckHandle, Incoming, Subscription};
use crate::clock;
use crate::db::Database;
use crate::db::dead_letters::Received;
use crate::delays::Delays;
use crate::domain::dead_letter::DeadLetter;
use crate::failpoint::{crash_point, panic_point};
use crate::metrics::Metrics;

/// Dead letters in hand at once, and the largest batch. More would only hold memory: bodies can be 256 KiB each.
pub const PREFETCH: u16 = 256;
/// How often an idle archiver shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A dead letter whose delivery somebody still holds a claim on is looked at again after this: about the shortest lease.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Drains the dead queue until the soft stop. With PostgreSQL away the dead letters wait in the queue.
pub struct Archiver {
    pub db: Database,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
}

impl Archiver {
    /// Runs until the stop; `beat` is called at least once a second while things are well.
    pub async fn run(self, mut dead_letters: Subscription, beat: impl Fn()) {
        loop {
            beat();
            panic_point("archiver");
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                first = tokio::time::timeout(BEAT_EVERY, dead_letters.next()) => first,
            };
            match first {
                Ok(Some(first)) => {
                    let batch = with_what_is_here(first, &mut dead_letters);
                    self.archive(batch, &beat).await;
                }
                Ok(None) => break,
                Err(_nothing_came) => {}
            }
        }
        dead_letters.cancel().await;
    }

    /// Archives one batch, however long PostgreSQL takes to be back; left unacked at a stop.
    async fn archive(&self, batch: Vec<Incoming>, beat: &impl Fn()) {
        let (received, ack_handles): (Vec<Received>, Vec<AckHandle>) =
            batch.into_iter().map(read_incoming).unzip();
        self.metrics.dead_letters_in_hand(oldest(&received, clock::now()));
        let mut delays = Delays::reconnect();
        let verdicts = loop {
            beat();
            match archive_batch(&self.db, &received).await {
                Ok(verdicts) => break verdicts,
                Err(error) => tracing::debug!(%error, "dead letters wait for PostgreSQL; retrying"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delays.next().unwrap_or(COME_AGAIN_AFTER)) => {}
            }
        };
        crash_point("archived");
        self.metrics.dead_letters_in_hand(None);
        for ((verdict, ack_handle), received) in verdicts.into_iter().zip(ack_handles).zip(received) {
            match verdict {
                Verdict::Kept => {
                    ack_handle.ack();
                    count(&self.metrics, &received.dead_letter);
                }
                Verdict::ComeAgain => come_again(ack_handle),
            }
        }
    }
}

/// The dead letter just received and those already here: what arrives during a statement forms the next batch.
fn with_what_is_here(first: Incoming, dead_letters: &mut Subscription) -> Vec<Incoming> {
    let mut batch = vec![first];
    while batch.len() < usize::from(PREFETCH)
        && let Some(Some(next)) = dead_letters.next().now_or_never()
    {
        batch.push(next);
    }
    batch
}

/// Reads it; where our own code fails on that, the body is kept as it is.
fn read_incoming(incoming: Incoming) -> (Received, AckHandle) {
    let (message, ack_handle) = (incoming.message, incoming.ack_handle);
    let body = message.body.clone();
    let reading = AssertUnwindSafe(|| {
        panic_point("dead_letter_read");
        read(message)
    });
    // The panic hook has logged it. A random identity: twice in the archive is better than once too few.
    let received = catch_unwind(reading).unwrap_or_else(|_panic| {
        let identity = Uuid::new_v4().simple().to_string();
        tracing::error!(
            dead_letter = identity,
            "cannot read a dead letter; it is archived raw, as unreadable"
        );
        unreadable(identity, body, Some("reading it panicked".to_owned()))
    });
    (received, ack_handle)
}

fn count(metrics: &Metrics, dead_letter: &DeadLetter) {
    // What was read here always has a reason that we know.
    if let Some(reason) = dead_letter.reason.known() {
        metrics.dead_letter_archived(dead_letter.about.app_id.as_deref(), reason);
    }
}

/// When the oldest of them was given up; one that does not say counts from now.
fn oldest(received: &[Received], now: Timestamp) -> Option<Timestamp> {
    received.iter().map(|received| received.dead_letter.last_failed_at.unwrap_or(now)).min()
}

/// Back to the queue, but not at once: a dead letter that is looked at in a loop helps nobody.
fn come_again(ack_handle: AckHandle) {
    tokio::spawn(async move {
        tokio::time::sleep(COME_AGAIN_AFTER).await;
        ack_handle.give_back();
    });
}
