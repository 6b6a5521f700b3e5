//! The ledger's side of a message that was given up as a whole, by the broker or by a panic: its rows have lost their carrier.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::archive::{Letter, archive_on};
use crate::db::row::Read;
use crate::db::{Database, Error, query};
use crate::domain::letter::{self, DeliveryKey};
use crate::domain::outcome::DeadReason;

/// Rows settled in one transaction. A fan-out's event can be the carrier of a hundred thousand.
const PAGE: i64 = 500;

/// Settles the unfinished rows that the message was the carrier of: `dead`, with the letter's reason.
///
/// A letter about one delivery settles its row; one about a whole event settles the event's rows of turn 0, and gives each
/// a letter of its own in the same transaction, so that each can be replayed. A row whose claim ran out counts one unknown:
/// its holder may have sent.
///
/// False while a claim still runs: its holder may settle, or die and leave a row that nobody carries. Come again later, and
/// keep the message until then.
pub async fn settle_carried(db: &Database, letter: &Letter) -> Result<bool, Error> {
    let Some(key) = Key::of(letter) else { return Ok(true) };
    let mut client = db.durable().await?;
    loop {
        let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
        let settled = settle_page(&transaction, &key).await?;
        if key.recipient.is_none() {
            let letters: Result<Vec<Letter>, Error> =
                settled.iter().map(|row| letter_of_row(letter, &key, row)).collect();
            archive_on(&transaction, &letters?).await?;
        } else if let Some(row) = settled.first() {
            tell_of_row(&transaction, letter, row).await?;
        }
        transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
        if (settled.len() as i64) < PAGE {
            break;
        }
    }
    Ok(!is_claimed(&client, &key).await?)
}

const BEGIN: &str = "-- letters::settle_begin";
const COMMIT: &str = "-- letters::settle_commit";

/// What the message carried.
struct Key<'a> {
    company_no: &'a str,
    app_id: &'a str,
    template_id: &'a str,
    event_id: &'a str,
    /// `None`: the event's rows of turn 0.
    recipient: Option<&'a str>,
    turn: i32,
    reason: DeadReason,
}

impl<'a> Key<'a> {
    /// `None` where the letter does not say enough to find a row: then there is none.
    fn of(letter: &'a Letter) -> Option<Self> {
        Some(Self {
            company_no: letter.company_no.as_deref()?,
            app_id: letter.app_id.as_deref()?,
            template_id: letter.template_id.as_deref()?,
            event_id: letter.event_id.as_deref()?,
            recipient: letter.recipient.as_deref(),
            turn: letter.turn.unwrap_or(0),
            reason: letter.reason,
        })
    }
}

async fn settle_page(client: &deadpool_postgres::Transaction<'_>, key: &Key<'_>) -> Result<Vec<Row>, Error> {
    // A row of a later turn has a later carrier; this message was only its echo.
    const SQL: &str = "-- letters::settle_carried
        WITH carried AS (
            SELECT id FROM t_wechat_delivery
             WHERE company_no = $1 AND app_id = $2 AND template_id = $3 AND event_id = $4
               AND (recipient = $5 OR ($5::text IS NULL AND turn = 0)) AND turn <= $6
               AND (status IN ('planned', 'retrying') OR (status = 'attempting' AND claimed_until <= now()))
             ORDER BY id
             LIMIT $7
               FOR UPDATE)
        UPDATE t_wechat_delivery d
           SET status = 'dead', reason = $8, turn = $6, claim = NULL, claimed_until = NULL,
               unknowns = unknowns + (status = 'attempting')::integer, settled_at = now()
          FROM carried
         WHERE d.id = carried.id
        RETURNING d.recipient, d.openid, d.sys_user_id, d.attempts, d.rid, d.token_generation, d.trace_id";
    let Key { company_no, app_id, template_id, event_id, recipient, turn, .. } = key;
    let reason = key.reason.as_str();
    query::rows(client, SQL, &[company_no, app_id, template_id, event_id, recipient, turn, &PAGE, &reason])
        .await
}

/// What the row knows of the delivery's life; the broker, who wrote the letter, knew nothing.
async fn tell_of_row(
    client: &deadpool_postgres::Transaction<'_>,
    letter: &Letter,
    row: &Row,
) -> Result<(), Error> {
    const SQL: &str = "-- letters::tell_of_row
        UPDATE t_wechat_dead_letter
           SET attempts = greatest(attempts, $2), rid = coalesce(rid, $3),
               token_generation = coalesce(token_generation, $4), trace_id = coalesce(trace_id, $5)
         WHERE letter = $1";
    let attempts: i32 = row.read("attempts")?;
    let (rid, trace_id): (Option<String>, Option<String>) = (row.read("rid")?, row.read("trace_id")?);
    let generation: Option<i64> = row.read("token_generation")?;
    query::count(client, SQL, &[&letter.letter, &attempts, &rid, &generation, &trace_id]).await?;
    Ok(())
}

/// Is somebody still at one of the rows?
async fn is_claimed(client: &deadpool_postgres::Object, key: &Key<'_>) -> Result<bool, Error> {
    const SQL: &str = "-- letters::is_claimed
        SELECT EXISTS (
            SELECT FROM t_wechat_delivery
             WHERE company_no = $1 AND app_id = $2 AND template_id = $3 AND event_id = $4
               AND (recipient = $5 OR ($5::text IS NULL AND turn = 0)) AND turn <= $6
               AND status = 'attempting')";
    let Key { company_no, app_id, template_id, event_id, recipient, turn, .. } = key;
    let values: [&(dyn ToSql + Sync); 6] = [company_no, app_id, template_id, event_id, recipient, turn];
    query::one(client, SQL, &values).await?.read(0)
}

/// The event's letter, readdressed to one of its rows.
fn letter_of_row(event: &Letter, key: &Key<'_>, row: &Row) -> Result<Letter, Error> {
    let recipient: String = row.read("recipient")?;
    let delivery = DeliveryKey {
        company_no: key.company_no,
        app_id: key.app_id,
        template_id: key.template_id,
        event_id: key.event_id,
        recipient: &recipient,
    };
    Ok(Letter {
        letter: letter::identity(&delivery, key.turn),
        openid: row.read("openid")?,
        sys_user_id: row.read("sys_user_id")?,
        attempts: row.read("attempts")?,
        rid: row.read("rid")?,
        token_generation: row.read("token_generation")?,
        turn: Some(key.turn),
        recipient: Some(recipient),
        ..event.clone()
    })
}
