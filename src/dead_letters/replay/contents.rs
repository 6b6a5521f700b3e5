//! What a dead letter holds, and the message that brings it back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::amqp::{Headers, Message, own};
use crate::db::replay::Candidate;
use crate::domain::delivery_message;
use crate::domain::event::{Arrival, Event};
use crate::domain::outcome::DeadReason;
use crate::domain::recipient::Recipient;

/// A dead letter that could be read.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) event: Arc<Event>,
    /// Byte for byte.
    pub(super) event_body: Bytes,
    /// The one delivery that it is about; `None`: the whole event.
    pub(super) to: Option<To>,
}

/// One delivery.
#[derive(Debug)]
pub(super) struct To {
    pub(super) recipient: Recipient,
    /// The body of its message.
    delivery_message: Bytes,
}

impl Contents {
    /// Reads a dead letter; `None` where its body is no event as it stands, or too large, or would die of the same again.
    pub(super) fn of(dead_letter: &Candidate, default_ttl: Duration) -> Option<Self> {
        if dead_letter.mended.is_none() && dead_letter.reason == DeadReason::EventIdReused.as_str() {
            return None;
        }
        let body: Bytes = dead_letter.mended.as_ref().or(dead_letter.body.as_ref())?.clone().into();
        let is_delivery_message =
            dead_letter.mended.is_none() && dead_letter.headers.get(own::VERSION).is_some();
        if is_delivery_message {
            Self::of_delivery_message(&body)
        } else {
            Self::of_event(dead_letter, body, default_ttl)
        }
    }

    fn of_delivery_message(body: &Bytes) -> Option<Self> {
        let (event, recipient) = delivery_message::decode(body).ok()?;
        let event_body = body.slice_ref(delivery_message::event_body(body)?);
        let to = To { recipient, delivery_message: body.clone() };
        Some(Self { event: Arc::new(event), event_body, to: Some(to) })
    }

    /// An event as it was published. Where the archive has readdressed it to one of its recipients, the columns say whom.
    fn of_event(dead_letter: &Candidate, body: Bytes, default_ttl: Duration) -> Option<Self> {
        let arrival = Arrival {
            message_id: dead_letter.event_id.as_deref(),
            timestamp: None,
            // The dead letter does not tell when the event came; its time to live must not begin anew.
            first_seen: dead_letter.died_at,
            default_ttl,
        };
        let event = Event::decode(&body, &arrival).ok()?;
        let to = match &dead_letter.recipient {
            None => None,
            Some(_) => {
                let recipient = recipient_of(dead_letter)?;
                let delivery_message = delivery_message::encode(&body, &event, &recipient).into();
                Some(To { recipient, delivery_message })
            }
        };
        Some(Self { event: Arc::new(event), event_body: body, to })
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.event.expires_at <= now
    }

    /// The message that brings the one delivery back, with the epoch that was fixed for it.
    pub(super) fn delivery(&self, to: &To, dead_letter: &Candidate, trip: &Trip) -> Message {
        let mut headers = trip.headers(dead_letter);
        headers.set(own::VERSION, delivery_message::VERSION);
        headers.set(own::EPOCH, i64::from(dead_letter.epoch.unwrap_or_default()));
        headers.set(own::STEP, 0);
        Message { headers, ..Message::json(to.delivery_message.clone()) }
    }

    /// The event, published again.
    pub(super) fn whole(&self, dead_letter: &Candidate, trip: &Trip) -> Message {
        Message {
            headers: trip.headers(dead_letter),
            message_id: Some(self.event.event_id.to_string()),
            timestamp: u64::try_from(dead_letter.died_at.as_second()).ok(),
            ..Message::json(self.event_body.clone())
        }
    }
}

/// What all messages of a replay say.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) replay: i64,
    pub(super) even_expired: bool,
}

impl Trip {
    /// The dead letter's headers without ours, which told of its first life; the broker's own are left out on the way.
    fn headers(&self, dead_letter: &Candidate) -> Headers {
        let received: Headers = serde_json::from_value(dead_letter.headers.clone()).unwrap_or_default();
        let mut headers = Headers::default();
        for (name, value) in received.iter().filter(|(name, _)| !name.starts_with(own::PREFIX)) {
            headers.set(name.as_str(), value.clone());
        }
        headers.set(own::REPLAY, self.replay.to_string());
        if self.even_expired {
            headers.set(own::EVEN_EXPIRED, true);
        }
        headers
    }
}

