//! What publishers get wrong: each mistake ends as a dead letter that says what is wrong and where, and harms nothing else.

use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::support::{APP, COMPANY, EventBody, TEMPLATE, World, event, eventually};

/// What a dead letter says of a mistake.
#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    reason: String,
    field: Option<String>,
    problem: String,
    body: Vec<u8>,
}

impl World {
    async fn publish_bytes(&self, body: &[u8], properties: BasicProperties) {
        self.publish_to(&format!("{}.events", self.name), "payment.paid", body, properties).await;
    }

    /// Publishes one body and waits for the dead letter it becomes, the `number`th of this world.
    async fn complaint(&self, number: i64, body: &[u8]) -> Complaint {
        self.publish_bytes(body, BasicProperties::default()).await;
        const NEWEST: &str = "SELECT count(*) OVER (), reason, field, coalesce(errmsg, ''), body
                                FROM t_wechat_dead_letter ORDER BY id DESC LIMIT 1";
        eventually(&format!("dead letter {number}"), async || {
            let row = self.db.query_opt(NEWEST, &[]).await.unwrap()?;
            let [reason, problem] = [1, 3].map(|column| row.get::<_, String>(column));
            (row.get::<_, i64>(0) == number).then(|| Complaint {
                reason,
                field: row.get(2),
                problem,
                body: row.get(4),
            })
        })
        .await
    }
}

/// An event without one of its fields.
fn without(field: &str) -> Vec<u8> {
    let EventBody(Value::Object(mut body)) = event("incomplete") else {
        unreachable!("an event is an object")
    };
    body.remove(field);
    Value::Object(body).to_string().into_bytes()
}

/// An event with another value in one of its fields.
fn with(field: &str, value: Value) -> Vec<u8> {
    event("mistaken").with(field, value).0.to_string().into_bytes()
}

/// An event with a field of lists in lists; a parser that recurses into them overflows its stack.
fn nested(levels: usize) -> Vec<u8> {
    let mut body = with("extra", json!(null));
    body.truncate(body.len() - 1);
    let deep = format!(r#","deep":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    body.extend_from_slice(deep.as_bytes());
    body
}

/// Body, field, and a piece of the sentence that says what is wrong.
fn mistakes() -> Vec<(Vec<u8>, Option<&'static str>, &'static str)> {
    vec![
        (b"payment 17 is paid".to_vec(), None, "is not JSON"),
        (Vec::new(), None, "is empty"),
        (b"[]".to_vec(), None, "is not a JSON object"),
        (with("lang", json!("zh_CN"))[..40].to_vec(), None, "is not JSON"),
        (b"{\"event_id\": \"\xff\"}".to_vec(), None, "is not UTF-8, from byte 14 on"),
        (without("company_no"), Some("company_no"), "is missing"),
        (without("app_id"), Some("app_id"), "is missing"),
        (without("template_id"), Some("template_id"), "is missing"),
        (without("data"), Some("data"), "is missing"),
        (without("event_id"), Some("event_id"), "is missing, and so is the message_id"),
        (with("template_id", json!(17)), Some("template_id"), "must be a string, not a number"),
        (with("data", json!(["¥100.00"])), Some("data"), "must be an object, not a list"),
        (with("data", json!({"thing1": {"value": [1]}})), Some("data.thing1.value"), "not a list"),
        (with("openids", json!(["o-1", 2])), Some("openids[1]"), "must be a string"),
        (
            with("deliver_after", json!("9999-12-31T23:59:59Z")),
            Some("deliver_after"),
            "is not before the event's end",
        ),
        (with("expires_at", json!("tomorrow")), Some("expires_at"), "is not a time"),
        (with("on_unknown", json!("panic")), Some("on_unknown"), "must be one of resend, park"),
        (with("event_id", json!("pay\0 1")), Some("event_id"), "contains a control character"),
        (with("company_no", json!("C".repeat(129))), Some("company_no"), "is longer than 128 characters"),
        (nested(20_000), Some("deep"), "is nested deeper than"),
    ]
}

#[tokio::test]
async fn every_mistake_becomes_a_dead_letter_that_names_its_field() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;

    for (number, (body, field, problem)) in (1..).zip(mistakes()) {
        let complaint = world.complaint(number, &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        assert_eq!((complaint.reason.as_str(), complaint.field.as_deref()), ("malformed", field), "{shown}");
        assert!(complaint.problem.contains(problem), "{shown}: {}", complaint.problem);
        assert_eq!(complaint.body, body, "a dead letter keeps the body as received");
    }

    world.publish(event("good").to(&["zhangsan"])).await;
    assert_eq!(world.ended("good").await.end(), "sent", "the consumer did not go on");
    world.conserved(["good".to_owned()]).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_dead_letter_and_one_at_the_limit_an_event() {
    const LIMIT: usize = 4096;
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon_with(&[("AMQP__MAX_BODY", "4096")]).await;
    let filled_to = |event_id: &str, bytes: usize| {
        let mut body = event(event_id).to(&["zhangsan"]).0.to_string().into_bytes();
        body.resize(bytes, b' ');
        body
    };

    let complaint = world.complaint(1, &filled_to("too-big", LIMIT + 1)).await;
    assert_eq!(complaint.reason, "oversized");
    assert!(complaint.problem.contains("amqp.max_body"), "{}", complaint.problem);
    world.publish_bytes(&filled_to("just-right", LIMIT), BasicProperties::default()).await;
    assert_eq!(world.ended("just-right").await.end(), "sent");
}

#[tokio::test]
async fn a_missing_event_id_is_taken_from_the_message() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.rule(&["zhangsan"]).await;
    let _daemon = world.daemon().await;

    for _twice in 0..2 {
        let properties = BasicProperties::default().with_message_id("m-17".into());
        world.publish_bytes(&without("event_id"), properties).await;
    }
    // Its id is as good as any: what came in between is finished when this one is.
    assert_eq!(world.ended("m-17").await.end(), "sent");
    world.conserved(["m-17".to_owned()]).await;
    assert_eq!(world.wechat.got("o-zhang").await, 1, "the id of the message does not tell duplicates");
}

#[tokio::test]
async fn an_unknown_app_is_a_dead_letter_until_it_is_registered() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let early = event("early").with("app_id", "wx-other").with("openids", json!(["o-li"]));

    let complaint = world.complaint(1, early.0.to_string().as_bytes()).await;
    assert_eq!(complaint.reason, "unknown_app");

    world.app("wx-other", "other secret").await;
    world
        .sql(&format!(
            r#"INSERT INTO t_wechat_user (app_id, openid, subscribe_template)
           VALUES ('wx-other', 'o-li', '{{"{TEMPLATE}": {{"status": "accept"}}}}')"#
        ))
        .await;
    world.publish(event("later").with("app_id", "wx-other").with("openids", json!(["o-li"]))).await;
    assert_eq!(world.ended("later").await.end(), "sent", "a registered app works without a restart");
}

