//! A part of an event's names, and the statements that work on one.

use deadpool_postgres::Transaction;

use crate::db::Error;
use crate::db::ledger::named::{NAMED, id, verdict};
use crate::db::ledger::plan;
use crate::db::query::{joined, sql};
use crate::db::row::Read;
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

/// Everybody in a piece of the names whom an event reaches, in `once_each`; less those of `:except`.
macro_rules! everybody {
    ($kind:expr) => {
        joined!(
            "WITH found AS (
        SELECT f.*
          FROM (SELECT :company_no::text AS company_no, :app_id::text AS app_id, :template_id::text AS template_id,
                       :customer_id::text AS customer_id, :sys_user_ids::text[] AS sys_user_ids,
                       :openids::text[] AS openids, :by_rule::bool AS by_rule) e
         CROSS JOIN LATERAL (",
            NAMED,
            "
           -- Who is named in two ways may be in two pieces, and has one row all the same.
           AND abs(hashtextextended(coalesce(n.sys_user_id, n.openid), 0) % :of::int) = :rest) f
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
            verdict($kind),
            " AS reason
                  FROM person p) r
         WHERE recipient IS NOT NULL AND recipient <> ALL (:except::text[])
         ORDER BY recipient, sys_user_id IS NULL
    )"
        )
    };
}

/// Runs a statement over a piece of the event's names: its name, [`everybody!`], and what follows, with the values that this
/// takes beyond those that name everybody.
macro_rules! over_piece {
    (
        $transaction:expr, ($event:expr, $columns:expr, $piece:expr), [$name:expr, $then:expr]
        $(, $value_name:ident $(= $value:expr)?)*
    ) => {
        match $event.kind {
            MessageKind::Subscribe => {
                const SQL: &str = joined!($name, "\n    ", everybody!(MessageKind::Subscribe), $then);
                sql!(
                    SQL,
                    company_no = $event.company_no.as_str(),
                    app_id = $event.app_id.as_str(),
                    template_id = $event.template_id.as_str(),
                    customer_id = $columns.customer_id,
                    sys_user_ids = $columns.sys_user_ids,
                    openids = $columns.openids,
                    by_rule = $event.audience.is_by_rule(),
                    of = $piece.of,
                    rest = i64::from($piece.rest),
                    except = $columns.except,
                    $($value_name $(= $value)?,)*
                )
                .rows($transaction)
                .await
            }
        }
    };
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

/// The recipients of a piece; of a large one some of them.
pub(super) async fn recipients(
    transaction: &Transaction<'_>,
    event: &Event,
    columns: &Columns<'_>,
    piece: Piece,
) -> Result<Vec<Recipient>, Error> {
    const NAME: &str = "-- fan_out: whom a piece is for";
    const LIST: &str = "
    SELECT openid, sys_user_id FROM once_each LIMIT 100";
    let rows = over_piece!(transaction, (event, columns, piece), [NAME, LIST])?;
    rows.iter().map(plan::recipient_of).collect()
}

/// Writes the rows of a piece.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    event: &Event,
    trace_id: Option<&str>,
    (columns, piece): (&Columns<'_>, Piece),
) -> Result<Written, Error> {
    const NAME: &str = "-- fan_out: everybody whom the event reaches, once, with a verdict";
    const INSERT: &str = ", written AS (
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status,
                                       reason, due_at, content_hash, trace_id, settled_at)
        SELECT :company_no, :app_id, :template_id, :event_id, recipient, openid, sys_user_id,
               CASE WHEN reason IS NULL THEN 'planned' ELSE 'skipped' END, reason,
               CASE WHEN reason IS NULL THEN :deliver_after::timestamptz END, :content_hash, :trace_id,
               CASE WHEN reason IS NOT NULL THEN clock_timestamp() END
          FROM once_each ORDER BY recipient
        ON CONFLICT DO NOTHING
        RETURNING reason
    )
    SELECT reason, count(*) AS rows FROM written GROUP BY reason";
    let rows = over_piece!(
        transaction,
        (event, columns, piece),
        [NAME, INSERT],
        event_id = event.event_id.as_str(),
        deliver_after = event.deliver_after,
        content_hash = event.content_hash.as_slice(),
        trace_id
    )?;
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
