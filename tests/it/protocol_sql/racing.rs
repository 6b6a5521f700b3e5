//! Several processes at one ledger.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;
use wechat_notifier::db::batch::Batcher;
use wechat_notifier::db::ledger::claim::{self, Answer, Request};
use wechat_notifier::db::{Database, Error};
use wechat_notifier::domain::protocol::{DeliveryMessage, Meeting, OnUnknown, Row, Status};
use wechat_notifier::lifecycle::{Task, Tasks};

use super::book::{BATCH, Before, Book, LEASE, event, recipient};

/// Enough that batches overlap, few enough for the connections of one server.
const PROCESSES: usize = 8;

fn request(number: usize) -> Request {
    let delivery_message =
        DeliveryMessage { epoch: 1, replay: false, claim: Uuid::new_v4(), on_unknown: OnUnknown::Resend };
    Request { event: event(number, None), recipient: recipient(number), delivery_message, trace_id: None }
}

/// Asks until PostgreSQL gives an answer, as the daemon does: a deadlock's victim is one that asks again.
async fn claim_patiently(db: Database, batch: Vec<Request>) -> Vec<Answer> {
    loop {
        match claim::claim(&db, LEASE, &batch).await {
            Err(error) if error.is_away() => {}
            answers => return answers.unwrap(),
        }
    }
}

/// Nothing there yet, a delivery message under way, and a lease that ran out, in turn.
fn rows_to_race_for(count: usize) -> Vec<Option<Before>> {
    let row = |status, leased| Row {
        status,
        epoch: 1,
        claim: Some(Uuid::from_u128(1)),
        leased,
        timeouts: 0,
        take_overs: 0,
    };
    let kinds = [
        None,
        Some(Before { row: row(Status::Retrying, false), unknowns: 0 }),
        Some(Before { row: row(Status::Attempting, false), unknowns: 0 }),
    ];
    kinds.into_iter().cycle().take(count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_processes_that_claim_one_delivery_one_gets_it() {
    let book = Book::new().await;
    book.prepare(&rows_to_race_for(BATCH)).await;

    let processes: Vec<_> = (0..PROCESSES)
        .map(|process| {
            let mut batch: Vec<Request> = (0..BATCH).map(request).collect();
            // Each comes in another order; one order for all would hide a deadlock.
            batch.rotate_left(process * BATCH / PROCESSES);
            if process % 2 == 1 {
                batch.reverse();
            }
            let numbers: Vec<String> = batch.iter().map(|r| r.event.event_id.to_string()).collect();
            let claiming = tokio::spawn(claim_patiently(book.another_process(), batch));
            (numbers, claiming)
        })
        .collect();

    let mut granted: HashMap<String, usize> = HashMap::new();
    for (events, claiming) in processes {
        for (event, answer) in events.into_iter().zip(claiming.await.unwrap()) {
            match answer.meeting {
                Meeting::Claim | Meeting::TakeOver | Meeting::Ours => *granted.entry(event).or_default() += 1,
                other => assert_eq!(other, Meeting::Busy, "{event}"),
            }
        }
    }
    assert_eq!(granted.len(), BATCH, "some delivery was granted to nobody");
    assert!(granted.values().all(|count| *count == 1), "granted more than once: {granted:?}");
    let unknowns: i32 = book.rows(BATCH).await.iter().flatten().map(|row| row.unknowns).sum();
    assert_eq!(unknowns, i32::try_from(BATCH / 3).unwrap(), "each lease that ran out is one unknown");
}

#[tokio::test]
async fn a_refused_row_harms_only_itself() {
    let book = Book::new().await;
    let db = book.db.clone();
    let claims = Batcher::start(
        (&Tasks::default(), Task::ClaimBatch),
        BATCH,
        Arc::new(move |batch: &[Request]| {
            let db = db.clone();
            Box::pin(async move { claim::claim(&db, LEASE, batch).await })
        }),
        |_rows| (),
    );

    let asking = (0..9).map(|number| {
        // PostgreSQL takes no NUL in a text.
        let trace_id = (number == 4).then(|| "\0".to_owned());
        claims.submit(Request { trace_id, ..request(number) })
    });
    let answers: Vec<Result<Answer, Error>> = futures_util::future::join_all(asking).await;

    for (number, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(answer) => assert!(number != 4 && answer.claim.is_some(), "{number}: {answer:?}"),
            Err(error) => assert!(number == 4 && !error.is_away(), "{number}: {error}"),
        }
    }
}