#[tokio::test]
async fn another_companys_app_is_refused_and_ones_own_is_not() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.sql("UPDATE t_wechat_app SET company_no = 'C002'").await;
    let _daemon = world.daemon().await;

    let complaint = world.complaint(1, event("theirs").to(&["zhangsan"]).0.to_string().as_bytes()).await;
    assert_eq!(complaint.reason, "wrong_company");
    world.publish(event("ours").to(&["zhangsan"]).with("company_no", "C002")).await;
    assert_eq!(world.ended("ours").await.end(), "sent");
    assert_ne!(COMPANY, "C002");
}

#[tokio::test]
async fn an_app_that_is_switched_off_skips_what_comes() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.sql(&format!("UPDATE t_wechat_app SET status = 0 WHERE app_id = '{APP}'")).await;
    let _daemon = world.daemon().await;

    world.publish(event("unwanted").to(&["zhangsan"])).await;

    assert_eq!(world.ended("unwanted").await.end(), "skipped:app_disabled");
    assert_eq!(world.wechat.send_requests().await, 0);
    world.conserved(["unwanted".to_owned()]).await;
}

/// A rule of the company's own: PostgreSQL refuses the ledger rows of these users, for whatever is written about them.
async fn refuse_rows_of(world: &World, openids: &str) {
    let statements = [
        format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.openid IN ({openids}) THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END IF;
               RETURN new; END $$"
        ),
        "CREATE TRIGGER refuse BEFORE INSERT ON t_wechat_delivery FOR EACH ROW EXECUTE FUNCTION refuse()".to_owned(),
    ];
    for statement in statements {
        world.db.execute(&statement, &[]).await.unwrap();
    }
}

#[tokio::test]
async fn one_refused_recipient_of_a_few_is_a_dead_letter_and_the_others_get_theirs() {
    let world = World::new().await;
    world.crowd(5).await;
    world.user_with("no", "openid-no", &serde_json::json!({"status": "reject"})).await;
    refuse_rows_of(&world, "'openid-2', 'openid-no'").await;
    let daemon = world.daemon().await;
    let users = ["user-1", "user-2", "user-3", "user-4", "user-5", "no"];
    world.publish(event("few").to(&users)).await;

    assert_eq!(world.dead_letters_when(2).await, ["malformed", "malformed"]);
    world.ends_when("sent", 4).await;
    world.finish(daemon).await;
    world.conserved(["few".to_owned()]).await;
}

#[tokio::test]
async fn two_refused_recipients_of_a_crowd_are_dead_letters_and_the_others_get_theirs() {
    let world = World::new().await;
    world.crowd(700).await;
    world.rule_for_all_and(&[]).await;
    refuse_rows_of(&world, "'openid-7', 'openid-500'").await;
    let daemon = world.daemon().await;
    world.publish(event("crowd")).await;

    assert_eq!(world.dead_letters_when(2).await, ["malformed", "malformed"]);
    world.ends_when("sent", 698).await;
    world.finish(daemon).await;
    world.conserved(["crowd".to_owned()]).await;
}

/// The panic of one recipient's delivery, in an event for several.
#[tokio::test]
async fn a_panic_over_one_recipient_leaves_the_others_alone() {
    let world = World::new().await;
    world.crowd(5).await;
    let daemon = world.spawn_in(&[("WECHAT_NOTIFIER_FAILPOINT", "settle:3")], &[]);
    daemon.until_ready().await;
    world.publish(event("five").to(&["user-1", "user-2", "user-3", "user-4", "user-5"])).await;

    world.ends_when("sent", 4).await;
    assert_eq!(world.dead_letters_when(1).await, ["panicked"]);
    world.all_ended(5).await;
    world.finish(daemon).await;
    world.conserved(["five".to_owned()]).await;
}
