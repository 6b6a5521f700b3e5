//! The rows of an event for more people than one page: written at once, read page by page.

mod piece;

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::time::Instant;

pub use self::piece::Written;
use self::piece::{Columns, Piece, insert, recipients};
use super::plan;
use crate::db::query::{self, sql};
use crate::db::{Database, Error};
use crate::domain::event::Event;
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

/// Writes a row for everybody whom the event reaches but `except`, in one transaction: after a crash there are all or none.
/// Where they are written already, by us or by another process, the set stays as it is.
pub async fn write(
    db: &Database,
    event: &Event,
    trace_id: Option<&str>,
    except: &[Recipient],
    limits: Limits,
) -> Result<Done, Error> {
    let mut client = db.durable().await?;
    let mut transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    let known = lock(&transaction, event, limits).await?;
    if known > PAGE {
        return Ok(Done::Written(Written { any: true, ..Written::default() }));
    }
    match insert_all(&mut transaction, event, trace_id, except, limits).await? {
        Done::Written(written) => {
            transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
            Ok(Done::Written(Written { any: known > 0 || written.any, ..written }))
        }
        refused => Ok(refused),
    }
}

const BEGIN: &str = "-- fan_out: begin";
const COMMIT: &str = "-- fan_out: commit";
const SAVEPOINT: &str = "-- fan_out: savepoint";

/// Everybody, in one statement if it is quick enough and nobody's row is refused, else in halves of halves.
async fn insert_all(
    transaction: &mut Transaction<'_>,
    event: &Event,
    trace_id: Option<&str>,
    except: &[Recipient],
    limits: Limits,
) -> Result<Done, Error> {
    let columns = Columns::of(event, except);
    let (mut pieces, mut written, mut refused) = (vec![Piece::WHOLE], Written::default(), Vec::new());
    let mut refusal = None;
    while let Some(piece) = pieces.pop() {
        if Instant::now() >= limits.whole {
            return Err(Error::Again("the rows of a big fan-out could not be written in time"));
        }
        let savepoint = transaction.transaction().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
        match insert(&savepoint, event, trace_id, (&columns, piece)).await {
            Ok(some) => {
                savepoint.commit().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
                written.add(some);
                continue;
            }
            Err(error) if error.is_slow() && piece.of < Piece::SMALLEST => {
                savepoint.rollback().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
            }
            Err(error) if error.is_rows_own() && refused.len() < MOST_REFUSED => {
                savepoint.rollback().await.map_err(|error| query::failed(SAVEPOINT, &error))?;
                refusal = Some(error);
                let recipients = recipients(transaction, event, &columns, piece).await?;
                if recipients.len() == 1 || piece.of >= Piece::ONE_NAME {
                    refused.extend(recipients);
                    continue;
                }
            }
            Err(error) => return Err(error),
        }
        pieces.extend(piece.halves());
    }
    Ok(match refusal {
        Some(error) if !refused.is_empty() => Done::Refused(refused, error),
        _ => Done::Written(written),
    })
}

/// More rows than this that are refused one by one are not the fault of single ones.
const MOST_REFUSED: usize = 100;

/// What came of writing a set.
#[derive(Debug)]
pub enum Done {
    Written(Written),
    /// Nothing is written: PostgreSQL refuses the rows of these recipients. To be written again without them, once it is
    /// seen to that they are not forgotten.
    Refused(Vec<Recipient>, Error),
}

/// Lets one writer of this event in at a time, and says how many rows it finds, as far as one past a page. Both in
/// statements of their own: the count must see what the writer before has committed.
async fn lock(transaction: &Transaction<'_>, event: &Event, limits: Limits) -> Result<usize, Error> {
    const TIMEOUTS: &str = "-- fan_out: timeouts
        SELECT set_config('statement_timeout', :statement_ms, true), set_config('lock_timeout', :lock_ms, true)";
    const LOCK: &str = "-- fan_out: one writer at a time
        SELECT pg_advisory_xact_lock(hashtextextended(
                   concat_ws(E'\\n', :company_no::text, :app_id::text, :template_id::text, :event_id::text), 0))";
    const COUNT: &str = "-- fan_out: how many rows are there
        SELECT 1 FROM t_wechat_delivery
         WHERE company_no = :company_no AND app_id = :app_id AND template_id = :template_id AND event_id = :event_id
         LIMIT :enough";
    let (company_no, app_id) = (event.company_no.as_str(), event.app_id.as_str());
    let (template_id, event_id) = (event.template_id.as_str(), event.event_id.as_str());
    let (statement_ms, lock_ms) =
        (limits.statement.as_millis().to_string(), limits.lock.as_millis().to_string());
    sql!(TIMEOUTS, statement_ms, lock_ms).rows(transaction).await?;
    sql!(LOCK, company_no, app_id, template_id, event_id).rows(transaction).await?;
    let enough = PAGE as i64 + 1;
    let rows = sql!(COUNT, company_no, app_id, template_id, event_id, enough).rows(transaction).await?;
    Ok(rows.len())
}

/// The next page of deliveries that the event itself still carries: unfinished, of epoch 0. In the order of the ledger's
/// key, from behind `after` on; the empty text comes before all recipients.
pub async fn unfinished(db: &Database, event: &Event, after: &str) -> Result<Vec<Recipient>, Error> {
    const UNFINISHED: &str = "-- fan_out: the next page
        SELECT openid, sys_user_id
          FROM t_wechat_delivery
         WHERE event_id = :event_id AND recipient > :after AND template_id = :template_id AND app_id = :app_id
           AND company_no = :company_no
           AND status IN ('planned', 'attempting', 'retrying') AND epoch = 0 AND openid IS NOT NULL
         ORDER BY recipient
         LIMIT :page";
    let rows = sql!(
        UNFINISHED,
        event_id = event.event_id.as_str(),
        after,
        template_id = event.template_id.as_str(),
        app_id = event.app_id.as_str(),
        company_no = event.company_no.as_str(),
        page = PAGE as i64,
    )
    .rows(&db.durable().await?)
    .await?;
    rows.iter().map(plan::recipient_of).collect()
}
