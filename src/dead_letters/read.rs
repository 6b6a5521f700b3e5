//! Makes a dead letter of whatever lies in the dead queue: our own dead letters, what the broker gave up on, and foreign messages.
//! Nothing it finds is an error; what cannot be read stays empty.

mod about;
mod sanitize;

use jiff::Timestamp;
use serde_json::Value;

use self::about::about;
use self::sanitize::{sanitized, sanitized_headers};
use crate::amqp::{HeaderValue, Headers, Message, dead_letter as codec, own};
use crate::db::dead_letters::Received;
use crate::domain::dead_letter::{self, DeadLetter};
use crate::domain::message_kind::class_of;
use crate::domain::outcome::DeadReason;

/// Set by the broker on what it dead-letters; our own dead letters never carry it.
const X_DEATH: &str = "x-death";

/// The broker counts these up on each redelivery; they say nothing about which message it is.
const CHANGING_HEADERS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// Reads a message of the dead queue.
pub fn read(message: Message) -> Received {
    let about = about(&message.body, message.message_id.as_deref());
    let mut dead_letter = fit(codec::read(&message.headers, about));
    if let Some(death) = newest_death(&message.headers) {
        by_broker(&mut dead_letter, death);
    } else if codec::reason(&message.headers).is_none() {
        by_nobody(&mut dead_letter);
    }
    dead_letter.identity = identity(&message, &dead_letter);
    dead_letter.first_failed_at = dead_letter.first_failed_at.or(dead_letter.last_failed_at);
    if let (None, Some(code)) = (&dead_letter.class, dead_letter.errcode) {
        dead_letter.class = Some(class_of(code).as_str().to_owned());
    }
    Received { dead_letter, body: message.body, headers: sanitized_headers(as_json(&message.headers)) }
}

/// Makes texts from headers fit for the database.
fn fit(mut dead_letter: DeadLetter) -> DeadLetter {
    let DeadLetter { identity, errmsg, field, trace_id, rid, .. } = &mut dead_letter;
    let optional = [errmsg, field, trace_id, rid].into_iter().filter_map(Option::as_mut);
    for text in optional.chain([identity]) {
        *text = sanitized(text);
    }
    dead_letter
}

fn newest_death(headers: &Headers) -> Option<&Value> {
    match headers.get(X_DEATH)? {
        HeaderValue::Other(deaths) => deaths.get(0),
        _ => None,
    }
}

/// The newest entry of `x-death` names the queue and the broker's own reason: too many redeliveries, or, where a publisher set
/// an expiry or somebody a policy, its own.
fn by_broker(dead_letter: &mut DeadLetter, death: &Value) {
    let word = |name| death.get(name).and_then(Value::as_str).map_or_else(|| "?".to_owned(), sanitized);
    let at_s = death.get("time").and_then(Value::as_i64);
    dead_letter.reason = DeadReason::DeliveryLimit.into();
    dead_letter.errmsg = Some(format!("the broker gave up: {} in queue {}", word("reason"), word("queue")));
    dead_letter.last_failed_at = at_s.and_then(|seconds| Timestamp::from_second(seconds).ok());
}

fn by_nobody(dead_letter: &mut DeadLetter) {
    dead_letter.errmsg = Some("published directly to the dead queue: not a dead letter of ours".to_owned());
    dead_letter.last_failed_at = None;
}

/// Ours carry their identity. The broker's get the one that we would have given them, so that a delivery given up by both
/// has one dead letter; an unreadable one is known by its bytes.
fn identity(message: &Message, dead_letter: &DeadLetter) -> String {
    let is_ours = message.headers.get(X_DEATH).is_none();
    if is_ours && !dead_letter.identity.is_empty() {
        return dead_letter.identity.clone();
    }
    match dead_letter.about.key() {
        Some(key) if !is_ours => {
            let epoch = dead_letter.epoch;
            let replay = message.headers.text(own::REPLAY).map(sanitized).filter(|_| epoch.is_none());
            dead_letter::after_replay(dead_letter::identity(&key, epoch.unwrap_or(0)), replay.as_deref())
        }
        _ => dead_letter::identity_of_bytes(&message.body, &envelope(message)),
    }
}

/// Headers and message id, without what changes from one redelivery to the next.
fn envelope(message: &Message) -> String {
    let mut headers = message.headers.clone();
    for name in CHANGING_HEADERS {
        headers.remove(name);
    }
    format!("{} {}", message.message_id.as_deref().unwrap_or(""), as_json(&headers))
}

/// Headers are an object in JSON; they have no key or number that it lacks.
fn as_json(headers: &Headers) -> Value {
    serde_json::to_value(headers).unwrap_or_default()
}

#[cfg(test)]
mod tests;
