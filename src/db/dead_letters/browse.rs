//! Looking through the archive.

use serde_json::Value;
use tokio_postgres::Row;

use super::filter::{FILTER, Filter, filtered};
use super::row::{Archived, COLUMNS, archived};
use crate::db::query::{joined, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::dead_letter::About;

/// A dead letter with everything that was received.
#[derive(Debug)]
pub struct Whole {
    pub archived: Archived,
    pub headers: Value,
    pub body: Vec<u8>,
}

/// A page of the dead letters that match, newest first: those older than `after`, at most `limit`.
pub async fn list(
    db: &Database,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Archived>, Error> {
    const SQL: &str = joined!(
        "-- dead_letters::list
        SELECT ",
        COLUMNS,
        " FROM t_wechat_dead_letter l
         WHERE ",
        FILTER,
        " AND (:after::bigint IS NULL OR l.id < :after)
         ORDER BY l.id DESC
         LIMIT :limit"
    );
    let rows = filtered!(SQL, filter, after, limit).rows(&db.durable().await?).await?;
    rows.iter().map(archived).collect()
}

/// A page of whole dead letters, oldest first: those after `after`, up to `cut_off`, at most `limit`.
pub async fn page(
    db: &Database,
    filter: &Filter,
    after: i64,
    cut_off: i64,
    limit: i64,
) -> Result<Vec<Whole>, Error> {
    const SQL: &str = joined!(
        "-- dead_letters::page
        SELECT ",
        COLUMNS,
        ", l.headers, l.body FROM t_wechat_dead_letter l
         WHERE l.id > :after AND l.id <= :cut_off AND ",
        FILTER,
        "
         ORDER BY l.id
         LIMIT :limit"
    );
    let rows = filtered!(SQL, filter, after, cut_off, limit).rows(&db.durable().await?).await?;
    rows.iter().map(whole).collect()
}

/// The newest dead letter's id; 0 where there is none. What arrives later has a greater one.
pub async fn newest(db: &Database) -> Result<i64, Error> {
    const SQL: &str = "-- dead_letters::newest
        SELECT coalesce(max(id), 0) FROM t_wechat_dead_letter";
    sql!(SQL).one(&db.durable().await?).await?.read(0)
}

/// One dead letter, whole; `None` where there is none of that id.
pub async fn show(db: &Database, id: i64) -> Result<Option<Whole>, Error> {
    const SQL: &str = joined!(
        "-- dead_letters::show
        SELECT ",
        COLUMNS,
        ", l.headers, l.body FROM t_wechat_dead_letter l
         WHERE l.id = :id"
    );
    let row = sql!(SQL, id).optional(&db.durable().await?).await?;
    row.as_ref().map(whole).transpose()
}

/// All dead letters about this delivery, newest first; at most `limit`.
pub async fn of_delivery(db: &Database, about: &About, limit: i64) -> Result<Vec<Archived>, Error> {
    const SQL: &str = joined!(
        "-- dead_letters::of_delivery
        SELECT ",
        COLUMNS,
        " FROM t_wechat_dead_letter l
         WHERE l.event_id = :event_id AND l.recipient = :recipient AND l.template_id IS NOT DISTINCT FROM :template_id
           AND l.app_id IS NOT DISTINCT FROM :app_id AND l.company_no IS NOT DISTINCT FROM :company_no
         ORDER BY l.id DESC
         LIMIT :limit"
    );
    let About { event_id, recipient, template_id, app_id, company_no, .. } = about;
    let query = sql!(SQL, event_id, recipient, template_id, app_id, company_no, limit);
    let rows = query.rows(&db.durable().await?).await?;
    rows.iter().map(archived).collect()
}

fn whole(row: &Row) -> Result<Whole, Error> {
    Ok(Whole { archived: archived(row)?, headers: row.read("headers")?, body: row.read("body")? })
}
