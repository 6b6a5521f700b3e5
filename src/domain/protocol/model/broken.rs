//! The table without one of its rules, and the promise that breaks for want of it.
//!
//! Only one rule is missing here: a `retrying` that finds its claim lost is dropped without deferring. Deferring would
//! be safe there too, merely for nothing, since the next epoch is already published.

use super::super::*;
use super::explore::explore;
use super::steps::Table;
use super::world::Scope;
use super::{FAULTS, TABLE};

/// A rule, and what to do in its place.
struct Broken {
    rule: &'static str,
    table: Table,
    scope: Scope,
    /// The promise that the shortest story breaks.
    promise: &'static str,
}

const TWO_FAULTS: Scope = Scope { faults: 2, replays: 2, ..FAULTS };
const PARK: Scope = Scope { on_unknown: OnUnknown::Park, ..TWO_FAULTS };
const FORGETFUL: Scope = Scope { faults: 1, forgotten: 1, ..Scope::CALM };

const fn meeting(
    rule: &'static str,
    meet: fn(Option<&Row>, &DeliveryMessage) -> Meeting,
    scope: Scope,
    promise: &'static str,
) -> Broken {
    Broken { rule, table: Table { meet, ..TABLE }, scope, promise }
}

const fn settling(
    rule: &'static str,
    settle: fn(Option<&Row>, Uuid, Settlement) -> Settling,
    scope: Scope,
    promise: &'static str,
) -> Broken {
    Broken { rule, table: Table { settle, ..TABLE }, scope, promise }
}

/// What the table says, unless it is `unless`; then `instead`.
fn except(said: Meeting, unless: Meeting, instead: Meeting) -> Meeting {
    if said == unless { instead } else { said }
}

fn is(row: Option<&Row>, status: Status) -> bool {
    row.is_some_and(|row| row.status == status)
}

const MEETING: &[Broken] = &[
    meeting(
        "a message without a row claims",
        |row, delivery_message| if row.is_none() { Meeting::Echo } else { meet(row, delivery_message) },
        TWO_FAULTS,
        "every unfinished row has a delivery message",
    ),
    meeting(
        "a planned or retrying row is claimed",
        |row, delivery_message| {
            if is(row, Status::Retrying) { Meeting::Echo } else { meet(row, delivery_message) }
        },
        TWO_FAULTS,
        "every unfinished row has a delivery message",
    ),
    meeting(
        "sent is finished",
        |row, delivery_message| {
            if is(row, Status::Sent) { Meeting::Claim } else { meet(row, delivery_message) }
        },
        TWO_FAULTS,
        "sent stays sent",
    ),
    meeting(
        "skipped is finished",
        |row, delivery_message| {
            if is(row, Status::Skipped) { Meeting::Claim } else { meet(row, delivery_message) }
        },
        TWO_FAULTS,
        "skipped stays skipped",
    ),
    meeting(
        "dead is finished",
        |row, delivery_message| {
            if is(row, Status::Dead) { Meeting::Claim } else { meet(row, delivery_message) }
        },
        TWO_FAULTS,
        "a dead row is opened by a later epoch only",
    ),
    meeting(
        "a replay opens a dead row",
        |row, delivery_message| meet(row, &DeliveryMessage { replay: false, ..*delivery_message }),
        TWO_FAULTS,
        "a replay is attempted",
    ),
    meeting(
        "a replay opens the dead row of the epoch before, no later one",
        |row, delivery_message| match row {
            Some(row) if row.status == Status::Dead && delivery_message.replay => Meeting::Claim,
            _ => meet(row, delivery_message),
        },
        TWO_FAULTS,
        "a dead row is opened by a later epoch only",
    ),
    meeting(
        "an echo is acked",
        |row, delivery_message| match meet(row, delivery_message) {
            Meeting::Echo => {
                meet(row, &DeliveryMessage { epoch: row.map_or(0, |row| row.epoch), ..*delivery_message })
            }
            said => said,
        },
        TWO_FAULTS,
        "a row's epoch never falls",
    ),
    meeting(
        "a claim whose answer was lost is ours",
        |row, delivery_message| meet(row, &DeliveryMessage { claim: Uuid::max(), ..*delivery_message }),
        TWO_FAULTS,
        "an unknown is counted only where nobody can know",
    ),
    meeting(
        "a claim taken over to give up stays so when its answer was lost",
        |row, delivery_message| except(meet(row, delivery_message), Meeting::GiveUp, Meeting::Ours),
        PARK,
        "park never sends twice by itself",
    ),
    meeting(
        "a busy row is deferred, not acked",
        |row, delivery_message| {
            except(meet(row, delivery_message), Meeting::Busy, Meeting::Finished(Status::Sent))
        },
        TWO_FAULTS,
        "every unfinished row has a delivery message",
    ),
    meeting(
        "a running lease is respected",
        |row, delivery_message| except(meet(row, delivery_message), Meeting::Busy, Meeting::Claim),
        TWO_FAULTS,
        "doubled ≤ unknowns",
    ),
    meeting(
        "a lease that is over is taken over",
        |row, delivery_message| except(meet(row, delivery_message), Meeting::TakeOver, Meeting::Busy),
        TWO_FAULTS,
        "left alone, everything ends",
    ),
    meeting(
        "a take-over is counted",
        |row, delivery_message| except(meet(row, delivery_message), Meeting::TakeOver, Meeting::Claim),
        TWO_FAULTS,
        "doubled ≤ unknowns",
    ),
    meeting(
        "park gives up what it takes over",
        |row, delivery_message| {
            except(meet(row, delivery_message), Meeting::TakeOverAndGiveUp, Meeting::TakeOver)
        },
        PARK,
        "park never sends twice by itself",
    ),
];

