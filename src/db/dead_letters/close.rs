//! Closing dead letters, in batches, each with its entry in the account.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::filter::{FILTER, Filter, filtered};
use crate::db::query::{joined, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};

/// Dead letters closed in one statement: its locks last milliseconds, and a command that is stopped has done whole batches.
const BATCH: i64 = 1_000;

/// What is done to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Open dead letters become `resolved`; nothing of them is lost.
    Resolve,
    /// Closed dead letters, and open ones where the filter's state says `open`, lose body, headers and whom they were for. What is
    /// left says which delivery had a dead letter, so that the ledger's dead row keeps its other half, and the account its
    /// object. Dead letters in a replay's hand are left alone.
    Purge,
}

/// Somebody's decision to close dead letters.
#[derive(Debug, Clone)]
pub struct Act {
    pub closing: Closing,
    pub operator: String,
    pub why: Option<String>,
    pub filter: Filter,
    /// The newest dead letter that is meant; what arrives later is not.
    pub cut_off: i64,
}

/// How many dead letters an act would close now, and its cut-off.
pub async fn count(db: &Database, closing: Closing, filter: &Filter) -> Result<(u64, i64), Error> {
    const RESOLVE: &str = joined!(
        "-- dead_letters::count_open
        SELECT count(*), coalesce(max(l.id), 0) AS cut_off FROM t_wechat_dead_letter l
         WHERE l.state = 'open' AND ",
        FILTER
    );
    const PURGE: &str = joined!(
        "-- dead_letters::count_purgeable
        SELECT count(*), coalesce(max(l.id), 0) AS cut_off FROM t_wechat_dead_letter l
         WHERE l.state NOT IN ('replaying', 'purged') AND (l.state <> 'open' OR :state = 'open') AND ",
        FILTER
    );
    let query = match closing {
        Closing::Resolve => filtered!(RESOLVE, filter),
        Closing::Purge => filtered!(PURGE, filter),
    };
    let row = query.one(&db.durable().await?).await?;
    Ok((row.read::<i64>("count")?.unsigned_abs(), row.read("cut_off")?))
}

/// Closes what the act means. Answers how many dead letters that were; stopped midway, whole batches are done and accounted for.
pub async fn close(db: &Database, act: &Act) -> Result<u64, Error> {
    let Act { closing, operator, why, filter, cut_off } = act;
    let (id, wanted) = (Uuid::new_v4(), json!(filter));
    let (mut closed, mut after) = (0, 0_i64);
    loop {
        let query = match closing {
            Closing::Resolve => filtered!(
                RESOLVE_BATCH,
                filter,
                after,
                cut_off,
                batch = BATCH,
                act = id,
                operator,
                why,
                filter = wanted
            ),
            Closing::Purge => filtered!(
                PURGE_BATCH,
                filter,
                after,
                cut_off,
                batch = BATCH,
                act = id,
                operator,
                why,
                filter = wanted
            ),
        };
        let rows = query.rows(&db.durable().await?).await?;
        closed += rows.len() as u64;
        let ids = rows.iter().map(|row| row.read("id")).collect::<Result<Vec<i64>, _>>()?;
        match ids.into_iter().max() {
            Some(last) => after = last,
            None => return Ok(closed),
        }
    }
}

// `FOR UPDATE` looks at each dead letter again once it has it: two acts never close the same one.
const RESOLVE_BATCH: &str = joined!(
    "-- dead_letters::resolve
    WITH batch AS (
        SELECT l.id FROM t_wechat_dead_letter l
         WHERE l.state = 'open' AND l.id > :after AND l.id <= :cut_off AND ",
    FILTER,
    "
         ORDER BY l.id LIMIT :batch FOR UPDATE),
    closed AS (
        UPDATE t_wechat_dead_letter l SET state = 'resolved' FROM batch WHERE l.id = batch.id RETURNING l.id),
    entry AS (
        INSERT INTO t_wechat_dead_letter_action (act, action, operator, why, filter, dead_letters)
        SELECT :act, 'resolved', :operator, :why, :filter, array_agg(id ORDER BY id) FROM closed HAVING count(*) > 0)
    SELECT id FROM closed"
);

const PURGE_BATCH: &str = joined!(
    "-- dead_letters::purge
    WITH batch AS (
        SELECT l.id FROM t_wechat_dead_letter l
         WHERE l.state NOT IN ('replaying', 'purged') AND (l.state <> 'open' OR :state = 'open')
           AND l.id > :after AND l.id <= :cut_off AND ",
    FILTER,
    "
         ORDER BY l.id LIMIT :batch FOR UPDATE),
    closed AS (
        UPDATE t_wechat_dead_letter l
           SET state = 'purged', body = '', headers = '{}', errmsg = NULL, openid = NULL, sys_user_id = NULL
          FROM batch WHERE l.id = batch.id RETURNING l.id),
    entry AS (
        INSERT INTO t_wechat_dead_letter_action (act, action, operator, why, filter, dead_letters)
        SELECT :act, 'purged', :operator, :why, :filter, array_agg(id ORDER BY id) FROM closed HAVING count(*) > 0)
    SELECT id FROM closed"
);

/// What was done to one dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    pub at: Timestamp,
    pub action: String,
    pub operator: String,
    pub why: Option<String>,
}

/// All that operators did to a dead letter, oldest first.
pub async fn done_to(db: &Database, dead_letter: i64) -> Result<Vec<Done>, Error> {
    const SQL: &str = "-- dead_letters::done_to
        SELECT at, action, operator, why FROM t_wechat_dead_letter_action
         WHERE dead_letters @> ARRAY[:dead_letter::bigint] ORDER BY id";
    let rows = sql!(SQL, dead_letter).rows(&db.durable().await?).await?;
    let done = |row: &tokio_postgres::Row| {
        Ok(Done {
            at: row.read("at")?,
            action: row.read("action")?,
            operator: row.read("operator")?,
            why: row.read("why")?,
        })
    };
    rows.iter().map(done).collect()
}

/// One command that closed dead letters, as the account has it.
#[derive(Debug, Clone, Serialize)]
pub struct Closed {
    pub at: Timestamp,
    pub action: String,
    pub operator: String,
    pub why: Option<String>,
    pub filter: Value,
    pub dead_letters: i64,
}

/// The newest acts, newest first.
pub async fn acts(db: &Database, limit: i64) -> Result<Vec<Closed>, Error> {
    const SQL: &str = "-- dead_letters::acts
        SELECT min(at) AS at, action, operator, why, filter, sum(cardinality(dead_letters))::bigint AS dead_letters
          FROM t_wechat_dead_letter_action
         GROUP BY act, action, operator, why, filter
         ORDER BY min(id) DESC
         LIMIT :limit";
    let rows = sql!(SQL, limit).rows(&db.durable().await?).await?;
    let closed = |row: &tokio_postgres::Row| {
        Ok(Closed {
            at: row.read("at")?,
            action: row.read("action")?,
            operator: row.read("operator")?,
            why: row.read("why")?,
            filter: row.read("filter")?,
            dead_letters: row.read("dead_letters")?,
        })
    };
    rows.iter().map(closed).collect()
}
