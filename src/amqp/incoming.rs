//! A message from the broker, and the duty to answer for it.

use std::fmt;
use std::sync::Arc;

use tracing::debug;

use super::acks_task::Acks;
use super::message::Message;

/// One AMQP message in our hands, not yet settled.
#[derive(Debug)]
pub struct Incoming {
    pub message: Message,
    /// The key it was published with, e.g. `payment.paid`.
    pub routing_key: String,
    /// The broker handed it out before, to us or to somebody else.
    pub redelivered: bool,
    pub ack_handle: AckHandle,
}

/// Acks an incoming or gives it back. If it is dropped without either, the message stays unacked and comes
/// again when its channel ends.
pub struct AckHandle {
    pub(super) tag: u64,
    /// Taken by the verdict.
    pub(super) acks: Option<Arc<Acks>>,
}

impl AckHandle {
    /// The incoming is settled; the broker forgets it. Cheap: the ack is written together with others.
    pub fn ack(mut self) {
        if let Some(acks) = self.acks.take() {
            acks.ack(self.tag);
        }
    }

    /// Nothing was begun; the broker may hand it to somebody else. Counts as a redelivery before RabbitMQ 4.3, so it is
    /// no way to try again.
    pub fn give_back(mut self) {
        if let Some(acks) = self.acks.take() {
            acks.give_back(self.tag);
        }
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        if self.acks.is_some() {
            debug!(
                tag = self.tag,
                "an ack handle was dropped without ack or nack; its message stays unacked"
            );
        }
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckHandle").field("tag", &self.tag).finish_non_exhaustive()
    }
}
