//! Writing dead letters down, each once.

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use serde_json::Value;

use crate::db::{Database, Error, query};
use crate::domain::outcome::DeadReason;

/// A dead letter as it goes into the archive. Its texts hold no NUL and are of bounded length.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The identity; a second dead letter with the same one is the same dead letter.
    pub identity: String,
    pub reason: DeadReason,
    /// The class of WeChat's code.
    pub class: Option<String>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    /// The field that is to blame.
    pub field: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    pub company_no: Option<String>,
    pub event_id: Option<String>,
    /// The ledger's key; `None` for a dead letter about a whole message.
    pub recipient: Option<String>,
    pub openid: Option<String>,
    pub sys_user_id: Option<String>,
    /// The delivery's epoch when it was given up; a replay goes out with the next one.
    pub epoch: Option<i32>,
    /// Requests charged.
    pub attempts: i32,
    pub first_failed_at: Option<Timestamp>,
    pub last_failed_at: Option<Timestamp>,
    pub trace_id: Option<String>,
    pub rid: Option<String>,
    pub token_generation: Option<i64>,
    /// Groups dead letters of the same trouble.
    pub fingerprint: String,
    /// As received.
    pub body: Bytes,
    /// As received, as a JSON object.
    pub headers: Value,
}

/// Archives the dead letters in one statement. Those that are in the archive already stay as they are.
pub async fn archive(db: &Database, dead_letters: &[DeadLetter]) -> Result<(), Error> {
    archive_on(&db.durable().await?, dead_letters).await
}

/// As [`archive`], on a connection or in a transaction.
pub(super) async fn archive_on(
    client: &impl GenericClient,
    dead_letters: &[DeadLetter],
) -> Result<(), Error> {
    const SQL: &str = "-- dead_letters::archive
        INSERT INTO t_wechat_dead_letter
               (identity, reason, class, errcode, errmsg, field, app_id, template_id, company_no, event_id, recipient,
                openid, sys_user_id, epoch, attempts, first_failed_at, last_failed_at, trace_id, rid,
                token_generation, fingerprint, body, headers)
        SELECT * FROM unnest(
                $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::integer[], $15::integer[],
                $16::timestamptz[], $17::timestamptz[], $18::text[], $19::text[], $20::bigint[], $21::text[],
                $22::bytea[], $23::jsonb[])
        ON CONFLICT (identity) DO NOTHING";
    query::count(
        client,
        SQL,
        &[
            &column(dead_letters, |dead_letter| &dead_letter.identity),
            &column(dead_letters, |dead_letter| dead_letter.reason.as_str()),
            &column(dead_letters, |dead_letter| &dead_letter.class),
            &column(dead_letters, |dead_letter| dead_letter.errcode),
            &column(dead_letters, |dead_letter| &dead_letter.errmsg),
            &column(dead_letters, |dead_letter| &dead_letter.field),
            &column(dead_letters, |dead_letter| &dead_letter.app_id),
            &column(dead_letters, |dead_letter| &dead_letter.template_id),
            &column(dead_letters, |dead_letter| &dead_letter.company_no),
            &column(dead_letters, |dead_letter| &dead_letter.event_id),
            &column(dead_letters, |dead_letter| &dead_letter.recipient),
            &column(dead_letters, |dead_letter| &dead_letter.openid),
            &column(dead_letters, |dead_letter| &dead_letter.sys_user_id),
            &column(dead_letters, |dead_letter| dead_letter.epoch),
            &column(dead_letters, |dead_letter| dead_letter.attempts),
            &column(dead_letters, |dead_letter| dead_letter.first_failed_at),
            &column(dead_letters, |dead_letter| dead_letter.last_failed_at),
            &column(dead_letters, |dead_letter| &dead_letter.trace_id),
            &column(dead_letters, |dead_letter| &dead_letter.rid),
            &column(dead_letters, |dead_letter| dead_letter.token_generation),
            &column(dead_letters, |dead_letter| &dead_letter.fingerprint),
            &column(dead_letters, |dead_letter| dead_letter.body.as_ref()),
            &column(dead_letters, |dead_letter| &dead_letter.headers),
        ],
    )
    .await?;
    Ok(())
}

/// One column of all dead letters, as `unnest` wants it.
fn column<'a, T>(dead_letters: &'a [DeadLetter], value: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
    dead_letters.iter().map(value).collect()
}
