//! Looking through the archive.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::filter::{Filter, matching};
use crate::db::{Database, Error, query};

/// A letter in a listing.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub id: i64,
    pub letter: String,
    pub reason: String,
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
    pub turn: Option<i32>,
    pub attempts: i32,
    pub fingerprint: String,
    pub state: String,
    pub last_failed_at: Option<Timestamp>,
    pub archived_at: Timestamp,
}

/// A letter with everything that was received.
#[derive(Debug)]
pub struct Whole {
    pub found: Found,
    pub trace_id: Option<String>,
    pub rid: Option<String>,
    pub headers: Value,
    pub body: Vec<u8>,
}

/// A page of the letters that match, newest first: those older than `after`, at most `limit`.
pub async fn list(
    db: &Database,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Found>, Error> {
    const SQL: &str = concat!(
        "-- letters::list
        SELECT id, letter, reason, errcode, errmsg, field, company_no, app_id, template_id, event_id, recipient,
               openid, sys_user_id, turn, attempts, fingerprint, state, last_failed_at, archived_at
          FROM t_wechat_dead_letter l
         WHERE ",
        matching!(),
        "
           AND ($15::bigint IS NULL OR id < $15)
         ORDER BY id DESC
         LIMIT $16"
    );
    let rows = query::rows(&db.durable().await?, SQL, &filter.values_and(&[&after, &limit])).await?;
    Ok(rows.iter().map(found).collect())
}

/// One letter, whole; `None` where there is none of that id.
pub async fn show(db: &Database, id: i64) -> Result<Option<Whole>, Error> {
    const SQL: &str = "-- letters::show
        SELECT id, letter, reason, errcode, errmsg, field, company_no, app_id, template_id, event_id, recipient,
               openid, sys_user_id, turn, attempts, fingerprint, state, last_failed_at, archived_at,
               trace_id, rid, headers, body
          FROM t_wechat_dead_letter
         WHERE id = $1";
    let rows = query::rows(&db.durable().await?, SQL, &[&id]).await?;
    Ok(rows.first().map(|row| Whole {
        found: found(row),
        trace_id: row.get("trace_id"),
        rid: row.get("rid"),
        headers: row.get("headers"),
        body: row.get("body"),
    }))
}

fn found(row: &Row) -> Found {
    Found {
        id: row.get("id"),
        letter: row.get("letter"),
        reason: row.get("reason"),
        errcode: row.get("errcode"),
        errmsg: row.get("errmsg"),
        field: row.get("field"),
        company_no: row.get("company_no"),
        app_id: row.get("app_id"),
        template_id: row.get("template_id"),
        event_id: row.get("event_id"),
        recipient: row.get("recipient"),
        openid: row.get("openid"),
        sys_user_id: row.get("sys_user_id"),
        turn: row.get("turn"),
        attempts: row.get("attempts"),
        fingerprint: row.get("fingerprint"),
        state: row.get("state"),
        last_failed_at: row.get("last_failed_at"),
        archived_at: row.get("archived_at"),
    }
}
