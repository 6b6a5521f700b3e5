//! Retention: closed dead letters are purged when they are old enough. Off unless configured; never silent, never an open one.

use std::time::Duration;

use crate::clock;
use crate::db::dead_letters::{self, Act, Closing, Filter};
use crate::db::{Database, Error};

/// Between two looks. A dead letter is kept for months; an hour more is nothing.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// A look that failed is repeated after this.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Purges closed dead letters that were archived longer than `keep` ago, for as long as it is let. Several processes may do it at
/// once: each dead letter is purged by one.
pub async fn purge_old(db: Database, keep: Duration) {
    loop {
        let pause = match purge_once(&db, keep).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                if error.needs_operator() {
                    tracing::warn!(%error, "cannot purge old dead letters");
                }
                LOOK_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn purge_once(db: &Database, keep: Duration) -> Result<(), Error> {
    let Ok(until) = clock::now().checked_sub(keep) else { return Ok(()) };
    let filter = Filter { until: Some(until), ..Filter::default() };
    let (count, cut_off) = dead_letters::count(db, Closing::Purge, &filter).await?;
    if count == 0 {
        return Ok(());
    }
    let act = Act {
        closing: Closing::Purge,
        operator: "retention".to_owned(),
        why: Some(format!("older than retention.dead_letters ({keep:?})")),
        filter,
        cut_off,
    };
    let purged = dead_letters::close(db, &act).await?;
    tracing::info!(purged, %until, "purged closed dead letters archived before this time (retention.dead_letters)");
    Ok(())
}
