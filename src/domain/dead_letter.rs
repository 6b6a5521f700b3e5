//! What makes two dead letters the same dead letter, and what makes them the same trouble.

use sha2::{Digest, Sha256};

use super::event::Event;
use super::recipient::Recipient;

/// What has become of a dead letter. A dead letter that dies again after a replay is a dead letter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was done about it yet.
    Open,
    /// A replay has it in hand.
    Replaying,
    /// A replay brought it back, and its delivery came to an end.
    Replayed,
    /// An operator closed it, with a reason.
    Resolved,
    /// Its body and headers are gone for good; what it was about is left.
    Purged,
}

impl State {
    /// Every state, in the order of a dead letter's life.
    pub const ALL: &[Self] = &[Self::Open, Self::Replaying, Self::Replayed, Self::Resolved, Self::Purged];

    /// The one spelling, in the table, on the command line and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Replayed => "replayed",
            Self::Resolved => "resolved",
            Self::Purged => "purged",
        }
    }

    /// Reads the spelling back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }
}

/// The classes of answers that can stand at the end of a delivery.
pub const CLASSES: &[&str] = &[
    "token",
    "app_fault",
    "quota",
    "throttled",
    "conflict",
    "transient",
    "unknown",
    "recipient",
    "content",
    "template",
];

/// The ledger's key of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryKey<'a> {
    pub company_no: &'a str,
    pub app_id: &'a str,
    pub template_id: &'a str,
    pub event_id: &'a str,
    /// The ledger's `recipient`; empty for a dead letter about the event as a whole.
    pub recipient: &'a str,
}

/// Identity of the dead letter of a delivery that was given up at `epoch`: two processes that give up the same epoch write the
/// same dead letter, and archiving it twice keeps it once.
pub fn identity(key: &DeliveryKey<'_>, epoch: i32) -> String {
    let DeliveryKey { company_no, app_id, template_id, event_id, recipient } = *key;
    digest([company_no, app_id, template_id, event_id, recipient, &epoch.to_string()].map(str::as_bytes))
}

/// [`identity`] of the dead letter that an attempt leaves.
pub fn of_delivery(event: &Event, recipient: &Recipient, epoch: i32) -> String {
    identity(&key(event, &recipient.ledger_key()), epoch)
}

/// Identity of the dead letter of a whole event. Its content is part of it: a reused id with two further contents is two letters.
pub fn of_event(event: &Event) -> String {
    let DeliveryKey { company_no, app_id, template_id, event_id, .. } = key(event, "");
    let names = [company_no, app_id, template_id, event_id].map(str::as_bytes);
    digest([names[0], names[1], names[2], names[3], &event.content_hash])
}

/// Identity of what a replay brought out and dies again as a whole event, which has no epoch that would tell it from its first
/// dead letter. Outside a replay nothing changes.
pub fn after_replay(first: String, replay: Option<&str>) -> String {
    match replay {
        Some(replay) => identity_of_bytes(first.as_bytes(), replay),
        None => first,
    }
}

fn key<'a>(event: &'a Event, recipient: &'a str) -> DeliveryKey<'a> {
    DeliveryKey {
        company_no: event.company_no.as_str(),
        app_id: event.app_id.as_str(),
        template_id: event.template_id.as_str(),
        event_id: event.event_id.as_str(),
        recipient,
    }
}

/// Identity of a dead letter that nobody can read: the same bytes are the same dead letter, so that archiving stays idempotent.
pub fn identity_of_bytes(body: &[u8], envelope: &str) -> String {
    digest([body, envelope.as_bytes()])
}

/// Dead letters with the same fingerprint have the same cure.
pub fn fingerprint(
    reason: &str,
    app_id: Option<&str>,
    template_id: Option<&str>,
    errcode: Option<i64>,
    field: Option<&str>,
) -> String {
    let errcode = errcode.map(|code| code.to_string()).unwrap_or_default();
    let parts = [reason, app_id.unwrap_or(""), template_id.unwrap_or(""), &errcode, field.unwrap_or("")];
    digest(parts.map(str::as_bytes))[..FINGERPRINT_CHARS].to_owned()
}

/// Short enough to be typed; there are dozens of groups, not millions.
const FINGERPRINT_CHARS: usize = 12;

/// Half a SHA-256 in hex, over parts that are told apart by their lengths.
fn digest<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::answer::COMMON_CODES;
    use crate::domain::message_kind::MessageKind;

    #[test]
    fn every_class_but_a_yes_can_be_asked_for() {
        let kinds = MessageKind::ALL.iter().flat_map(|kind| kind.codes());
        let words: BTreeSet<_> = kinds.chain(COMMON_CODES).map(|code| code.class.as_str()).collect();
        let asked: BTreeSet<_> = CLASSES.iter().copied().chain(["sent"]).collect();
        assert!(words.is_subset(&asked), "{words:?}");
    }

    #[test]
    fn a_state_reads_back() {
        assert!(State::ALL.iter().all(|state| State::parse(state.as_str()) == Some(*state)));
        assert_eq!(State::parse("lost"), None);
    }

    const KEY: DeliveryKey<'_> = DeliveryKey {
        company_no: "C001",
        app_id: "wx1",
        template_id: "T1",
        event_id: "pay-1",
        recipient: "oA",
    };

    #[test]
    fn a_dead_letter_is_a_delivery_at_an_epoch() {
        assert_eq!(identity(&KEY, 1), identity(&KEY, 1));
        assert_ne!(identity(&KEY, 1), identity(&KEY, 2));
        assert_ne!(identity(&KEY, 1), identity(&DeliveryKey { recipient: "oB", ..KEY }, 1));
        let shifted = DeliveryKey { event_id: "pay-1o", recipient: "A", ..KEY };
        assert_ne!(identity(&KEY, 1), identity(&shifted, 1), "parts do not run into each other");
    }

    #[test]
    fn the_same_trouble_has_the_same_fingerprint() {
        let of = |field| fingerprint("content", Some("wx1"), Some("T1"), Some(47003), field);
        assert_eq!(of(Some("thing2")), of(Some("thing2")));
        assert_ne!(of(Some("thing2")), of(Some("thing3")));
    }
}
