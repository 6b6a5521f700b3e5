//! How much of each app's daily quota is used, in `t_wechat_quota`. WeChat's days begin at midnight in Beijing, by the
//! database's clock, so that all processes change the day together.

use std::time::Duration;

use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::AppId;

/// A day in Beijing, counted from 2000-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(pub i32);

/// Permits reserved from a day's quota.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Zero: the day's quota is used up.
    pub permits: u64,
    pub day: Day,
    /// Until the day's end.
    pub resets_in: Duration,
}

/// Reserves a chunk of what is left of the day: a tenth, so that the last permits are shared in small pieces and no process
/// holds what another one needs, and 500 at most, which is what a crash may waste.
pub async fn reserve(db: &Database, app_id: &AppId, quota: u64) -> Result<Chunk, Error> {
    const SQL: &str = "-- quota::reserve
        WITH today AS (
            SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date AS day
        ), locked AS (
            SELECT q.used, least(greatest(:quota - q.used, 0), (:quota - q.used) / 10 + 1, 500) AS chunk
              FROM t_wechat_quota q JOIN today USING (day)
             WHERE q.app_id = :app_id
               FOR UPDATE OF q
        )
        UPDATE t_wechat_quota q
           SET used = locked.used + greatest(locked.chunk, 0)
          FROM locked, today
         WHERE q.app_id = :app_id AND q.day = today.day
        RETURNING greatest(locked.chunk, 0) AS chunk, q.day - '2000-01-01' AS day,
                  extract(epoch FROM (q.day + 1)::timestamp AT TIME ZONE 'Asia/Shanghai' - now())::float8 AS resets_in_s";
    let client = db.durable().await?;
    let quota = i64::try_from(quota).unwrap_or(i64::MAX);
    loop {
        let Some(row) = sql!(SQL, app_id = app_id.as_str(), quota).optional(&client).await? else {
            begin_day(&client, app_id).await?;
            continue;
        };
        return Ok(Chunk {
            permits: u64::try_from(row.read::<i64>("chunk")?).unwrap_or(0),
            day: Day(row.read("day")?),
            resets_in: Duration::try_from_secs_f64(row.read("resets_in_s")?).unwrap_or_default(),
        });
    }
}

async fn begin_day(client: &deadpool_postgres::Object, app_id: &AppId) -> Result<(), Error> {
    const SQL: &str = "-- quota::begin_day
        INSERT INTO t_wechat_quota (app_id, day) VALUES (:app_id, (now() AT TIME ZONE 'Asia/Shanghai')::date)
        ON CONFLICT DO NOTHING";
    sql!(SQL, app_id = app_id.as_str()).count(client).await?;
    Ok(())
}

/// Permits that could not be put back.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotPutBack {
    pub error: Error,
    /// The day's quota is unchanged: the permits can be used, or put back later. Without an answer that is unknown, and they
    /// must be dropped: counted in two places they would let the app exceed its quota.
    pub is_certain: bool,
}

/// Puts back that day's unused permits.
pub async fn put_back(db: &Database, app_id: &AppId, day: Day, permits: u64) -> Result<(), NotPutBack> {
    const SQL: &str = "-- quota::put_back
        UPDATE t_wechat_quota SET used = greatest(used - :permits, 0)
         WHERE app_id = :app_id AND day = '2000-01-01'::date + :day::integer";
    let permits = i64::try_from(permits).unwrap_or(i64::MAX);
    let unasked = |error| NotPutBack { error, is_certain: true };
    let client = db.durable().await.map_err(unasked)?;
    let put_back = sql!(SQL, app_id = app_id.as_str(), day = day.0, permits).count(&client).await;
    // A refusal is an answer: the statement was rolled back.
    put_back.map(drop).map_err(|error| NotPutBack { is_certain: !matches!(error, Error::Away(_)), error })
}
