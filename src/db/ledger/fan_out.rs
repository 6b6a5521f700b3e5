//! The rows of an event for more people than one page: written at once, read page by page.

mod piece;

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

pub use self::piece::Written;
use self::piece::{Columns, Piece, insert, recipients};
use super::plan;
use crate::db::{Database, Error, query};
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

/// The next page of deliveries that the event itself still carries: unfinished, of epoch 0. In the order of the ledger's
/// key, from behind `after` on; the empty text stands before everybody.
pub async fn unfinished(db: &Database, event: &Event, after: &str) -> Result<Vec<Recipient>, Error> {
    const UNFINISHED: &str = "-- fan_out: the next page
        SELECT openid, sys_user_id
          FROM t_wechat_delivery
         WHERE event_id = $1 AND recipient > $2 AND template_id = $3 AND app_id = $4 AND company_no = $5
           AND status IN ('planned', 'attempting', 'retrying') AND epoch = 0 AND openid IS NOT NULL
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
