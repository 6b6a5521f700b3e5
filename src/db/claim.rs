//! Claiming deliveries in the ledger, just before their requests.
//!
//! A new delivery costs one insert. What meets a row already there is locked, judged by [`protocol::meet`], and written
//! back in one transaction: the protocol's table exists once, in `domain`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row as SqlRow;
use uuid::Uuid;

use super::{Database, Error, plan};
use crate::domain::consent::Consent;
use crate::domain::event::Event;
use crate::domain::protocol::{self, Carrier, Meeting, Status};
use crate::domain::recipient::Recipient;

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
    pub carrier: Carrier,
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
    /// `t_wechat_user.id`, for writing consent back.
    pub user_id: Option<i64>,
    /// Requests charged so far.
    pub attempts: i32,
    /// Attempts in a row without an answer.
    pub timeouts: i32,
    /// Some earlier attempt may have reached the user.
    pub unknown_before: bool,
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
    turn: Vec<i32>,
    content_hash: Vec<&'a [u8]>,
    trace_id: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(batch: &[&'a Request]) -> Self {
        Self {
            claim: batch.iter().map(|r| r.carrier.claim).collect(),
            company_no: batch.iter().map(|r| r.event.company_no.as_str()).collect(),
            app_id: batch.iter().map(|r| r.event.app_id.as_str()).collect(),
            template_id: batch.iter().map(|r| r.event.template_id.as_str()).collect(),
            event_id: batch.iter().map(|r| r.event.event_id.as_str()).collect(),
            recipient: batch.iter().map(|r| r.recipient.ledger_key()).collect(),
            openid: batch.iter().map(|r| r.recipient.openid().map(|id| id.as_str())).collect(),
            sys_user_id: batch.iter().map(|r| r.recipient.sys_user_id().map(|id| id.as_str())).collect(),
            turn: batch.iter().map(|r| r.carrier.turn).collect(),
            content_hash: batch.iter().map(|r| r.event.content_hash.as_slice()).collect(),
            trace_id: batch.iter().map(|r| r.trace_id.as_deref()).collect(),
        }
    }
}

/// Claims a batch: an insert for what is new, and a locked look at what is not. A batch with a `park` delivery waits for
/// the disk, since such a claim must survive a crash of PostgreSQL too.
pub async fn claim(db: &Database, lease: Lease, batch: &[Request]) -> Result<Vec<Answer>, Error> {
    let park = batch.iter().any(|r| r.carrier.on_unknown == protocol::OnUnknown::Park);
    let mut client = if park { db.durable().await? } else { db.quick().await? };

    let mut answers = insert_new(&client, lease, batch).await?;
    let met: Vec<&Request> = batch.iter().filter(|r| !answers.contains_key(&r.carrier.claim)).collect();
    if !met.is_empty() {
        answers.extend(meet_rows(&mut client, lease, &met).await?);
    }
    batch
        .iter()
        .map(|request| answers.remove(&request.carrier.claim).ok_or_else(row_vanished))
        .collect()
}

/// Between the insert and the lock the row was deleted (retention, an operator). The next try inserts it.
fn row_vanished() -> Error {
    Error::Away("a ledger row vanished while it was being claimed".to_owned())
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
                AS i (claim, company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, turn,
                      content_hash, trace_id)
        ), inserted AS (
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id,
                                           status, turn, claim, claimed_at, claimed_until, content_hash, trace_id)
            SELECT company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, 'attempting', turn,
                   claim, clock_timestamp(), clock_timestamp() + $12 * interval '1 s', content_hash, trace_id
              FROM input ORDER BY event_id, recipient, template_id, app_id, company_no
            ON CONFLICT DO NOTHING
            RETURNING id, claim
        )
        SELECT n.id, n.claim, u.id AS user_id, u.subscribe_template -> i.template_id AS consent
          FROM inserted n JOIN input i USING (claim)
          LEFT JOIN t_wechat_user u ON u.app_id = i.app_id AND u.openid = i.openid AND u.status = 1";
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
                &c.turn,
                &c.content_hash,
                &c.trace_id,
                &lease.lasts.as_secs_f64(),
            ],
        )
        .await
        .map_err(refused)?;
    Ok(rows.iter().map(inserted).collect())
}

