//! The proof of the protocol: every interleaving of two processes over one delivery, with everything that may go wrong.
//!
//! [`world`] is what there is, [`steps`] what can happen, [`promises`] what must hold, and [`explore`] goes through all of
//! it. That the proof can fail is shown by taking the rules of the table away one by one ([`broken`]).

mod broken;
mod explore;
mod promises;
mod steps;
mod world;

use super::*;
use explore::explore;
use steps::Table;
use world::Scope;

const TABLE: Table = Table { meet, settle };

/// Every kind of fault; each test says how many of them together.
const FAULTS: Scope =
    Scope { crashes: 2, cuts: 1, slow: 2, unknown_answers: 2, lost_answers: 2, ..Scope::CALM };

/// Explores under both policies, and says how much that was.
fn holds(scope: Scope) {
    for on_unknown in [OnUnknown::Resend, OnUnknown::Park] {
        match explore(&TABLE, &Scope { on_unknown, ..scope }) {
            Ok(worlds) => println!("{worlds} worlds under {on_unknown:?}"),
            Err(story) => panic!("{story}"),
        }
    }
}

#[test]
fn holds_with_any_three_faults_and_a_dead_letter_replayed_twice() {
    holds(Scope { faults: 3, replays: 2, ..FAULTS });
}

#[test]
fn holds_with_any_four_faults() {
    holds(Scope { faults: 4, ..FAULTS });
}

#[test]
fn holds_when_the_event_is_published_twice() {
    holds(Scope { faults: 2, replays: 2, copies: 2, ..FAULTS });
}

#[test]
fn holds_along_the_ladder() {
    holds(Scope { faults: 2, replays: 2, last_epoch: 1, ..FAULTS });
}

#[test]
fn holds_for_a_row_written_ahead() {
    holds(Scope { faults: 2, replays: 2, planned: true, ..FAULTS });
}

/// With the only message in one living hand. With more, a claim that PostgreSQL forgets can hide a double (README, limits).
#[test]
fn holds_when_postgresql_forgets_a_fresh_claim() {
    holds(Scope { faults: 1, forgotten: 1, ..Scope::CALM });
}

#[test]
#[ignore = "two minutes and 2 GB; run it when the protocol changes: cargo test --lib protocol -- --ignored"]
fn holds_with_any_four_faults_and_a_dead_letter_replayed_twice() {
    holds(Scope { faults: 4, replays: 2, ..FAULTS });
}

#[test]
fn the_bounds_of_resending_are_kept() {
    let row = |take_overs| Row {
        status: Status::Attempting,
        epoch: 0,
        claim: Some(Uuid::from_u128(1)),
        leased: false,
        timeouts: 0,
        take_overs,
    };
    let taker =
        DeliveryMessage { epoch: 0, replay: false, claim: Uuid::from_u128(2), on_unknown: OnUnknown::Resend };
    assert_eq!(meet(Some(&row(OnUnknown::MAX_TAKE_OVERS - 1)), &taker), Meeting::TakeOver);
    assert_eq!(meet(Some(&row(OnUnknown::MAX_TAKE_OVERS)), &taker), Meeting::TakeOverAndGiveUp);

    let owner = DeliveryMessage { claim: Uuid::from_u128(1), ..taker };
    assert_eq!(meet(Some(&row(OnUnknown::MAX_TAKE_OVERS)), &owner), Meeting::Ours);
    assert_eq!(meet(Some(&row(OnUnknown::MAX_TAKE_OVERS + 1)), &owner), Meeting::GiveUp);

    assert!(OnUnknown::Resend.resends_after_timeouts(OnUnknown::MAX_TIMEOUTS));
    assert!(!OnUnknown::Resend.resends_after_timeouts(OnUnknown::MAX_TIMEOUTS + 1));
    assert!(!OnUnknown::Park.resends_after_timeouts(1));
}
