//! The duty to bring one event to one recipient.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::event::Event;
use super::recipient::Recipient;

/// What tells a delivery from all others: the ledger has one row for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct DeliveryKey {
    pub company_no: String,
    pub app_id: String,
    pub template_id: String,
    pub event_id: String,
    /// The openid, else `@` and the business user, else empty.
    pub recipient: String,
}

impl DeliveryKey {
    pub fn of(event: &Event, recipient: &Recipient) -> Self {
        Self {
            company_no: event.company_no.to_string(),
            app_id: event.app_id.to_string(),
            template_id: event.template_id.to_string(),
            event_id: event.event_id.to_string(),
            recipient: recipient.ledger_key(),
        }
    }
}

/// One event × one recipient: the unit of sending, retrying and giving up.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    pub progress: Progress,
}

impl Delivery {
    /// The time before which it must not be attempted, if that is still ahead.
    pub fn due_later(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.progress.due.max(self.event.deliver_after)?;
        (due > now).then_some(due)
    }

    /// Is it too old to be of use?
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.event.expires_at <= now && !self.progress.even_expired
    }
}

/// What a delivery message knows beyond event and recipient; travels in its `x-wn-…` headers. All zero for a fresh event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often the delivery was deferred. A message of an older epoch is an echo.
    pub epoch: i32,
    /// Charged steps of the ladder already used.
    pub step: usize,
    /// Not to be attempted before (quota used until tomorrow, say).
    pub due: Option<Timestamp>,
    /// When an attempt failed for the first time.
    pub first_failed: Option<Timestamp>,
    /// Brought back by an operator: may claim a dead row.
    pub replay: bool,
    /// An operator said that freshness does not matter (`--even-expired`).
    pub even_expired: bool,
}
