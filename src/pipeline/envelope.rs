//! The message that brought a delivery, kept so that it can be deferred.

use bytes::Bytes;
use jiff::Timestamp;

use crate::admission::Rank;
use crate::amqp::{Message, TRACEPARENT, own};
use crate::domain::dead_letter;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::delivery_message;
use crate::domain::event::Event;

/// An incoming's message and what its headers say.
#[derive(Debug)]
pub struct Envelope {
    pub message: Message,
    /// The key it came with: the publisher's, or the name of the queue where it waited.
    pub routing_key: String,
    /// A delivery message (event and recipient), or an event as published?
    pub is_delivery_message: bool,
    /// Of the W3C `traceparent`, 32 hex digits.
    pub trace_id: Option<String>,
    /// From a queue of all apps, or from the lane of one?
    pub rank: Rank,
    /// By our clock.
    pub first_seen: Timestamp,
}

impl Envelope {
    /// Reads what is needed of every message.
    pub fn of(message: Message, routing_key: String, rank: Rank, first_seen: Timestamp) -> Self {
        Self {
            routing_key,
            is_delivery_message: message.headers.number(own::VERSION).is_some(),
            trace_id: message.headers.text(TRACEPARENT).and_then(trace_id),
            message,
            rank,
            first_seen,
        }
    }

    /// How far the deliveries that the message brings have come, by its headers. Whatever is missing or strange counts as zero:
    /// the ledger decides in the end.
    pub fn progress(&self) -> Progress {
        let headers = &self.message.headers;
        // An event as published is at the beginning, whatever its headers say.
        let number = |name| headers.number(name).filter(|_| self.is_delivery_message);
        let time = |name| number(name).and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok());
        let epoch = number(own::EPOCH).and_then(|epoch| i32::try_from(epoch).ok());
        Progress {
            epoch: epoch.unwrap_or_default().max(0),
            step: number(own::STEP).and_then(|step| usize::try_from(step).ok()).unwrap_or_default(),
            due: time(own::DUE),
            first_failed: time(own::FIRST_FAILED),
            // An event that is replayed as a whole is no delivery message, and says so too.
            replay: headers.get(own::REPLAY).is_some(),
            even_expired: headers.get(own::EVEN_EXPIRED).is_some(),
        }
    }

    /// When the publisher made it, by the message's own timestamp.
    pub fn published_at(&self) -> Option<Timestamp> {
        i64::try_from(self.message.timestamp?).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
    }

    /// Identity of the dead letter that a whole event leaves. A replayed one that dies again leaves another dead letter than before.
    pub fn dead_letter_of_event(&self, event: &Event) -> String {
        dead_letter::after_replay(
            dead_letter::identity_of_event(event),
            self.message.headers.text(own::REPLAY),
        )
    }

    /// The message that carries one delivery on, with the given progress.
    pub fn delivery_message(&self, delivery: &Delivery, progress: Progress) -> Message {
        let mut message = Message { body: self.delivery_message_body(delivery), ..self.message.clone() };
        let headers = &mut message.headers;
        headers.remove(own::DUE);
        if !progress.replay {
            headers.remove(own::REPLAY);
        }
        headers.set(own::VERSION, delivery_message::VERSION);
        headers.set(own::EPOCH, i64::from(progress.epoch));
        headers.set(own::STEP, i64::try_from(progress.step).unwrap_or(i64::MAX));
        let times = [(own::DUE, progress.due), (own::FIRST_FAILED, progress.first_failed)];
        for (name, at) in times.into_iter().filter_map(|(name, at)| Some((name, at?))) {
            headers.set(name, at.as_millisecond());
        }
        message
    }

    /// The event as it came. One that does not say when it was made is as old as we know it to be: its time to live must
    /// not begin again.
    pub fn event_again(&self) -> Message {
        let mut message = self.message.clone();
        message.timestamp = message.timestamp.or_else(|| u64::try_from(self.first_seen.as_second()).ok());
        message
    }

    /// Event and recipient; a delivery message's body is already that, byte for byte.
    fn delivery_message_body(&self, delivery: &Delivery) -> Bytes {
        if self.is_delivery_message {
            return self.message.body.clone();
        }
        delivery_message::encode(&self.message.body, &delivery.event, &delivery.recipient).into()
    }
}

/// Takes our headers off a message that a publisher sent. The publisher has no say in epochs, in when it is due, or in whether it may be
/// too old; and what is moved to a lane later must not be taken for ours there.
pub(super) fn disown(message: &mut Message) {
    let ours = message.headers.iter().map(|(name, _)| name).filter(|name| name.starts_with(own::PREFIX));
    let ours: Vec<String> = ours.cloned().collect();
    for name in ours {
        message.headers.remove(&name);
    }
}

/// The trace id of a `traceparent` (W3C Trace Context: version, 32 hex digits, parent, flags).
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_cannot_speak_in_our_name() {
        let mut message = Message::json("{}");
        for name in [
            own::VERSION,
            own::EPOCH,
            own::DUE,
            own::REPLAY,
            own::EVEN_EXPIRED,
            own::DEAD_LETTER,
            "tenant",
            TRACEPARENT,
        ] {
            message.headers.set(name, 1);
        }
        disown(&mut message);
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tenant", TRACEPARENT]);
        let envelope = Envelope::of(message, "pay".to_owned(), Rank::Fresh, Timestamp::UNIX_EPOCH);
        assert_eq!((envelope.is_delivery_message, envelope.progress()), (false, Progress::default()));
    }

    #[test]
    fn an_event_that_waited_is_due_whenever_its_own_words_say() {
        let mut message = Message::json("{}");
        message.headers.set(own::DUE, 4_000_000_000_000);
        let envelope = Envelope::of(message, String::new(), Rank::Lane, Timestamp::UNIX_EPOCH);
        assert_eq!(envelope.progress().due, None, "only a delivery message is due by header");
    }

    #[test]
    fn a_trace_is_continued_when_its_header_is_sound() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(parent).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(trace_id("00-xyz-1-01"), None);
    }
}