fn recipient_of(dead_letter: &Candidate) -> Option<Recipient> {
    let sys_user_id = dead_letter.sys_user_id.as_deref().and_then(|id| id.parse().ok());
    match (dead_letter.openid.as_deref(), sys_user_id) {
        (Some(openid), sys_user_id) => Some(Recipient::Bound { openid: openid.parse().ok()?, sys_user_id }),
        (None, Some(sys_user_id)) => Some(Recipient::Unbound { sys_user_id }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::dead_letter;

    const EVENT: &str = r#"{"company_no":"C001","app_id":"wx1","template_id":"T1","data":{"thing1":"x"}}"#;
    const TTL: Duration = Duration::from_secs(60);
    const TRIP: Trip = Trip { replay: 7, even_expired: true };

    /// A dead letter about event `pay-1` as a whole.
    fn dead_letter(body: &str) -> Candidate {
        Candidate {
            dead_letter: 1,
            dead_letter_state: dead_letter::State::Open,
            reason: "delivery_limit".to_owned(),
            errcode: None,
            field: None,
            fingerprint: "f".to_owned(),
            app_id: Some("wx1".to_owned()),
            template_id: Some("T1".to_owned()),
            event_id: Some("pay-1".to_owned()),
            recipient: None,
            openid: None,
            sys_user_id: None,
            epoch: None,
            dead_letter_epoch: None,
            died_at: Timestamp::UNIX_EPOCH,
            headers: json!({"x-wn-reason": "delivery_limit", "tenant": "a", "traceparent": "00-1-2-01"}),
            body: Some(body.as_bytes().to_vec()),
            mended: None,
            row: None,
            had_rows: false,
            has_rows: false,
            app_known: true,
        }
    }

    fn to_one(body: &str) -> Candidate {
        let openid = Some("oA".to_owned());
        Candidate { recipient: openid.clone(), openid, epoch: Some(3), ..dead_letter(body) }
    }

    #[test]
    fn an_event_goes_out_as_it_came_and_says_that_it_is_a_replay() {
        let dead_letter = dead_letter(EVENT);
        let contents = Contents::of(&dead_letter, TTL).unwrap();
        let message = contents.whole(&dead_letter, &TRIP);
        assert_eq!((&*message.body, message.message_id.as_deref()), (EVENT.as_bytes(), Some("pay-1")));
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tenant", "traceparent", "x-wn-even-expired", "x-wn-replay"]);
        assert!(contents.is_expired("1970-01-01T00:01:00Z".parse().unwrap()), "its life did not begin anew");
    }

    #[test]
    fn an_event_readdressed_to_one_recipient_becomes_that_ones_delivery() {
        let dead_letter = to_one(EVENT);
        let contents = Contents::of(&dead_letter, TTL).unwrap();
        let message = contents.delivery(contents.to.as_ref().unwrap(), &dead_letter, &TRIP);
        let (event, recipient) = delivery_message::decode(&message.body).unwrap();
        assert_eq!((event.event_id.as_str(), recipient.ledger_key().as_str()), ("pay-1", "oA"));
        assert_eq!(message.headers.number(own::EPOCH), Some(3));
    }

    #[test]
    fn a_mended_body_takes_the_place_of_the_dead_letters_own() {
        let broken = Candidate { reason: "malformed".to_owned(), ..dead_letter("{") };
        assert!(Contents::of(&broken, TTL).is_none());
        let mended = Candidate { mended: Some(EVENT.as_bytes().to_vec()), ..broken };
        assert_eq!(Contents::of(&mended, TTL).unwrap().event_body, EVENT.as_bytes());
    }

    #[test]
    fn a_reused_id_goes_out_only_mended() {
        let reused = Candidate { reason: "event_id_reused".to_owned(), ..dead_letter(EVENT) };
        assert!(Contents::of(&reused, TTL).is_none());
    }
}
