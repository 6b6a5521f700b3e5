//! Looking through the archive.

use serde_json::Value;
use tokio_postgres::Row;

use super::filter::{Filter, matching};
use super::row::{Archived, archived, columns};
use crate::db::row::Read;
use crate::db::{Database, Error, query};
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
    const SQL: &str = concat!(
        "-- dead_letters::list
        SELECT ",
        columns!(),
        " FROM t_wechat_dead_letter l
         WHERE ",
        matching!(),
        " AND ($15::bigint IS NULL OR l.id < $15)
         ORDER BY l.id DESC
         LIMIT $16"
    );
    let rows = query::rows(&db.durable().await?, SQL, &filter.values_and(&[&after, &limit])).await?;
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
    const SQL: &str = concat!(
        "-- dead_letters::page
        SELECT ",
        columns!(),
        ", l.headers, l.body FROM t_wechat_dead_letter l
         WHERE l.id > $15 AND l.id <= $16 AND ",
        matching!(),
        "
         ORDER BY l.id
         LIMIT $17"
    );
    let further: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&after, &cut_off, &limit];
    let rows = query::rows(&db.durable().await?, SQL, &filter.values_and(&further)).await?;
    rows.iter().map(whole).collect()
}

/// The newest dead letter's id; 0 where there is none. What arrives later has a greater one.
pub async fn newest(db: &Database) -> Result<i64, Error> {
    const SQL: &str = "-- dead_letters::newest
        SELECT coalesce(max(id), 0) FROM t_wechat_dead_letter";
    query::one(&db.durable().await?, SQL, &[]).await?.read(0)
}

/// One dead letter, whole; `None` where there is none of that id.
pub async fn show(db: &Database, id: i64) -> Result<Option<Whole>, Error> {
    const SQL: &str = concat!(
        "-- dead_letters::show
        SELECT ",
        columns!(),
        ", l.headers, l.body FROM t_wechat_dead_letter l
         WHERE l.id = $1"
    );
    let rows = query::rows(&db.durable().await?, SQL, &[&id]).await?;
    rows.first().map(whole).transpose()
}

/// All dead letters about this delivery, newest first; at most `limit`.
pub async fn of_delivery(db: &Database, about: &About, limit: i64) -> Result<Vec<Archived>, Error> {
    const SQL: &str = concat!(
        "-- dead_letters::of_delivery
        SELECT ",
        columns!(),
        " FROM t_wechat_dead_letter l
         WHERE l.event_id = $1 AND l.recipient = $2 AND l.template_id IS NOT DISTINCT FROM $3
           AND l.app_id IS NOT DISTINCT FROM $4 AND l.company_no IS NOT DISTINCT FROM $5
         ORDER BY l.id DESC
         LIMIT $6"
    );
    let About { event_id, recipient, template_id, app_id, company_no, .. } = about;
    let client = db.durable().await?;
    let rows =
        query::rows(&client, SQL, &[event_id, recipient, template_id, app_id, company_no, &limit]).await?;
    rows.iter().map(archived).collect()
}

fn whole(row: &Row) -> Result<Whole, Error> {
    Ok(Whole { archived: archived(row)?, headers: row.read("headers")?, body: row.read("body")? })
}
