//! One delivery and everything around it: queues, ledger row, two processes, an operator.
//!
//! A [`World`] is small and plain, so that millions of them can be told apart.

use std::fmt;

use uuid::Uuid;

use super::super::{OnUnknown, Row, Status};

/// How much may go wrong. Bounds are small on purpose: worlds multiply with each, and a violation that needs more than
/// `faults` at once has not been seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    pub on_unknown: OnUnknown,
    /// How often the event is published.
    pub copies: u8,
    /// Is the row written ahead, as a fan-out does?
    pub planned: bool,
    /// Last epoch that is deferred from; an attempt of a later one gives up instead.
    pub last_epoch: u8,
    /// How much of the following may happen, all kinds together.
    pub faults: u8,
    /// A process dies, and is back at once with empty hands.
    pub crashes: u8,
    /// A process is cut off the broker: what it holds is redelivered, its ack is void, it goes on.
    pub cuts: u8,
    /// The lease of a living holder runs out.
    pub slow: u8,
    /// Requests whose answer never comes.
    pub unknown_answers: u8,
    /// Answers of the database and confirms of the broker that are lost after the deed.
    pub lost_answers: u8,
    /// Fresh claims that PostgreSQL forgets in a crash of its own.
    pub forgotten: u8,
    /// Publishes of one dead letter by the operator; no fault.
    pub replays: u8,
}

impl Scope {
    /// One event, and nothing goes wrong.
    pub(super) const CALM: Self = Self {
        on_unknown: OnUnknown::Resend,
        copies: 1,
        planned: false,
        last_epoch: 0,
        faults: 0,
        crashes: 0,
        cuts: 0,
        slow: 0,
        unknown_answers: 0,
        lost_answers: 0,
        forgotten: 0,
        replays: 0,
    };
}

/// Epochs told apart: two by deferring, one more by a replay.
pub(super) const EPOCHS: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct World {
    pub queue: Queue,
    pub row: LedgerRow,
    pub processes: [Process; 2],
    /// Epochs of which a dead letter exists, as bits.
    pub dead_letters: u8,
    /// Which dead letter the operator replays, and how often it was published.
    pub replayed: u8,
    pub replays: u8,
    /// Messages the user got.
    pub received: u8,
    /// How often `sent` was written.
    pub sent_written: u8,
    /// A process that was told yes has settled it.
    pub yes_settled: bool,
    /// How often a dead row was opened again.
    pub reopened: u8,
    pub happened: Faults,
}

/// What went wrong so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults {
    pub crashes: u8,
    pub cuts: u8,
    pub slow: u8,
    pub unknown_answers: u8,
    pub lost_answers: u8,
    pub forgotten: u8,
}

impl Faults {
    pub(super) fn all(&self) -> u8 {
        self.crashes + self.cuts + self.slow + self.unknown_answers + self.lost_answers + self.forgotten
    }
}

/// Messages ready to be taken: up to seven of each kind, three bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Queue(u32);

impl Queue {
    const WIDTH: u8 = 3;

    pub(super) fn with(self, epoch: u8, replay: bool) -> Self {
        assert!(self.count(epoch, replay) < 7, "more copies than the model counts");
        Self(self.0 + (1 << Self::place(epoch, replay)))
    }

    pub(super) fn without(self, epoch: u8, replay: bool) -> Self {
        Self(self.0 - (1 << Self::place(epoch, replay)))
    }

    pub(super) fn count(self, epoch: u8, replay: bool) -> u32 {
        self.0 >> Self::place(epoch, replay) & 0b111
    }

    fn place(epoch: u8, replay: bool) -> u8 {
        Self::WIDTH * (2 * epoch + u8::from(replay))
    }
}

/// The row; without a status there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LedgerRow {
    pub status: Option<Status>,
    pub epoch: u8,
    /// The process whose claim it is: 1 or 2; 0 where its claimant no longer knows.
    pub holder: u8,
    pub leased: bool,
    pub timeouts: u8,
    pub take_overs: u8,
    pub unknowns: u8,
}

impl LedgerRow {
    /// As the protocol sees it.
    pub(super) fn seen(&self) -> Option<Row> {
        self.status.map(|status| Row {
            status,
            epoch: i32::from(self.epoch),
            claim: (status == Status::Attempting).then(|| claim_of(self.holder)),
            leased: self.leased,
            timeouts: i32::from(self.timeouts),
            take_overs: i32::from(self.take_overs),
        })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.status.is_some_and(Status::is_finished)
    }
}

/// Claims are told apart by who made them: who begins another attempt has forgotten the claim before.
pub(super) fn claim_of(holder: u8) -> Uuid {
    Uuid::from_u128(u128::from(holder))
}

