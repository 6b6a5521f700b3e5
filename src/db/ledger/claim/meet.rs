//! Claims that meet a row already there: locked, judged by the protocol, written back in one transaction.

use std::collections::HashMap;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row as SqlRow;
use uuid::Uuid;

use super::{Answer, Claim, Columns, Lease, Request};
use crate::db::Error;
use crate::db::ledger::plan;
use crate::db::row::Read;
use crate::domain::consent::Consent;
use crate::domain::protocol::{self, Meeting, Status};

/// What the protocol says to each request, and the claims it grants written down.
pub(super) async fn meet_rows(
    client: &mut Object,
    lease: Lease,
    batch: &[&Request],
) -> Result<HashMap<Uuid, Answer>, Error> {
    let refused = |error| Error::of_query("claim: transaction", &error);
    let transaction = client.transaction().await.map_err(refused)?;
    let met = lock(&transaction, lease, batch).await?;
    take(&transaction, lease, &met).await?;
    transaction.commit().await.map_err(refused)?;
    Ok(met.iter().map(|met| (met.request.delivery_message.claim, answer(met))).collect())
}

/// A row under lock, beside the request that meets it.
struct Met<'a> {
    request: &'a Request,
    row_id: i64,
    meeting: Meeting,
    reused: bool,
    consent: Option<Consent>,
    is_disabled: bool,
    user_id: Option<i64>,
    attempts: i32,
    unknowns: i32,
    timeouts: i32,
}

async fn lock<'a>(
    transaction: &Transaction<'_>,
    lease: Lease,
    batch: &[&'a Request],
) -> Result<Vec<Met<'a>>, Error> {
    const LOCK: &str = "-- claim: lock what is there
        SELECT i.position, d.id, d.status, d.epoch, d.claim, d.attempts, d.unknowns, d.timeouts, d.take_overs,
               d.content_hash = i.content_hash AS same_content,
               coalesce(d.claimed_until > clock_timestamp(), false)
                 OR pg_postmaster_start_time() > clock_timestamp() - $7 * interval '1 s' AS leased,
               u.id AS user_id, u.id IS NOT NULL AND u.status IS DISTINCT FROM 1 AS is_disabled, u.subscribe_template -> i.template_id AS consent
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
                WITH ORDINALITY AS i (company_no, app_id, template_id, event_id, recipient, content_hash, position)
          JOIN t_wechat_delivery d USING (event_id, recipient, template_id, app_id, company_no)
          LEFT JOIN t_wechat_user u ON u.app_id = d.app_id AND u.openid = d.openid
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
    let position = usize::try_from(row.read::<i64>("position")? - 1).unwrap_or_default();
    let request = batch[position];
    let ledger_row = protocol_row(row)?;
    let reused = !row.read::<bool>("same_content")?;
    Ok(Met {
        request,
        row_id: row.read("id")?,
        meeting: protocol::meet(Some(&ledger_row), &request.delivery_message),
        // A replay may carry a body that an operator mended.
        reused: reused && !request.delivery_message.replay,
        consent: row.read::<Option<i64>>("user_id")?.map(|_| plan::consent_of(row)),
        is_disabled: row.read("is_disabled")?,
        user_id: row.read("user_id")?,
        attempts: row.read("attempts")?,
        unknowns: row.read("unknowns")?,
        timeouts: row.read("timeouts")?,
    })
}

/// Reads the columns that the protocol looks at.
pub(in crate::db) fn protocol_row(row: &SqlRow) -> Result<protocol::Row, Error> {
    let status: &str = row.read("status")?;
    Ok(protocol::Row {
        status: Status::parse(status).ok_or_else(|| Error::Unreadable {
            table: "t_wechat_delivery",
            what: format!("status {status}"),
        })?,
        epoch: row.read("epoch")?,
        claim: row.read("claim")?,
        leased: row.read("leased")?,
        timeouts: row.read("timeouts")?,
        take_overs: row.read("take_overs")?,
    })
}

/// Writes down the claims that the protocol granted.
async fn take(transaction: &Transaction<'_>, lease: Lease, met: &[Met<'_>]) -> Result<(), Error> {
    const TAKE: &str = "-- claim: take what the protocol grants
        UPDATE t_wechat_delivery d
           SET status = 'attempting', epoch = i.epoch, claim = i.claim, claimed_at = clock_timestamp(),
               claimed_until = clock_timestamp() + $6 * interval '1 s', reason = NULL, due_at = NULL,
               unknowns = d.unknowns + i.taken_over::int,
               take_overs = CASE WHEN i.anew THEN 0 ELSE d.take_overs + i.taken_over::int END,
               timeouts = CASE WHEN i.anew THEN 0 ELSE d.timeouts END,
               content_hash = i.content_hash
          FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::bool[], $5::bool[], $7::bytea[])
                AS i (id, claim, epoch, taken_over, anew, content_hash)
         -- Not `d.id = i.id`: see settle.
         WHERE d.id = ANY (ARRAY[i.id])";
    let granted: Vec<&Met<'_>> = met.iter().filter(|met| !met.reused && grants(met.meeting)).collect();
    if granted.is_empty() {
        return Ok(());
    }
    let refused = |error| Error::of_query("claim: take", &error);
    let statement = transaction.prepare_cached(TAKE).await.map_err(refused)?;
    let ids: Vec<i64> = granted.iter().map(|met| met.row_id).collect();
    let claims: Vec<Uuid> = granted.iter().map(|met| met.request.delivery_message.claim).collect();
    let epochs: Vec<i32> = granted.iter().map(|met| met.request.delivery_message.epoch).collect();
    let taken_over: Vec<bool> = granted.iter().map(|met| takes_over(met.meeting)).collect();
    let anew: Vec<bool> = granted.iter().map(|met| starts_anew(met)).collect();
    // A body that an operator mended is the delivery's own from here on; its delivery messages are checked against it.
    let hashes: Vec<&[u8]> = granted.iter().map(|met| met.request.event.content_hash.as_slice()).collect();
    let lasts_s = lease.lasts.as_secs_f64();
    transaction
        .execute(&statement, &[&ids, &claims, &epochs, &taken_over, &anew, &lasts_s, &hashes])
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
    met.request.delivery_message.replay && met.meeting == Meeting::Claim
}

fn answer(met: &Met<'_>) -> Answer {
    let is_ours =
        !met.reused && (grants(met.meeting) || matches!(met.meeting, Meeting::Ours | Meeting::GiveUp));
    let claim = is_ours.then(|| Claim {
        row_id: met.row_id,
        claim: met.request.delivery_message.claim,
        consent: met.consent,
        is_disabled: met.is_disabled,
        user_id: met.user_id,
        attempts: met.attempts,
        timeouts: if starts_anew(met) { 0 } else { met.timeouts },
        unknowns: met.unknowns + i32::from(takes_over(met.meeting)),
    });
    Answer { meeting: met.meeting, claim, reused: met.reused }
}
