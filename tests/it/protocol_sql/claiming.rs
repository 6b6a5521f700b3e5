//! Every message meets every row.

use std::time::Duration;

use uuid::Uuid;
use wechat_notifier::db::ledger::claim::{self, Answer, Lease, Request};
use wechat_notifier::domain::protocol::{self, DeliveryMessage, Meeting, OnUnknown, Row, Status};

use super::book::{After, BATCH, Before, Book, LEASE, LeaseLeft, POLICIES, event, every_row, recipient};

/// A message, and the row it meets.
#[derive(Debug)]
struct Case {
    before: Option<Before>,
    delivery_message: DeliveryMessage,
}

fn every_case() -> Vec<Case> {
    let mut cases = Vec::new();
    for epoch in 0..4 {
        for replay in [false, true] {
            for on_unknown in POLICIES {
                let delivery_message = |claim| DeliveryMessage { epoch, replay, claim, on_unknown };
                cases.push(Case { before: None, delivery_message: delivery_message(Uuid::new_v4()) });
                let rows = every_row().into_iter();
                cases.extend(
                    rows.map(|(row, ours)| Case {
                        before: Some(row),
                        delivery_message: delivery_message(ours),
                    }),
                );
            }
        }
    }
    cases
}

/// A user who was switched off since the plan is not one who was never bound.
#[tokio::test]
async fn a_claim_says_that_its_user_is_switched_off() {
    let book = Book::new().await;
    let user = "INSERT INTO t_wechat_user (app_id, openid, status) VALUES ('wx1', $1, $2)";
    for (openid, status) in [("o0", 0_i16), ("o1", 1)] {
        book.client.execute(user, &[&openid, &status]).await.unwrap();
    }
    let delivery_message = |number: u128| DeliveryMessage {
        epoch: 0,
        replay: false,
        claim: Uuid::from_u128(number),
        on_unknown: OnUnknown::Resend,
    };
    // Once when the row is new, once when it is met.
    for _ in 0..2 {
        let requests: Vec<Request> =
            (0..3).map(|number| request(number, delivery_message(number as u128))).collect();
        let answers = claim::claim(&book.db, LEASE, &requests).await.unwrap();
        let claims: Vec<_> = answers.into_iter().map(|answer| answer.claim.unwrap()).collect();
        let told: Vec<_> = claims.iter().map(|claim| (claim.is_disabled, claim.consent.is_some())).collect();
        assert_eq!(told, [(true, true), (false, true), (false, false)]);
    }
}

fn request(number: usize, delivery_message: DeliveryMessage) -> Request {
    Request { event: event(number, None), recipient: recipient(number), delivery_message, trace_id: None }
}

async fn claim_all(book: &Book, lease: Lease, cases: &[Case]) -> Vec<Answer> {
    let requests: Vec<Request> =
        cases.iter().enumerate().map(|(number, case)| request(number, case.delivery_message)).collect();
    let mut answers = Vec::new();
    for batch in requests.chunks(BATCH) {
        answers.extend(claim::claim(&book.db, lease, batch).await.unwrap());
    }
    answers
}

/// What the row must say, given what the table says.
fn row_after(case: &Case, meeting: Meeting) -> After {
    let Some(before) = case.before else { return claimed(case.delivery_message, None) };
    match meeting {
        Meeting::Claim => claimed(case.delivery_message, Some(before)),
        Meeting::TakeOver | Meeting::TakeOverAndGiveUp => After {
            unknowns: before.unknowns + 1,
            take_overs: before.row.take_overs + 1,
            timeouts: before.row.timeouts,
            ..claimed(case.delivery_message, Some(before))
        },
        Meeting::Ours | Meeting::GiveUp | Meeting::Busy | Meeting::Echo | Meeting::Finished(_) => {
            before.untouched()
        }
    }
}

/// A granted row. A replay starts the two counts of unknowns anew; what was ever unknown stays on record.
fn claimed(delivery_message: DeliveryMessage, before: Option<Before>) -> After {
    let kept = |count: fn(&Before) -> i32| before.as_ref().map_or(0, count);
    After {
        status: Status::Attempting,
        epoch: delivery_message.epoch,
        claim: Some(delivery_message.claim),
        lease: LeaseLeft::Fresh,
        unknowns: kept(|before| before.unknowns),
        take_overs: if delivery_message.replay { 0 } else { kept(|before| before.row.take_overs) },
        timeouts: if delivery_message.replay { 0 } else { kept(|before| before.row.timeouts) },
        attempts: kept(|_| Before::ATTEMPTS),
        reason: None,
    }
}

const fn leaves_it_ours(meeting: Meeting) -> bool {
    !matches!(meeting, Meeting::Busy | Meeting::Echo | Meeting::Finished(_))
}

