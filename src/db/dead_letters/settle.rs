//! The ledger's side of a message that was given up as a whole, by the broker or by a panic: its rows have lost their
//! delivery message, and are settled here.

use tokio_postgres::Row;

use super::archive::{Received, archive_on};
use crate::db::query::{self, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::dead_letter::{self, About, DeadLetter, Reason};
use crate::domain::delivery::DeliveryKey;

/// Rows settled in one transaction. A fan-out's event can be the delivery message of a hundred thousand.
const PAGE: i64 = 500;

/// Settles the unfinished rows whose delivery message it was: `dead`, with the dead letter's reason.
///
/// A dead letter about one delivery settles its row; one about a whole event settles the event's rows of epoch 0, and gives each
/// a dead letter of its own in the same transaction, so that each can be replayed. A row whose claim ran out counts one unknown:
/// its holder may have sent.
///
/// False while a claim still runs: its holder may settle, or die and leave a row that nobody carries. Come again later, and
/// keep the message until then.
pub async fn settle_given_up(db: &Database, given_up: &Received) -> Result<bool, Error> {
    let DeadLetter { about, epoch, .. } = &given_up.dead_letter;
    // What does not name a whole key has no row.
    let Some(key) = about.key() else { return Ok(true) };
    let rows = Rows { about, epoch: epoch.unwrap_or(0) };
    let mut client = db.durable().await?;
    loop {
        let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
        let settled = settle_page(&transaction, &rows, &given_up.dead_letter.reason).await?;
        if about.recipient.is_none() {
            let theirs: Result<Vec<Received>, Error> =
                settled.iter().map(|row| readdressed(given_up, &key, rows.epoch, row)).collect();
            archive_on(&transaction, &theirs?).await?;
        } else if let Some(row) = settled.first() {
            complete(&transaction, &given_up.dead_letter.identity, row).await?;
        }
        transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
        if (settled.len() as i64) < PAGE {
            break;
        }
    }
    Ok(!is_claimed(&client, &rows).await?)
}

const BEGIN: &str = "-- dead_letters::settle_begin";
const COMMIT: &str = "-- dead_letters::settle_commit";

/// The rows that the message stood for.
struct Rows<'a> {
    /// Names one delivery, or, without a recipient, the event's rows of epoch 0.
    about: &'a About,
    epoch: i32,
}

async fn settle_page(
    client: &deadpool_postgres::Transaction<'_>,
    rows: &Rows<'_>,
    reason: &Reason,
) -> Result<Vec<Row>, Error> {
    // A row of a later epoch has a later delivery message; this message was only its echo.
    const SQL: &str = "-- dead_letters::settle_given_up
        WITH given_up AS (
            SELECT id FROM t_wechat_delivery
             WHERE company_no = :company_no AND app_id = :app_id AND template_id = :template_id AND event_id = :event_id
               AND (recipient = :recipient OR (:recipient::text IS NULL AND epoch = 0)) AND epoch <= :epoch
               AND (status IN ('planned', 'retrying') OR (status = 'attempting' AND claimed_until <= now()))
             ORDER BY id
             LIMIT :page
               FOR UPDATE)
        UPDATE t_wechat_delivery d
           SET status = 'dead', reason = :reason, epoch = :epoch, claim = NULL, claimed_until = NULL,
               unknowns = unknowns + (status = 'attempting')::integer, settled_at = now()
          FROM given_up
         WHERE d.id = given_up.id
        RETURNING d.recipient, d.openid, d.sys_user_id, d.attempts, d.rid, d.token_generation, d.trace_id";
    let Rows { about: About { company_no, app_id, template_id, event_id, recipient, .. }, epoch } = rows;
    sql!(
        SQL,
        company_no,
        app_id,
        template_id,
        event_id,
        recipient,
        epoch,
        page = PAGE,
        reason = reason.as_str()
    )
    .rows(client)
    .await
}

/// Adds what only the row knows of the delivery: the broker, who wrote the dead letter, knew nothing of its attempts.
async fn complete(
    client: &deadpool_postgres::Transaction<'_>,
    identity: &str,
    row: &Row,
) -> Result<(), Error> {
    const SQL: &str = "-- dead_letters::complete
        UPDATE t_wechat_dead_letter
           SET attempts = greatest(attempts, :attempts), rid = coalesce(rid, :rid),
               token_generation = coalesce(token_generation, :token_generation), trace_id = coalesce(trace_id, :trace_id)
         WHERE identity = :identity";
    let attempts: i32 = row.read("attempts")?;
    let (rid, trace_id): (Option<String>, Option<String>) = (row.read("rid")?, row.read("trace_id")?);
    let token_generation: Option<i64> = row.read("token_generation")?;
    sql!(SQL, identity, attempts, rid, token_generation, trace_id).count(client).await?;
    Ok(())
}

/// Is somebody still at one of the rows?
async fn is_claimed(client: &deadpool_postgres::Object, rows: &Rows<'_>) -> Result<bool, Error> {
    const SQL: &str = "-- dead_letters::is_claimed
        SELECT EXISTS (
            SELECT FROM t_wechat_delivery
             WHERE company_no = :company_no AND app_id = :app_id AND template_id = :template_id AND event_id = :event_id
               AND (recipient = :recipient OR (:recipient::text IS NULL AND epoch = 0)) AND epoch <= :epoch
               AND status = 'attempting')";
    let Rows { about: About { company_no, app_id, template_id, event_id, recipient, .. }, epoch } = rows;
    let query = sql!(SQL, company_no, app_id, template_id, event_id, recipient, epoch);
    query.one(client).await?.read(0)
}

/// The event's dead letter, readdressed to one of its rows.
fn readdressed(event: &Received, key: &DeliveryKey, epoch: i32, row: &Row) -> Result<Received, Error> {
    let key = DeliveryKey { recipient: row.read("recipient")?, ..key.clone() };
    let dead_letter = DeadLetter {
        identity: dead_letter::identity(&key, epoch),
        about: About {
            recipient: Some(key.recipient),
            openid: row.read("openid")?,
            sys_user_id: row.read("sys_user_id")?,
            ..event.dead_letter.about.clone()
        },
        epoch: Some(epoch),
        attempts: row.read("attempts")?,
        rid: row.read("rid")?,
        token_generation: row.read("token_generation")?,
        ..event.dead_letter.clone()
    };
    Ok(Received { dead_letter, ..event.clone() })
}
