//! Why a dead letter is not replayed; a closed list with one spelling.

use crate::domain::dead_letter;

/// Why a dead letter does not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    AlreadySent,
    Skipped,
    InProgress,
    Superseded,
    BeingReplayed,
    Replayed,
    Resolved,
    Purged,
    Expired,
    UnknownApp,
    Paused,
    NeedsBody,
    HasRows,
}

impl Refusal {
    /// Every refusal, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::AlreadySent,
        Self::Skipped,
        Self::InProgress,
        Self::Superseded,
        Self::BeingReplayed,
        Self::Replayed,
        Self::Resolved,
        Self::Purged,
        Self::Expired,
        Self::UnknownApp,
        Self::Paused,
        Self::NeedsBody,
        Self::HasRows,
    ];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadySent => "already_sent",
            Self::Skipped => "skipped",
            Self::InProgress => "in_progress",
            Self::Superseded => "superseded",
            Self::BeingReplayed => "being_replayed",
            Self::Replayed => "replayed",
            Self::Resolved => "resolved",
            Self::Purged => "purged",
            Self::Expired => "expired",
            Self::UnknownApp => "unknown_app",
            Self::Paused => "paused",
            Self::NeedsBody => "needs_body",
            Self::HasRows => "has_rows",
        }
    }

    /// What it means and what to do, for an operator.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::AlreadySent => "the user has the message; `dlq resolve` closes the dead letter",
            Self::Skipped => "the delivery ended as skipped; `deliveries why` says why",
            Self::InProgress => "the delivery is in progress without a replay",
            Self::Superseded => "the delivery has a later dead letter: replay that one",
            Self::BeingReplayed => "in another unfinished replay: `dlq history`",
            Self::Replayed => "already replayed; if it died again, its later dead letter is open",
            Self::Resolved => "closed by an operator",
            Self::Purged => "its body is gone",
            Self::Expired => "too old; --even-expired sends it anyway",
            Self::UnknownApp => "its app is not registered: `app add` first",
            Self::Paused => "its app or template is paused: `app list` says why",
            Self::NeedsBody => {
                "unchanged it would be refused again: replay it alone, corrected, with --body FILE"
            }
            Self::HasRows => {
                "the event's deliveries have dead letters of their own; --re-resolve plans it again"
            }
        }
    }

    /// Why a dead letter in this state is not for a replay; `None`: it is open.
    pub const fn of_state(state: dead_letter::State) -> Option<Self> {
        match state {
            dead_letter::State::Open => None,
            dead_letter::State::Replaying => Some(Self::BeingReplayed),
            dead_letter::State::Replayed => Some(Self::Replayed),
            dead_letter::State::Resolved => Some(Self::Resolved),
            dead_letter::State::Purged => Some(Self::Purged),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
