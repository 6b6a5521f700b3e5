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
    /// Reads a dead letter; `None` where its body is not an event, or is too large, or would only die of the same cause.
    pub(super) fn of(candidate: &Candidate, default_ttl: Duration) -> Option<Self> {
        let is_edited = candidate.edited_body.is_some();
        if !is_edited && candidate.archived.dead_letter.reason == DeadReason::EventIdReused.into() {
            return None;
        }
        let body: Bytes = candidate.edited_body.as_ref().or(candidate.body.as_ref())?.clone().into();
        let is_delivery_message = !is_edited && candidate.headers.get(own::VERSION).is_some();
        if is_delivery_message {
            Self::of_delivery_message(&body)
        } else {
            Self::of_event(candidate, body, default_ttl)
        }
    }

    fn of_delivery_message(body: &Bytes) -> Option<Self> {
        let (event, recipient) = delivery_message::decode(body).ok()?;
        let event_body = body.slice_ref(delivery_message::event_body(body)?);
        let to = To { recipient, delivery_message: body.clone() };
        Some(Self { event: Arc::new(event), event_body, to: Some(to) })
    }

    /// An event as it was published. Where the archive has readdressed it to one of its recipients, the columns say whom.
    fn of_event(candidate: &Candidate, body: Bytes, default_ttl: Duration) -> Option<Self> {
        let about = &candidate.archived.dead_letter.about;
        let arrival = Arrival {
            message_id: about.event_id.as_deref(),
            timestamp: None,
            // The dead letter does not say when the event came; its time to live must not start again.
            first_seen: candidate.archived.died_at(),
            default_ttl,
        };
        let event = Event::decode(&body, &arrival).ok()?;
        let to = match &candidate.recipient {
            None => None,
            Some(_) => {
                let recipient = about.to_recipient()?;
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
    pub(super) fn delivery(&self, to: &To, candidate: &Candidate, replay: &Replay) -> Message {
        let mut headers = replay.headers(candidate);
        headers.set(own::VERSION, delivery_message::VERSION);
        headers.set(own::EPOCH, i64::from(candidate.epoch.unwrap_or_default()));
        headers.set(own::STEP, 0);
        Message { headers, ..Message::json(to.delivery_message.clone()) }
    }

    /// The event, published again.
    pub(super) fn whole(&self, candidate: &Candidate, replay: &Replay) -> Message {
        Message {
            headers: replay.headers(candidate),
            message_id: Some(self.event.event_id.to_string()),
            timestamp: u64::try_from(candidate.archived.died_at().as_second()).ok(),
            ..Message::json(self.event_body.clone())
        }
    }
}

/// What all messages of a replay say.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) id: i64,
    pub(super) even_expired: bool,
}

impl Replay {
    /// The dead letter's headers without ours, which told of its first life; the broker's own are left out on the way.
    fn headers(&self, candidate: &Candidate) -> Headers {
        let received: Headers = serde_json::from_value(candidate.headers.clone()).unwrap_or_default();
        let mut headers = Headers::default();
        for (name, value) in received.iter().filter(|(name, _)| !name.starts_with(own::PREFIX)) {
            headers.set(name.as_str(), value.clone());
        }
        headers.set(own::REPLAY, self.id.to_string());
        if self.even_expired {
            headers.set(own::EVEN_EXPIRED, true);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::db::dead_letters::Archived;
    use crate::domain::dead_letter::{About, DeadLetter, State};

    const EVENT: &str = r#"{"company_no":"C001","app_id":"wx1","template_id":"T1","data":{"thing1":"x"}}"#;
    const TTL: Duration = Duration::from_secs(60);
    const REPLAY: Replay = Replay { id: 7, even_expired: true };

    /// A dead letter about event `pay-1` as a whole.
    fn candidate(body: &str, reason: DeadReason) -> Candidate {
        let text = |text: &str| Some(text.to_owned());
        let about = About {
            app_id: text("wx1"),
            template_id: text("T1"),
            event_id: text("pay-1"),
            ..About::default()
        };
        Candidate {
            archived: Archived {
                id: 1,
                dead_letter: DeadLetter::new("a".to_owned(), reason, about),
                fingerprint: "f".to_owned(),
                state: "open".to_owned(),
                archived_at: Timestamp::UNIX_EPOCH,
            },
            state: State::Open,
            headers: json!({"x-wn-reason": "delivery_limit", "tenant": "a", "traceparent": "00-1-2-01"}),
            body: Some(body.as_bytes().to_vec()),
            edited_body: None,
            recipient: None,
            epoch: None,
            row: None,
            had_rows: false,
            has_rows: false,
            app_known: true,
        }
    }

    fn to_one(body: &str) -> Candidate {
        let openid = Some("oA".to_owned());
        let mut candidate = candidate(body, DeadReason::DeliveryLimit);
        candidate.archived.dead_letter.about.openid = openid.clone();
        Candidate { recipient: openid, epoch: Some(3), ..candidate }
    }

    #[test]
    fn an_event_goes_out_as_it_came_and_says_that_it_is_a_replay() {
        let candidate = candidate(EVENT, DeadReason::DeliveryLimit);
        let contents = Contents::of(&candidate, TTL).unwrap();
        let message = contents.whole(&candidate, &REPLAY);
        assert_eq!((&*message.body, message.message_id.as_deref()), (EVENT.as_bytes(), Some("pay-1")));
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tenant", "traceparent", "x-wn-even-expired", "x-wn-replay"]);
        assert!(
            contents.is_expired("1970-01-01T00:01:00Z".parse().unwrap()),
            "its time to live did not start again"
        );
    }

    #[test]
    fn an_event_readdressed_to_one_recipient_becomes_that_ones_delivery() {
        let candidate = to_one(EVENT);
        let contents = Contents::of(&candidate, TTL).unwrap();
        let message = contents.delivery(contents.to.as_ref().unwrap(), &candidate, &REPLAY);
        let (event, recipient) = delivery_message::decode(&message.body).unwrap();
        assert_eq!((event.event_id.as_str(), recipient.ledger_key().as_str()), ("pay-1", "oA"));
        assert_eq!(message.headers.number(own::EPOCH), Some(3));
    }

    #[test]
    fn an_edited_body_takes_the_place_of_the_dead_letters_own() {
        let broken = candidate("{", DeadReason::Malformed);
        assert!(Contents::of(&broken, TTL).is_none());
        let edited = Candidate { edited_body: Some(EVENT.as_bytes().to_vec()), ..broken };
        assert_eq!(Contents::of(&edited, TTL).unwrap().event_body, EVENT.as_bytes());
    }

    #[test]
    fn a_reused_id_goes_out_only_edited() {
        let reused = candidate(EVENT, DeadReason::EventIdReused);
        assert!(Contents::of(&reused, TTL).is_none());
    }
}
