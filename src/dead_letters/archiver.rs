//! The task that drains the dead queue into the archive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::archive::{Verdict, archive_batch, unreadable};
use super::reading::read;
use crate::amqp::{Incoming, Receipt, Subscription};
use crate::clock;
use crate::db::Database;
use crate::db::letters::Letter;
use crate::delays::Delays;
use crate::failpoint::{crash_point, panic_point};
use crate::metrics::Metrics;

/// Letters in hand at once, and the largest batch. More would only hold memory: bodies can be 256 KiB each.
pub const PREFETCH: u16 = 256;
/// How often an idle archiver shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// A letter whose delivery somebody still holds a claim on is looked at again after this: about the shortest lease.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Drains the dead queue until the soft stop. With PostgreSQL away the letters wait in the queue.
pub struct Archiver {
    pub db: Database,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
}

impl Archiver {
    /// Runs until the stop; `beat` is called at least once a second while things are well.
    pub async fn run(self, mut letters: Subscription, beat: impl Fn()) {
        loop {
            beat();
            panic_point("archiver");
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                first = tokio::time::timeout(BEAT_EVERY, letters.next()) => first,
            };
            match first {
                Ok(Some(first)) => {
                    let batch = with_what_is_here(first, &mut letters);
                    self.archive(batch, &beat).await;
                }
                Ok(None) => break,
                Err(_nothing_came) => {}
            }
        }
        letters.cancel().await;
    }

    /// Archives one batch, however long PostgreSQL takes to be back; left unacked at a stop.
    async fn archive(&self, batch: Vec<Incoming>, beat: &impl Fn()) {
        let (letters, receipts): (Vec<Letter>, Vec<Receipt>) = batch.into_iter().map(letter).unzip();
        self.metrics.letters_in_hand(oldest(&letters, clock::now()));
        let mut delays = Delays::reconnect();
        let verdicts = loop {
            beat();
            match archive_batch(&self.db, &letters).await {
                Ok(verdicts) => break verdicts,
                Err(error) => tracing::debug!(%error, "dead letters wait for PostgreSQL"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delays.next().unwrap_or(COME_AGAIN_AFTER)) => {}
            }
        };
        crash_point("archived");
        self.metrics.letters_in_hand(None);
        for ((verdict, receipt), letter) in verdicts.into_iter().zip(receipts).zip(letters) {
            match verdict {
                Verdict::Kept => {
                    receipt.ack();
                    self.metrics.letter_archived(letter.app_id.as_deref(), letter.reason);
                }
                Verdict::ComeAgain => come_again(receipt),
            }
        }
    }
}

/// The letter just received and those already here: what arrives during a statement forms the next batch.
fn with_what_is_here(first: Incoming, letters: &mut Subscription) -> Vec<Incoming> {
    let mut batch = vec![first];
    while batch.len() < usize::from(PREFETCH)
        && let Some(Some(next)) = letters.next().now_or_never()
    {
        batch.push(next);
    }
    batch
}

/// Reads it; where our own code fails on that, the body is kept as it is.
fn letter(incoming: Incoming) -> (Letter, Receipt) {
    let (message, receipt) = (incoming.message, incoming.receipt);
    let body = message.body.clone();
    let reading = AssertUnwindSafe(|| {
        panic_point("letter_read");
        read(message.into())
    });
    // The panic hook has logged it. A random identity: twice in the archive is better than once too few.
    let letter = catch_unwind(reading).unwrap_or_else(|_panic| {
        let letter = unreadable(Uuid::new_v4().simple().to_string(), body);
        tracing::error!(
            letter = letter.letter,
            "a dead letter cannot be read; it is archived raw, as unreadable"
        );
        Letter { errmsg: Some("reading it panicked".to_owned()), ..letter }
    });
    (letter, receipt)
}

/// When the oldest of them was given up; one that does not say counts from now.
fn oldest(letters: &[Letter], now: Timestamp) -> Option<Timestamp> {
    letters.iter().map(|letter| letter.last_failed_at.unwrap_or(now)).min()
}

/// Back to the queue, but not at once: a letter that is looked at in a loop helps nobody.
fn come_again(receipt: Receipt) {
    tokio::spawn(async move {
        tokio::time::sleep(COME_AGAIN_AFTER).await;
        receipt.give_back();
    });
}
