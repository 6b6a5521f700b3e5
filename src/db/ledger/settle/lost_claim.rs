//! Settlements that did not find their claim: rare, so one row at a time, in one transaction, as the protocol decides.

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row as SqlRow;

use super::request::{ConsentChange, Ending, Request};
use crate::db::Error;
use crate::db::ledger::protocol_row::protocol_row;
use crate::db::query::sql;
use crate::db::row::Read;
use crate::domain::protocol::{self, Settling};

/// Judges each settlement under lock and writes what the protocol says.
pub(super) async fn settle(client: &mut Object, requests: &[&Request]) -> Result<Vec<Settling>, Error> {
    let refused = |error| Error::of_query("settle: transaction", &error);
    let transaction = client.transaction().await.map_err(refused)?;
    let mut verdicts = Vec::with_capacity(requests.len());
    for request in in_key_order(requests) {
        verdicts.push((request.claim, settle_one(&transaction, request).await?));
    }
    transaction.commit().await.map_err(refused)?;
    let verdict_of = |request: &&Request| verdicts.iter().find(|(claim, _)| *claim == request.claim);
    Ok(requests.iter().filter_map(verdict_of).map(|(_, verdict)| *verdict).collect())
}

/// One order for all processes, so that two of them never wait for each other.
fn in_key_order<'a>(requests: &[&'a Request]) -> Vec<&'a Request> {
    let mut ordered = requests.to_vec();
    ordered.sort_by_key(|request| (request.event.event_id.clone(), request.recipient.ledger_key()));
    ordered
}

async fn settle_one(transaction: &Transaction<'_>, request: &Request) -> Result<Settling, Error> {
    let row = lock(transaction, request).await?;
    let seen = row.as_ref().map(protocol_row).transpose()?;
    let verdict = protocol::settle(seen.as_ref(), request.claim, request.ending.settlement());
    match (verdict, row) {
        (Settling::Record, Some(_)) if !matches!(request.ending, Ending::Sent { .. }) => {
            // The statement for our own claims records these; the row must have changed between the two.
            return Err(Error::Again("a claim was lost and found again"));
        }
        (Settling::Record, Some(row)) => record_sent(transaction, request, row.read("id")?).await?,
        (Settling::Insert, _) => insert_sent(transaction, request).await?,
        _ => return Ok(verdict),
    }
    if request.consent == ConsentChange::Used {
        use_one(transaction, request).await?;
    }
    Ok(verdict)
}

async fn lock(transaction: &Transaction<'_>, request: &Request) -> Result<Option<SqlRow>, Error> {
    const LOCK: &str = "-- settle: lock
        SELECT id, status, epoch, claim, timeouts, take_overs, false AS leased
          FROM t_wechat_delivery
         WHERE event_id = :event_id AND recipient = :recipient AND template_id = :template_id AND app_id = :app_id
           AND company_no = :company_no
           FOR UPDATE";
    sql!(
        LOCK,
        event_id = request.event.event_id.as_str(),
        recipient = request.recipient.ledger_key(),
        template_id = request.event.template_id.as_str(),
        app_id = request.event.app_id.as_str(),
        company_no = request.event.company_no.as_str(),
    )
    .optional(transaction)
    .await
}

/// `sent` always wins: over a later claim, a retry, even a dead letter.
async fn record_sent(transaction: &Transaction<'_>, request: &Request, row_id: i64) -> Result<(), Error> {
    const SENT: &str = "-- settle: sent
        UPDATE t_wechat_delivery
           SET status = 'sent', reason = NULL, errcode = :errcode, errmsg = NULL, rid = NULL,
               msgid = :msgid::text::numeric, attempts = attempts + :attempts, claim = NULL, claimed_until = NULL,
               due_at = NULL, token_generation = :generation, settled_at = clock_timestamp()
         WHERE id = :id";
    sql!(
        SENT,
        id = row_id,
        errcode = request.facts.errcode,
        msgid = request.ending.msgid(),
        attempts = request.attempts,
        generation = request.token_generation,
    )
    .count(transaction)
    .await?;
    Ok(())
}

/// The row with our claim is gone (a failover to a standby that lacked it): it is written whole.
async fn insert_sent(transaction: &Transaction<'_>, request: &Request) -> Result<(), Error> {
    const INSERT: &str = "-- settle: insert
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status,
                                       errcode, msgid, attempts, epoch, claimed_at, content_hash, trace_id,
                                       token_generation, settled_at)
        VALUES (:company_no, :app_id, :template_id, :event_id, :recipient, :openid, :sys_user_id, 'sent',
                :errcode, :msgid::text::numeric, :attempts, :epoch, clock_timestamp(), :content_hash, :trace_id,
                :generation, clock_timestamp())";
    let (event, recipient) = (&request.event, &request.recipient);
    sql!(
        INSERT,
        company_no = event.company_no.as_str(),
        app_id = event.app_id.as_str(),
        template_id = event.template_id.as_str(),
        event_id = event.event_id.as_str(),
        recipient = recipient.ledger_key(),
        openid = recipient.openid().map(|id| id.as_str()),
        sys_user_id = recipient.sys_user_id().map(|id| id.as_str()),
        errcode = request.facts.errcode,
        msgid = request.ending.msgid(),
        attempts = request.attempts,
        epoch = request.epoch,
        content_hash = event.content_hash.as_slice(),
        trace_id = request.trace_id,
        generation = request.token_generation,
    )
    .count(transaction)
    .await?;
    Ok(())
}

async fn use_one(transaction: &Transaction<'_>, request: &Request) -> Result<(), Error> {
    const USE_ONE: &str = "-- settle: use one
        UPDATE t_wechat_user
           SET subscribe_template = jsonb_set(subscribe_template, ARRAY[:template_id::text, 'remaining'],
                   to_jsonb(greatest((subscribe_template -> :template_id ->> 'remaining')::numeric - 1, 0))),
               update_time = clock_timestamp()
         WHERE id = :user_id AND jsonb_typeof(subscribe_template -> :template_id -> 'remaining') = 'number'";
    let template_id = request.event.template_id.as_str();
    sql!(USE_ONE, user_id = request.user_id, template_id).count(transaction).await?;
    Ok(())
}
