use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::domain::delivery::DeliveryKey;

const EVENT: &str =
    r#"{"event_id":"pay-1","company_no":"C001","app_id":"wx1","template_id":"T1","data":{"thing1":"x"}}"#;

fn delivery_message() -> String {
    format!(
        r#"{{"recipient":{{"openid":"oA","sys_user_id":"zhangsan"}},"event_id":"pay-1","event":{EVENT}}}"#
    )
}

fn message(body: impl AsRef<[u8]>, headers: Value) -> Message {
    let headers = serde_json::from_value(headers).unwrap();
    Message { headers, ..Message::json(Bytes::copy_from_slice(body.as_ref())) }
}

fn dead_letter(body: impl AsRef<[u8]>, headers: Value) -> DeadLetter {
    read(message(body, headers)).dead_letter
}

fn x_death(reason: &str) -> Value {
    json!({ "x-death": [{ "reason": reason, "queue": "wechat.deliveries", "time": 1_795_000_000, "count": 1 }],
            "x-wn-epoch": 3 })
}

#[test]
fn our_dead_letter_says_everything_by_its_headers_and_body() {
    let dead_letter = dead_letter(
        delivery_message(),
        json!({ "x-wn-dead-letter": "abc", "x-wn-reason": "content", "x-wn-errcode": 47003, "x-wn-epoch": 2,
                "x-wn-errmsg": "argument invalid! data.thing1.value", "x-wn-field": "thing1", "x-wn-attempts": "3",
                "x-wn-died-at": 1_795_000_000_123_i64, "x-wn-first-failed": 1_794_000_000_000_i64,
                "x-wn-class": "content", "x-wn-token-generation": 7, "x-wn-rid": "r-1",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }),
    );
    assert_eq!((dead_letter.identity.as_str(), dead_letter.reason), ("abc", DeadReason::Content.into()));
    assert_eq!(
        (dead_letter.errcode, dead_letter.field.as_deref(), dead_letter.epoch, dead_letter.attempts),
        (Some(47003), Some("thing1"), Some(2), 3)
    );
    assert_eq!(dead_letter.about.event_id.as_deref(), Some("pay-1"));
    assert_eq!(
        (dead_letter.about.recipient.as_deref(), dead_letter.about.sys_user_id.as_deref()),
        (Some("oA"), Some("zhangsan"))
    );
    assert_eq!(dead_letter.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(dead_letter.last_failed_at.map(|at| at.as_millisecond()), Some(1_795_000_000_123));
    assert_eq!(dead_letter.first_failed_at.map(|at| at.as_millisecond()), Some(1_794_000_000_000));
    assert_eq!((dead_letter.class.as_deref(), dead_letter.token_generation), (Some("content"), Some(7)));
    assert_eq!(dead_letter.rid.as_deref(), Some("r-1"));
}

#[test]
fn what_the_broker_gave_up_on_gets_the_dead_letter_we_would_have_written() {
    let dead_letter = dead_letter(delivery_message(), x_death("delivery_limit"));
    let key = DeliveryKey {
        company_no: "C001".to_owned(),
        app_id: "wx1".to_owned(),
        template_id: "T1".to_owned(),
        event_id: "pay-1".to_owned(),
        recipient: "oA".to_owned(),
    };
    assert_eq!(dead_letter.identity, dead_letter::identity(&key, 3));
    assert_eq!(dead_letter.reason, DeadReason::DeliveryLimit.into());
    assert_eq!(
        dead_letter.errmsg.as_deref(),
        Some("the broker gave up: delivery_limit in queue wechat.deliveries")
    );
}

#[test]
fn an_event_as_a_whole_has_no_recipient() {
    let dead_letter = dead_letter(EVENT, x_death("expired"));
    assert_eq!((dead_letter.about.event_id.as_deref(), dead_letter.about.recipient), (Some("pay-1"), None));
    assert!(dead_letter.errmsg.unwrap().contains("expired"));
}

#[test]
fn a_business_header_cannot_pass_for_our_dead_letter() {
    let mut headers = x_death("delivery_limit");
    headers["x-wn-dead-letter"] = json!("forged");
    assert_ne!(dead_letter(EVENT, headers).identity, "forged");
}

#[test]
fn a_foreign_message_is_malformed_and_known_by_its_bytes() {
    let one = dead_letter(b"\xff\0not json", json!({ "tenant": "a\0b" }));
    assert_eq!(one.reason, DeadReason::Malformed.into());
    let received = read(message(b"\xff\0not json", json!({ "tenant": "a\0b" })));
    assert_eq!(received.headers, json!({ "tenant": "ab" }));
    let again = dead_letter(b"\xff\0not json", json!({ "tenant": "a\0b", "x-delivery-count": 2 }));
    assert_eq!(one.identity, again.identity, "a redelivery is the same dead letter");
    assert_ne!(one.identity, dead_letter(b"other", json!({})).identity);
}

#[test]
fn one_damaged_field_does_not_hide_the_others() {
    let dead_letter = dead_letter(
        r#"{"event_id":17,"company_no":"C\u0000001","app_id":null,"template_id":["T1"]}"#,
        json!({ "x-wn-dead-letter": "l", "x-wn-reason": "malformed", "x-wn-field": "event_id" }),
    );
    assert_eq!(
        (dead_letter.about.event_id, dead_letter.about.company_no.as_deref(), dead_letter.about.app_id),
        (None, Some("C001"), None)
    );
}

#[test]
fn nesting_does_not_overflow_the_stack() {
    let deep = "[".repeat(20_000);
    dead_letter(format!(r#"{{"event_id":"e","x":{deep}"#), json!({}));
    let closed = format!(r#"{{"event_id":"e","x":{}{}}}"#, deep, "]".repeat(20_000));
    assert_eq!(dead_letter(closed, json!({})).about.event_id.as_deref(), Some("e"));
}

#[test]
fn the_message_id_stands_in_for_a_missing_event_id() {
    let mut message = message(r#"{"company_no":"C001"}"#, json!({}));
    message.message_id = Some("m-1".to_owned());
    assert_eq!(read(message).dead_letter.about.event_id.as_deref(), Some("m-1"));
}
