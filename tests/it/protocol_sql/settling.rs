//! Every outcome meets every row.

use jiff::Timestamp;
use uuid::Uuid;
use wechat_notifier::db::ledger::settle::{self, ConsentChange, Ending, Request};
use wechat_notifier::domain::outcome::{AnswerFacts, DeadReason, SkipReason};
use wechat_notifier::domain::protocol::{self, Settlement, Settling, Status};

use super::book::{After, BATCH, Before, Book, LeaseLeft, event, every_row, recipient};

/// The epoch that a delivery is deferred as.
const NEXT_EPOCH: i32 = 7;
/// The epoch of the message whose outcome is settled.
const OWN_EPOCH: i32 = 5;

/// An outcome, and the row it finds.
#[derive(Debug)]
struct Case {
    before: Option<Before>,
    claim: Uuid,
    ending: Ending,
    unknown: bool,
}

fn every_case() -> Vec<Case> {
    let endings = [
        (Ending::Sent { msgid: Some(u64::MAX) }, false),
        (Ending::Skipped(SkipReason::Rejected), false),
        (Ending::Retrying { epoch: NEXT_EPOCH, due_at: Timestamp::UNIX_EPOCH }, false),
        (Ending::Retrying { epoch: NEXT_EPOCH, due_at: Timestamp::UNIX_EPOCH }, true),
        (Ending::Dead(DeadReason::UnknownOutcome), true),
        (Ending::Dead(DeadReason::Exhausted), false),
    ];
    let mut cases = Vec::new();
    for (ending, unknown) in endings {
        cases.push(Case { before: None, claim: Uuid::new_v4(), ending, unknown });
        let rows = every_row().into_iter();
        cases.extend(rows.map(|(row, ours)| Case { before: Some(row), claim: ours, ending, unknown }));
    }
    cases
}

fn request(number: usize, row_id: i64, case: &Case) -> Request {
    Request {
        event: event(number, None),
        recipient: recipient(number),
        row_id,
        claim: case.claim,
        ending: case.ending,
        facts: AnswerFacts::default(),
        attempts: 2,
        unknown: case.unknown,
        timed_out: case.unknown,
        consent: ConsentChange::Nothing,
        user_id: None,
        token_generation: Some(4),
        trace_id: None,
        epoch: OWN_EPOCH,
    }
}

async fn settle_all(book: &Book, cases: &[Case]) -> Vec<Settling> {
    let ids = book.row_ids(cases.len()).await;
    let requests: Vec<Request> =
        cases.iter().enumerate().map(|(number, case)| request(number, ids[number], case)).collect();
    let mut verdicts = Vec::new();
    for batch in requests.chunks(BATCH) {
        verdicts.extend(settle::settle(&book.db, batch).await.unwrap());
    }
    verdicts
}

fn wish(ending: Ending) -> Settlement {
    match ending {
        Ending::Sent { .. } => Settlement::Sent,
        Ending::Skipped(_) => Settlement::Skipped,
        Ending::Retrying { .. } => Settlement::Retrying,
        Ending::Dead(_) => Settlement::Dead,
    }
}

/// What the row must say, given what the table says.
fn row_after(case: &Case, verdict: Settling) -> Option<After> {
    match (verdict, case.before) {
        (Settling::Record, Some(before)) => Some(recorded(case, before)),
        (Settling::Insert, _) => Some(written_whole()),
        (_, before) => before.map(|before| before.untouched()),
    }
}

fn recorded(case: &Case, before: Before) -> After {
    let (status, reason) = match case.ending {
        Ending::Sent { .. } => (Status::Sent, None),
        Ending::Skipped(reason) => (Status::Skipped, Some(reason.as_str())),
        Ending::Retrying { .. } => (Status::Retrying, None),
        Ending::Dead(reason) => (Status::Dead, Some(reason.as_str())),
    };
    After {
        status,
        reason: reason.map(str::to_owned),
        epoch: if status == Status::Retrying { NEXT_EPOCH } else { before.row.epoch },
        claim: None,
        lease: LeaseLeft::None,
        attempts: Before::ATTEMPTS + 2,
        unknowns: before.unknowns + i32::from(case.unknown),
        timeouts: before.row.timeouts + i32::from(case.unknown),
        take_overs: before.row.take_overs,
    }
}

/// The row that only a yes from WeChat brings back.
fn written_whole() -> After {
    After {
        status: Status::Sent,
        reason: None,
        epoch: OWN_EPOCH,
        claim: None,
        lease: LeaseLeft::None,
        attempts: 2,
        unknowns: 0,
        timeouts: 0,
        take_overs: 0,
    }
}

#[tokio::test]
async fn every_outcome_meets_every_row_as_the_table_says() {
    let (book, cases) = (Book::new().await, every_case());
    book.prepare(&cases.iter().map(|case| case.before).collect::<Vec<_>>()).await;

    let verdicts = settle_all(&book, &cases).await;

    let rows = book.rows(cases.len()).await;
    for ((case, verdict), row) in cases.iter().zip(&verdicts).zip(rows) {
        let ledger_row = case.before.map(|before| before.row);
        assert_eq!(
            *verdict,
            protocol::settle(ledger_row.as_ref(), case.claim, wish(case.ending)),
            "{case:?}"
        );
        assert_eq!(row, row_after(case, *verdict), "{case:?}, {verdict:?}");
    }
}

#[tokio::test]
async fn an_outcome_settled_twice_is_recorded_once() {
    let (book, cases) = (Book::new().await, every_case());
    book.prepare(&cases.iter().map(|case| case.before).collect::<Vec<_>>()).await;
    settle_all(&book, &cases).await;
    let rows = book.rows(cases.len()).await;

    let verdicts = settle_all(&book, &cases).await;

    assert_eq!(book.rows(cases.len()).await, rows, "settling again changed a row");
    for (case, verdict) in cases.iter().zip(verdicts) {
        let expected = match wish(case.ending) {
            Settlement::Sent => Settling::AlreadySent,
            Settlement::Retrying => Settling::Drop,
            Settlement::Skipped | Settlement::Dead => Settling::DropAndDefer,
        };
        assert_eq!(verdict, expected, "{case:?}");
    }
}

#[tokio::test]
async fn a_sent_row_keeps_what_wechat_said() {
    let book = Book::new().await;
    let case = Case {
        before: None,
        claim: Uuid::new_v4(),
        ending: Ending::Sent { msgid: Some(u64::MAX) },
        unknown: false,
    };
    settle::settle(&book.db, &[request(0, -1, &case)]).await.unwrap();

    const KEPT: &str =
        "SELECT msgid::text, token_generation, settled_at IS NOT NULL, content_hash FROM t_wechat_delivery";
    let row = book.client.query_one(KEPT, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), u64::MAX.to_string(), "msgid is an unsigned 64-bit number");
    assert_eq!((row.get::<_, i64>(1), row.get::<_, bool>(2)), (4, true));
    assert_eq!(row.get::<_, Vec<u8>>(3), event(0, None).content_hash);
}
