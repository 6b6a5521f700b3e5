//! Writing dead letters down, each once.

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use serde_json::Value;

use crate::db::{Database, Error, query};
use crate::domain::dead_letter::{About, DeadLetter};

/// A dead letter as it goes into the archive. Its texts hold no NUL and are of bounded length.
#[derive(Debug, Clone)]
pub struct Received {
    pub dead_letter: DeadLetter,
    /// As received.
    pub body: Bytes,
    /// As received, as a JSON object.
    pub headers: Value,
}

/// Archives the dead letters in one statement. Those that are in the archive already stay as they are.
pub async fn archive(db: &Database, received: &[Received]) -> Result<(), Error> {
    archive_on(&db.durable().await?, received).await
}

/// As [`archive`], on a connection or in a transaction.
pub(super) async fn archive_on(client: &impl GenericClient, received: &[Received]) -> Result<(), Error> {
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
    let about = |column: fn(&About) -> &Option<String>| -> Vec<&Option<String>> {
        received.iter().map(|received| column(&received.dead_letter.about)).collect()
    };
    query::count(
        client,
        SQL,
        &[
            &column(received, |it| &it.identity),
            &column(received, |it| it.reason.as_str()),
            &column(received, |it| &it.class),
            &column(received, |it| it.errcode),
            &column(received, |it| &it.errmsg),
            &column(received, |it| &it.field),
            &about(|about| &about.app_id),
            &about(|about| &about.template_id),
            &about(|about| &about.company_no),
            &about(|about| &about.event_id),
            &about(|about| &about.recipient),
            &about(|about| &about.openid),
            &about(|about| &about.sys_user_id),
            &column(received, |it| it.epoch),
            &column(received, |it| it.attempts),
            &column(received, |it| it.first_failed_at),
            &column(received, |it| it.last_failed_at),
            &column(received, |it| &it.trace_id),
            &column(received, |it| &it.rid),
            &column(received, |it| it.token_generation),
            &column(received, DeadLetter::fingerprint),
            &received.iter().map(|received| received.body.as_ref()).collect::<Vec<&[u8]>>(),
            &received.iter().map(|received| &received.headers).collect::<Vec<_>>(),
        ],
    )
    .await?;
    Ok(())
}

/// One column of all dead letters, as `unnest` wants it.
fn column<'a, T>(received: &'a [Received], value: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
    received.iter().map(|received| value(&received.dead_letter)).collect()
}
