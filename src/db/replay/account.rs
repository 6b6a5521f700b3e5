//! The account: who replayed what, when, why, and what became of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};

/// One replay, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub replay: i64,
    pub state: String,
    pub operator: String,
    pub why: Option<String>,
    pub filter: Value,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub stopped_because: Option<String>,
    /// In the set.
    pub dead_letters: i64,
    pub published: i64,
    pub refused: i64,
    /// Not gone out.
    pub pending: i64,
    /// How many came to what: `sent`, `skipped`, `dead`, `in_progress`, and what never went out.
    pub outcomes: BTreeMap<String, i64>,
    /// Why dead letters were refused.
    pub refusals: BTreeMap<String, i64>,
}

/// What became of one dead letter of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Fate {
    pub dead_letter: i64,
    pub event_id: Option<String>,
    pub recipient: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    /// The dead letter it died with again.
    pub later_dead_letter: Option<i64>,
    pub published_at: Option<Timestamp>,
}

/// One replay's account as of now; `None` where there is none of that id.
pub async fn account(db: &Database, replay: i64) -> Result<Option<Account>, Error> {
    Ok(accounts(db, Some(replay), 1).await?.pop())
}

/// The newest replays, newest first.
pub async fn history(db: &Database, limit: i64) -> Result<Vec<Account>, Error> {
    accounts(db, None, limit).await
}

async fn accounts(db: &Database, replay: Option<i64>, limit: i64) -> Result<Vec<Account>, Error> {
    const ACCOUNTS: &str = "-- replay::accounts
        SELECT p.*, s.outcomes, s.refusals
          FROM (SELECT * FROM t_wechat_replay WHERE :replay::bigint IS NULL OR id = :replay ORDER BY id DESC LIMIT :limit) p
         CROSS JOIN LATERAL (
                SELECT coalesce(jsonb_object_agg(o.outcome, o.count) FILTER (WHERE o.kind = 'outcome'), '{}') AS outcomes,
                       coalesce(jsonb_object_agg(o.outcome, o.count) FILTER (WHERE o.kind = 'refusal'), '{}') AS refusals
                  FROM (SELECT 'outcome' AS kind, outcome, count(*)
                          FROM v_wechat_replay_dead_letter WHERE replay = p.id GROUP BY outcome
                        UNION ALL
                        SELECT 'refusal', refusal, count(*)
                          FROM t_wechat_replay_dead_letter WHERE replay = p.id AND state = 'refused' GROUP BY refusal) o) s
         ORDER BY p.id DESC";
    let rows = sql!(ACCOUNTS, replay, limit).rows(&db.durable().await?).await?;
    rows.iter().map(account_of).collect()
}

fn account_of(row: &Row) -> Result<Account, Error> {
    let outcomes = counts(row.read("outcomes")?);
    Ok(Account {
        replay: row.read("id")?,
        state: row.read("state")?,
        operator: row.read("operator")?,
        why: row.read("why")?,
        filter: row.read("filter")?,
        created_at: row.read("created_at")?,
        ended_at: row.read("ended_at")?,
        stopped_because: row.read("stopped_because")?,
        dead_letters: row.read("dead_letters")?,
        published: row.read("published")?,
        refused: row.read("refused")?,
        pending: outcomes.get("pending").copied().unwrap_or_default(),
        outcomes,
        refusals: counts(row.read("refusals")?),
    })
}

/// A JSON object of numbers, which PostgreSQL has just made.
fn counts(object: Value) -> BTreeMap<String, i64> {
    serde_json::from_value(object).unwrap_or_default()
}

/// What became of each dead letter of a replay, in the order of their ids: those after `after`, at most `limit`.
pub async fn fates(db: &Database, replay: i64, after: i64, limit: i64) -> Result<Vec<Fate>, Error> {
    const FATES: &str = "-- replay::fates
        SELECT dead_letter, event_id, recipient, outcome, reason, later_dead_letter, published_at
          FROM v_wechat_replay_dead_letter WHERE replay = :replay AND dead_letter > :after ORDER BY dead_letter LIMIT :limit";
    let rows = sql!(FATES, replay, after, limit).rows(&db.durable().await?).await?;
    let fate = |row: &Row| {
        Ok(Fate {
            dead_letter: row.read("dead_letter")?,
            event_id: row.read("event_id")?,
            recipient: row.read("recipient")?,
            outcome: row.read("outcome")?,
            reason: row.read("reason")?,
            later_dead_letter: row.read("later_dead_letter")?,
            published_at: row.read("published_at")?,
        })
    };
    rows.iter().map(fate).collect()
}
