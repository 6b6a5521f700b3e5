//! Everything that can happen to a [`World`].
//!
//! Steps are as fine as the arrows of the protocol: between any two, anything else may happen. Faults are steps too,
//! bounded by the [`Scope`].

use std::fmt;

use uuid::Uuid;

use super::super::{DeliveryMessage, Meeting, Row, Settlement, Settling, Status};
use super::world::{At, EPOCHS, Faults, LedgerRow, NAMES, Process, Scope, World, claim_of};

/// The two functions under test.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub meet: fn(Option<&Row>, &DeliveryMessage) -> Meeting,
    pub settle: fn(Option<&Row>, Uuid, Settlement) -> Settling,
}

/// What governs the steps.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub table: &'a Table,
    pub scope: &'a Scope,
}

/// Who does what, for the trace.
#[derive(Clone, Copy)]
pub(super) struct Step(&'static str, &'static str);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

impl World {
    /// Every step possible from here, given to `each` with the world it leads to.
    pub(super) fn steps(&self, rules: Rules<'_>, mut each: impl FnMut(Step, Self)) {
        for (index, name) in NAMES.into_iter().enumerate() {
            let mut own = |what, next| each(Step(name, what), next);
            self.work(index, rules, &mut own);
            self.fall(index, rules, &mut own);
        }
        self.time_passes(rules, &mut each);
        self.operator_replays(rules, &mut each);
    }

    /// What happens when no more goes wrong; `None` at the end.
    pub(super) fn left_alone(&self, rules: Rules<'_>) -> Option<Self> {
        let mut next = None;
        let mut first = |_, world| next = next.or(Some(world));
        match self.processes.iter().position(|process| process.at != At::Idle) {
            Some(busy) => self.work(busy, rules, &mut first),
            None if self.row.leased => first("", self.with_lease_over()),
            None => self.work(0, rules, &mut first),
        }
        next
    }

