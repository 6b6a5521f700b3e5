//! The message of a delivery that waits: event and recipient in one, so that it needs nothing but itself.
//!
//! ```json
//! { "recipient": { "openid": "oABC…", "sys_user_id": "zhangsan" }, "event_id": "pay-17",
//!   "expires_at": "2026-11-25T02:00:00Z", "event": { …as it was published… } }
//! ```
//!
//! Such a body is told from an event's by its header `x-wn-version`; a delivery's epoch and step travel in headers too
//! (see [`Progress`](super::delivery::Progress)), so deferring it again needs no new body. What an event may leave to
//! its message (`event_id`) or to the moment it is first seen (`expires_at`) is written down, so that it cannot move.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::{Arrival, Event, Malformed, id, instant, not_split, object, optional, required};
use super::ids::EventId;
use super::recipient::Recipient;

/// Version of the format, the value of header `x-wn-version`. A body with another one is none of ours to read.
pub const VERSION: i64 = 1;

/// Writes the delivery message of one delivery. `event_body` is the body that `event` was decoded from; it goes in byte for byte.
pub fn encode(event_body: &[u8], event: &Event, recipient: &Recipient) -> Vec<u8> {
    let head = Head {
        recipient: Address {
            openid: recipient.openid().map(|openid| openid.as_str()),
            sys_user_id: recipient.sys_user_id().map(|user| user.as_str()),
        },
        event_id: event.event_id.as_str(),
        expires_at: event.expires_at,
    };
    let mut body = serde_json::to_vec(&head).expect("strings and a time always serialise");
    body.reserve_exact(event_body.len() + EVENT_FIELD.len());
    body.pop(); // the closing brace: one more field follows
    body.extend_from_slice(EVENT_FIELD);
    body.extend_from_slice(event_body);
    body.push(b'}');
    body
}

const EVENT_FIELD: &[u8] = br#","event":"#;

/// Everything of a delivery message but the event.
#[derive(Serialize)]
struct Head<'a> {
    recipient: Address<'a>,
    event_id: &'a str,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct Address<'a> {
    openid: Option<&'a str>,
    sys_user_id: Option<&'a str>,
}

/// Reads a delivery message. Only a foreign or damaged one is malformed: what it holds was checked when it was an event.
pub fn decode(body: &[u8]) -> Result<(Event, Recipient), Malformed> {
    let wire: Wire<'_> = serde_json::from_str(object(body)?).map_err(|error| not_split(&error))?;
    let event_id: EventId = required(wire.event_id, "event_id", id)?;
    let expires_at = required(wire.expires_at, "expires_at", instant)?;
    let recipient = required(wire.recipient, "recipient", recipient)?;
    let event = required(wire.event, "event", |raw| Ok(raw.get()))?;

    let arrival = Arrival {
        message_id: Some(event_id.as_str()),
        timestamp: None,
        first_seen: expires_at,
        default_ttl: Duration::ZERO,
    };
    let event = Event::decode_accepted(event.as_bytes(), &arrival)?;
    Ok((Event { event_id, expires_at, ..event }, recipient))
}

/// The event's body inside a delivery message, byte for byte; `None` where `body` is no delivery message.
pub fn event_body(body: &[u8]) -> Option<&[u8]> {
    let wire: Wire<'_> = serde_json::from_slice(body).ok()?;
    wire.event.map(|raw| raw.get().as_bytes())
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    recipient: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_at: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

fn recipient(raw: &RawValue) -> Result<Recipient, Malformed> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        openid: Option<&'a RawValue>,
        #[serde(borrow)]
        sys_user_id: Option<&'a RawValue>,
    }

    let wire: Wire<'_> = serde_json::from_str(raw.get()).map_err(|_| Malformed::new("is not a recipient"))?;
    let sys_user_id = optional(wire.sys_user_id, "sys_user_id", id)?;
    Ok(match (optional(wire.openid, "openid", id)?, sys_user_id) {
        (Some(openid), sys_user_id) => Recipient::Bound { openid, sys_user_id },
        (None, Some(sys_user_id)) => Recipient::Unbound { sys_user_id },
        (None, None) => Recipient::Nobody,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::ids::{Openid, SysUserId};

    fn arrival() -> Arrival<'static> {
        Arrival {
            message_id: Some("m-1"),
            timestamp: None,
            first_seen: "2026-11-22T03:00:00.123456789Z".parse().unwrap(),
            default_ttl: Duration::from_secs(60),
        }
    }

    fn any_recipient() -> impl Strategy<Value = Recipient> {
        let openid = "[a-zA-Z0-9_\"\\\\订-]{1,40}".prop_map(|text| Openid::parse(&text).unwrap());
        let user = "[^\\p{Cc}]{1,40}".prop_map(|text| SysUserId::parse(&text).unwrap());
        prop_oneof![
            (openid, prop::option::of(user.clone()))
                .prop_map(|(openid, sys_user_id)| Recipient::Bound { openid, sys_user_id }),
            user.prop_map(|sys_user_id| Recipient::Unbound { sys_user_id }),
            Just(Recipient::Nobody),
        ]
    }

    proptest! {
        #[test]
        fn a_delivery_message_says_what_the_event_said(
            recipient in any_recipient(), text in any::<String>(), named in any::<bool>(), ends in any::<bool>(),
        ) {
            let mut event = json!({ "company_no": "c", "app_id": "a", "template_id": "t", "data": { "thing1": text } });
            if named { event["event_id"] = json!("e") }
            if ends { event["expires_at"] = json!("2026-12-01T00:00:00+08:00") }
            let body = format!("{event:#}");
            let before = Event::decode(body.as_bytes(), &arrival()).unwrap();

            let delivery_message = encode(body.as_bytes(), &before, &recipient);
            let (after, reached) = decode(&delivery_message).unwrap();

            prop_assert_eq!(reached, recipient);
            prop_assert_eq!(format!("{before:?}"), format!("{after:?}"));
            prop_assert_eq!(event_body(&delivery_message), Some(body.as_bytes()));
        }

        #[test]
        fn any_bytes_are_a_delivery_message_or_malformed(body in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&body);
        }
    }

    #[test]
    fn a_damaged_delivery_message_names_its_field() {
        let complaint = |body: &str| decode(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(complaint("{}"), "field `event_id`: is missing");
        let head = r#""event_id":"e","expires_at":"2026-11-22T03:00:00Z""#;
        assert_eq!(complaint(&format!("{{{head}}}")), "field `recipient`: is missing");
        assert_eq!(
            complaint(&format!(r#"{{{head},"recipient":{{"openid":7}},"event":{{}}}}"#)),
            "field `recipient.openid`: must be a string, not a number"
        );
        assert_eq!(
            complaint(&format!(r#"{{{head},"recipient":{{}},"event":{{}}}}"#)),
            "field `data`: is missing"
        );
        assert_eq!(complaint("[]"), "the body is not a JSON object");
    }
}
