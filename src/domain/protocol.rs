//! The delivery protocol: what happens when a message meets a ledger row, and when an outcome meets it again.
//!
//! This table exists once, here. `db::ledger::claim` and `db::ledger::settle` read rows under lock, ask these functions, and write what they
//! say; the tests explore it with two processes, crashes, partitions, lost answers and doubled replays.
//!
//! **Invariant: every unfinished row has at least one delivery message.** A delivery message is a message whose epoch is not older
//! than the row's. Nothing is acked while it may be the last one.

use uuid::Uuid;

/// The ledger's status words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Written ahead of its attempt: a fan-out's page, or a delivery that is due later.
    Planned,
    /// Claimed by somebody, until its lease ends.
    Attempting,
    /// Deferred; a message of its epoch is under way.
    Retrying,
    Sent,
    Skipped,
    Dead,
}

impl Status {
    /// Every status, in the order of a delivery's life.
    pub const ALL: &[Self] =
        &[Self::Planned, Self::Attempting, Self::Retrying, Self::Sent, Self::Skipped, Self::Dead];

    /// The spelling in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Attempting => "attempting",
            Self::Retrying => "retrying",
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }

    /// Reads the spelling back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.as_str() == word)
    }

    /// Nothing more will happen by itself.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Sent | Self::Skipped | Self::Dead)
    }
}

/// A ledger row, as far as the protocol looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    pub status: Status,
    pub epoch: i32,
    /// Whose claim it is; meaningful while `attempting`.
    pub claim: Option<Uuid>,
    /// Is the claim's lease still running, by the database's clock? Within the grace after PostgreSQL's own start every
    /// lease counts as running, so that living holders settle first.
    pub leased: bool,
    /// Attempts in a row whose answer never came (timeout, reset), since the last replay.
    pub timeouts: i32,
    /// Claims that ran out, since the last replay.
    pub take_overs: i32,
}

/// A message that wants to attempt a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryMessage {
    pub epoch: i32,
    /// Brought back by an operator.
    pub replay: bool,
    /// The claim this attempt would hold. New for each attempt, the same when the claim statement is repeated.
    pub claim: Uuid,
    pub on_unknown: OnUnknown,
}

/// What to do where nobody can know whether the message went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnUnknown {
    /// Rather twice than never, within bounds.
    #[default]
    Resend,
    /// At most once: a dead letter, and an operator decides.
    Park,
}

impl OnUnknown {
    /// Resends after an attempt that timed out or broke. More would turn one slow WeChat into a flood of doubles.
    pub const MAX_TIMEOUTS: i32 = 2;
    /// Take-overs after crashes. Each is one crash of ours with this delivery in flight; ten mean it is the cause.
    pub const MAX_TAKE_OVERS: i32 = 10;

    /// Reads the event's and the configuration's word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "resend" => Some(Self::Resend),
            "park" => Some(Self::Park),
            _ => None,
        }
    }

    /// May an attempt follow one whose answer never came, with `timeouts` of them so far, the last included?
    pub const fn resends_after_timeouts(self, timeouts: i32) -> bool {
        matches!(self, Self::Resend) && timeouts <= Self::MAX_TIMEOUTS
    }

    const fn resends_after_take_overs(self, take_overs: i32) -> bool {
        matches!(self, Self::Resend) && take_overs <= Self::MAX_TAKE_OVERS
    }
}

/// What a message does when it meets a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meeting {
    /// Claim: `attempting`, the message's epoch, our claim. A replay starts its counts of unknowns again.
    Claim,
    /// It is ours already; only the answer to our claim was lost.
    Ours,
    /// The holder's lease ran out: claim, count one unknown, and attempt again.
    TakeOver,
    /// As [`Self::TakeOver`], but policy forbids another attempt: claim, count, and give up as `unknown_outcome`.
    TakeOverAndGiveUp,
    /// As [`Self::TakeOverAndGiveUp`], and ours already; only the answer to our claim was lost.
    GiveUp,
    /// Somebody is at it: defer the message unchanged, uncharged, and only then ack.
    Busy,
    /// A message of an earlier epoch: ack.
    Echo,
    /// There is nothing left to do: ack.
    Finished(Status),
}

/// The table of the delivery protocol (see `docs/ARCHITECTURE.md`).
pub fn meet(row: Option<&Row>, delivery_message: &DeliveryMessage) -> Meeting {
    let Some(row) = row else { return Meeting::Claim };
    match row.status {
        Status::Dead if delivery_message.replay && delivery_message.epoch == row.epoch + 1 => Meeting::Claim,
        Status::Sent | Status::Skipped | Status::Dead => Meeting::Finished(row.status),
        _ if delivery_message.epoch < row.epoch => Meeting::Echo,
        Status::Planned | Status::Retrying => Meeting::Claim,
        Status::Attempting if row.claim == Some(delivery_message.claim) => ours(row, delivery_message),
        Status::Attempting if row.leased => Meeting::Busy,
        Status::Attempting if delivery_message.on_unknown.resends_after_take_overs(row.take_overs + 1) => {
            Meeting::TakeOver
        }
        Status::Attempting => Meeting::TakeOverAndGiveUp,
    }
}

/// A claim of ours whose answer was lost: the attempt is still to come, unless it was taken over only to be given up.
const fn ours(row: &Row, delivery_message: &DeliveryMessage) -> Meeting {
    if row.take_overs == 0 || delivery_message.on_unknown.resends_after_take_overs(row.take_overs) {
        Meeting::Ours
    } else {
        Meeting::GiveUp
    }
}

/// What an attempt wants written into its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    Sent,
    Skipped,
    /// A message of the next epoch has been published and confirmed.
    Retrying,
    /// The dead letter has been published and confirmed.
    Dead,
}

/// What becomes of that wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settling {
    /// Write it into the row.
    Record,
    /// The row is gone (a failover to a standby that lacked it): write it whole. Only `sent` does this.
    Insert,
    /// Somebody recorded `sent` before; nothing changes, nothing is counted twice. Ack.
    AlreadySent,
    /// The claim was lost, and a message of the next epoch is already published: drop the outcome, count it, ack.
    Drop,
    /// The claim was lost and our message may be the last delivery message: drop the outcome, count it, defer the message
    /// unchanged, then ack.
    DropAndDefer,
}

/// What to do with an outcome, given the row it finds.
pub fn settle(row: Option<&Row>, claim: Uuid, settlement: Settlement) -> Settling {
    let ours = row.is_some_and(|row| row.status == Status::Attempting && row.claim == Some(claim));
    match (settlement, row) {
        (Settlement::Sent, None) => Settling::Insert,
        (Settlement::Sent, Some(row)) if row.status == Status::Sent => Settling::AlreadySent,
        (Settlement::Sent, Some(_)) => Settling::Record,
        (_, _) if ours => Settling::Record,
        (Settlement::Retrying, _) => Settling::Drop,
        (Settlement::Skipped | Settlement::Dead, _) => Settling::DropAndDefer,
    }
}

#[cfg(test)]
mod model;