#[tokio::test]
async fn every_message_meets_every_row_as_the_table_says() {
    let (book, cases) = (Book::new().await, every_case());
    book.prepare(&cases.iter().map(|case| case.before).collect::<Vec<_>>()).await;

    let answers = claim_all(&book, LEASE, &cases).await;

    let rows = book.rows(cases.len()).await;
    for ((case, answer), row) in cases.iter().zip(&answers).zip(rows) {
        let row = row.unwrap_or_else(|| panic!("no row after {case:?}"));
        let ledger_row = case.before.map(|before| before.row);
        let meeting = protocol::meet(ledger_row.as_ref(), &case.delivery_message);
        assert_eq!(answer.meeting, meeting, "{case:?}");
        assert_eq!(row, row_after(case, meeting), "{case:?}, {meeting:?}");
        assert!(!answer.reused, "{case:?}");
        assert_eq!(answer.claim.is_some(), leaves_it_ours(meeting), "{case:?}, {meeting:?}");
        let Some(granted) = &answer.claim else { continue };
        assert_eq!(granted.claim, case.delivery_message.claim);
        assert_eq!((granted.attempts, granted.unknowns), (row.attempts, row.unknowns), "{case:?}");
        assert_eq!(granted.timeouts, row.timeouts, "{case:?}, {meeting:?}");
    }
}

#[tokio::test]
async fn a_claim_asked_for_twice_is_granted_once_and_counts_once() {
    let (book, cases) = (Book::new().await, every_case());
    book.prepare(&cases.iter().map(|case| case.before).collect::<Vec<_>>()).await;
    let first = claim_all(&book, LEASE, &cases).await;
    let rows = book.rows(cases.len()).await;

    let again = claim_all(&book, LEASE, &cases).await;

    assert_eq!(book.rows(cases.len()).await, rows, "asking again changed a row");
    for ((case, first), again) in cases.iter().zip(&first).zip(&again) {
        let expected = match first.meeting {
            Meeting::Claim | Meeting::TakeOver => Meeting::Ours,
            Meeting::TakeOverAndGiveUp => Meeting::GiveUp,
            other => other,
        };
        // Rather never than twice: what was ever taken over is given up by a delivery message that parks, or one too many.
        let was_taken_over = again.claim.is_some() && row_take_overs(case) > 0;
        let gives_up = was_taken_over && again.meeting == Meeting::GiveUp;
        assert!(
            again.meeting == expected || gives_up,
            "{case:?}: {:?}, then {:?}",
            first.meeting,
            again.meeting
        );
        assert_eq!(again.claim.is_some(), first.claim.is_some(), "{case:?}");
    }
}

fn row_take_overs(case: &Case) -> i32 {
    case.before.map_or(0, |before| before.row.take_overs)
}

#[tokio::test]
async fn after_postgresqls_own_start_nobody_takes_over() {
    let book = Book::new().await;
    let held = Row {
        status: Status::Attempting,
        epoch: 0,
        claim: Some(Uuid::from_u128(1)),
        leased: false,
        timeouts: 0,
        take_overs: 0,
    };
    let before = Before { row: held, unknowns: 0 };
    book.prepare(&[Some(before)]).await;
    let message =
        DeliveryMessage { epoch: 0, replay: false, claim: Uuid::new_v4(), on_unknown: OnUnknown::Resend };

    // Longer than the test's PostgreSQL can have been up.
    let a_year = Lease { grace: Duration::from_secs(365 * 24 * 3600), ..LEASE };
    let answers = claim::claim(&book.db, a_year, &[request(0, message)]).await.unwrap();
    assert_eq!(answers[0].meeting, Meeting::Busy);
    assert_eq!(book.rows(1).await, [Some(before.untouched())]);

    let answers = claim::claim(&book.db, LEASE, &[request(0, message)]).await.unwrap();
    assert_eq!(answers[0].meeting, Meeting::TakeOver);
}

#[tokio::test]
async fn an_event_id_with_other_content_is_told_and_its_row_left_alone() {
    let book = Book::new().await;
    let rows: Vec<_> = every_row().into_iter().map(|(row, _)| Some(row)).collect();
    book.prepare(&rows).await;
    let other_content = |number: usize| {
        let delivery_message =
            DeliveryMessage { epoch: 3, replay: false, claim: Uuid::new_v4(), on_unknown: OnUnknown::Resend };
        Request { event: event(number, Some("something else")), ..request(number, delivery_message) }
    };

    let requests: Vec<Request> = (0..rows.len()).map(other_content).collect();
    for batch in requests.chunks(BATCH) {
        for answer in claim::claim(&book.db, LEASE, batch).await.unwrap() {
            assert!(answer.reused && answer.claim.is_none(), "{answer:?}");
        }
    }
    let untouched: Vec<_> = rows.iter().map(|before| before.map(|before| before.untouched())).collect();
    assert_eq!(book.rows(rows.len()).await, untouched);
}

#[tokio::test]
async fn an_operator_may_mend_what_he_replays_and_its_next_message_is_no_reuse() {
    let book = Book::new().await;
    let row = Row { status: Status::Dead, epoch: 0, claim: None, leased: false, timeouts: 0, take_overs: 0 };
    book.prepare(&[Some(Before { row, unknowns: 0 })]).await;
    let corrected = async |epoch, replay| {
        let delivery_message =
            DeliveryMessage { epoch, replay, claim: Uuid::new_v4(), on_unknown: OnUnknown::Resend };
        let request = Request { event: event(0, Some("corrected")), ..request(0, delivery_message) };
        let answers = claim::claim(&book.db, LEASE, &[request]).await.unwrap();
        (answers[0].meeting, answers[0].reused)
    };

    assert_eq!(corrected(1, true).await, (Meeting::Claim, false));
    assert_eq!(corrected(2, false).await, (Meeting::Busy, false));
}
