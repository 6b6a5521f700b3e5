//! Counts what is unfinished and what is stranded, for the metrics.
//!
//! Each process looks through the ledger once, from its beginning on, and from then on at what is new; what it found
//! unfinished it asks for again. So a look costs what has come since the last one, however large the ledger is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::db::dead_letters::{self, Choice};
use crate::db::ledger::unfinished::{self, Unfinished};
use crate::db::{Database, Error};
use crate::lifecycle::Beat;
use crate::metrics::Metrics;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Between two pages of one look: a process that starts on a ledger of a hundred million rows must not keep its disk busy.
const BETWEEN_PAGES: Duration = Duration::from_millis(20);
/// After this long a process looks through the whole ledger again: for rows that a replay has opened, and for those of a
/// fan-out that took more than a minute to write.
const FROM_START_EVERY: Duration = Duration::from_secs(3600);
/// Rows kept in mind, 16 bytes each. What is more is not counted; by then the number says enough.
const MOST_KEPT: usize = 1_000_000;
/// Rows asked for by one statement.
const ASKED_AT_ONCE: usize = 5_000;

/// Looks for as long as it is let. `unmoved_for`: a row that nothing has moved for so long is stranded.
pub async fn count_unfinished(db: Database, metrics: Arc<Metrics>, unmoved_for: Duration, beat: Arc<Beat>) {
    let mut count = UnfinishedCount { kept: Vec::new(), complete_to: 0, begun: Instant::now() };
    loop {
        beat.beat();
        match count.look(&db, unmoved_for, &beat).await {
            Ok(stranded) => metrics.unfinished(count.kept.len(), count.oldest_age(), stranded),
            Err(error) => tracing::debug!(%error, "cannot count unfinished deliveries"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct UnfinishedCount {
    /// Unfinished when last looked at.
    kept: Vec<Unfinished>,
    /// Up to this id only what is kept can be unfinished.
    complete_to: i64,
    /// When it began at the ledger's beginning.
    begun: Instant,
}

impl UnfinishedCount {
    /// Answers how many are stranded.
    async fn look(&mut self, db: &Database, unmoved_for: Duration, beat: &Beat) -> Result<usize, Error> {
        if self.begun.elapsed() >= FROM_START_EVERY {
            (self.complete_to, self.begun) = (0, Instant::now());
        }
        let mut unfinished = self.still_unfinished(db, beat).await?;
        let (mut after, mut complete_to) = (self.complete_to, self.complete_to);
        // Once one page has had young rows, those of the next ones are not complete either.
        let mut is_complete = true;
        loop {
            beat.beat();
            let page = unfinished::page(db, after).await?;
            unfinished.extend(page.unfinished);
            unfinished.truncate(MOST_KEPT);
            if is_complete {
                complete_to = page.complete_to.unwrap_or(complete_to);
                is_complete = page.complete_to == page.last;
            }
            after = page.last.unwrap_or(after);
            if !page.is_full {
                break;
            }
            tokio::time::sleep(BETWEEN_PAGES).await;
        }
        (self.kept, self.complete_to) = (unfinished, complete_to);
        let ids: Vec<i64> = self.kept.iter().map(|row| row.id).collect();
        stranded(db, ids, unmoved_for).await
    }

    async fn still_unfinished(&self, db: &Database, beat: &Beat) -> Result<Vec<Unfinished>, Error> {
        let ids: Vec<i64> = self.kept.iter().map(|row| row.id).filter(|id| *id <= self.complete_to).collect();
        let mut still = Vec::new();
        for chunk in ids.chunks(ASKED_AT_ONCE) {
            beat.beat();
            still.extend(unfinished::still(db, chunk).await?);
        }
        Ok(still)
    }

    fn oldest_age(&self) -> Duration {
        let oldest = self.kept.iter().map(|row| row.created_at).min();
        let age = oldest.map(|oldest| clock::now().duration_since(oldest));
        age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
    }
}

async fn stranded(db: &Database, ids: Vec<i64>, unmoved_for: Duration) -> Result<usize, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let choice = Choice { ids: Some(ids), event_id: None, unmoved_for_s: unmoved_for.as_secs_f64() };
    Ok(dead_letters::stranded(db, &choice).await?.len())
}
