//! Counting dead letters: by fingerprint for people, by state and reason for the metric.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::filter::{FILTER, Filter, filtered};
use crate::db::query::{joined, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::dead_letter::Reason;

/// Dead letters with the same cause, and so with the same cure.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub fingerprint: String,
    pub dead_letters: i64,
    /// How many of them in each state.
    pub states: BTreeMap<String, i64>,
    /// When the first and the last of them was given up.
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// The newest open dead letter, else the newest.
    pub example: i64,
    pub reason: Reason,
    /// What WeChat's last answer meant, where all agree on it.
    pub class: Option<String>,
    pub errcode: Option<i64>,
    pub field: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
}

/// The groups of the dead letters that match, those with the most open dead letters first; at most `limit`.
pub async fn groups(db: &Database, filter: &Filter, limit: i64) -> Result<Vec<Group>, Error> {
    // First by fingerprint and state, which is a hash over the dead letters; the few groups are put together after.
    const SQL: &str = joined!(
        "-- dead_letters::groups
        WITH part AS (
            SELECT l.fingerprint, l.state, count(*) AS dead_letters, max(l.id) AS newest,
                   min(coalesce(l.last_failed_at, l.archived_at)) AS first_seen,
                   max(coalesce(l.last_failed_at, l.archived_at)) AS last_seen,
                   min(l.reason) AS reason, min(l.class) AS class_min, max(l.class) AS class_max,
                   min(l.errcode) AS errcode, min(l.field) AS field, min(l.app_id) AS app_id,
                   min(l.template_id) AS template_id
              FROM t_wechat_dead_letter l
             WHERE ",
        FILTER,
        "
             GROUP BY l.fingerprint, l.state)
        SELECT fingerprint, sum(dead_letters)::bigint AS dead_letters, jsonb_object_agg(state, dead_letters) AS states,
               min(first_seen) AS first_seen, max(last_seen) AS last_seen,
               coalesce(max(newest) FILTER (WHERE state = 'open'), max(newest)) AS example,
               min(reason) AS reason,
               CASE WHEN min(class_min) = max(class_max) THEN min(class_min) END AS class,
               min(errcode) AS errcode, min(field) AS field, min(app_id) AS app_id, min(template_id) AS template_id
          FROM part
         GROUP BY fingerprint
         ORDER BY coalesce(sum(dead_letters) FILTER (WHERE state = 'open'), 0) DESC, max(newest) DESC
         LIMIT :limit"
    );
    let rows = filtered!(SQL, filter, limit).rows(&db.durable().await?).await?;
    rows.iter().map(group).collect()
}

fn group(row: &Row) -> Result<Group, Error> {
    let states: Value = row.read("states")?;
    let states = states.as_object().into_iter().flatten();
    Ok(Group {
        fingerprint: row.read("fingerprint")?,
        dead_letters: row.read("dead_letters")?,
        states: states.map(|(state, count)| (state.clone(), count.as_i64().unwrap_or_default())).collect(),
        first_seen: row.read("first_seen")?,
        last_seen: row.read("last_seen")?,
        example: row.read("example")?,
        reason: Reason::parse(row.read("reason")?),
        class: row.read("class")?,
        errcode: row.read("errcode")?,
        field: row.read("field")?,
        app_id: row.read("app_id")?,
        template_id: row.read("template_id")?,
    })
}

/// How many dead letters have one state and reason.
#[derive(Debug, Clone)]
pub struct Tally {
    pub state: String,
    pub reason: String,
    pub dead_letters: i64,
}

/// All dead letters but the purged ones, counted. Answered by an index alone.
pub async fn tally(db: &Database) -> Result<Vec<Tally>, Error> {
    const SQL: &str = "-- dead_letters::tally
        SELECT state, reason, count(*) AS dead_letters FROM t_wechat_dead_letter
         WHERE state <> 'purged' GROUP BY state, reason";
    let rows = sql!(SQL).rows(&db.durable().await?).await?;
    let tally = |row: &Row| {
        Ok(Tally {
            state: row.read("state")?,
            reason: row.read("reason")?,
            dead_letters: row.read("dead_letters")?,
        })
    };
    rows.iter().map(tally).collect()
}
