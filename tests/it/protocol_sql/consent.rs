//! A settlement writes consent with it: once, and never over what the user said since.

use serde_json::{Value, json};
use uuid::Uuid;
use wechat_notifier::db::ledger::claim;
use wechat_notifier::db::ledger::settle::{self, ConsentChange, Ending, Request};
use wechat_notifier::domain::consent::ClosingCause;
use wechat_notifier::domain::outcome::{AnswerFacts, DeadReason, SkipReason};
use wechat_notifier::domain::protocol::{DeliveryMessage, OnUnknown, Settling};

use super::book::{Book, LEASE, event, recipient};

impl Book {
    /// Makes `o<number>` a user with this record for the template, and answers his id.
    async fn user(&self, number: usize, consent: &Value) -> i64 {
        const INSERT: &str =
            "INSERT INTO t_wechat_user (app_id, openid, subscribe_template) VALUES ('wx1', $1, $2)
                              RETURNING id";
        let record = json!({ "T1": consent, "T2": { "status": "accept", "remaining": 9 } });
        self.client.query_one(INSERT, &[&format!("o{number}"), &record]).await.unwrap().get(0)
    }

    /// The user's record for the template now.
    async fn consent(&self, user_id: i64) -> Value {
        const RECORD: &str = "SELECT subscribe_template FROM t_wechat_user WHERE id = $1";
        let mut record: Value = self.client.query_one(RECORD, &[&user_id]).await.unwrap().get(0);
        assert_eq!(
            record["T2"],
            json!({ "status": "accept", "remaining": 9 }),
            "another template's record changed"
        );
        record["T1"].take()
    }

    /// Claims event `e<number>` for its user and prepares the settlement.
    async fn attempted(&self, number: usize, ending: Ending, consent: ConsentChange) -> Request {
        let delivery_message =
            DeliveryMessage { epoch: 0, replay: false, claim: Uuid::new_v4(), on_unknown: OnUnknown::Resend };
        let request = claim::Request {
            event: event(number, None),
            recipient: recipient(number),
            delivery_message,
            trace_id: None,
        };
        let answers = claim::claim(&self.db, LEASE, &[request]).await.unwrap();
        let granted = answers[0].claim.clone().unwrap();
        Request {
            event: event(number, None),
            recipient: recipient(number),
            row_id: granted.row_id,
            claim: granted.claim,
            ending,
            facts: AnswerFacts::default(),
            attempts: 1,
            unknown: false,
            timed_out: false,
            consent,
            user_id: granted.user_id,
            token_generation: None,
            trace_id: None,
            epoch: 0,
        }
    }

    async fn settle(&self, request: &Request) -> Settling {
        settle::settle(&self.db, std::slice::from_ref(request)).await.unwrap()[0]
    }

    async fn sql(&self, statement: &str) {
        self.client.execute(statement, &[]).await.unwrap();
    }
}

const SENT: Ending = Ending::Sent { msgid: Some(1) };
const REFUSAL: ConsentChange = ConsentChange::Closed(ClosingCause::Refused);
const REFUSED: Ending = Ending::Skipped(SkipReason::Rejected);

#[tokio::test]
async fn one_message_uses_one_send_however_often_it_is_settled() {
    let book = Book::new().await;
    let user = book.user(0, &json!({ "status": "accept", "remaining": 5 })).await;
    let sent = book.attempted(0, SENT, ConsentChange::Used).await;

    assert_eq!(book.settle(&sent).await, Settling::Record);
    assert_eq!(book.consent(user).await["remaining"], 4);
    assert_eq!(book.settle(&sent).await, Settling::AlreadySent);
    assert_eq!(book.consent(user).await["remaining"], 4);
}

#[tokio::test]
async fn a_yes_that_lost_its_claim_uses_one_send_too() {
    let losses = [
        ("UPDATE t_wechat_delivery SET claim = gen_random_uuid()", Settling::Record),
        ("UPDATE t_wechat_delivery SET status = 'dead', claim = NULL", Settling::Record),
        ("DELETE FROM t_wechat_delivery", Settling::Insert),
    ];
    for (loss, verdict) in losses {
        let book = Book::new().await;
        let user = book.user(0, &json!({ "status": "accept", "remaining": 5 })).await;
        let sent = book.attempted(0, SENT, ConsentChange::Used).await;
        book.sql(loss).await;

        assert_eq!(book.settle(&sent).await, verdict, "{loss}");
        assert_eq!(book.settle(&sent).await, Settling::AlreadySent, "{loss}");
        assert_eq!(book.consent(user).await["remaining"], 4, "{loss}");
    }
}

