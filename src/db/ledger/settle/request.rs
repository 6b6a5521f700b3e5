//! An attempt's end on its way into the ledger.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::consent::ClosingCause;
use crate::domain::event::Event;
use crate::domain::outcome::{AnswerFacts, DeadReason, SkipReason};
use crate::domain::protocol::{Settlement, Status};
use crate::domain::recipient::Recipient;

/// The end of an attempt, and what to write with it.
#[derive(Debug, Clone)]
pub struct Request {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    pub row_id: i64,
    pub claim: Uuid,
    pub ending: Ending,
    pub facts: AnswerFacts,
    /// Requests to charge.
    pub attempts: i32,
    /// Did this attempt end without a known outcome?
    pub unknown: bool,
    /// Does the policy on unknowns count it against the delivery?
    pub timed_out: bool,
    /// What the settlement means for the user's consent.
    pub consent: ConsentChange,
    pub user_id: Option<i64>,
    pub token_generation: Option<i64>,
    pub trace_id: Option<String>,
    /// The epoch of the message that brought the delivery; a row written whole gets it.
    pub epoch: i32,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Sent {
        msgid: Option<u64>,
    },
    Skipped(SkipReason),
    /// A message of epoch `epoch` is published and will be back around `due_at`.
    Retrying {
        epoch: i32,
        due_at: Timestamp,
    },
    /// The dead letter is published.
    Dead(DeadReason),
}

/// What a settlement does to the user's consent record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentChange {
    Nothing,
    /// One counted send is used.
    Used,
    /// WeChat refused (43101, 40003): closed, unless the user has answered again since the claim.
    Closed(ClosingCause),
}

impl Ending {
    pub(super) fn settlement(self) -> Settlement {
        match self {
            Self::Sent { .. } => Settlement::Sent,
            Self::Skipped(_) => Settlement::Skipped,
            Self::Retrying { .. } => Settlement::Retrying,
            Self::Dead(_) => Settlement::Dead,
        }
    }

    pub(super) fn status(self) -> Status {
        match self {
            Self::Sent { .. } => Status::Sent,
            Self::Skipped(_) => Status::Skipped,
            Self::Retrying { .. } => Status::Retrying,
            Self::Dead(_) => Status::Dead,
        }
    }

    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Skipped(reason) => Some(reason.as_str()),
            Self::Dead(reason) => Some(reason.as_str()),
            Self::Sent { .. } | Self::Retrying { .. } => None,
        }
    }

    pub(super) fn next_epoch(self) -> Option<i32> {
        match self {
            Self::Retrying { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    pub(super) fn due_at(self) -> Option<Timestamp> {
        match self {
            Self::Retrying { due_at, .. } => Some(due_at),
            _ => None,
        }
    }

    pub(super) fn msgid(self) -> Option<String> {
        match self {
            Self::Sent { msgid } => msgid.map(|id| id.to_string()),
            _ => None,
        }
    }
}

impl ConsentChange {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Used => "used",
            Self::Closed(closing) => closing.as_str(),
        }
    }
}
