//! What makes two dead letters the same dead letter, and what puts them into the same group.

use sha2::{Digest, Sha256};

use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Event;

/// Identity of the dead letter of a delivery that was given up at `epoch`: two processes that give up the same epoch write the
/// same dead letter, and archiving it twice keeps it once.
pub fn identity(key: &DeliveryKey, epoch: i32) -> String {
    let DeliveryKey { company_no, app_id, template_id, event_id, recipient } = key;
    digest(
        [company_no, app_id, template_id, event_id, recipient, &epoch.to_string()]
            .map(|part| part.as_bytes()),
    )
}

/// Identity of the dead letter of a whole event. Its content is part of it: a reused id with two further contents is two
/// dead letters.
pub fn identity_of_event(event: &Event) -> String {
    let Event { company_no, app_id, template_id, event_id, content_hash, .. } = event;
    let names = [company_no.as_str(), app_id.as_str(), template_id.as_str(), event_id.as_str()];
    let [company_no, app_id, template_id, event_id] = names.map(str::as_bytes);
    digest([company_no, app_id, template_id, event_id, content_hash])
}

/// Identity of what a replay brought out and dies again as a whole event, which has no epoch that would tell it from its first
/// dead letter. Outside a replay nothing changes.
pub fn after_replay(first: String, replay: Option<&str>) -> String {
    match replay {
        Some(replay) => identity_of_bytes(first.as_bytes(), replay),
        None => first,
    }
}

/// Identity of a dead letter that nobody can read: the same bytes are the same dead letter, so that archiving stays idempotent.
pub fn identity_of_bytes(body: &[u8], envelope: &str) -> String {
    digest([body, envelope.as_bytes()])
}

/// The name of a group: of the reason, the app, the template, WeChat's code and the field.
pub(super) fn fingerprint(parts: [&str; 5]) -> String {
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
    use super::*;

    fn key(event_id: &str, recipient: &str) -> DeliveryKey {
        DeliveryKey {
            company_no: "C001".to_owned(),
            app_id: "wx1".to_owned(),
            template_id: "T1".to_owned(),
            event_id: event_id.to_owned(),
            recipient: recipient.to_owned(),
        }
    }

    #[test]
    fn a_dead_letter_is_a_delivery_at_an_epoch() {
        let first = identity(&key("pay-1", "oA"), 1);
        assert_eq!(first, identity(&key("pay-1", "oA"), 1));
        assert_ne!(first, identity(&key("pay-1", "oA"), 2));
        assert_ne!(first, identity(&key("pay-1", "oB"), 1));
        assert_ne!(first, identity(&key("pay-1o", "A"), 1), "parts do not run into each other");
    }
}