    /// The next step of one process; first the way it goes when nothing goes wrong.
    fn work(&self, index: usize, rules: Rules<'_>, each: &mut impl FnMut(&'static str, Self)) {
        match self.processes[index].at {
            At::Idle => self.take(index, each),
            At::Claim => self.claim(index, rules, each),
            At::Request => self.request(index, rules, each),
            At::SettleSent => self.settle(index, Settlement::Sent, rules, each),
            At::SettleSkipped => self.settle(index, Settlement::Skipped, rules, each),
            At::SettleNext => self.settle(index, Settlement::Retrying, rules, each),
            At::SettleDead => self.settle(index, Settlement::Dead, rules, each),
            At::PublishNext => {
                self.publish("publishes the next epoch", index, 1, At::SettleNext, rules, each)
            }
            At::Defer => self.publish("defers unchanged", index, 0, At::Ack, rules, each),
            At::PublishDeadLetter => {
                // Archiving is idempotent by epoch, so a second dead letter of the same epoch changes nothing.
                let dead_letters = self.dead_letters | 1 << self.processes[index].epoch;
                each("publishes a dead letter", Self { dead_letters, ..self.at(index, At::SettleDead) });
            }
            At::Ack => each("acks", self.without(index)),
        }
    }

    fn take(&self, index: usize, each: &mut impl FnMut(&'static str, Self)) {
        for (epoch, replay) in (0..EPOCHS).flat_map(|epoch| [(epoch, false), (epoch, true)]) {
            if self.queue.count(epoch, replay) > 0 {
                let mut next = Self { queue: self.queue.without(epoch, replay), ..*self };
                next.processes[index] = Process { at: At::Claim, epoch, replay, ..Process::default() };
                each("takes a message", next);
            }
        }
    }

    fn claim(&self, index: usize, rules: Rules<'_>, each: &mut impl FnMut(&'static str, Self)) {
        let meeting = (rules.table.meet)(self.row.seen().as_ref(), &self.delivery_message(index, rules));
        let (what, at) = match meeting {
            Meeting::Claim => ("claims", At::Request),
            Meeting::Ours => ("finds its own claim", At::Request),
            Meeting::TakeOver => ("takes over", At::Request),
            Meeting::TakeOverAndGiveUp => ("takes over to give up", At::PublishDeadLetter),
            Meeting::GiveUp => ("finds its own claim, taken over to give up", At::PublishDeadLetter),
            Meeting::Busy => ("meets a busy row", At::Defer),
            Meeting::Echo => ("finds that it holds an echo", At::Ack),
            Meeting::Finished(_) => ("meets a finished row", At::Ack),
        };
        let written = self.with_meeting(index, meeting);
        each(what, written.at(index, at));
        if meeting == Meeting::Claim {
            let row = row_after(written.row, Status::Skipped, self.processes[index].epoch);
            each("finds consent withdrawn while claiming", Self { row, ..written.at(index, At::Ack) });
        }
        if written != *self && self.may_lose_an_answer(rules) {
            each("claims, and the answer is lost", written.with_lost_answer());
        }
    }

    fn delivery_message(&self, index: usize, rules: Rules<'_>) -> DeliveryMessage {
        let Process { epoch, replay, .. } = self.processes[index];
        let claim = claim_of(holder(index));
        DeliveryMessage { epoch: i32::from(epoch), replay, claim, on_unknown: rules.scope.on_unknown }
    }

    fn with_meeting(&self, index: usize, meeting: Meeting) -> Self {
        let mut next = *self;
        match meeting {
            Meeting::Claim if self.row.status == Some(Status::Dead) => {
                next.reopened += 1;
                next.row = LedgerRow { timeouts: 0, take_overs: 0, ..self.row };
            }
            Meeting::Claim => {}
            Meeting::TakeOver | Meeting::TakeOverAndGiveUp => {
                next.row.take_overs += 1;
                next.row.unknowns += 1;
            }
            Meeting::Ours | Meeting::GiveUp | Meeting::Busy | Meeting::Echo | Meeting::Finished(_) => {
                return next;
            }
        }
        let claimed = row_after(next.row, Status::Attempting, self.processes[index].epoch);
        next.row = LedgerRow { holder: holder(index), leased: true, ..claimed };
        next
    }

    fn request(&self, index: usize, rules: Rules<'_>, each: &mut impl FnMut(&'static str, Self)) {
        let more = self.processes[index].epoch <= rules.scope.last_epoch;
        let later = if more { At::PublishNext } else { At::PublishDeadLetter };
        let received = |world: Self| Self { received: world.received + 1, ..world };
        each("sends, and is told yes", received(self.at(index, At::SettleSent)));
        each("sends, and is told to come again", self.at(index, later));
        each("sends, and is told that the user refuses", self.at(index, At::SettleSkipped));
        each("sends, and is told that the content is bad", self.at(index, At::PublishDeadLetter));
        if self.may(rules, |faults| faults.unknown_answers, rules.scope.unknown_answers) {
            let resends = rules.scope.on_unknown.resends_after_timeouts(i32::from(self.row.timeouts) + 1);
            let mut next = self.at(index, if resends { later } else { At::PublishDeadLetter });
            next.processes[index].unknown = true;
            next.happened.unknown_answers += 1;
            each("sends, the user gets it, and no answer comes", received(next));
            each("sends, the user gets nothing, and no answer comes", next);
        }
    }

    fn settle(
        &self,
        index: usize,
        settlement: Settlement,
        rules: Rules<'_>,
        each: &mut impl FnMut(&'static str, Self),
    ) {
        let claim = claim_of(holder(index));
        let settling = (rules.table.settle)(self.row.seen().as_ref(), claim, settlement);
        let (what, at) = match settling {
            Settling::Record => ("settles", At::Ack),
            Settling::Insert => ("settles by writing the row again", At::Ack),
            Settling::AlreadySent => ("finds it settled as sent", At::Ack),
            Settling::Drop => ("finds its claim lost", At::Ack),
            Settling::DropAndDefer => ("finds its claim lost, and must defer", At::Defer),
        };
        let writes = matches!(settling, Settling::Record | Settling::Insert);
        let written = if writes { self.with_settlement(index, settlement) } else { *self };
        let yes_settled = self.yes_settled || settlement == Settlement::Sent;
        each(what, Self { yes_settled, ..written.at(index, at) });
        if written != *self && self.may_lose_an_answer(rules) {
            each("settles, and the answer is lost", written.with_lost_answer());
        }
    }

    fn with_settlement(&self, index: usize, settlement: Settlement) -> Self {
        let Process { epoch, unknown, .. } = self.processes[index];
        let mut next = *self;
        next.row = match settlement {
            // The one that was told yes may hold an older epoch than the row's.
            Settlement::Sent => row_after(self.row, Status::Sent, epoch.max(self.row.epoch)),
            Settlement::Skipped => row_after(self.row, Status::Skipped, epoch),
            Settlement::Dead => row_after(self.row, Status::Dead, epoch),
            Settlement::Retrying => row_after(self.row, Status::Retrying, epoch + 1),
        };
        next.row.timeouts = if unknown { self.row.timeouts + 1 } else { 0 };
        next.row.unknowns += u8::from(unknown);
        next.sent_written += u8::from(settlement == Settlement::Sent);
        next
    }

    fn publish(
        &self,
        what: &'static str,
        index: usize,
        epochs_on: u8,
        then: At,
        rules: Rules<'_>,
        each: &mut impl FnMut(&'static str, Self),
    ) {
        let Process { epoch, replay, .. } = self.processes[index];
        let published = self.with_message(epoch + epochs_on, replay);
        each(what, published.at(index, then));
        if self.may_lose_an_answer(rules) {
            each("publishes, and the confirm is lost", published.with_lost_answer());
        }
    }

    fn fall(&self, index: usize, rules: Rules<'_>, each: &mut impl FnMut(&'static str, Self)) {
        let process = self.processes[index];
        if process.at == At::Idle {
            return;
        }
        let redelivered = if process.cut { *self } else { self.with_message(process.epoch, process.replay) };
        if self.may(rules, |faults| faults.crashes, rules.scope.crashes) {
            let mut next = redelivered.without(index);
            next.happened.crashes += 1;
            each("crashes", next);
        }
        if !process.cut && self.may(rules, |faults| faults.cuts, rules.scope.cuts) {
            let mut next = redelivered;
            next.processes[index].cut = true;
            next.happened.cuts += 1;
            each("is cut off the broker", next);
        }
    }

    fn time_passes(&self, rules: Rules<'_>, each: &mut impl FnMut(Step, Self)) {
        if self.row.leased && self.row.holder == 0 {
            each(Step("time", "ends the lease of a holder that is gone"), self.with_lease_over());
        } else if self.row.leased && self.may(rules, |faults| faults.slow, rules.scope.slow) {
            let mut next = self.with_lease_over();
            next.happened.slow += 1;
            each(Step("time", "ends the lease of a slow holder"), next);
        }
        let fresh_claim = self.row.status == Some(Status::Attempting) && self.row.epoch == 0;
        if fresh_claim && self.may(rules, |faults| faults.forgotten, rules.scope.forgotten) {
            let mut next = Self { row: LedgerRow::default(), ..*self };
            next.happened.forgotten += 1;
            each(Step("PostgreSQL", "crashes and forgets the row"), next);
        }
    }

    fn operator_replays(&self, rules: Rules<'_>, each: &mut impl FnMut(Step, Self)) {
        if self.replays == rules.scope.replays {
            return;
        }
        for dead_letter in (0..EPOCHS - 1).filter(|&dead_letter| self.has_dead_letter(dead_letter)) {
            if self.replays == 0 || self.replayed == dead_letter {
                let next = self.with_message(dead_letter + 1, true);
                let next = Self { replayed: dead_letter, replays: self.replays + 1, ..next };
                each(Step("operator", "publishes a dead letter again"), next);
            }
        }
    }

    fn may(&self, rules: Rules<'_>, so_far: fn(&Faults) -> u8, at_most: u8) -> bool {
        so_far(&self.happened) < at_most && self.happened.all() < rules.scope.faults
    }

    fn may_lose_an_answer(&self, rules: Rules<'_>) -> bool {
        self.may(rules, |faults| faults.lost_answers, rules.scope.lost_answers)
    }

    fn with_lost_answer(mut self) -> Self {
        self.happened.lost_answers += 1;
        self
    }

    fn with_lease_over(&self) -> Self {
        Self { row: LedgerRow { leased: false, ..self.row }, ..*self }
    }

    fn with_message(&self, epoch: u8, replay: bool) -> Self {
        Self { queue: self.queue.with(epoch, replay), ..*self }
    }

    fn at(&self, index: usize, at: At) -> Self {
        let mut next = *self;
        next.processes[index].at = at;
        next
    }

    /// The process forgets its message and its claim.
    fn without(&self, index: usize) -> Self {
        let mut next = *self;
        next.processes[index] = Process::default();
        if next.row.holder == holder(index) {
            next.row.holder = 0;
        }
        next
    }
}

fn holder(index: usize) -> u8 {
    if index == 0 { 1 } else { 2 }
}

/// The row with this status and epoch, claimed by nobody.
fn row_after(row: LedgerRow, status: Status, epoch: u8) -> LedgerRow {
    LedgerRow { status: Some(status), epoch, holder: 0, leased: false, ..row }
}
