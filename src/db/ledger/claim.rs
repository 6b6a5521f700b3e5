//! Claiming deliveries in the ledger, just before their requests.
//!
//! A new delivery costs one insert. What meets a row already there is locked, judged by [`meet`](crate::domain::protocol::meet), and written
//! back in one transaction: the protocol's table exists once, in `domain`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::Row as SqlRow;
use uuid::Uuid;

use super::plan;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::consent::Consent;
use crate::domain::event::Event;
use crate::domain::protocol::{DeliveryMessage, Meeting};
use crate::domain::recipient::Recipient;

mod meet;

pub(super) use meet::protocol_row;

/// How long claims last.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// From the claim on, by the database's clock.
    pub lasts: Duration,
    /// No take-over this soon after PostgreSQL's own start.
    pub grace: Duration,
}

/// A delivery that is about to be attempted.
#[derive(Debug, Clone)]
pub struct Request {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    pub delivery_message: DeliveryMessage,
    pub trace_id: Option<String>,
}

/// What the ledger said.
#[derive(Debug, Clone)]
pub struct Answer {
    pub meeting: Meeting,
    /// Present where the meeting leaves the delivery claimed by us.
    pub claim: Option<Claim>,
    /// The row carries other data or another page than our message: the event id was used twice.
    pub reused: bool,
}

/// A delivery that is ours until its lease ends.
#[derive(Debug, Clone)]
pub struct Claim {
    pub row_id: i64,
    pub claim: Uuid,
    /// Consent as it stands now, which may be less than when the plan was made. `None`: the user's row is gone.
    pub consent: Option<Consent>,
    /// The user's row is there, and switched off.
    pub is_disabled: bool,
    /// `t_wechat_user.id`, for writing consent back.
    pub user_id: Option<i64>,
    /// Requests charged so far.
    pub attempts: i32,
    /// Attempts in a row without an answer.
    pub timeouts: i32,
    /// Earlier attempts that may have reached the user.
    pub unknowns: i32,
}

/// Columns of a batch.
struct Columns<'a> {
    claim: Vec<Uuid>,
    company_no: Vec<&'a str>,
    app_id: Vec<&'a str>,
    template_id: Vec<&'a str>,
    event_id: Vec<&'a str>,
    recipient: Vec<String>,
    openid: Vec<Option<&'a str>>,
    sys_user_id: Vec<Option<&'a str>>,
    epoch: Vec<i32>,
    content_hash: Vec<&'a [u8]>,
    trace_id: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(batch: &[&'a Request]) -> Self {
        Self {
            claim: batch.iter().map(|r| r.delivery_message.claim).collect(),
            company_no: batch.iter().map(|r| r.event.company_no.as_str()).collect(),
            app_id: batch.iter().map(|r| r.event.app_id.as_str()).collect(),
            template_id: batch.iter().map(|r| r.event.template_id.as_str()).collect(),
            event_id: batch.iter().map(|r| r.event.event_id.as_str()).collect(),
            recipient: batch.iter().map(|r| r.recipient.ledger_key()).collect(),
            openid: batch.iter().map(|r| r.recipient.openid().map(|id| id.as_str())).collect(),
            sys_user_id: batch.iter().map(|r| r.recipient.sys_user_id().map(|id| id.as_str())).collect(),
            epoch: batch.iter().map(|r| r.delivery_message.epoch).collect(),
            content_hash: batch.iter().map(|r| r.event.content_hash.as_slice()).collect(),
            trace_id: batch.iter().map(|r| r.trace_id.as_deref()).collect(),
        }
    }
}

/// Claims a batch: an insert for what is new, and a locked look at what is not.
pub async fn claim(db: &Database, lease: Lease, batch: &[Request]) -> Result<Vec<Answer>, Error> {
    let mut client = db.durable().await?;
    let mut answers = insert_new(&client, lease, batch).await?;
    let met: Vec<&Request> =
        batch.iter().filter(|r| !answers.contains_key(&r.delivery_message.claim)).collect();
    if !met.is_empty() {
        answers.extend(meet::meet_rows(&mut client, lease, &met).await?);
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

async fn insert_new(
    client: &Object,
    lease: Lease,
    batch: &[Request],
) -> Result<HashMap<Uuid, Answer>, Error> {
    const INSERT: &str = "-- claim: insert what is new
        WITH input AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                 $8::text[], $9::int[], $10::bytea[], $11::text[])
                AS i (claim, company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, epoch,
                      content_hash, trace_id)
        ), inserted AS (
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id,
                                           status, epoch, claim, claimed_at, claimed_until, content_hash, trace_id)
            SELECT company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, 'attempting', epoch,
                   claim, clock_timestamp(), clock_timestamp() + $12 * interval '1 s', content_hash, trace_id
              FROM input ORDER BY event_id, recipient, template_id, app_id, company_no
            ON CONFLICT DO NOTHING
            RETURNING id, claim, app_id, template_id, openid
        )
        SELECT n.id, n.claim, u.id AS user_id, u.id IS NOT NULL AND u.status IS DISTINCT FROM 1 AS is_disabled,
               u.subscribe_template -> n.template_id AS consent
          FROM inserted n LEFT JOIN t_wechat_user u ON u.app_id = n.app_id AND u.openid = n.openid";
    let refused = |error| Error::of_query("claim: insert", &error);
    let requests: Vec<&Request> = batch.iter().collect();
    let c = Columns::of(&requests);
    let statement = client.prepare_cached(INSERT).await.map_err(refused)?;
    let rows = client
        .query(
            &statement,
            &[
                &c.claim,
                &c.company_no,
                &c.app_id,
                &c.template_id,
                &c.event_id,
                &c.recipient,
                &c.openid,
                &c.sys_user_id,
                &c.epoch,
                &c.content_hash,
                &c.trace_id,
                &lease.lasts.as_secs_f64(),
            ],
        )
        .await
        .map_err(refused)?;
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