const SETTLING: &[Broken] = &[
    settling(
        "sent is written even where the claim was lost",
        |row, claim, settlement| match settlement {
            Settlement::Sent if row.is_some_and(|row| row.claim != Some(claim)) => Settling::Drop,
            _ => settle(row, claim, settlement),
        },
        TWO_FAULTS,
        "once told yes, the row says sent",
    ),
    settling(
        "sent is written even where the row is gone",
        |row, claim, settlement| {
            if row.is_none() { Settling::Drop } else { settle(row, claim, settlement) }
        },
        FORGETFUL,
        "once told yes, the row says sent",
    ),
    settling(
        "sent is written once",
        |row, claim, settlement| match settle(row, claim, settlement) {
            Settling::AlreadySent => Settling::Record,
            said => said,
        },
        TWO_FAULTS,
        "sent is written once, and only if it was",
    ),
    settling(
        "what is ours is recorded",
        |row, claim, settlement| match settlement {
            Settlement::Sent => settle(row, claim, settlement),
            _ => settle(row, Uuid::max(), settlement),
        },
        TWO_FAULTS,
        "an unknown is counted only where nobody can know",
    ),
    settling(
        "what is not ours is not recorded",
        |row, claim, settlement| match settlement {
            Settlement::Sent => settle(row, claim, settlement),
            _ => Settling::Record,
        },
        TWO_FAULTS,
        "an unknown is counted only where nobody can know",
    ),
    settling(
        "a lost claim defers its message",
        |row, claim, settlement| match settle(row, claim, settlement) {
            Settling::DropAndDefer => Settling::Drop,
            said => said,
        },
        TWO_FAULTS,
        "every unfinished row has a delivery message",
    ),
];

#[test]
fn each_rule_of_meeting_is_needed() {
    MEETING.iter().for_each(shows);
}

#[test]
fn each_rule_of_settling_is_needed() {
    SETTLING.iter().for_each(shows);
}

fn shows(Broken { rule, table, scope, promise }: &Broken) {
    let story = explore(table, scope).expect_err(&format!("the table holds without “{rule}”"));
    println!("without “{rule}”\n{story}");
    assert!(
        story.starts_with(&format!("broken: {promise}\n")),
        "without “{rule}”, not “{promise}”:\n{story}"
    );
}
