//! Who is named for an event, and what the ledger already knows of it.

use std::sync::Arc;

use deadpool_postgres::Object;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::named::NAMED;
use crate::db::query::{columns, joined, position, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::consent::{Answer, Consent, User};
use crate::domain::event::Event;
use crate::domain::message_kind::MessageKind;
use crate::domain::plan::{self, Known, Named};
use crate::domain::protocol::Status;
use crate::domain::recipient::Recipient;

/// What a plan is made from.
#[derive(Debug, Default)]
pub struct Findings {
    pub named: Vec<Named>,
    /// More than a page is named; `named` holds only some of it.
    pub many: bool,
    /// Rows of the ledger, one past a page at most.
    pub known: Vec<Known>,
}

/// One past a page says that there are more; nobody needs to know how many.
const ENOUGH: i64 = plan::PAGE as i64 + 1;

/// Looks up a batch of events: two statements, sent together. Reads one past a page of each event's people and rows at
/// most, so that a rule that names a hundred thousand costs no more than one that names five hundred.
pub async fn look_up(db: &Database, batch: &[Arc<Event>]) -> Result<Vec<Findings>, Error> {
    let client = db.durable().await?;
    let (named, known) = tokio::try_join!(named(&client, batch), known(&client, batch))?;

    let mut findings: Vec<Findings> = batch.iter().map(|_| Findings::default()).collect();
    let mut counts = vec![0; batch.len()];
    for row in &named {
        let at = position(row)?;
        findings[at].named.extend(named_of(row, batch[at].kind)?);
        // Rows count, not people: a name that is no identifier names nobody, but has taken its place below the limit.
        counts[at] += 1;
        findings[at].many = counts[at] > plan::PAGE;
    }
    for row in &known {
        findings[position(row)?].known.push(known_of(row)?);
    }
    Ok(findings)
}

columns! {
    /// Whom events are for.
    struct Audiences<'a>(event: &'a Event) {
        company_no: &'a str = event.company_no.as_str(),
        app_id: &'a str = event.app_id.as_str(),
        template_id: &'a str = event.template_id.as_str(),
        customer_id: &'a str = event.customer_id.as_ref().map_or("", |id| id.as_str()),
        by_rule: bool = event.audience.is_by_rule(),
        sys_user_ids: String = lines(event.audience.sys_user_ids().iter().map(|id| id.as_str())),
        openids: String = lines(event.audience.openids().iter().map(|id| id.as_str())),
    }
}

/// A list as one text: identifiers have no control characters, so a line feed can separate them.
fn lines<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.take(plan::PAGE + 1).collect::<Vec<_>>().join("\n")
}

async fn named(client: &Object, events: &[Arc<Event>]) -> Result<Vec<Row>, Error> {
    const NAMED_IN_BATCH: &str = joined!(
        "-- plan: who is named, by rule or by the event itself, and what they said
        SELECT e.position, w.*
          FROM (SELECT position, company_no, app_id, template_id, customer_id, by_rule,
                       string_to_array(sys_user_ids, E'\\n') AS sys_user_ids, string_to_array(openids, E'\\n') AS openids
                  FROM :i) e
         CROSS JOIN LATERAL (",
        NAMED,
        " LIMIT :enough) w"
    );
    let events = events.iter().map(Arc::as_ref);
    sql!(NAMED_IN_BATCH, Audiences::of(events) as i, enough = ENOUGH).rows(client).await
}

columns! {
    /// The events' part of the ledger's key.
    struct Keys<'a>(event: &'a Event) {
        company_no: &'a str = event.company_no.as_str(),
        app_id: &'a str = event.app_id.as_str(),
        template_id: &'a str = event.template_id.as_str(),
        event_id: &'a str = event.event_id.as_str(),
        content_hash: &'a [u8] = event.content_hash.as_slice(),
    }
}

async fn known(client: &Object, events: &[Arc<Event>]) -> Result<Vec<Row>, Error> {
    const KNOWN: &str = "-- plan: what the ledger already knows of these events
        SELECT e.position, d.recipient, d.openid, d.sys_user_id, d.status, d.epoch,
               d.content_hash = e.content_hash AS same_content
          FROM :e
         CROSS JOIN LATERAL (
                SELECT * FROM t_wechat_delivery d
                 WHERE d.event_id = e.event_id AND d.template_id = e.template_id AND d.app_id = e.app_id
                   AND d.company_no = e.company_no
                 LIMIT :enough) d";
    let events = events.iter().map(Arc::as_ref);
    sql!(KNOWN, Keys::of(events) as e, enough = ENOUGH).rows(client).await
}

