//! Rows that no message carries any more: finding them, and closing them by an operator's word.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::archive::{Received, archive_on};
use crate::db::ledger::browse::{COLUMNS, LedgerRow, ledger_row};
use crate::db::query::{self, columns, joined, sql};
use crate::db::registry::pauses;
use crate::db::row::Read;
use crate::db::{Database, Error};

/// Rows closed in one transaction.
const PAGE: usize = 500;

/// An unfinished row that nothing has moved for long.
#[derive(Debug, Clone)]
pub struct Stranded {
    pub row: LedgerRow,
    pub token_generation: Option<i64>,
    /// Of data and page: shows whether an event at hand is the one that the row is about.
    pub content_hash: Vec<u8>,
}

/// Which of them; an absent field means any.
#[derive(Debug, Default)]
pub struct Choice {
    pub ids: Option<Vec<i64>>,
    pub event_id: Option<String>,
    /// Neither begun, nor settled, claimed or due within the last so many seconds.
    pub unmoved_for_s: f64,
}

/// The unfinished rows that nothing has moved for so long, oldest first.
///
/// Two kinds stand still and are not stranded. What is paused has messages that come back when the pause ends. And rows of
/// epoch 0 have their event as delivery message, which a slow app may take hours to work through: one row of it that moved speaks for all.
pub async fn stranded(db: &Database, choice: &Choice) -> Result<Vec<Stranded>, Error> {
    const SQL: &str = joined!(
        "-- dead_letters::stranded
        WITH still AS MATERIALIZED (
            SELECT d.* FROM t_wechat_delivery d
             WHERE status IN ('planned', 'attempting', 'retrying')
               AND greatest(created_at, settled_at, claimed_until, due_at) < now() - :unmoved_for_s * interval '1 second'
               AND (:ids::bigint[] IS NULL OR id = ANY (:ids))
               AND (:event_id::text IS NULL OR event_id = :event_id)
               AND NOT EXISTS (SELECT FROM t_wechat_pause p
                                WHERE p.app_id = d.app_id AND p.template_id IN ('', d.template_id)
                                  AND (p.process = '' OR p.updated_at >= now() - :stale_after_s * interval '1 second'))),
        moving AS MATERIALIZED (
            SELECT DISTINCT d.event_id
              FROM (SELECT DISTINCT event_id FROM still WHERE epoch = 0) e JOIN t_wechat_delivery d USING (event_id)
             WHERE greatest(d.created_at, d.settled_at, d.claimed_until, d.due_at) >= now() - :unmoved_for_s * interval '1 second')
        SELECT ",
        COLUMNS,
        ", d.token_generation, d.content_hash
          FROM still d
         WHERE epoch > 0 OR event_id NOT IN (SELECT event_id FROM moving)
         ORDER BY id"
    );
    let Choice { ids, event_id, unmoved_for_s } = choice;
    let query = sql!(SQL, unmoved_for_s, ids, event_id, stale_after_s = pauses::STALE_AFTER_S);
    let rows = query.rows(&db.durable().await?).await?;
    rows.iter().map(stranded_row).collect()
}

fn stranded_row(row: &Row) -> Result<Stranded, Error> {
    Ok(Stranded {
        row: ledger_row(row)?,
        token_generation: row.read("token_generation")?,
        content_hash: row.read("content_hash")?,
    })
}

/// Closes rows as `dead`, `stranded`, each with its dead letter in the same transaction. One that has moved since it was found is
/// left alone. Answers how many were closed.
pub async fn close_stranded(
    db: &Database,
    found: &[(Stranded, Received)],
    unmoved_for_s: f64,
) -> Result<usize, Error> {
    let mut client = db.durable().await?;
    let mut closed = 0;
    for page in found.chunks(PAGE) {
        let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
        let ids = close_rows(&transaction, page, unmoved_for_s).await?;
        let theirs = page.iter().filter(|(stranded, _)| ids.contains(&stranded.row.id));
        let dead_letters: Vec<Received> = theirs.map(|(_, dead_letter)| dead_letter.clone()).collect();
        archive_on(&transaction, &dead_letters).await?;
        transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
        closed += dead_letters.len();
    }
    Ok(closed)
}

const BEGIN: &str = "-- dead_letters::close_begin";
const COMMIT: &str = "-- dead_letters::close_commit";

columns! {
    /// The rows to close, as they were found.
    struct Found<'a>(found: &'a (Stranded, Received)) {
        id: i64 = found.0.row.id,
        epoch: i32 = found.0.row.epoch,
    }
}

async fn close_rows(
    client: &Transaction<'_>,
    page: &[(Stranded, Received)],
    unmoved_for_s: f64,
) -> Result<Vec<i64>, Error> {
    const SQL: &str = "-- dead_letters::close_stranded
        WITH locked AS (
            SELECT d.id
              FROM t_wechat_delivery d JOIN :found USING (id, epoch)
             WHERE d.status IN ('planned', 'attempting', 'retrying')
               AND greatest(d.created_at, d.settled_at, d.claimed_until, d.due_at) < now() - :unmoved_for_s * interval '1 second'
             ORDER BY d.id
               FOR UPDATE OF d)
        UPDATE t_wechat_delivery d
           SET status = 'dead', reason = 'stranded', claim = NULL, claimed_until = NULL,
               unknowns = unknowns + (status = 'attempting')::integer, settled_at = now()
          FROM locked
         WHERE d.id = locked.id
        RETURNING d.id";
    let rows = sql!(SQL, Found::of(page) as found, unmoved_for_s).rows(client).await?;
    rows.iter().map(|row| row.read("id")).collect()
}
