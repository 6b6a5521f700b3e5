//! The ledger's unfinished rows, found without an index: an index with a condition on `status` would keep every settlement
//! from updating its row in place.

use jiff::Timestamp;

use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};

/// Rows read by one statement: a few milliseconds.
const PAGE: i64 = 5_000;

/// An unfinished row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    pub id: i64,
    pub created_at: Timestamp,
}

/// One page of the ledger, in the order of its ids.
#[derive(Debug)]
pub struct Page {
    pub unfinished: Vec<Unfinished>,
    /// The last id of the page; there may be more after it where the page is full.
    pub last: Option<i64>,
    pub is_full: bool,
    /// Up to this id no row can appear any more: ids are assigned before their rows are committed, so a row younger than a
    /// minute, and all after it, must be read again.
    pub complete_to: Option<i64>,
}

/// Reads the rows after `after`.
pub async fn page(db: &Database, after: i64) -> Result<Page, Error> {
    const SQL: &str = "-- unfinished::page
        WITH page AS MATERIALIZED (
            SELECT id, status, created_at FROM t_wechat_delivery WHERE id > :after ORDER BY id LIMIT :page
        ), young AS MATERIALIZED (
            SELECT min(id) AS first FROM page WHERE created_at >= now() - interval '1 min'
        )
        SELECT (SELECT max(id) FROM page) AS last, (SELECT count(*) FROM page) AS rows,
               (SELECT max(id) FROM page, young WHERE id < first OR first IS NULL) AS complete_to,
               u.id, u.created_at
          FROM (SELECT 1) one
          LEFT JOIN (SELECT id, created_at FROM page WHERE status IN ('planned', 'attempting', 'retrying')) u ON true";
    let rows = sql!(SQL, after, page = PAGE).rows(&db.durable().await?).await?;
    let mut page = Page { unfinished: Vec::new(), last: None, is_full: false, complete_to: None };
    for row in &rows {
        (page.last, page.is_full) = (row.read("last")?, row.read::<i64>("rows")? == PAGE);
        page.complete_to = row.read("complete_to")?;
        page.unfinished.extend(unfinished_of(row)?);
    }
    Ok(page)
}

/// Which of these rows are still unfinished.
pub async fn still(db: &Database, ids: &[i64]) -> Result<Vec<Unfinished>, Error> {
    const SQL: &str = "-- unfinished::still
        SELECT id, created_at FROM t_wechat_delivery
         WHERE id = ANY (:ids) AND status IN ('planned', 'attempting', 'retrying')";
    let rows = sql!(SQL, ids).rows(&db.durable().await?).await?;
    rows.iter().filter_map(|row| unfinished_of(row).transpose()).collect()
}

fn unfinished_of(row: &tokio_postgres::Row) -> Result<Option<Unfinished>, Error> {
    let Some(id) = row.read::<Option<i64>>("id")? else { return Ok(None) };
    Ok(Some(Unfinished { id, created_at: row.read("created_at")? }))
}
