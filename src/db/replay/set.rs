//! Fixing the set of a replay: once, in one transaction, and it never grows.

use std::time::Duration;

use super::candidate::RECIPIENT;
use crate::db::dead_letters::Filter;
use crate::db::dead_letters::filter::{FILTER, filtered};
use crate::db::dead_letters::row::about;
use crate::db::query::{self, joined, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::dead_letter::About;
use crate::domain::replay::Canary;

/// Fifty thousand dead letters take a few seconds; whatever takes longer than this holds up everybody who writes dead letters.
const FIX_TIMEOUT: Duration = Duration::from_secs(120);

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct Order {
    pub operator: String,
    pub why: Option<String>,
    pub filter: Filter,
    /// No dead letter beyond this one: what arrived after the operator looked is not taken along.
    pub cut_off: i64,
    pub rate_per_second: i32,
    pub canary: Canary,
    /// Of a canary's step; more stop the replay.
    pub max_failed_percent: i32,
    /// How long a step's outcomes are waited for.
    pub canary_wait: Duration,
    pub even_expired: bool,
    pub re_resolve: bool,
    pub edited: Option<EditedBody>,
}

/// A body that an operator has edited, to be replayed instead of the one dead letter's own.
#[derive(Debug, Clone)]
pub struct EditedBody {
    pub body: Vec<u8>,
    /// The event in it.
    pub about: About,
}

/// A replay whose set is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    pub id: i64,
    pub dead_letters: i64,
}

/// The newest dead letter there is.
pub async fn cut_off(db: &Database) -> Result<i64, Error> {
    const SQL: &str = "-- replay::cut_off
        SELECT coalesce(max(id), 0) FROM t_wechat_dead_letter";
    sql!(SQL).one(&db.durable().await?).await?.read(0)
}

/// What the matching dead letters are about: two at most, since an edited body is for one. Those with a recipient are about one
/// delivery, whose key must stay; a whole event may become another.
pub async fn editable(db: &Database, filter: &Filter) -> Result<Vec<About>, Error> {
    const SQL: &str = joined!(
        "-- replay::editable
        SELECT l.company_no, l.app_id, l.template_id, l.event_id, ",
        RECIPIENT,
        " AS recipient, l.openid, l.sys_user_id
          FROM t_wechat_dead_letter l
         WHERE ",
        FILTER,
        "
         LIMIT 2"
    );
    let rows = filtered!(SQL, filter).rows(&db.durable().await?).await?;
    rows.iter().map(about).collect()
}

/// Takes every open dead letter that matches: each in one unfinished replay at most. The second of two commands waits for a moment
/// and gets what is left; `None` where that is nothing, and then there is no replay.
pub async fn fix_set(db: &Database, order: &Order) -> Result<Option<Fixed>, Error> {
    const BEGIN: &str = "-- replay::fix_begin";
    const COMMIT: &str = "-- replay::fix_commit";
    const TIMEOUT: &str = "-- replay::fix_timeout
        SELECT set_config('statement_timeout', :timeout, true)";
    const COUNT: &str = "-- replay::fix_count
        UPDATE t_wechat_replay SET dead_letters = :dead_letters WHERE id = :id";
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    sql!(TIMEOUT, timeout = FIX_TIMEOUT.as_millis().to_string()).rows(&transaction).await?;
    let id = open(&transaction, order).await?;
    let dead_letters = i64::try_from(take(&transaction, id, order).await?).unwrap_or(i64::MAX);
    if dead_letters == 0 {
        // The end of the transaction takes the replay back.
        return Ok(None);
    }
    sql!(COUNT, id, dead_letters).count(&transaction).await?;
    transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
    Ok(Some(Fixed { id, dead_letters }))
}

async fn open(client: &deadpool_postgres::Transaction<'_>, order: &Order) -> Result<i64, Error> {
    const OPEN: &str = "-- replay::open
        INSERT INTO t_wechat_replay (operator, why, filter, cut_off, state, rate_per_second, canary, max_failed_percent,
                                     canary_wait_s, even_expired, re_resolve)
        VALUES (:operator, :why, :filter, :cut_off, 'running', :rate_per_second, :canary, :max_failed_percent,
                :canary_wait_s, :even_expired, :re_resolve)
        RETURNING id";
    // A struct of texts, numbers and times always is JSON.
    let filter = serde_json::to_value(&order.filter).unwrap_or_default();
    let canary = order.canary.sizes();
    let canary_wait_s = i64::try_from(order.canary_wait.as_secs()).unwrap_or(i64::MAX);
    let Order {
        operator, why, cut_off, rate_per_second, max_failed_percent, even_expired, re_resolve, ..
    } = order;
    let query = sql!(
        OPEN,
        operator,
        why,
        filter,
        cut_off,
        rate_per_second,
        canary,
        max_failed_percent,
        canary_wait_s,
        even_expired,
        re_resolve
    );
    query.one(client).await?.read("id")
}

/// Dead letters first, in the order of their ids, so that two operators cannot block each other.
async fn take(client: &deadpool_postgres::Transaction<'_>, id: i64, order: &Order) -> Result<u64, Error> {
    const TAKE: &str = joined!(
        "-- replay::take
        WITH picked AS (
            SELECT l.id FROM t_wechat_dead_letter l
             WHERE ",
        FILTER,
        "
               AND l.state = 'open' AND l.id <= :cut_off
               AND NOT EXISTS (SELECT FROM t_wechat_replay_dead_letter o
                                WHERE o.dead_letter = l.id AND o.state IN ('pending', 'published'))
             ORDER BY l.id
               FOR UPDATE
        ), taken AS (
            UPDATE t_wechat_dead_letter l SET state = 'replaying' FROM picked WHERE l.id = picked.id
            RETURNING l.id, l.epoch, coalesce(:edited_company_no, l.company_no) AS company_no,
                      coalesce(:edited_app_id, l.app_id) AS app_id,
                      coalesce(:edited_template_id, l.template_id) AS template_id,
                      coalesce(:edited_event_id, l.event_id) AS event_id,
                      ",
        RECIPIENT,
        " AS recipient
        )
        INSERT INTO t_wechat_replay_dead_letter
               (replay, dead_letter, company_no, app_id, template_id, event_id, recipient, epoch, had_rows, body)
        SELECT :replay, t.id, t.company_no, t.app_id, t.template_id, t.event_id, t.recipient,
               CASE WHEN t.recipient IS NOT NULL THEN coalesce(d.epoch, t.epoch, 0) + 1 END,
               t.recipient IS NULL AND EXISTS (
                   SELECT FROM t_wechat_delivery e
                    WHERE e.event_id = t.event_id AND e.template_id = t.template_id AND e.app_id = t.app_id
                      AND e.company_no = t.company_no),
               :body::bytea
          FROM taken t
          LEFT JOIN t_wechat_delivery d
            ON d.event_id = t.event_id AND d.recipient = t.recipient AND d.template_id = t.template_id
               AND d.app_id = t.app_id AND d.company_no = t.company_no"
    );
    let edited = order.edited.as_ref();
    let body = edited.map(|edited| &edited.body);
    let About { company_no, app_id, template_id, event_id, .. } =
        edited.map(|edited| edited.about.clone()).unwrap_or_default();
    let query = filtered!(
        TAKE,
        order.filter,
        cut_off = order.cut_off,
        replay = id,
        body,
        edited_company_no = company_no,
        edited_app_id = app_id,
        edited_template_id = template_id,
        edited_event_id = event_id,
    );
    query.count(client).await
}
