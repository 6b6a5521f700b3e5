//! Makes a dead letter of whatever lies in the dead queue: our own dead letters, what the broker gave up on, and foreign messages.
//! Nothing it finds is an error; what cannot be read stays empty.

mod facts;
mod plain;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::facts::Facts;
use self::plain::{plain_headers, plain_text};
use crate::amqp::{Message, TRACEPARENT, own};
use crate::db::dead_letters::DeadLetter;
use crate::domain::dead_letter::{self, CLASSES, DeliveryKey};
use crate::domain::message_kind::class_of;
use crate::domain::outcome::DeadReason;

/// A message of the dead queue.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub body: Bytes,
    /// Headers by name, as JSON.
    pub headers: Map<String, Value>,
    /// AMQP's `message_id`; stands in for a missing `event_id`.
    pub message_id: Option<String>,
}

impl From<Message> for Arrived {
    fn from(message: Message) -> Self {
        // Headers serialise as an object; they have no key or number that JSON lacks.
        let headers = match serde_json::to_value(message.headers) {
            Ok(Value::Object(headers)) => headers,
            _ => Map::new(),
        };
        Self { body: message.body, headers, message_id: message.message_id }
    }
}

/// Set by the broker on what it dead-letters; our own dead letters never carry it.
const X_DEATH: &str = "x-death";

/// The broker counts these up on each redelivery; they say nothing about which message it is.
const CHANGING_HEADERS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// Reads a message of the dead queue.
pub fn read(arrived: Arrived) -> DeadLetter {
    let facts = Facts::of_body(&arrived.body, arrived.message_id.as_deref());
    let story = Story::of_headers(&arrived.headers);
    let epoch = number(&arrived.headers, own::EPOCH).and_then(|epoch| i32::try_from(epoch).ok());
    let errcode = number(&arrived.headers, own::ERRCODE);
    let field = text(&arrived.headers, own::FIELD);
    DeadLetter {
        identity: identity(&arrived, &facts, epoch),
        reason: story.reason,
        class: class(&arrived.headers, errcode),
        errcode,
        errmsg: story.errmsg,
        fingerprint: dead_letter::fingerprint(
            story.reason.as_str(),
            facts.app_id.as_deref(),
            facts.template_id.as_deref(),
            errcode,
            field.as_deref(),
        ),
        field,
        app_id: facts.app_id,
        template_id: facts.template_id,
        company_no: facts.company_no,
        event_id: facts.event_id,
        recipient: facts.recipient,
        openid: facts.openid,
        sys_user_id: facts.sys_user_id,
        epoch,
        attempts: number(&arrived.headers, own::ATTEMPTS).map_or(0, |n| i32::try_from(n).unwrap_or(i32::MAX)),
        first_failed_at: time(&arrived.headers, own::FIRST_FAILED).or(story.died_at),
        last_failed_at: story.died_at,
        trace_id: trace_id(&arrived.headers),
        rid: text(&arrived.headers, own::RID),
        token_generation: number(&arrived.headers, own::TOKEN_GENERATION),
        body: arrived.body,
        headers: plain_headers(arrived.headers),
    }
}

/// What the headers tell about the end.
struct Story {
    reason: DeadReason,
    errmsg: Option<String>,
    died_at: Option<Timestamp>,
}

impl Story {
    fn of_headers(headers: &Map<String, Value>) -> Self {
        if let Some(death) = headers.get(X_DEATH).and_then(|deaths| deaths.get(0)) {
            return Self::by_broker(death);
        }
        match text(headers, own::REASON).and_then(|word| DeadReason::parse(&word)) {
            Some(reason) => Self::by_us(reason, headers),
            None => Self::by_nobody(),
        }
    }

    /// The newest entry of `x-death` names the queue and the broker's own reason: too many redeliveries, or, where a
    /// publisher set an expiry or somebody a policy, its own.
    fn by_broker(death: &Value) -> Self {
        let word = |name| death.get(name).and_then(Value::as_str).map_or_else(|| "?".to_owned(), plain_text);
        let time = death.get("time").and_then(Value::as_i64);
        Self {
            reason: DeadReason::DeliveryLimit,
            errmsg: Some(format!("the broker gave up: {} in queue {}", word("reason"), word("queue"))),
            died_at: time.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        }
    }

    fn by_us(reason: DeadReason, headers: &Map<String, Value>) -> Self {
        Self {
            reason,
            errmsg: text(headers, own::ERRMSG).or_else(|| text(headers, own::DETAIL)),
            died_at: time(headers, own::DIED_AT),
        }
    }

    fn by_nobody() -> Self {
        Self {
            reason: DeadReason::Malformed,
            errmsg: Some("published directly to the dead queue: not a dead letter of ours".to_owned()),
            died_at: None,
        }
    }
}

/// Ours carry their identity. The broker's get the one that we would have given them, so that a delivery given up by both
/// has one dead letter; an unreadable one is known by its bytes.
fn identity(arrived: &Arrived, facts: &Facts, epoch: Option<i32>) -> String {
    let is_ours = !arrived.headers.contains_key(X_DEATH);
    if let Some(own) = text(&arrived.headers, own::DEAD_LETTER).filter(|own| is_ours && !own.is_empty()) {
        return own;
    }
    match facts.key() {
        Some(key) if !is_ours => {
            let replay = text(&arrived.headers, own::REPLAY).filter(|_| epoch.is_none());
            dead_letter::after_replay(dead_letter::identity(&key, epoch.unwrap_or(0)), replay.as_deref())
        }
        _ => dead_letter::identity_of_bytes(&arrived.body, &envelope(arrived)),
    }
}

/// Headers and message id, without what changes from one redelivery to the next.
fn envelope(arrived: &Arrived) -> String {
    let mut headers = arrived.headers.clone();
    headers.retain(|name, _| !CHANGING_HEADERS.contains(&name.as_str()));
    format!("{} {}", arrived.message_id.as_deref().unwrap_or(""), Value::Object(headers))
}

impl Facts {
    /// The ledger's key, as far as the body tells; an event as a whole has an empty recipient.
    fn key(&self) -> Option<DeliveryKey<'_>> {
        Some(DeliveryKey {
            company_no: self.company_no.as_deref()?,
            app_id: self.app_id.as_deref()?,
            template_id: self.template_id.as_deref()?,
            event_id: self.event_id.as_deref()?,
            recipient: self.recipient.as_deref().unwrap_or(""),
        })
    }
}

/// What the last answer meant, in the dead letter's own word; else what its code means.
fn class(headers: &Map<String, Value>, errcode: Option<i64>) -> Option<String> {
    let own = text(headers, own::CLASS).filter(|word| CLASSES.contains(&word.as_str()));
    own.or_else(|| errcode.map(|code| class_of(code).as_str().to_owned()))
}

/// RFC 3339, or Unix milliseconds.
fn time(headers: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    match headers.get(name)? {
        Value::String(text) => text.parse().ok(),
        other => Timestamp::from_millisecond(other.as_i64()?).ok(),
    }
}

fn text(headers: &Map<String, Value>, name: &str) -> Option<String> {
    headers.get(name).and_then(Value::as_str).map(plain_text)
}

/// A number, also where a bridge could only send text.
fn number(headers: &Map<String, Value>, name: &str) -> Option<i64> {
    let value = headers.get(name)?;
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The trace's id out of W3C's `version-trace-span-flags`.
fn trace_id(headers: &Map<String, Value>) -> Option<String> {
    text(headers, TRACEPARENT)?.split('-').nth(1).filter(|id| id.len() == 32).map(str::to_owned)
}

#[cfg(test)]
mod tests;
