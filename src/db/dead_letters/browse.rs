//! Looking through the archive.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::filter::{Filter, matching};
use crate::db::row::Read;
use crate::db::{Database, Error, query};

/// A dead letter in a listing.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub id: i64,
    pub identity: String,
    pub reason: String,
    /// What WeChat's last answer meant.
    pub class: Option<String>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub field: Option<String>,
    pub company_no: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    pub event_id: Option<String>,
    pub recipient: Option<String>,
    pub openid: Option<String>,
    pub sys_user_id: Option<String>,
    pub epoch: Option<i32>,
    pub attempts: i32,
    pub fingerprint: String,
    pub state: String,
    pub first_failed_at: Option<Timestamp>,
    pub last_failed_at: Option<Timestamp>,
    pub archived_at: Timestamp,
    pub trace_id: Option<String>,
    pub rid: Option<String>,
    pub token_generation: Option<i64>,
}

/// A dead letter with everything that was received.
#[derive(Debug)]
pub struct Whole {
    pub found: Found,
    pub headers: Value,
    pub body: Vec<u8>,
}

/// The columns of [`Found`].
macro_rules! columns {
    () => {
        "l.id, l.identity, l.reason, l.class, l.errcode, l.errmsg, l.field, l.company_no, l.app_id, l.template_id,
               l.event_id, l.recipient, l.openid, l.sys_user_id, l.epoch, l.attempts, l.fingerprint, l.state,
               l.first_failed_at, l.last_failed_at, l.archived_at, l.trace_id, l.rid, l.token_generation"
    };
}

/// A page of the dead letters that match, newest first: those older than `after`, at most `limit`.
pub async fn list(
    db: &Database,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Found>, Error> {
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
    rows.iter().map(found).collect()
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

/// All dead letters of the delivery that this one is about, newest first; at most `limit`.
pub async fn of_delivery(db: &Database, dead_letter: &Found, limit: i64) -> Result<Vec<Found>, Error> {
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
    let Found { event_id, recipient, template_id, app_id, company_no, .. } = dead_letter;
    let client = db.durable().await?;
    let rows =
        query::rows(&client, SQL, &[event_id, recipient, template_id, app_id, company_no, &limit]).await?;
    rows.iter().map(found).collect()
}

fn whole(row: &Row) -> Result<Whole, Error> {
    Ok(Whole { found: found(row)?, headers: row.read("headers")?, body: row.read("body")? })
}

fn found(row: &Row) -> Result<Found, Error> {
    Ok(Found {
        id: row.read("id")?,
        identity: row.read("identity")?,
        reason: row.read("reason")?,
        class: row.read("class")?,
        errcode: row.read("errcode")?,
        errmsg: row.read("errmsg")?,
        field: row.read("field")?,
        company_no: row.read("company_no")?,
        app_id: row.read("app_id")?,
        template_id: row.read("template_id")?,
        event_id: row.read("event_id")?,
        recipient: row.read("recipient")?,
        openid: row.read("openid")?,
        sys_user_id: row.read("sys_user_id")?,
        epoch: row.read("epoch")?,
        attempts: row.read("attempts")?,
        fingerprint: row.read("fingerprint")?,
        state: row.read("state")?,
        first_failed_at: row.read("first_failed_at")?,
        last_failed_at: row.read("last_failed_at")?,
        archived_at: row.read("archived_at")?,
        trace_id: row.read("trace_id")?,
        rid: row.read("rid")?,
        token_generation: row.read("token_generation")?,
    })
}
