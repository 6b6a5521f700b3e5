//! From the dead queue into the archive: each dead letter once, whatever it holds; and no ledger row is left without a delivery message.

use serde_json::{Value, json};
use tokio_postgres::Client;
use wechat_notifier::amqp::Message;
use wechat_notifier::db::dead_letters::{self, Filter};
use wechat_notifier::db::{Database, migrate};
use wechat_notifier::dead_letters::{Verdict, archive_batch, read};

use crate::scratch::Scratch;

const EVENT: &str =
    r#"{"event_id":"pay-1","company_no":"C001","app_id":"wx1","template_id":"T1","data":{"thing1":"x"}}"#;

struct Archive {
    db: Database,
    client: Client,
}

impl Archive {
    async fn new() -> Self {
        let scratch = Scratch::new().await;
        let db = scratch.database();
        migrate::apply(&db).await.unwrap();
        Self { client: scratch.client().await, db }
    }

    async fn take(&self, message: Message) -> Verdict {
        self.take_all(vec![message]).await[0]
    }

    async fn take_all(&self, messages: Vec<Message>) -> Vec<Verdict> {
        let dead_letters: Vec<_> = messages.into_iter().map(read).collect();
        archive_batch(&self.db, &dead_letters).await.unwrap()
    }

    /// A ledger row of event `pay-1`; `lease` is when its claim ends, from now.
    async fn row(&self, recipient: &str, status: &str, epoch: i32, lease: &str) {
        self.client
            .execute(
                "INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, status,
                                                epoch, claimed_until, content_hash)
                 VALUES ('C001', 'wx1', 'T1', 'pay-1', $1, $1, $2, $3, now() + $4::text::interval, '')",
                &[&recipient, &status, &epoch, &lease],
            )
            .await
            .unwrap();
    }

    /// Status, epoch and unknowns of a row.
    async fn state(&self, recipient: &str) -> (String, i32, i32) {
        const SQL: &str = "SELECT status, epoch, unknowns FROM t_wechat_delivery WHERE recipient = $1";
        let row = self.client.query_one(SQL, &[&recipient]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    /// From now on PostgreSQL takes only such dead letters.
    async fn refuse(&self, check: &str) {
        let sql = format!("ALTER TABLE t_wechat_dead_letter ADD CHECK ({check})");
        self.client.batch_execute(&sql).await.unwrap();
    }

    /// The recipients of all dead letters, in order of arrival; `None` is a dead letter about a whole message.
    async fn recipients(&self) -> Vec<Option<String>> {
        let mut found = dead_letters::list(&self.db, &Filter::default(), None, 10_000).await.unwrap();
        found.reverse();
        found.into_iter().map(|found| found.dead_letter.about.recipient).collect()
    }

    async fn gaps(&self) -> i64 {
        self.client.query_one("SELECT count(*) FROM v_wechat_conservation", &[]).await.unwrap().get(0)
    }
}

fn message(body: impl AsRef<[u8]>, headers: Value) -> Message {
    let headers = serde_json::from_value(headers).unwrap();
    Message { headers, ..Message::json(body.as_ref().to_vec()) }
}

fn delivery_message(recipient: &str) -> String {
    format!(r#"{{"recipient":{{"openid":"{recipient}"}},"event_id":"pay-1","event":{EVENT}}}"#)
}

fn given_up_by_broker(epoch: i32) -> Value {
    json!({ "x-death": [{ "reason": "delivery_limit", "queue": "wechat.deliveries" }], "x-wn-epoch": epoch })
}

#[tokio::test]
async fn a_dead_letter_archived_twice_is_kept_once_as_received() {
    let archive = Archive::new().await;
    let dead_letter =
        message(EVENT, json!({ "x-wn-dead-letter": "one", "x-wn-reason": "unknown_app", "tenant": "a\0b" }));
    assert_eq!(archive.take(dead_letter.clone()).await, Verdict::Kept);
    assert_eq!(archive.take_all(vec![dead_letter.clone(), dead_letter]).await, [Verdict::Kept; 2]);

    let found = dead_letters::list(&archive.db, &Filter::default(), None, 100).await.unwrap();
    assert_eq!(found.len(), 1);
    let first = &found[0].dead_letter;
    assert_eq!((first.reason.as_str(), first.about.event_id.as_deref()), ("unknown_app", Some("pay-1")));
    let whole = dead_letters::show(&archive.db, found[0].id).await.unwrap().unwrap();
    assert_eq!(whole.body, EVENT.as_bytes());
    assert_eq!(whole.headers["tenant"], "ab", "PostgreSQL takes no NUL");
}

#[tokio::test]
async fn no_content_stops_the_archive() {
    let archive = Archive::new().await;
    let odd: Vec<Message> = vec![
        message(b"\xff\xfe\0", json!({})),
        message("", json!({ "x-death": "not a list", "x-wn-errcode": "many" })),
        message("{".repeat(50_000), given_up_by_broker(-7)),
        message(
            r#"{"event_id":"\u0000","app_id":"\ud800"}"#,
            json!({ "x-death": [[]], "x-wn-epoch": i64::MAX }),
        ),
        message(
            vec![b'x'; 9 * 1024 * 1024],
            json!({ "x-wn-dead-letter": "big", "x-wn-reason": "oversized" }),
        ),
        message(EVENT.replace("pay-1", &"长".repeat(9_000)), given_up_by_broker(0)),
    ];
    assert_eq!(archive.take_all(odd).await, [Verdict::Kept; 6]);
    assert_eq!(archive.recipients().await.len(), 6);
}

/// Whatever PostgreSQL has against a dead letter, it is the dead letter's own matter.
#[tokio::test]
async fn a_dead_letter_that_postgresql_refuses_is_kept_raw_and_stops_no_other() {
    let archive = Archive::new().await;
    archive.refuse("errcode <> 666").await;
    archive.refuse("app_id <> 'wxodd'").await;
    archive.refuse("length(body) <> 3").await;
    let dead_letter = |name: &str, body: &str, errcode: i64| {
        message(body, json!({ "x-wn-dead-letter": name, "x-wn-reason": "content", "x-wn-errcode": errcode }))
    };
    let odd = EVENT.replace("wx1", "wxodd");
    let batch = vec![
        dead_letter("a", EVENT, 1),
        dead_letter("b", EVENT, 666),
        dead_letter("c", &odd, 1),
        dead_letter("d", "{}!", 1),
        dead_letter("e", EVENT, 1),
    ];
    let (kept, again) = (Verdict::Kept, Verdict::ComeAgain);
    assert_eq!(archive.take_all(batch).await, [kept, kept, kept, again, kept]);

    let rows = archive
        .client
        .query("SELECT reason, body, event_id, errmsg FROM t_wechat_dead_letter ORDER BY identity", &[]);
    let found: Vec<_> = rows.await.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let row = |reason: &str, body: &str, event: Option<&str>| {
        (reason.to_owned(), body.as_bytes().to_vec(), event.map(str::to_owned))
    };
    assert_eq!(
        found,
        [
            row("content", EVENT, Some("pay-1")),
            row("unreadable", EVENT, Some("pay-1")),
            row("unreadable", &odd, None),
            row("content", EVENT, Some("pay-1")),
        ]
    );
}

/// What is wrong with the installation is not held against a dead letter.
#[tokio::test]
async fn dead_letters_wait_while_the_table_is_not_as_it_should_be() {
    let archive = Archive::new().await;
    let dead_letter = read(message(EVENT, json!({ "x-wn-dead-letter": "one", "x-wn-reason": "content" })));
    archive
        .client
        .batch_execute("ALTER TABLE t_wechat_dead_letter RENAME COLUMN class TO gone")
        .await
        .unwrap();
    assert!(
        archive_batch(&archive.db, std::slice::from_ref(&dead_letter))
            .await
            .is_err_and(|error| error.is_away())
    );
    archive
        .client
        .batch_execute("ALTER TABLE t_wechat_dead_letter RENAME COLUMN gone TO class")
        .await
        .unwrap();
    assert_eq!(archive_batch(&archive.db, &[dead_letter]).await.unwrap(), [Verdict::Kept]);
    let found = dead_letters::list(&archive.db, &Filter::default(), None, 100).await.unwrap();
    assert_eq!(found[0].dead_letter.reason.as_str(), "content");
}

#[tokio::test]
async fn what_the_broker_gave_up_on_is_dead_in_the_ledger_too() {
    let archive = Archive::new().await;
    archive.row("oA", "retrying", 2, "0").await;
    archive.row("oB", "retrying", 2, "0").await;

    assert_eq!(archive.take(message(delivery_message("oA"), given_up_by_broker(2))).await, Verdict::Kept);
    assert_eq!(archive.state("oA").await, ("dead".into(), 2, 0));
    assert_eq!(archive.state("oB").await, ("retrying".into(), 2, 0), "another recipient is another matter");
}

#[tokio::test]
async fn an_echo_that_the_broker_gave_up_on_settles_nothing() {
    let archive = Archive::new().await;
    archive.row("oA", "retrying", 3, "0").await;
    archive.row("oB", "sent", 0, "0").await;
    archive.take(message(delivery_message("oA"), given_up_by_broker(2))).await;
    archive.take(message(delivery_message("oB"), given_up_by_broker(0))).await;
    assert_eq!(archive.state("oA").await.0, "retrying", "a later epoch has a later delivery message");
    assert_eq!(archive.state("oB").await.0, "sent");
}

#[tokio::test]
async fn a_running_claim_is_waited_for_and_counts_as_unknown_when_it_ran_out() {
    let archive = Archive::new().await;
    archive.row("oA", "attempting", 1, "1 hour").await;
    let given_up = message(delivery_message("oA"), given_up_by_broker(1));
    assert_eq!(archive.take(given_up.clone()).await, Verdict::ComeAgain);
    assert_eq!(archive.state("oA").await.0, "attempting");

    archive
        .client
        .execute("UPDATE t_wechat_delivery SET claimed_until = now() - interval '1 s'", &[])
        .await
        .unwrap();
    assert_eq!(archive.take(given_up).await, Verdict::Kept);
    assert_eq!(archive.state("oA").await, ("dead".into(), 1, 1), "its holder may have sent");
    assert_eq!(archive.gaps().await, 0);
}

#[tokio::test]
async fn an_event_given_up_by_the_broker_leaves_a_dead_letter_for_each_of_its_open_rows() {
    let archive = Archive::new().await;
    for number in 0..1_001 {
        archive.row(&format!("o{number}"), "planned", 0, "0").await;
    }
    archive.row("oSent", "sent", 0, "0").await;
    archive.row("oRetried", "retrying", 1, "0").await;

    assert_eq!(archive.take(message(EVENT, given_up_by_broker(0))).await, Verdict::Kept);
    assert_eq!(
        archive.recipients().await.len(),
        1_002,
        "one for the event, one for each row that it carried"
    );
    assert_eq!(archive.state("oRetried").await.0, "retrying", "it has a delivery message of its own");
    assert_eq!(archive.gaps().await, 1, "only that one is unfinished");
}
