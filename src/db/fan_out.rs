//! The rows of an event for more people than one page: written at once, read page by page.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::{Database, Error, plan, query};
use crate::domain::event::Event;
use crate::domain::outcome::SkipReason;
use crate::domain::plan::PAGE;
use crate::domain::recipient::Recipient;

/// A hundred thousand rows take a few seconds; a million still fit. A statement slower than this is stuck, and its
/// transaction is in nobody's interest: vacuum waits for it, and so does a second writer of the same set.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// What writing the set did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// New rows that wait for their attempt.
    pub planned: usize,
    /// New rows that ended here, by reason.
    pub skipped: Vec<(SkipReason, usize)>,
    /// The event has a row now, of whatever age.
    pub any: bool,
}

/// Writes a row for everybody whom the event reaches, in one transaction: after a crash there are all or none. Where they
/// are written already, by us or by another process, the set stays as it is.
pub async fn write(db: &Database, event: &Event, trace_id: Option<&str>) -> Result<Written, Error> {
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    let written = match lock(&transaction, event).await? {
        known if known > PAGE => Written { any: true, ..Written::default() },
        known => {
            let written = insert(&transaction, event, trace_id).await?;
            Written { any: known > 0 || written.any, ..written }
        }
    };
    transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
    Ok(written)
}

const BEGIN: &str = "-- fan_out: begin";
const COMMIT: &str = "-- fan_out: commit";

/// Lets one writer of this event in at a time, and says how many rows it finds, as far as one past a page. Both in
/// statements of their own: the count must see what the writer before has committed.
async fn lock(transaction: &Transaction<'_>, event: &Event) -> Result<usize, Error> {
    const LOCK: &str = "-- fan_out: one writer at a time
        SELECT set_config('statement_timeout', $1, true),
               pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', $2::text, $3::text, $4::text, $5::text), 0))";
    const COUNT: &str = "-- fan_out: how many rows are there
        SELECT 1 FROM t_wechat_delivery
         WHERE company_no = $1 AND app_id = $2 AND template_id = $3 AND event_id = $4
         LIMIT $5";
    let (company_no, app_id) = (event.company_no.as_str(), event.app_id.as_str());
    let (template_id, event_id) = (event.template_id.as_str(), event.event_id.as_str());
    let timeout_ms = WRITE_TIMEOUT.as_millis().to_string();
    let values: [&(dyn ToSql + Sync); 5] = [&timeout_ms, &company_no, &app_id, &template_id, &event_id];
    query::rows(transaction, LOCK, &values).await?;
    let enough = PAGE as i64 + 1;
    let values: [&(dyn ToSql + Sync); 5] = [&company_no, &app_id, &template_id, &event_id, &enough];
    Ok(query::rows(transaction, COUNT, &values).await?.len())
}

/// A text that is no identifier names nobody: what `domain::ids` says.
macro_rules! id {
    ($column:literal) => {
        concat!(
            "CASE WHEN char_length(",
            $column,
            ") BETWEEN 1 AND 128 AND ",
            $column,
            r" !~ '[\x01-\x1f\x7f-\x9f]' THEN ",
            $column,
            " END"
        )
    };
}

/// `domain::plan`'s verdict on a person, with `Consent::allows` in it, once more in SQL: a hundred thousand consents are
/// better judged where they are. NULL lets a message through. A test compares the two, case by case.
macro_rules! verdict {
    () => {
        r"CASE WHEN p.openid IS NULL OR NOT p.bound THEN 'not_bound'
               WHEN p.status <> 1 THEN 'disabled'
               -- As in Rust, only a whole number counts.
               WHEN (p.consent ->> 'status' LIKE 'accept%' OR p.consent ->> 'status' = 'reject')
                AND (p.consent -> 'remaining')::text ~ '^(0|-[0-9]{1,18})$' THEN 'quota_used'
               WHEN p.consent ->> 'status' LIKE 'accept%' THEN NULL
               WHEN p.consent ->> 'status' = 'reject' THEN 'rejected'
               WHEN p.consent ->> 'status' = 'ban' THEN 'banned'
               ELSE 'not_subscribed' END"
    };
}

