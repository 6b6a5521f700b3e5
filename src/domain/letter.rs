//! The identity of a dead letter.

use sha2::{Digest, Sha256};

use super::event::Event;
use super::recipient::Recipient;

/// Names the letter of one delivery at one turn: however often it is published, it is archived once.
pub fn of_delivery(event: &Event, recipient: &Recipient, turn: i32) -> String {
    digest(&[&key(event), recipient.ledger_key().as_bytes(), &turn.to_be_bytes()])
}

/// Names the letter of a whole event. The content is part of it: a reused id with two further contents is two letters.
pub fn of_event(event: &Event) -> String {
    digest(&[&key(event), &event.content_hash])
}

fn key(event: &Event) -> Vec<u8> {
    let parts = [event.company_no.as_str(), event.app_id.as_str(), event.template_id.as_str(), event.event_id.as_str()];
    // Identifiers hold no control characters, so NUL cannot be confused with a part of one.
    parts.join("\0").into_bytes()
}

/// 128 bits as hex: collisions are out of question, and the name stays readable in a listing.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
