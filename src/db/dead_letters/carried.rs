//! The ledger's side of a message that was given up as a whole, by the broker or by a panic: its rows have lost their delivery message.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::archive::{DeadLetter, archive_on};
use crate::db::row::Read;
use crate::db::{Database, Error, query};
use crate::domain::dead_letter::{self, DeliveryKey};
use crate::domain::outcome::DeadReason;

/// Rows settled in one transaction. A fan-out's event can be the delivery message of a hundred thousand.
const PAGE: i64 = 500;

/// Settles the unfinished rows that the message was the delivery message of: `dead`, with the dead letter's reason.
///
/// A dead letter about one delivery settles its row; one about a whole event settles the event's rows of epoch 0, and gives each
/// a dead letter of its own in the same transaction, so that each can be replayed. A row whose claim ran out counts one unknown:
/// its holder may have sent.
///
/// False while a claim still runs: its holder may settle, or die and leave a row that nobody carries. Come again later, and
/// keep the message until then.
pub async fn settle_carried(db: &Database, dead_letter: &DeadLetter) -> Result<bool, Error> {
    let Some(key) = Key::of(dead_letter) else { return Ok(true) };
    let mut client = db.durable().await?;
    loop {
        let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
        let settled = settle_page(&transaction, &key).await?;
        if key.recipient.is_none() {
            let dead_letters: Result<Vec<DeadLetter>, Error> =
                settled.iter().map(|row| dead_letter_of_row(dead_letter, &key, row)).collect();
            archive_on(&transaction, &dead_letters?).await?;
        } else if let Some(row) = settled.first() {
            tell_of_row(&transaction, dead_letter, row).await?;
        }
        transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
        if (settled.len() as i64) < PAGE {
            break;
        }
    }
    Ok(!is_claimed(&client, &key).await?)
}

const BEGIN: &str = "-- dead letters::settle_begin";
const COMMIT: &str = "-- dead letters::settle_commit";

/// What the message carried.
struct Key<'a> {
    company_no: &'a str,
    app_id: &'a str,
    template_id: &'a str,
    event_id: &'a str,
    /// `None`: the event's rows of epoch 0.
    recipient: Option<&'a str>,
    epoch: i32,
    reason: DeadReason,
}

impl<'a> Key<'a> {
    /// `None` where the dead letter does not say enough to find a row: then there is none.
    fn of(dead_letter: &'a DeadLetter) -> Option<Self> {
        Some(Self {
            company_no: dead_letter.company_no.as_deref()?,
            app_id: dead_letter.app_id.as_deref()?,
            template_id: dead_letter.template_id.as_deref()?,
            event_id: dead_letter.event_id.as_deref()?,
            recipient: dead_letter.recipient.as_deref(),
            epoch: dead_letter.epoch.unwrap_or(0),
            reason: dead_letter.reason,
        })
    }
}

async fn settle_page(client: &deadpool_postgres::Transaction<'_>, key: &Key<'_>) -> Result<Vec<Row>, Error> {
    // A row of a later epoch has a later delivery message; this message was only its echo.
    const SQL: &str = "-- dead_letters::settle_carried
        WITH carried AS (
            SELECT id FROM t_wechat_delivery
             WHERE company_no = $1 AND app_id = $2 AND template_id = $3 AND event_id = $4
               AND (recipient = $5 OR ($5::text IS NULL AND epoch = 0)) AND epoch <= $6
               AND (status IN ('planned', 'retrying') OR (status = 'attempting' AND claimed_until <= now()))
             ORDER BY id
             LIMIT $7
               FOR UPDATE)
        UPDATE t_wechat_delivery d
           SET status = 'dead', reason = $8, epoch = $6, claim = NULL, claimed_until = NULL,
               unknowns = unknowns + (status = 'attempting')::integer, settled_at = now()
          FROM carried
         WHERE d.id = carried.id
        RETURNING d.recipient, d.openid, d.sys_user_id, d.attempts, d.rid, d.token_generation, d.trace_id";
    let Key { company_no, app_id, template_id, event_id, recipient, epoch, .. } = key;
    let reason = key.reason.as_str();
    query::rows(client, SQL, &[company_no, app_id, template_id, event_id, recipient, epoch, &PAGE, &reason])
        .await
}

/// What the row knows of the delivery's life; the broker, who wrote the dead letter, knew nothing.
async fn tell_of_row(
    client: &deadpool_postgres::Transaction<'_>,
    dead_letter: &DeadLetter,
    row: &Row,
) -> Result<(), Error> {
    const SQL: &str = "-- dead_letters::tell_of_row
        UPDATE t_wechat_dead_letter
           SET attempts = greatest(attempts, $2), rid = coalesce(rid, $3),
               token_generation = coalesce(token_generation, $4), trace_id = coalesce(trace_id, $5)
         WHERE identity = $1";
    let attempts: i32 = row.read("attempts")?;
    let (rid, trace_id): (Option<String>, Option<String>) = (row.read("rid")?, row.read("trace_id")?);
    let generation: Option<i64> = row.read("token_generation")?;
    query::count(client, SQL, &[&dead_letter.identity, &attempts, &rid, &generation, &trace_id]).await?;
    Ok(())
}

/// Is somebody still at one of the rows?
async fn is_claimed(client: &deadpool_postgres::Object, key: &Key<'_>) -> Result<bool, Error> {
    const SQL: &str = "-- dead_letters::is_claimed
        SELECT EXISTS (
            SELECT FROM t_wechat_delivery
             WHERE company_no = $1 AND app_id = $2 AND template_id = $3 AND event_id = $4
               AND (recipient = $5 OR ($5::text IS NULL AND epoch = 0)) AND epoch <= $6
               AND status = 'attempting')";
    let Key { company_no, app_id, template_id, event_id, recipient, epoch, .. } = key;
    let values: [&(dyn ToSql + Sync); 6] = [company_no, app_id, template_id, event_id, recipient, epoch];
    query::one(client, SQL, &values).await?.read(0)
}

/// The event's dead letter, readdressed to one of its rows.
fn dead_letter_of_row(event: &DeadLetter, key: &Key<'_>, row: &Row) -> Result<DeadLetter, Error> {
    let recipient: String = row.read("recipient")?;
    let delivery = DeliveryKey {
        company_no: key.company_no,
        app_id: key.app_id,
        template_id: key.template_id,
        event_id: key.event_id,
        recipient: &recipient,
    };
    Ok(DeadLetter {
        identity: dead_letter::identity(&delivery, key.epoch),
        openid: row.read("openid")?,
        sys_user_id: row.read("sys_user_id")?,
        attempts: row.read("attempts")?,
        rid: row.read("rid")?,
        token_generation: row.read("token_generation")?,
        epoch: Some(key.epoch),
        recipient: Some(recipient),
        ..event.clone()
    })
}
