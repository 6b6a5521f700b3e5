//! `t_wechat_pause`: daemons show what they have paused, and operators order pauses.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::tokens::CHANNEL;
use crate::db::query::{columns, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::{AppId, TemplateId};
use crate::domain::pause::PauseReason;

/// A daemon that has not refreshed its rows for this long is gone: three times [`REFRESH_EVERY`].
pub(in crate::db) const STALE_AFTER_S: f64 = 30.0;
/// Stands for the version in a notification of a pause; see [`CHANNEL`].
pub(in crate::db) const ANNOUNCED: &str = "pause";

/// A pause that a daemon decided by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    pub app_id: AppId,
    /// `None`: the whole app.
    pub template_id: Option<TemplateId>,
    pub reason: PauseReason,
    pub errcode: Option<i64>,
    pub detail: String,
    pub since: Timestamp,
    /// The next probe, where one is due.
    pub until: Option<Timestamp>,
}

/// The operators' orders to a daemon.
#[derive(Debug, Default)]
pub struct Orders {
    /// Paused by hand.
    pub paused: Vec<Order>,
    /// To be probed at once, of what this daemon has paused.
    pub probes: Vec<(AppId, Option<TemplateId>)>,
}

/// One pause by hand.
#[derive(Debug)]
pub struct Order {
    pub app_id: AppId,
    pub template_id: Option<TemplateId>,
    pub why: String,
    pub since: Timestamp,
}

/// A pause in force, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub app_id: String,
    /// `None`: the whole app.
    pub template_id: Option<String>,
    /// The daemon that paused it; `None`: by hand, for all of them.
    pub process: Option<String>,
    pub reason: String,
    pub errcode: Option<i64>,
    pub detail: Option<String>,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub operator: Option<String>,
}

/// What a `resume` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// A pause by hand was lifted.
    pub by_hand: bool,
    /// Daemons that paused it by themselves; they probe at once.
    pub daemons: i64,
}

columns! {
    /// A daemon's own pauses.
    struct Rows<'a>(pause: &'a Posted) {
        app_id: &'a str = pause.app_id.as_str(),
        template_id: &'a str = stored(pause.template_id.as_ref()),
        reason: &'static str = pause.reason.as_str(),
        errcode: Option<i64> = pause.errcode,
        detail: &'a str = pause.detail.as_str(),
        since: Timestamp = pause.since,
        until: Option<Timestamp> = pause.until,
    }
}

/// Replaces the pauses of `process`, and deletes those of daemons that are gone.
pub async fn post(db: &Database, process: &str, pauses: &[Posted]) -> Result<(), Error> {
    const SQL: &str = "-- pauses::post
        WITH input AS (
            SELECT * FROM :i
        ), gone AS (
            DELETE FROM t_wechat_pause
             WHERE (process = :process AND (app_id, template_id) NOT IN (SELECT app_id, template_id FROM input))
                OR (process NOT IN ('', :process) AND updated_at < now() - :stale_after_s * interval '1 second'))
        INSERT INTO t_wechat_pause AS p (app_id, template_id, process, reason, errcode, detail, since, until, updated_at)
        SELECT app_id, template_id, :process, reason, errcode, detail, since, until, now()
          FROM input
        ON CONFLICT (app_id, template_id, process) DO UPDATE
           SET reason = excluded.reason, errcode = excluded.errcode, detail = excluded.detail, since = excluded.since,
               until = excluded.until, updated_at = excluded.updated_at";
    sql!(SQL, Rows::of(pauses) as i, process, stale_after_s = STALE_AFTER_S)
        .count(&db.durable().await?)
        .await
        .map(drop)
}

/// The orders to `process`; an order to probe is returned once.
pub async fn orders(db: &Database, process: &str) -> Result<Orders, Error> {
    const SQL: &str = "-- pauses::orders
        WITH asked AS (
            UPDATE t_wechat_pause SET probe_asked = false WHERE process = :process AND probe_asked
            RETURNING app_id, template_id)
        SELECT app_id, template_id, coalesce(detail, '') AS why, since, true AS by_hand
          FROM t_wechat_pause WHERE process = ''
        UNION ALL
        SELECT app_id, template_id, '', now(), false FROM asked
         LIMIT 100000";
    let mut orders = Orders::default();
    for row in sql!(SQL, process).rows(&db.durable().await?).await? {
        // Operators write this table too: an invalid id names nothing.
        let Ok(app_id) = AppId::parse(row.read("app_id")?) else { continue };
        let template_id = match row.read("template_id")? {
            "" => None,
            text => match TemplateId::parse(text) {
                Ok(template_id) => Some(template_id),
                Err(_) => continue,
            },
        };
        if row.read("by_hand")? {
            orders.paused.push(Order {
                app_id,
                template_id,
                why: row.read("why")?,
                since: row.read("since")?,
            });
        } else {
            orders.probes.push((app_id, template_id));
        }
    }
    Ok(orders)
}

