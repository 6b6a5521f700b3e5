//! The duty to bring one event to one recipient.

use std::sync::Arc;

use super::event::Event;
use super::recipient::Recipient;

/// One event × one recipient: the unit of sending, retrying and giving up.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    /// Where this delivery's carrier stands; zero for a fresh event.
    pub progress: Progress,
}

/// What a carrier message knows beyond event and recipient; travels in its `x-wn-…` headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often the delivery was handed on. A message of an older turn is an echo.
    pub turn: i32,
    /// Charged steps of the ladder already used.
    pub step: usize,
    /// Brought back by an operator: may claim a dead row.
    pub replay: bool,
    /// An operator said that freshness does not matter (`--even-expired`).
    pub even_expired: bool,
}
