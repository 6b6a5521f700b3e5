//! Writing letters down, each once.

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use serde_json::Value;

use crate::db::{Database, Error, query};
use crate::domain::outcome::DeadReason;

/// A dead letter as it goes into the archive. Its texts hold no NUL and are of bounded length.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The identity; a second letter with the same one is the same letter.
    pub letter: String,
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
    /// The ledger's key; `None` for a letter about a whole message.
    pub recipient: Option<String>,
    pub openid: Option<String>,
    pub sys_user_id: Option<String>,
    /// The delivery's turn when it was given up; a replay goes out with the next one.
    pub turn: Option<i32>,
    /// Requests charged.
    pub attempts: i32,
    pub first_failed_at: Option<Timestamp>,
    pub last_failed_at: Option<Timestamp>,
    pub trace_id: Option<String>,
    pub rid: Option<String>,
    pub token_generation: Option<i64>,
    /// Groups letters of the same trouble.
    pub fingerprint: String,
    /// As received.
    pub body: Bytes,
    /// As received, as a JSON object.
    pub headers: Value,
}

/// Archives the letters in one statement. Those that are in the archive already stay as they are.
pub async fn archive(db: &Database, letters: &[Letter]) -> Result<(), Error> {
    archive_on(&db.durable().await?, letters).await
}

/// As [`archive`], on a connection or in a transaction.
pub(super) async fn archive_on(client: &impl GenericClient, letters: &[Letter]) -> Result<(), Error> {
    const SQL: &str = "-- letters::archive
        INSERT INTO t_wechat_dead_letter
               (letter, reason, class, errcode, errmsg, field, app_id, template_id, company_no, event_id, recipient,
                openid, sys_user_id, turn, attempts, first_failed_at, last_failed_at, trace_id, rid,
                token_generation, fingerprint, body, headers)
        SELECT * FROM unnest(
                $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::integer[], $15::integer[],
                $16::timestamptz[], $17::timestamptz[], $18::text[], $19::text[], $20::bigint[], $21::text[],
                $22::bytea[], $23::jsonb[])
        ON CONFLICT (letter) DO NOTHING";
    query::count(
        client,
        SQL,
        &[
            &column(letters, |letter| &letter.letter),
            &column(letters, |letter| letter.reason.as_str()),
            &column(letters, |letter| &letter.class),
            &column(letters, |letter| letter.errcode),
            &column(letters, |letter| &letter.errmsg),
            &column(letters, |letter| &letter.field),
            &column(letters, |letter| &letter.app_id),
            &column(letters, |letter| &letter.template_id),
            &column(letters, |letter| &letter.company_no),
            &column(letters, |letter| &letter.event_id),
            &column(letters, |letter| &letter.recipient),
            &column(letters, |letter| &letter.openid),
            &column(letters, |letter| &letter.sys_user_id),
            &column(letters, |letter| letter.turn),
            &column(letters, |letter| letter.attempts),
            &column(letters, |letter| letter.first_failed_at),
            &column(letters, |letter| letter.last_failed_at),
            &column(letters, |letter| &letter.trace_id),
            &column(letters, |letter| &letter.rid),
            &column(letters, |letter| letter.token_generation),
            &column(letters, |letter| &letter.fingerprint),
            &column(letters, |letter| letter.body.as_ref()),
            &column(letters, |letter| &letter.headers),
        ],
    )
    .await?;
    Ok(())
}

/// One column of all letters, as `unnest` wants it.
fn column<'a, T>(letters: &'a [Letter], value: impl Fn(&'a Letter) -> T) -> Vec<T> {
    letters.iter().map(value).collect()
}
