//! A delivery in our hands, and what became of it.

use std::sync::Arc;

use jiff::Timestamp;

use super::apps::ResolvedApp;
use super::envelope::Envelope;
use crate::domain::delivery::Delivery;

/// A delivery with the envelope of the message that brought it.
pub(super) struct Job {
    pub(super) delivery: Delivery,
    pub(super) envelope: Arc<Envelope>,
    pub(super) app: ResolvedApp,
}

/// What became of a delivery, or of a whole message, in our hands: it is settled, deferred or another message's, and may be
/// acked; or it is [`Unsettled`].
pub(super) type Disposition<T = ()> = Result<T, Unsettled>;

/// Why a message must not be acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// Nothing was done about it; the caller that holds its message is to defer it.
    ToDefer(Wait),
    /// A soft stop came before its attempt: released to the broker at once, uncharged.
    Released,
    /// A hard stop came in the middle: left unacked, the broker finds out by itself.
    CutOff,
}

/// Where, and for how long, something waits that cannot go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// On the ladder's first step.
    Briefly,
    /// In its app's lane: the app is paused, or a fresh delivery would wait long for it.
    InLane,
    /// On the ladder, until then.
    Until(Timestamp),
}
