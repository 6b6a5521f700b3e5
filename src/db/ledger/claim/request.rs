//! What is asked of the ledger before an attempt, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::consent::Consent;
use crate::domain::event::Event;
use crate::domain::protocol::{DeliveryMessage, Meeting};
use crate::domain::recipient::Recipient;

/// How long claims last.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// From the claim on, by the database's clock.
    pub lasts: Duration,
    /// No take-over this soon after PostgreSQL's own start.
    pub grace: Duration,
}

/// A delivery that is about to be attempted.
#[derive(Debug, Clone)]
pub struct Request {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    pub delivery_message: DeliveryMessage,
    pub trace_id: Option<String>,
}

/// What the ledger says.
#[derive(Debug, Clone)]
pub struct Answer {
    pub meeting: Meeting,
    /// Present where the meeting leaves the delivery claimed by us.
    pub claim: Option<Claim>,
    /// The row has other data or another page than our message: the event id was used twice.
    pub reused: bool,
}

/// A delivery that is ours until its lease ends.
#[derive(Debug, Clone)]
pub struct Claim {
    pub row_id: i64,
    pub claim: Uuid,
    /// Consent at the time of the claim, which may be less than when the plan was made. `None`: the user's row is gone.
    pub consent: Option<Consent>,
    /// The user's row exists and is switched off.
    pub is_disabled: bool,
    /// `t_wechat_user.id`, for writing consent back.
    pub user_id: Option<i64>,
    /// Requests charged so far.
    pub attempts: i32,
    /// Attempts in a row without an answer.
    pub timeouts: i32,
    /// Earlier attempts that may have reached the user.
    pub unknowns: i32,
}
