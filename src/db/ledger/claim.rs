//! Claiming deliveries in the ledger, just before their requests.
//!
//! A new delivery costs one insert. A row that exists is locked, judged by [`meet`](crate::domain::protocol::meet), and
//! written back in one transaction: the protocol's table exists once, in `domain`.

mod existing;
mod request;

use std::collections::HashMap;

use deadpool_postgres::Object;
use tokio_postgres::Row as SqlRow;
use uuid::Uuid;

pub use self::request::{Answer, Claim, Lease, Request};
use super::plan;
use crate::db::query::{columns, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::protocol::Meeting;

/// Claims a batch: an insert for what is new, a look under lock for what is not.
pub async fn claim(db: &Database, lease: Lease, batch: &[Request]) -> Result<Vec<Answer>, Error> {
    let mut client = db.durable().await?;
    let mut answers = insert_new(&client, lease, batch).await?;
    let others: Vec<&Request> =
        batch.iter().filter(|r| !answers.contains_key(&r.delivery_message.claim)).collect();
    if !others.is_empty() {
        answers.extend(existing::claim(&mut client, lease, &others).await?);
    }
    batch
        .iter()
        .map(|request| answers.remove(&request.delivery_message.claim).ok_or_else(row_vanished))
        .collect()
}

/// Between the insert and the lock the row was deleted (retention, an operator). The next try inserts it.
fn row_vanished() -> Error {
    Error::Again("a ledger row vanished while it was being claimed")
}

columns! {
    /// What a new row begins with.
    struct NewRows<'a>(request: &'a Request) {
        claim: Uuid = request.delivery_message.claim,
        company_no: &'a str = request.event.company_no.as_str(),
        app_id: &'a str = request.event.app_id.as_str(),
        template_id: &'a str = request.event.template_id.as_str(),
        event_id: &'a str = request.event.event_id.as_str(),
        recipient: String = request.recipient.ledger_key(),
        openid: Option<&'a str> = request.recipient.openid().map(|id| id.as_str()),
        sys_user_id: Option<&'a str> = request.recipient.sys_user_id().map(|id| id.as_str()),
        epoch: i32 = request.delivery_message.epoch,
        content_hash: &'a [u8] = request.event.content_hash.as_slice(),
        trace_id: Option<&'a str> = request.trace_id.as_deref(),
    }
}

async fn insert_new(
    client: &Object,
    lease: Lease,
    batch: &[Request],
) -> Result<HashMap<Uuid, Answer>, Error> {
    // In the order of the unique key: two processes with the same rows cannot deadlock.
    const INSERT: &str = "-- claim: insert
        WITH input AS (
            SELECT * FROM :i
        ), inserted AS (
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id,
                                           status, epoch, claim, claimed_at, claimed_until, content_hash, trace_id)
            SELECT company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, 'attempting', epoch,
                   claim, clock_timestamp(), clock_timestamp() + :lease_s * interval '1 s', content_hash, trace_id
              FROM input ORDER BY event_id, recipient, template_id, app_id, company_no
            ON CONFLICT DO NOTHING
            RETURNING id, claim, app_id, template_id, openid
        )
        SELECT n.id, n.claim, u.id AS user_id, u.id IS NOT NULL AND u.status IS DISTINCT FROM 1 AS is_disabled,
               u.subscribe_template -> n.template_id AS consent
          FROM inserted n LEFT JOIN t_wechat_user u ON u.app_id = n.app_id AND u.openid = n.openid";
    let lease_s = lease.lasts.as_secs_f64();
    let rows = sql!(INSERT, NewRows::of(batch) as i, lease_s).rows(client).await?;
    rows.iter().map(inserted).collect()
}

fn inserted(row: &SqlRow) -> Result<(Uuid, Answer), Error> {
    let claim = Claim {
        row_id: row.read("id")?,
        claim: row.read("claim")?,
        consent: row.read::<Option<i64>>("user_id")?.map(|_| plan::consent_of(row)),
        is_disabled: row.read("is_disabled")?,
        user_id: row.read("user_id")?,
        attempts: 0,
        timeouts: 0,
        unknowns: 0,
    };
    Ok((claim.claim, Answer { meeting: Meeting::Claim, claim: Some(claim), reused: false }))
}