#[tokio::test]
async fn what_is_not_counted_or_used_up_stays_as_it_is() {
    let records = [
        json!({ "status": "accept", "remaining": null }),
        json!({ "status": "accept" }),
        json!({ "status": "accept", "remaining": 0 }),
        json!({ "status": "accept", "remaining": "many" }),
        json!("accept"),
        json!(null),
    ];
    let book = Book::new().await;
    for (number, record) in records.into_iter().enumerate() {
        let user = book.user(number, &record).await;
        let sent = book.attempted(number, SENT, ConsentChange::Used).await;
        assert_eq!(book.settle(&sent).await, Settling::Record);
        assert_eq!(book.consent(user).await, record);
    }
}

#[tokio::test]
async fn a_refusal_closes_consent_that_is_older_than_the_request() {
    let book = Book::new().await;
    let records = [
        json!({ "status": "accept", "remaining": 3, "updated_at": "2020-01-01T00:00:00Z" }),
        json!({ "status": "accept", "remaining": null }),
        json!(null),
    ];
    for (number, record) in records.into_iter().enumerate() {
        let user = book.user(number, &record).await;
        let refused = book.attempted(number, REFUSED, REFUSAL).await;
        assert_eq!(book.settle(&refused).await, Settling::Record);
        let closed = book.consent(user).await;
        assert_eq!((&closed["status"], &closed["remaining"]), (&json!("reject"), &json!(0)), "from {record}");
        assert!(closed["updated_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{closed}");
    }
}

#[tokio::test]
async fn a_closed_consent_keeps_why_it_was_closed() {
    let book = Book::new().await;
    let accepted = json!({ "status": "accept", "remaining": 3 });
    let closings = [
        (ClosingCause::Refused, json!("refused")),
        (ClosingCause::UsedUp, json!("sent")),
        (ClosingCause::BadOpenid, json!("bad_openid")),
    ];
    for (number, (closing, cause)) in closings.into_iter().enumerate() {
        let user = book.user(number, &accepted).await;
        let refused = book.attempted(number, REFUSED, ConsentChange::Closed(closing)).await;
        assert_eq!(book.settle(&refused).await, Settling::Record);
        let record = book.consent(user).await;
        assert_eq!(
            (&record["status"], &record["cause"], &record["remaining"]),
            (&json!("reject"), &cause, &json!(0))
        );
    }
}

#[tokio::test]
async fn a_refusal_leaves_alone_what_the_user_said_since() {
    let book = Book::new().await;
    let user = book.user(0, &json!({ "status": "accept", "updated_at": "2020-01-01T00:00:00Z" })).await;
    let refused = book.attempted(0, REFUSED, REFUSAL).await;
    book.sql(
        r#"UPDATE t_wechat_user SET subscribe_template = subscribe_template || jsonb_build_object('T1',
             jsonb_build_object('status', 'accept', 'remaining', 1, 'updated_at', clock_timestamp()))"#,
    )
    .await;

    assert_eq!(book.settle(&refused).await, Settling::Record);
    let record = book.consent(user).await;
    assert_eq!((&record["status"], &record["remaining"]), (&json!("accept"), &json!(1)));
}

#[tokio::test]
async fn a_dropped_outcome_changes_no_consent() {
    let book = Book::new().await;
    let record = json!({ "status": "accept", "remaining": 3 });
    for (number, ending) in [REFUSED, Ending::Dead(DeadReason::Exhausted)].into_iter().enumerate() {
        let user = book.user(number, &record).await;
        let late = book.attempted(number, ending, REFUSAL).await;
        book.sql("UPDATE t_wechat_delivery SET claim = gen_random_uuid()").await;
        assert_eq!(book.settle(&late).await, Settling::DropAndDefer);
        assert_eq!(book.consent(user).await, record);
    }
}

/// Business systems write the records too, and each has its own idea of a time and a number.
#[tokio::test]
async fn a_record_in_another_shape_does_not_stop_the_settlement() {
    let book = Book::new().await;
    let times = [json!("yesterday"), json!(1_763_776_800_000_i64), json!("2026-02-31"), json!({}), json!("")];
    for (number, time) in times.into_iter().enumerate() {
        let user = book.user(number, &json!({ "status": "accept", "updated_at": time })).await;
        let refused = book.attempted(number, REFUSED, REFUSAL).await;
        assert_eq!(book.settle(&refused).await, Settling::Record, "updated_at {time}");
        assert_eq!(book.consent(user).await["status"], "reject", "updated_at {time}");
    }
    for (number, remaining) in [json!(1.5), json!(1e30)].into_iter().enumerate() {
        book.user(10 + number, &json!({ "status": "accept", "remaining": remaining })).await;
        let sent = book.attempted(10 + number, SENT, ConsentChange::Used).await;
        assert_eq!(book.settle(&sent).await, Settling::Record, "remaining {remaining}");
    }
}