fn inserted(row: &SqlRow) -> (Uuid, Answer) {
    let claim = Claim {
        row_id: row.get("id"),
        claim: row.get("claim"),
        consent: row.get::<_, Option<i64>>("user_id").map(|_| plan::consent_of(row)),
        user_id: row.get("user_id"),
        attempts: 0,
        timeouts: 0,
        unknown_before: false,
    };
    (claim.claim, Answer { meeting: Meeting::Claim, claim: Some(claim), reused: false })
}

/// A row under lock, beside the request that meets it.
struct Met<'a> {
    request: &'a Request,
    row_id: i64,
    meeting: Meeting,
    reused: bool,
    consent: Option<Consent>,
    user_id: Option<i64>,
    attempts: i32,
    unknowns: i32,
    timeouts: i32,
}

async fn meet_rows(
    client: &mut Object,
    lease: Lease,
    batch: &[&Request],
) -> Result<HashMap<Uuid, Answer>, Error> {
    let refused = |error| Error::of_query("claim: transaction", &error);
    let transaction = client.transaction().await.map_err(refused)?;
    let met = lock(&transaction, lease, batch).await?;
    take(&transaction, lease, &met).await?;
    transaction.commit().await.map_err(refused)?;
    Ok(met.iter().map(|met| (met.request.carrier.claim, answer(met))).collect())
}

async fn lock<'a>(
    transaction: &Transaction<'_>,
    lease: Lease,
    batch: &[&'a Request],
) -> Result<Vec<Met<'a>>, Error> {
    const LOCK: &str = "-- claim: lock what is there
        SELECT i.position, d.id, d.status, d.turn, d.claim, d.attempts, d.unknowns, d.timeouts, d.take_overs,
               d.content_hash = i.content_hash AS same_content,
               coalesce(d.claimed_until > clock_timestamp(), false)
                 OR pg_postmaster_start_time() > clock_timestamp() - $7 * interval '1 s' AS leased,
               u.id AS user_id, u.subscribe_template -> i.template_id AS consent
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
                WITH ORDINALITY AS i (company_no, app_id, template_id, event_id, recipient, content_hash, position)
          JOIN t_wechat_delivery d USING (event_id, recipient, template_id, app_id, company_no)
          LEFT JOIN t_wechat_user u ON u.app_id = d.app_id AND u.openid = d.openid AND u.status = 1
         ORDER BY d.id
           FOR UPDATE OF d";
    let refused = |error| Error::of_query("claim: lock", &error);
    let c = Columns::of(batch);
    let statement = transaction.prepare_cached(LOCK).await.map_err(refused)?;
    let rows = transaction
        .query(
            &statement,
            &[
                &c.company_no,
                &c.app_id,
                &c.template_id,
                &c.event_id,
                &c.recipient,
                &c.content_hash,
                &lease.grace.as_secs_f64(),
            ],
        )
        .await
        .map_err(refused)?;
    rows.iter().map(|row| met(row, batch)).collect()
}

fn met<'a>(row: &SqlRow, batch: &[&'a Request]) -> Result<Met<'a>, Error> {
    let position = usize::try_from(row.get::<_, i64>("position") - 1).unwrap_or_default();
    let request = batch[position];
    let ledger_row = protocol_row(row)?;
    let reused = !row.get::<_, bool>("same_content");
    Ok(Met {
        request,
        row_id: row.get("id"),
        meeting: protocol::meet(Some(&ledger_row), &request.carrier),
        // A replay may carry a body that an operator mended.
        reused: reused && !request.carrier.replay,
        consent: row.get::<_, Option<i64>>("user_id").map(|_| plan::consent_of(row)),
        user_id: row.get("user_id"),
        attempts: row.get("attempts"),
        unknowns: row.get("unknowns"),
        timeouts: row.get("timeouts"),
    })
}