const INSERT: &str = concat!(
    "-- fan_out: everybody whom the event reaches, once, with a verdict
    WITH named AS (
        SELECT n.sys_user_id, n.openid
          FROM t_wechat_message_user r
         CROSS JOIN LATERAL (SELECT unnest(r.sys_user_ids), NULL UNION ALL SELECT NULL, unnest(r.openids))
            AS n (sys_user_id, openid)
         WHERE r.company_no = $1 AND r.app_id = $2 AND r.template_id = $3 AND r.status = 1
           AND coalesce(r.customer_id, '') = ANY (ARRAY['', $5::text])
           AND $6::text[] = '{}' AND $7::text[] = '{}'
        UNION ALL
        SELECT unnest($6::text[]), NULL
        UNION ALL
        SELECT NULL, unnest($7::text[])
    ), found AS (
        SELECT coalesce(n.sys_user_id, u.sys_user_id) AS sys_user_id, coalesce(u.openid, n.openid) AS openid,
               u.openid IS NOT NULL AS bound, u.status, u.subscribe_template -> $3 AS consent
          FROM named n
          LEFT JOIN LATERAL (
                SELECT * FROM t_wechat_user u WHERE u.app_id = $2 AND u.sys_user_id = n.sys_user_id
                UNION ALL
                SELECT * FROM t_wechat_user u WHERE u.app_id = $2 AND u.openid = n.openid) u ON true
         WHERE n.sys_user_id <> '' OR n.openid <> ''
    ), person AS (
        SELECT ",
    id!("f.sys_user_id"),
    " AS sys_user_id, ",
    id!("f.openid"),
    " AS openid, f.bound, f.status, f.consent
          FROM found f
    ), once_each AS (
        -- Where somebody is named twice, the business user stays, so that the ledger can say who it was.
        SELECT DISTINCT ON (recipient) *
          FROM (SELECT coalesce(p.openid, '@' || p.sys_user_id) AS recipient, p.openid, p.sys_user_id,
                       ",
    verdict!(),
    " AS reason
                  FROM person p) r
         WHERE recipient IS NOT NULL
         ORDER BY recipient, sys_user_id IS NULL
    ), written AS (
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status,
                                       reason, due_at, content_hash, trace_id, settled_at)
        SELECT $1, $2, $3, $4, recipient, openid, sys_user_id,
               CASE WHEN reason IS NULL THEN 'planned' ELSE 'skipped' END, reason,
               CASE WHEN reason IS NULL THEN $8::timestamptz END, $9, $10,
               CASE WHEN reason IS NOT NULL THEN clock_timestamp() END
          FROM once_each ORDER BY recipient
        ON CONFLICT DO NOTHING
        RETURNING reason
    )
    SELECT reason, count(*) AS rows FROM written GROUP BY reason"
);

async fn insert(
    transaction: &Transaction<'_>,
    event: &Event,
    trace_id: Option<&str>,
) -> Result<Written, Error> {
    let sys_user_ids: Vec<&str> = event.sys_user_ids.iter().map(|id| id.as_str()).collect();
    let openids: Vec<&str> = event.openids.iter().map(|id| id.as_str()).collect();
    let customer_id = event.customer_id.as_ref().map_or("", |id| id.as_str());
    let values: [&(dyn ToSql + Sync); 10] = [
        &event.company_no.as_str(),
        &event.app_id.as_str(),
        &event.template_id.as_str(),
        &event.event_id.as_str(),
        &customer_id,
        &sys_user_ids,
        &openids,
        &event.deliver_after,
        &event.content_hash.as_slice(),
        &trace_id,
    ];
    let rows = query::rows(transaction, INSERT, &values).await?;
    let mut written = Written { any: !rows.is_empty(), ..Written::default() };
    for row in rows {
        let count = usize::try_from(row.get::<_, i64>("rows")).unwrap_or_default();
        match row.get::<_, Option<&str>>("reason").and_then(SkipReason::parse) {
            Some(reason) => written.skipped.push((reason, count)),
            None => written.planned = count,
        }
    }
    Ok(written)
}

/// The next page of deliveries that the event itself still carries: unfinished, of turn 0. In the order of the ledger's
/// key, from behind `after` on; the empty text stands before everybody.
pub async fn unfinished(db: &Database, event: &Event, after: &str) -> Result<Vec<Recipient>, Error> {
    const UNFINISHED: &str = "-- fan_out: the next page
        SELECT openid, sys_user_id
          FROM t_wechat_delivery
         WHERE event_id = $1 AND recipient > $2 AND template_id = $3 AND app_id = $4 AND company_no = $5
           AND status IN ('planned', 'attempting', 'retrying') AND turn = 0 AND openid IS NOT NULL
         ORDER BY recipient
         LIMIT $6";
    let values: [&(dyn ToSql + Sync); 6] = [
        &event.event_id.as_str(),
        &after,
        &event.template_id.as_str(),
        &event.app_id.as_str(),
        &event.company_no.as_str(),
        &(PAGE as i64),
    ];
    let rows = query::rows(&db.durable().await?, UNFINISHED, &values).await?;
    Ok(rows.iter().map(plan::recipient_of).collect())
}
