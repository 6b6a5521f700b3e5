//! The rows of an event for more people than one page: written at once, read page by page.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use super::row::Read;
use super::{Database, Error, plan, query};
use crate::domain::event::Event;
use crate::domain::outcome::SkipReason;
use crate::domain::plan::PAGE;
use crate::domain::recipient::Recipient;

/// How long writing a set may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One statement. What takes longer is tried again in two halves.
    pub statement: Duration,
    /// Waiting for a lock: of another writer of the same set, or one that somebody forgot.
    pub lock: Duration,
    /// The whole set. Its transaction keeps vacuum and a second writer of the set waiting.
    pub whole: Instant,
}

impl Limits {
    /// A hundred thousand rows take a few seconds, and a million still fit into one statement. On a slow server it takes as
    /// many statements as it takes, for a third of the time that RabbitMQ lets a message be in our hands.
    pub fn usual(now: Instant) -> Self {
        let (statement, lock) = (Duration::from_secs(60), Duration::from_secs(30));
        Self { statement, lock, whole: now + Duration::from_secs(600) }
    }
}

/// A part of the set: the names whose hash leaves `rest` when divided by `of`.
#[derive(Debug, Clone, Copy)]
struct Piece {
    of: i32,
    rest: i32,
}

impl Piece {
    const WHOLE: Self = Self { of: 1, rest: 0 };
    /// The smallest: of a million people a thousand. A statement that is too slow for so few would be for any.
    const SMALLEST: i32 = 1024;

    fn halves(self) -> [Self; 2] {
        let of = 2 * self.of;
        [Self { of, rest: self.rest }, Self { of, rest: self.rest + self.of }]
    }
}

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
pub async fn write(
    db: &Database,
    event: &Event,
    trace_id: Option<&str>,
    limits: Limits,
) -> Result<Written, Error> {
    let mut client = db.durable().await?;
    let mut transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    let written = match lock(&transaction, event, limits).await? {
        known if known > PAGE => Written { any: true, ..Written::default() },
        known => {
            let written = insert_all(&mut transaction, event, trace_id, limits).await?;
            Written { any: known > 0 || written.any, ..written }
        }
    };
    transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
    Ok(written)
}

const BEGIN: &str = "-- fan_out: begin";
const COMMIT: &str = "-- fan_out: commit";
const SAVEPOINT: &str = "-- fan_out: savepoint";

/// Everybody, in one statement if it is quick enough, else in halves of halves.
async fn insert_all(
    transaction: &mut Transaction<'_>,
    event: &Event,
    trace_id: Option<&str>,
    limits: Limits,
) -> Result<Written, Error> {
    let (mut pieces, mut written) = (vec![Piece::WHOLE], Written::default());
    while let Some(piece) = pieces.pop() {
        if Instant::now() >= limits.whole {
            return Err(Error::Again("the rows of a big fan-out could not be written in time"));
        }
        let savepoint = transaction.transaction().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
        match insert(&savepoint, event, trace_id, piece).await {
            Ok(some) => {
                savepoint.commit().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
                written.add(some);
            }
            Err(error) if error.is_slow() && piece.of < Piece::SMALLEST => {
                savepoint.rollback().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
                pieces.extend(piece.halves());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

impl Written {
    fn add(&mut self, other: Self) {
        self.planned += other.planned;
        self.any |= other.any;
        for (reason, count) in other.skipped {
            match self.skipped.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum += count,
                None => self.skipped.push((reason, count)),
            }
        }
    }
}

/// Lets one writer of this event in at a time, and says how many rows it finds, as far as one past a page. Both in
/// statements of their own: the count must see what the writer before has committed.
async fn lock(transaction: &Transaction<'_>, event: &Event, limits: Limits) -> Result<usize, Error> {
    const TIMEOUTS: &str = "-- fan_out: timeouts
        SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)";
    const LOCK: &str = "-- fan_out: one writer at a time
        SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', $1::text, $2::text, $3::text, $4::text), 0))";
    const COUNT: &str = "-- fan_out: how many rows are there
        SELECT 1 FROM t_wechat_delivery
         WHERE company_no = $1 AND app_id = $2 AND template_id = $3 AND event_id = $4
         LIMIT $5";
    let (company_no, app_id) = (event.company_no.as_str(), event.app_id.as_str());
    let (template_id, event_id) = (event.template_id.as_str(), event.event_id.as_str());
    let (statement_ms, lock_ms) =
        (limits.statement.as_millis().to_string(), limits.lock.as_millis().to_string());
    query::rows(transaction, TIMEOUTS, &[&statement_ms, &lock_ms]).await?;
    query::rows(transaction, LOCK, &[&company_no, &app_id, &template_id, &event_id]).await?;
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
               WHEN p.consent ->> 'status' LIKE 'accept%' AND (p.consent -> 'remaining')::text ~ '^(0|-[0-9]{1,18})$' THEN 'quota_used'
               WHEN p.consent ->> 'status' LIKE 'accept%' THEN NULL
               WHEN p.consent ->> 'status' = 'reject'
               THEN CASE p.consent ->> 'cause' WHEN 'bad_openid' THEN 'bad_openid' WHEN 'sent' THEN 'quota_used'
                                               ELSE 'rejected' END
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
           AND $13
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
         WHERE (n.sys_user_id <> '' OR n.openid <> '')
           -- A piece of the names; who is named in two ways may be in two pieces, and has one row all the same.
           AND abs(hashtextextended(coalesce(n.sys_user_id, n.openid), 0) % $11::int) = $12
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
    piece: Piece,
) -> Result<Written, Error> {
    let sys_user_ids: Vec<&str> = event.audience.sys_user_ids().iter().map(|id| id.as_str()).collect();
    let openids: Vec<&str> = event.audience.openids().iter().map(|id| id.as_str()).collect();
    let customer_id = event.customer_id.as_ref().map_or("", |id| id.as_str());
    let rest = i64::from(piece.rest);
    let values: [&(dyn ToSql + Sync); 13] = [
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
        &piece.of,
        &rest,
        &event.audience.is_by_rule(),
    ];
    let rows = query::rows(transaction, INSERT, &values).await?;
    let mut written = Written { any: !rows.is_empty(), ..Written::default() };
    for row in rows {
        let count = usize::try_from(row.read::<i64>("rows")?).unwrap_or_default();
        match row.read::<Option<&str>>("reason")?.and_then(SkipReason::parse) {
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
    rows.iter().map(plan::recipient_of).collect()
}