/// Pauses in force, by app; of `app_id` alone, if it is given.
pub async fn list(db: &Database, app_id: Option<&str>) -> Result<Vec<Found>, Error> {
    const SQL: &str = "-- pauses::list
        SELECT app_id, nullif(template_id, '') AS template_id, nullif(process, '') AS process, reason, errcode,
               nullif(detail, '') AS detail, since, until, operator
          FROM t_wechat_pause
         WHERE (:app_id::text IS NULL OR app_id = :app_id)
           AND (process = '' OR updated_at >= now() - :stale_after_s * interval '1 second')
         ORDER BY app_id, t_wechat_pause.template_id, t_wechat_pause.process
         LIMIT 10000";
    let rows = sql!(SQL, app_id, stale_after_s = STALE_AFTER_S).rows(&db.durable().await?).await?;
    let found = |row: &tokio_postgres::Row| {
        Ok(Found {
            app_id: row.read("app_id")?,
            template_id: row.read("template_id")?,
            process: row.read("process")?,
            reason: row.read("reason")?,
            errcode: row.read("errcode")?,
            detail: row.read("detail")?,
            since: row.read("since")?,
            until: row.read("until")?,
            operator: row.read("operator")?,
        })
    };
    rows.iter().map(found).collect()
}

/// The same, by app.
pub async fn by_app(db: &Database) -> Result<HashMap<String, Vec<Found>>, Error> {
    let mut pauses = HashMap::<String, Vec<Found>>::new();
    for found in list(db, None).await? {
        pauses.entry(found.app_id.clone()).or_default().push(found);
    }
    Ok(pauses)
}

/// Pauses an app, or one template of it, by hand, and notifies every daemon. False where no such app is registered.
pub async fn pause(
    db: &Database,
    app_id: &AppId,
    template_id: Option<&TemplateId>,
    why: &str,
    operator: &str,
) -> Result<bool, Error> {
    const SQL: &str = "-- pauses::pause
        WITH paused AS (
            INSERT INTO t_wechat_pause AS p (app_id, template_id, reason, detail, operator)
            SELECT app_id, :template_id, :reason, :why, :operator FROM t_wechat_app WHERE app_id = :app_id
            ON CONFLICT (app_id, template_id, process) DO UPDATE
               SET detail = excluded.detail, operator = excluded.operator, updated_at = now()
            RETURNING p.app_id)
        SELECT pg_notify(:channel, concat_ws(':', current_schema(), app_id, :announced::text)) FROM paused";
    let rows = sql!(
        SQL,
        app_id = app_id.as_str(),
        template_id = stored(template_id),
        reason = PauseReason::ByHand.as_str(),
        why,
        operator,
        channel = CHANNEL,
        announced = ANNOUNCED,
    )
    .rows(&db.durable().await?)
    .await?;
    Ok(!rows.is_empty())
}

/// Lifts a pause by hand; daemons that paused it by themselves are told to probe at once.
pub async fn resume(
    db: &Database,
    app_id: &AppId,
    template_id: Option<&TemplateId>,
) -> Result<Resumed, Error> {
    const SQL: &str = "-- pauses::resume
        WITH lifted AS (
            DELETE FROM t_wechat_pause WHERE app_id = :app_id AND template_id = :template_id AND process = ''
            RETURNING app_id
        ), asked AS (
            UPDATE t_wechat_pause SET probe_asked = true
             WHERE app_id = :app_id AND template_id = :template_id AND process <> ''
               AND updated_at >= now() - :stale_after_s * interval '1 second'
            RETURNING app_id)
        SELECT (SELECT count(*) FROM lifted) > 0 AS by_hand, (SELECT count(*) FROM asked) AS daemons,
               pg_notify(:channel, concat_ws(':', current_schema(), :app_id::text, :announced::text))";
    let row = sql!(
        SQL,
        app_id = app_id.as_str(),
        template_id = stored(template_id),
        channel = CHANNEL,
        announced = ANNOUNCED,
        stale_after_s = STALE_AFTER_S,
    )
    .one(&db.durable().await?)
    .await?;
    Ok(Resumed { by_hand: row.read("by_hand")?, daemons: row.read("daemons")? })
}

/// How often a daemon refreshes its rows; see [`STALE_AFTER_S`].
pub const REFRESH_EVERY: Duration = Duration::from_secs(10);

fn stored(template_id: Option<&TemplateId>) -> &str {
    template_id.map_or("", TemplateId::as_str)
}