fn named_of(row: &Row, kind: MessageKind) -> Result<Option<Named>, Error> {
    let user = match row.read("bound")? {
        true => Some(User { active: row.read::<i16>("status")? == 1, consent: consent_of(row) }),
        false => None,
    };
    let (sys_user_id, openid) = (id(row.read("sys_user_id")?), id(row.read("openid")?));
    // A row whose openid is no identifier can be nobody's.
    let verdict = kind.verdict(user.filter(|_| openid.is_some()));
    let named = Named { sys_user_id, openid, verdict };
    Ok((named.sys_user_id.is_some() || named.openid.is_some()).then_some(named))
}

/// What the row's record of consent says.
pub(super) fn consent_of(row: &Row) -> Consent {
    let record: Option<Json<&RawValue>> = row.try_get("consent").unwrap_or_default();
    read_consent(record.map_or("", |json| json.0.get()))
}

/// A record, or a part of it, that is not of the agreed shape counts as no answer.
fn read_consent(record: &str) -> Consent {
    // Serde would take a list for a record, too.
    let record = Some(record).filter(|record| record.starts_with('{'));
    let record: Option<ConsentRecord<'_>> = record.and_then(|record| serde_json::from_str(record).ok());
    let ConsentRecord { status, cause, remaining } = record.unwrap_or_default();
    let word = |raw: Option<&RawValue>| -> Option<String> { serde_json::from_str(raw?.get()).ok() };
    let remaining = remaining.and_then(|raw| serde_json::from_str(raw.get()).ok());
    Consent { answer: Answer::parse(word(status).as_deref(), word(cause).as_deref()), remaining }
}

/// What of a consent record matters here. Raw, since business systems write it: one odd part must not hide the other.
#[derive(Default, Deserialize)]
struct ConsentRecord<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    cause: Option<&'a RawValue>,
    #[serde(borrow)]
    remaining: Option<&'a RawValue>,
}

fn known_of(row: &Row) -> Result<Known, Error> {
    let status = row.read("status")?;
    Ok(Known {
        recipient: recipient_of(row)?,
        status: Status::parse(status).ok_or_else(|| Error::Unreadable {
            table: "t_wechat_delivery",
            what: format!("status {status}"),
        })?,
        epoch: row.read("epoch")?,
        same_content: row.read("same_content")?,
    })
}

/// Whom a ledger row is about.
pub(super) fn recipient_of(row: &Row) -> Result<Recipient, Error> {
    Ok(match (id(row.read("openid")?), id(row.read("sys_user_id")?)) {
        (Some(openid), sys_user_id) => Recipient::Bound { openid, sys_user_id },
        (None, Some(sys_user_id)) => Recipient::Unbound { sys_user_id },
        (None, None) => Recipient::Nobody,
    })
}

/// Identifiers in the tables were typed by people. An empty cell is how many tools write "none"; a text that is no
/// identifier names nobody.
fn id<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text.filter(|text| !text.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_was_answered_and_how_often_it_may_be_used() {
        let accepted = Consent { answer: Answer::Accept, remaining: Some(2) };
        assert_eq!(read_consent(r#"{"status": "accept", "remaining": 2, "updated_at": "…"}"#), accepted);
        let uncounted = Consent { answer: Answer::Accept, remaining: None };
        assert_eq!(read_consent(r#"{"status": "accept", "remaining": null}"#), uncounted);
        let odd_count = r#"{"remaining": "two", "status": "acc\u0065pt"}"#;
        assert_eq!(read_consent(odd_count), uncounted);
    }

    #[test]
    fn what_is_no_record_is_no_answer() {
        let nothing = Consent { answer: Answer::Unanswered, remaining: None };
        for record in ["", "null", "[]", r#"["accept", 2]"#, r#""accept""#, "{", r#"{"status": ["accept"]}"#]
        {
            assert_eq!(read_consent(record), nothing, "{record}");
        }
    }
}
