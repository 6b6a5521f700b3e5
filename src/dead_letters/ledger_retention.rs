//! Retention of the ledger: what was settled long ago is removed. Off unless configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::db::ledger::retention;
use crate::db::{Database, Error};
use crate::metrics::Metrics;

/// Between two passes over what is old.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// A pass that failed is repeated after this.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// After a batch it rests for this many times as long as the batch took, so that a slow server has most of the time for others…
const REST: u32 = 3;
/// … and for this long at least: five thousand rows a second are more than are settled, and what is removed makes work for the
/// write-ahead log and for autovacuum.
const LEAST_REST: Duration = Duration::from_millis(100);

/// Removes deliveries that were settled longer than `keep` ago, for as long as it is let. Several processes may do it at
/// once: they take turns.
pub async fn remove_old(db: Database, metrics: Arc<Metrics>, keep: Duration) {
    loop {
        let pause = match pass(&db, &metrics, keep).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                if error.needs_operator() {
                    tracing::warn!(%error, "cannot delete old deliveries");
                }
                LOOK_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn pass(db: &Database, metrics: &Metrics, keep: Duration) -> Result<(), Error> {
    let Ok(until) = clock::now().checked_sub(keep) else { return Ok(()) };
    let (mut removed, mut after) = (0, Some(0));
    while let Some(from) = after {
        let started = Instant::now();
        let batch = retention::remove_settled(db, until, from).await?;
        metrics.deliveries_removed.inc_by(batch.rows);
        removed += batch.rows;
        after = batch.after;
        tokio::time::sleep((started.elapsed() * REST).max(LEAST_REST)).await;
    }
    if removed > 0 {
        tracing::info!(removed, %until, "deleted deliveries settled before this time (retention.deliveries)");
    }
    Ok(())
}
