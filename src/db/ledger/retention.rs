//! Removing old settled rows from the ledger, in small batches.

use jiff::Timestamp;

use crate::db::query::{self, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};

/// Rows read in one transaction: some ten milliseconds, and its locks are on rows that nothing else locks.
const BATCH: i64 = 500;

/// One batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Deleted rows.
    pub rows: u64,
    /// Where the next batch begins; `None` where the rest is younger, or another process is removing rows.
    pub after: Option<i64>,
}

/// Removes deliveries that were settled before `until`, of the batch of rows after `after`, in the order of their ids.
///
/// Kept at any age: unfinished rows; dead rows with a dead letter that is open or being replayed, their own or one about the
/// whole event; and dead rows without a dead letter, whose loss would otherwise go unnoticed.
pub async fn remove_settled(db: &Database, until: Timestamp, after: i64) -> Result<Removed, Error> {
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    if !sql!(HOLD).one(&transaction).await?.read::<bool>("held")? {
        return Ok(Removed { rows: 0, after: None });
    }
    let row = sql!(REMOVE, after, batch = BATCH, until).one(&transaction).await?;
    let removed = Removed { rows: row.read::<i64>("removed")?.unsigned_abs(), after: row.read("last")? };
    transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
    Ok(removed)
}

const BEGIN: &str = "-- retention::begin";
const COMMIT: &str = "-- retention::commit";

/// One process at a time, or each would read the rows that the others have removed.
const HOLD: &str = "-- retention::hold
    SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' retention.deliveries', 0)) AS held";

// By the primary key, which follows the age: an index for this would cost every settlement. A row is never settled before it
// was created, so the first page without an old row is the last. count(*) and not EXISTS, which would be planned as a join
// with every open dead letter.
const REMOVE: &str = "-- retention::remove_settled
    WITH page AS MATERIALIZED (
        SELECT id, created_at FROM t_wechat_delivery WHERE id > :after ORDER BY id LIMIT :batch
    ), old AS MATERIALIZED (
        SELECT d.id FROM t_wechat_delivery d JOIN page USING (id)
         WHERE d.settled_at < :until
           AND (d.status IN ('sent', 'skipped')
                OR (d.status = 'dead'
                    AND (SELECT count(*) FROM t_wechat_dead_letter l
                          WHERE l.event_id = d.event_id AND l.recipient = d.recipient) > 0))
           AND (SELECT count(*) FROM t_wechat_dead_letter l
                 WHERE l.event_id = d.event_id AND l.recipient = d.recipient
                   AND l.state IN ('open', 'replaying')) = 0
           AND (SELECT count(*) FROM t_wechat_dead_letter l
                 WHERE l.event_id = d.event_id AND l.recipient IS NULL
                   AND l.state IN ('open', 'replaying')) = 0
           FOR UPDATE OF d SKIP LOCKED
    ), gone AS (
        DELETE FROM t_wechat_delivery d USING old WHERE d.id = old.id RETURNING d.id
    )
    SELECT (SELECT count(*) FROM gone) AS removed,
           (SELECT max(id) FROM page HAVING count(*) = :batch AND min(created_at) < :until) AS last";