/// Reads the columns that the protocol looks at.
pub(super) fn protocol_row(row: &SqlRow) -> Result<protocol::Row, Error> {
    let status: &str = row.get("status");
    Ok(protocol::Row {
        status: Status::parse(status)
            .ok_or_else(|| Error::Unreadable { table: "t_wechat_delivery", what: format!("status {status}") })?,
        turn: row.get("turn"),
        claim: row.get("claim"),
        leased: row.get("leased"),
        timeouts: row.get("timeouts"),
        take_overs: row.get("take_overs"),
    })
}

/// Writes down the claims that the protocol granted.
async fn take(transaction: &Transaction<'_>, lease: Lease, met: &[Met<'_>]) -> Result<(), Error> {
    const TAKE: &str = "-- claim: take what the protocol grants
        UPDATE t_wechat_delivery d
           SET status = 'attempting', turn = i.turn, claim = i.claim, claimed_at = clock_timestamp(),
               claimed_until = clock_timestamp() + $6 * interval '1 s', reason = NULL, due_at = NULL,
               unknowns = d.unknowns + i.taken_over::int,
               take_overs = CASE WHEN i.anew THEN 0 ELSE d.take_overs + i.taken_over::int END,
               timeouts = CASE WHEN i.anew THEN 0 ELSE d.timeouts END,
               content_hash = i.content_hash
          FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::bool[], $5::bool[], $7::bytea[])
                AS i (id, claim, turn, taken_over, anew, content_hash)
         WHERE d.id = i.id";
    let granted: Vec<&Met<'_>> = met.iter().filter(|met| !met.reused && grants(met.meeting)).collect();
    if granted.is_empty() {
        return Ok(());
    }
    let refused = |error| Error::of_query("claim: take", &error);
    let statement = transaction.prepare_cached(TAKE).await.map_err(refused)?;
    let ids: Vec<i64> = granted.iter().map(|met| met.row_id).collect();
    let claims: Vec<Uuid> = granted.iter().map(|met| met.request.carrier.claim).collect();
    let turns: Vec<i32> = granted.iter().map(|met| met.request.carrier.turn).collect();
    let taken_over: Vec<bool> = granted.iter().map(|met| takes_over(met.meeting)).collect();
    let anew: Vec<bool> = granted.iter().map(|met| starts_anew(met)).collect();
    // A body that an operator mended is the delivery's own from here on; its carriers are checked against it.
    let hashes: Vec<&[u8]> = granted.iter().map(|met| met.request.event.content_hash.as_slice()).collect();
    let lasts_s = lease.lasts.as_secs_f64();
    transaction
        .execute(&statement, &[&ids, &claims, &turns, &taken_over, &anew, &lasts_s, &hashes])
        .await
        .map_err(refused)?;
    Ok(())
}

const fn grants(meeting: Meeting) -> bool {
    matches!(meeting, Meeting::Claim | Meeting::TakeOver | Meeting::TakeOverAndGiveUp)
}

const fn takes_over(meeting: Meeting) -> bool {
    matches!(meeting, Meeting::TakeOver | Meeting::TakeOverAndGiveUp)
}

/// A replay starts the counts of unknowns anew with its claim. One that takes over has claimed before, and was the one that
/// crashed: starting anew each time would never reach the bound.
fn starts_anew(met: &Met<'_>) -> bool {
    met.request.carrier.replay && met.meeting == Meeting::Claim
}

fn answer(met: &Met<'_>) -> Answer {
    let is_ours = !met.reused && (grants(met.meeting) || matches!(met.meeting, Meeting::Ours | Meeting::GiveUp));
    let claim = is_ours.then(|| Claim {
        row_id: met.row_id,
        claim: met.request.carrier.claim,
        consent: met.consent,
        user_id: met.user_id,
        attempts: met.attempts,
        timeouts: if starts_anew(met) { 0 } else { met.timeouts },
        unknown_before: met.unknowns > 0 || takes_over(met.meeting),
    });
    Answer { meeting: met.meeting, claim, reused: met.reused }
}