/// A process with at most one message in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Process {
    pub at: At,
    pub epoch: u8,
    pub replay: bool,
    /// The broker has given the message to somebody else: our ack will be void.
    pub cut: bool,
    /// The answer to our request never came.
    pub unknown: bool,
}

/// What a process does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum At {
    #[default]
    Idle,
    Claim,
    Request,
    SettleSent,
    SettleSkipped,
    PublishNext,
    SettleNext,
    PublishDeadLetter,
    SettleDead,
    Defer,
    Ack,
}

impl World {
    /// The event is published, and nothing has happened yet.
    pub(super) fn fresh(scope: &Scope) -> Self {
        let queue = (0..scope.copies).fold(Queue::default(), |queue, _| queue.with(0, false));
        let status = scope.planned.then_some(Status::Planned);
        Self { queue, row: LedgerRow { status, ..LedgerRow::default() }, ..Self::default() }
    }

    /// Nothing is on its way and nobody is at work.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue == Queue::default() && self.processes.iter().all(|process| process.at == At::Idle)
    }

    /// The epochs of all messages that are ready, or will be should their holder fall.
    pub(super) fn delivery_messages(&self) -> impl Iterator<Item = u8> + '_ {
        let ready = |epoch: &u8| self.queue.count(*epoch, false) + self.queue.count(*epoch, true) > 0;
        let held = self.processes.iter().filter(|process| process.at != At::Idle && !process.cut);
        (0..EPOCHS).filter(ready).chain(held.map(|process| process.epoch))
    }

    pub(super) fn has_dead_letter(&self, epoch: u8) -> bool {
        self.dead_letters >> epoch & 1 == 1
    }

    /// All of it in one number. Two worlds that differ only in which process is which have the same.
    pub(super) fn key(&self) -> u128 {
        let Self { row, happened, .. } = self;
        let (a, b) = (self.process_key(0), self.process_key(1));
        let mut low = u64::from(self.queue.0) << 20 | a.min(b) << 10 | a.max(b);
        let mut high = 0;
        lay(&mut low, 3, &[row.status.map_or(0, |status| status as u8 + 1), row.unknowns, self.received]);
        lay(&mut low, 1, &[row.leased.into(), self.yes_settled.into()]);
        lay(&mut high, 2, &[row.epoch, row.timeouts]);
        lay(&mut high, 3, &[row.take_overs]);
        lay(&mut high, 4, &[self.dead_letters]);
        lay(&mut high, 2, &[self.replayed, self.replays, self.sent_written, self.reopened]);
        lay(&mut high, 2, &[happened.crashes, happened.cuts, happened.slow]);
        lay(&mut high, 2, &[happened.unknown_answers, happened.lost_answers, happened.forgotten]);
        u128::from(high) << 64 | u128::from(low)
    }

    fn process_key(&self, index: u8) -> u64 {
        let Process { at, epoch, replay, cut, unknown } = self.processes[usize::from(index)];
        let mut key = at as u64;
        lay(&mut key, 2, &[epoch]);
        lay(&mut key, 1, &[replay.into(), cut.into(), unknown.into(), (self.row.holder == index + 1).into()]);
        key
    }
}

fn lay(bits: &mut u64, width: u32, values: &[u8]) {
    for &value in values {
        assert!(value >> width == 0, "a bound of the scope is wider than the key");
        *bits = *bits << width | u64::from(value);
    }
}

/// Who is who in a trace.
pub(super) const NAMES: [&str; 2] = ["A", "B"];

impl fmt::Display for World {
    /// One line: what is queued, the row, what each process is about to do, what the user got.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for epoch in 0..EPOCHS {
            (0..self.queue.count(epoch, false)).try_for_each(|_| write!(f, "[{epoch}] "))?;
            (0..self.queue.count(epoch, true)).try_for_each(|_| write!(f, "[{epoch} replay] "))?;
        }
        match self.row.status {
            None => write!(f, "no row")?,
            Some(status) => write!(f, "{} epoch {}", status.as_str(), self.row.epoch)?,
        }
        if self.row.status == Some(Status::Attempting) {
            let holder = self.row.holder.checked_sub(1).map_or("nobody", |index| NAMES[usize::from(index)]);
            write!(f, " by {holder}{}", if self.row.leased { "" } else { ", lease over" })?;
        }
        write!(f, ", unknowns {}, received {}", self.row.unknowns, self.received)?;
        for (name, process) in NAMES.iter().zip(&self.processes).filter(|(_, process)| process.at != At::Idle)
        {
            let cut = if process.cut { ", cut off" } else { "" };
            write!(f, "; {name} holds [{}]{cut}, next: {:?}", process.epoch, process.at)?;
        }
        Ok(())
    }
}
