//! Writing dead letters down, each once.

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use jiff::Timestamp;
use serde_json::Value;

use crate::db::query::{columns, sql};
use crate::db::{Database, Error};
use crate::domain::dead_letter::DeadLetter;

/// A dead letter as it goes into the archive. Its texts hold no NUL and are of bounded length.
#[derive(Debug, Clone)]
pub struct Received {
    pub dead_letter: DeadLetter,
    /// As received.
    pub body: Bytes,
    /// As received, as a JSON object.
    pub headers: Value,
}

columns! {
    /// What the archive keeps of a dead letter as it arrives.
    struct Columns<'a>(received: &'a Received) {
        identity: &'a str = received.dead_letter.identity.as_str(),
        reason: &'a str = received.dead_letter.reason.as_str(),
        class: Option<&'a str> = received.dead_letter.class.as_deref(),
        errcode: Option<i64> = received.dead_letter.errcode,
        errmsg: Option<&'a str> = received.dead_letter.errmsg.as_deref(),
        field: Option<&'a str> = received.dead_letter.field.as_deref(),
        app_id: Option<&'a str> = received.dead_letter.about.app_id.as_deref(),
        template_id: Option<&'a str> = received.dead_letter.about.template_id.as_deref(),
        company_no: Option<&'a str> = received.dead_letter.about.company_no.as_deref(),
        event_id: Option<&'a str> = received.dead_letter.about.event_id.as_deref(),
        recipient: Option<&'a str> = received.dead_letter.about.recipient.as_deref(),
        openid: Option<&'a str> = received.dead_letter.about.openid.as_deref(),
        sys_user_id: Option<&'a str> = received.dead_letter.about.sys_user_id.as_deref(),
        epoch: Option<i32> = received.dead_letter.epoch,
        attempts: i32 = received.dead_letter.attempts,
        first_failed_at: Option<Timestamp> = received.dead_letter.first_failed_at,
        last_failed_at: Option<Timestamp> = received.dead_letter.last_failed_at,
        trace_id: Option<&'a str> = received.dead_letter.trace_id.as_deref(),
        rid: Option<&'a str> = received.dead_letter.rid.as_deref(),
        token_generation: Option<i64> = received.dead_letter.token_generation,
        fingerprint: String = received.dead_letter.fingerprint(),
        body: &'a [u8] = received.body.as_ref(),
        headers: &'a Value = &received.headers,
    }
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
        SELECT identity, reason, class, errcode, errmsg, field, app_id, template_id, company_no, event_id, recipient,
               openid, sys_user_id, epoch, attempts, first_failed_at, last_failed_at, trace_id, rid,
               token_generation, fingerprint, body, headers
          FROM :i
        ON CONFLICT (identity) DO NOTHING";
    sql!(SQL, Columns::of(received) as i).count(client).await?;
    Ok(())
}
