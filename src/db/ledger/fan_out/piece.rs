//! A part of an event's names, and the statements that work on one.

use std::sync::LazyLock;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::db::ledger::named::{NAMED, id, verdict};
use crate::db::ledger::plan;
use crate::db::row::Read;
use crate::db::{Error, query};
use crate::domain::event::Event;
use crate::domain::message_kind::MessageKind;
use crate::domain::outcome::SkipReason;
use crate::domain::recipient::Recipient;

/// A part of the set: the names whose hash leaves `rest` when divided by `of`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) of: i32,
    rest: i32,
}

impl Piece {
    pub(super) const WHOLE: Self = Self { of: 1, rest: 0 };
    /// The smallest: of a million people a thousand. A statement that is too slow for so few would be for any.
    pub(super) const SMALLEST: i32 = 1024;
    /// Of so many pieces each has one name, which can lead to several recipients: one user with several openids.
    pub(super) const ONE_NAME: i32 = 1 << 24;

    pub(super) fn halves(self) -> [Self; 2] {
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

impl Written {
    pub(super) fn add(&mut self, other: Self) {
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

/// Everybody in a piece of the names whom an event reaches, in `once_each`; less those of `$10`.
fn everybody(kind: MessageKind) -> String {
    let (sys_user_id, openid, verdict) = (id("f.sys_user_id"), id("f.openid"), verdict(kind));
    format!(
        "WITH found AS (
        SELECT f.*
          FROM (SELECT $1::text AS company_no, $2::text AS app_id, $3::text AS template_id, $4::text AS customer_id,
                       $5::text[] AS sys_user_ids, $6::text[] AS openids, $9::bool AS by_rule) e
         CROSS JOIN LATERAL ({NAMED}
           -- Who is named in two ways may be in two pieces, and has one row all the same.
           AND abs(hashtextextended(coalesce(n.sys_user_id, n.openid), 0) % $7::int) = $8) f
    ), person AS (
        SELECT {sys_user_id} AS sys_user_id, {openid} AS openid, f.bound, f.status, f.consent
          FROM found f
    ), once_each AS (
        -- Where somebody is named twice, the business user stays, so that the ledger can say who it was.
        SELECT DISTINCT ON (recipient) *
          FROM (SELECT coalesce(p.openid, '@' || p.sys_user_id) AS recipient, p.openid, p.sys_user_id,
                       {verdict} AS reason
                  FROM person p) r
         WHERE recipient IS NOT NULL AND recipient <> ALL ($10::text[])
         ORDER BY recipient, sys_user_id IS NULL
    )"
    )
}

/// Statements of a kind of message, in the order of [`MessageKind::ALL`].
struct Statements {
    insert: String,
    recipients: String,
}

static STATEMENTS: LazyLock<Vec<Statements>> =
    LazyLock::new(|| MessageKind::ALL.iter().map(|kind| Statements::of(*kind)).collect());

impl Statements {
    fn of(kind: MessageKind) -> Self {
        let everybody = everybody(kind);
        let insert = format!(
            "-- fan_out: everybody whom the event reaches, once, with a verdict
    {everybody}, written AS (
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status,
                                       reason, due_at, content_hash, trace_id, settled_at)
        SELECT $1, $2, $3, $11, recipient, openid, sys_user_id,
               CASE WHEN reason IS NULL THEN 'planned' ELSE 'skipped' END, reason,
               CASE WHEN reason IS NULL THEN $12::timestamptz END, $13, $14,
               CASE WHEN reason IS NOT NULL THEN clock_timestamp() END
          FROM once_each ORDER BY recipient
        ON CONFLICT DO NOTHING
        RETURNING reason
    )
    SELECT reason, count(*) AS rows FROM written GROUP BY reason"
        );
        let recipients = format!(
            "-- fan_out: whom a piece is for
    {everybody}
    SELECT openid, sys_user_id FROM once_each LIMIT 100"
        );
        Self { insert, recipients }
    }
}

/// The part of the event that is written, as columns.
pub(super) struct Columns<'a> {
    sys_user_ids: Vec<&'a str>,
    openids: Vec<&'a str>,
    customer_id: &'a str,
    except: Vec<String>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(event: &'a Event, except: &[Recipient]) -> Self {
        Self {
            sys_user_ids: event.audience.sys_user_ids().iter().map(|id| id.as_str()).collect(),
            openids: event.audience.openids().iter().map(|id| id.as_str()).collect(),
            customer_id: event.customer_id.as_ref().map_or("", |id| id.as_str()),
            except: except.iter().map(Recipient::ledger_key).collect(),
        }
    }
}

/// Runs a statement over a piece, with these values behind those that name everybody.
async fn over_piece(
    transaction: &Transaction<'_>,
    sql: &'static str,
    event: &Event,
    (columns, piece): (&Columns<'_>, Piece),
    more: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let (company_no, app_id) = (event.company_no.as_str(), event.app_id.as_str());
    let (template_id, rest) = (event.template_id.as_str(), i64::from(piece.rest));
    let by_rule = event.audience.is_by_rule();
    let values: [&(dyn ToSql + Sync); 10] = [
        &company_no,
        &app_id,
        &template_id,
        &columns.customer_id,
        &columns.sys_user_ids,
        &columns.openids,
        &piece.of,
        &rest,
        &by_rule,
        &columns.except,
    ];
    query::rows(transaction, sql, &[&values, more].concat()).await
}

/// The recipients of a piece; of a large one some of them.
pub(super) async fn recipients(
    transaction: &Transaction<'_>,
    event: &Event,
    columns: &Columns<'_>,
    piece: Piece,
) -> Result<Vec<Recipient>, Error> {
    let rows =
        over_piece(transaction, &STATEMENTS[event.kind as usize].recipients, event, (columns, piece), &[])
            .await?;
    rows.iter().map(plan::recipient_of).collect()
}

/// Writes the rows of a piece.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    event: &Event,
    trace_id: Option<&str>,
    (columns, piece): (&Columns<'_>, Piece),
) -> Result<Written, Error> {
    let (event_id, hash) = (event.event_id.as_str(), event.content_hash.as_slice());
    let more: [&(dyn ToSql + Sync); 4] = [&event_id, &event.deliver_after, &hash, &trace_id];
    let rows =
        over_piece(transaction, &STATEMENTS[event.kind as usize].insert, event, (columns, piece), &more)
            .await?;
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
