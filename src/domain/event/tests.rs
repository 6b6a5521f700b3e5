use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SAMPLE: &str = r#"{ "event_id": "pay-20261122-000017", "company_no": "C001", "app_id": "wx0123456789abcdef",
  "template_id": "i6Mr7Qlw-w3KAxRz0ol84rPTXmvCoFwJgIHOw1tbiAI",
  "customer_id": "M100", "sys_user_ids": ["zhangsan"], "openids": ["oABCDEFGH"],
  "page": "pages/pay/detail?id=17", "data": { "thing2": "广州至北京", "amount1": {"value": "¥100.00"} },
  "miniprogram_state": "formal", "lang": "zh_CN",
  "occurred_at": "2026-11-22T10:00:00+08:00", "deliver_after": null, "expires_at": null, "on_unknown": "resend" }"#;

fn arrival() -> Arrival<'static> {
    Arrival {
        message_id: None,
        timestamp: None,
        first_seen: at("2026-11-22T03:00:00Z"),
        default_ttl: Duration::from_secs(72 * 3600),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn decode(body: &str) -> Result<Event, Malformed> {
    Event::decode(body.as_bytes(), &arrival())
}

/// The smallest event, with one field set otherwise; `null` takes it away.
fn with(field: &str, value: Value) -> Result<Event, Malformed> {
    let mut event = json!({ "event_id": "e", "company_no": "c", "app_id": "a", "template_id": "t", "data": { "thing1": "x" } });
    event[field] = value;
    decode(&event.to_string())
}

fn complaint(result: Result<Event, Malformed>) -> String {
    result.unwrap_err().to_string()
}

/// The smallest event with this text as its `data`, and what `data` becomes.
fn data(data: &str) -> Result<String, String> {
    decode(&format!(r#"{{"event_id":"e","company_no":"c","app_id":"a","template_id":"t","data":{data}}}"#))
        .map(|event| event.data.get().to_owned())
        .map_err(|malformed| malformed.to_string())
}

#[test]
fn the_documented_event_is_read_whole() {
    let event = decode(SAMPLE).unwrap();
    assert_eq!(event.event_id.as_str(), "pay-20261122-000017");
    assert_eq!(event.app_id.as_str(), "wx0123456789abcdef");
    assert_eq!(event.customer_id.unwrap().as_str(), "M100");
    assert_eq!(event.audience.sys_user_ids()[0].as_str(), "zhangsan");
    assert_eq!(event.audience.openids()[0].as_str(), "oABCDEFGH");
    assert_eq!(event.page.unwrap(), "pages/pay/detail?id=17");
    assert_eq!(event.data.get(), r#"{"amount1":{"value":"¥100.00"},"thing2":{"value":"广州至北京"}}"#);
    assert_eq!(event.lang.unwrap(), "zh_CN");
    assert_eq!(event.on_unknown, Some(OnUnknown::Resend));
    assert_eq!(event.deliver_after, None);
    assert_eq!(event.expires_at, at("2026-11-25T02:00:00Z"));
}

#[test]
fn a_missing_field_is_named() {
    for field in ["company_no", "app_id", "template_id", "data"] {
        assert_eq!(complaint(with(field, Value::Null)), format!("field `{field}`: is missing"));
    }
    assert_eq!(
        complaint(with("event_id", Value::Null)),
        "field `event_id`: is missing, and so is the message_id"
    );
}

#[test]
fn a_wrong_type_is_named_and_its_value_is_not_shown() {
    for (field, value, complaint_) in [
        ("company_no", json!(77), "field `company_no`: must be a string, not a number"),
        ("data", json!("secret"), "field `data`: must be an object, not a string"),
        ("page", json!({ "secret": 1 }), "field `page`: must be a string, not an object"),
        ("openids", json!("secret"), "field `openids`: must be a list of strings, not a string"),
        ("openids", json!(["o1", true]), "field `openids[1]`: must be a string, not a boolean"),
        ("lang", json!("secret"), "field `lang`: must be one of zh_CN, en_US, zh_HK, zh_TW"),
        (
            "miniprogram_state",
            json!("beta"),
            "field `miniprogram_state`: must be one of developer, trial, formal",
        ),
        ("on_unknown", json!("shrug"), "field `on_unknown`: must be one of resend, park"),
    ] {
        assert_eq!(complaint(with(field, value)), complaint_);
    }
    assert!(
        complaint(with("expires_at", json!("2026-11-22 10:00")))
            .starts_with("field `expires_at`: is not a time")
    );
}

#[test]
fn identifiers_are_checked() {
    assert_eq!(complaint(with("event_id", json!("a\0b"))), "field `event_id`: contains a control character");
    assert_eq!(complaint(with("app_id", json!(""))), "field `app_id`: is empty");
    assert_eq!(
        complaint(with("sys_user_ids", json!(["a", "b".repeat(129)]))),
        "field `sys_user_ids[1]`: is longer than 128 characters"
    );
}

#[test]
fn a_message_id_stands_in_for_the_event_id() {
    let body = SAMPLE.replace(r#""event_id": "pay-20261122-000017","#, "");
    let named = |message_id| Event::decode(body.as_bytes(), &Arrival { message_id, ..arrival() });
    assert_eq!(named(Some("m-1")).unwrap().event_id.as_str(), "m-1");
    assert_eq!(complaint(named(Some(""))), "field `event_id`: is missing, and the message_id is empty");
}

#[test]
fn recipients_are_kept_once_and_bounded() {
    let audience = |openids: Value| with("openids", openids).unwrap().audience;
    let twice = audience(json!(["b", "a", "b"]));
    assert_eq!(twice.openids().iter().map(Openid::as_str).collect::<Vec<_>>(), ["b", "a"]);
    let crowd: Vec<String> = (0..=100_000).map(|n| n.to_string()).collect();
    assert_eq!(audience(json!(crowd[1..])).openids().len(), 100_000);
    assert_eq!(complaint(with("openids", json!(crowd))), "field `openids`: names more than 100000");
}

#[test]
fn an_empty_list_names_nobody_and_only_a_missing_one_asks_the_rules() {
    let audience = |sys_user_ids: Value, openids: Value| {
        let body = json!({ "event_id": "e", "company_no": "c", "app_id": "a", "template_id": "t",
                           "data": { "thing1": "x" }, "sys_user_ids": sys_user_ids, "openids": openids });
        decode(&body.to_string()).unwrap().audience
    };
    let nobody = Audience::Named { sys_user_ids: vec![], openids: vec![] };
    assert_eq!(with("page", Value::Null).unwrap().audience, Audience::Rules);
    assert_eq!(audience(Value::Null, Value::Null), Audience::Rules);
    assert_eq!(audience(json!([]), Value::Null), nobody);
    assert_eq!(audience(Value::Null, json!([])), nobody);
    assert_eq!(audience(json!([]), json!([])), nobody);
    let one = audience(json!([]), json!(["o1"]));
    assert!(!one.is_by_rule() && one.sys_user_ids().is_empty() && one.openids().len() == 1);
}

#[test]
fn data_is_normalised() {
    assert_eq!(data(r#"{"a":"x"}"#).unwrap(), r#"{"a":{"value":"x"}}"#);
    assert_eq!(data(r#"{"a":{"value":"x","color":"red"}}"#).unwrap(), r#"{"a":{"value":"x"}}"#);
    assert_eq!(
        data(r#"{"b": 100.10, "a":-1e400}"#).unwrap(),
        r#"{"a":{"value":"-1e400"},"b":{"value":"100.10"}}"#
    );
    assert_eq!(data(r#"{"a":"\u5e7f\t\"\ud83d\ude00"}"#).unwrap(), "{\"a\":{\"value\":\"广\\t\\\"😀\"}}");
}

#[test]
fn data_that_cannot_be_sent_is_refused_by_name() {
    for (text, complaint) in [
        ("{}", "field `data`: is empty"),
        (r#"{"thing1":null}"#, "field `data.thing1`: must be a string or a number, not null"),
        (r#"{"thing1":true}"#, "field `data.thing1`: must be a string or a number, not a boolean"),
        (r#"{"thing1":{}}"#, "field `data.thing1.value`: is missing"),
        (r#"{"thing1":{"value":[]}}"#, "field `data.thing1.value`: must be a string or a number, not a list"),
        (
            r#"{"thing1":{"value":1,"value":2}}"#,
            r#"field `data.thing1`: must be {"value": …} with one value"#,
        ),
        (r#"{"a":1,"b":2,"\u0061":3}"#, "field `data.a`: comes twice"),
        (r#"{"a":"\ud800"}"#, "field `data.a`: contains an escape that is no character"),
        (r#"{"1a":1}"#, "field `data.1a`: is not a parameter's name (letters and _, then digits)"),
        (r#"{"a\n1":1}"#, "field `data.a1`: is not a parameter's name (letters and _, then digits)"),
    ] {
        assert_eq!(data(text).unwrap_err(), complaint);
    }
    let many: Vec<String> = (0..65).map(|n| format!(r#""a{n}":1"#)).collect();
    assert_eq!(data(&format!("{{{}}}", many.join(","))).unwrap_err(), "field `data`: has more than 64 keys");
    let long = "订".repeat(1025);
    assert_eq!(
        data(&format!(r#"{{"a":"{long}"}}"#)).unwrap_err(),
        "field `data.a`: is longer than 1024 characters"
    );
}

#[test]
fn the_hash_tells_contents_apart_and_nothing_else() {
    let hash = |data: Value, page: Value| {
        let body = json!({ "event_id": "e", "company_no": "c", "app_id": "a", "template_id": "t", "data": data, "page": page });
        decode(&body.to_string()).unwrap().content_hash
    };
    let plain = hash(json!({ "a": "1", "b": 2 }), json!("p"));
    assert_eq!(plain, hash(json!({ "b": { "value": "2" }, "a": 1 }), json!("p")));
    assert_ne!(plain, hash(json!({ "a": "1", "b": 3 }), json!("p")));
    assert_ne!(plain, hash(json!({ "a": "1", "b": 2 }), json!("q")));
    assert_ne!(plain, hash(json!({ "a": "1", "b": 2 }), Value::Null));
}

#[test]
fn an_event_without_an_end_gets_one() {
    let silent = r#"{"event_id":"e","company_no":"c","app_id":"a","template_id":"t","data":{"a":1}}"#;
    let expiry = |arrival: Arrival<'_>| Event::decode(silent.as_bytes(), &arrival).unwrap().expires_at;
    assert_eq!(expiry(arrival()), at("2026-11-25T03:00:00Z"));
    let stamped = Arrival { timestamp: Some(at("2026-11-01T00:00:00Z")), ..arrival() };
    assert_eq!(expiry(stamped), at("2026-11-04T00:00:00Z"));
    assert_eq!(expiry(Arrival { default_ttl: Duration::MAX, ..arrival() }), Timestamp::MAX);
    let given = with("expires_at", json!("2026-12-01T00:00:00+08:00")).unwrap();
    assert_eq!(given.expires_at, at("2026-11-30T16:00:00Z"));
}

#[test]
fn an_event_that_is_due_after_its_end_is_malformed() {
    let body = |deliver_after: &str, expires_at: Value| {
        let event = json!({ "event_id": "e", "company_no": "c", "app_id": "a", "template_id": "t", "data": { "a": 1 },
                            "deliver_after": deliver_after, "expires_at": expires_at });
        event.to_string()
    };
    let late = body("2026-11-24T00:00:00Z", json!("2026-11-23T00:00:00Z"));
    let complaint_ = complaint(decode(&late));
    assert!(
        complaint_.starts_with("field `deliver_after`: is not before the event's end (2026-11-23T00:00:00Z)"),
        "{complaint_}"
    );
    assert!(Event::decode_accepted(late.as_bytes(), &arrival()).is_ok(), "what is on its way goes on");
    // It arrives on the 22nd, and lives for three days.
    assert!(decode(&body("2026-11-26T00:00:00Z", Value::Null)).is_err());
    assert!(decode(&body("2026-11-24T00:00:00Z", Value::Null)).is_ok());
    assert!(decode(&body("2026-11-24T00:00:00Z", json!("9999-12-31T23:59:59Z"))).is_ok());
}

#[test]
fn the_end_of_time_is_a_time() {
    let expires_at = |text: &str| with("expires_at", json!(text)).map(|event| event.expires_at);
    for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999+08:00", "9999-12-31T23:59:59-12:00"] {
        assert_eq!(expires_at(text), Ok(Timestamp::MAX), "{text}");
    }
    assert_eq!(expires_at("9999-12-30T00:00:00Z"), Ok(at("9999-12-30T00:00:00Z")));
    for text in [
        "9999-12-31",
        "9999-12-31T23:59:59",
        "9999-13-31T23:59:59Z",
        "-000044-03-15T12:00:00Z",
        "10000-01-01T00:00:00Z",
    ] {
        assert!(expires_at(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_not_an_object_is_told_so() {
    assert_eq!(
        Event::decode(b"{\"a\":\"\xff\"}", &arrival()).unwrap_err().to_string(),
        "the body is not UTF-8, from byte 6 on"
    );
    assert_eq!(complaint(decode("  ")), "the body is empty");
    assert_eq!(complaint(decode("hello")), "the body is not JSON: a JSON object starts with a brace");
    assert_eq!(complaint(decode(r#"["e","c"]"#)), "the body is not a JSON object");
    assert_eq!(
        complaint(decode("{\"a\":1,\n oops}")),
        "the body is not JSON: key must be a string at line 2 column 2"
    );
    assert_eq!(complaint(decode(&SAMPLE.replace("customer_id", "app_id"))), "field `app_id`: comes twice");
}

#[test]
fn deep_nesting_is_refused_everywhere() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let with_extra = |extra: &str| decode(&SAMPLE.replacen('{', &format!(r#"{{"extra":{extra},"#), 1));
    let named = "field `extra`: is nested deeper than 64 levels";
    assert_eq!(complaint(with_extra(&deep(20_000))), named);
    assert_eq!(complaint(with_extra(&deep(64))), named);
    assert!(with_extra(&deep(63)).is_ok());
    assert!(with_extra(&format!("[{}]", vec!["[1]"; 1000].join(","))).is_ok(), "many brackets, little depth");
    assert!(with_extra(&format!(r#""\"{}""#, "[".repeat(1000))).is_ok(), "brackets in text");
    assert!(complaint(decode(&"[".repeat(20_000))).contains("not a JSON object"));
    assert!(complaint(decode(&r#"{"a":"#.repeat(20_000))).contains("not JSON: EOF"));
    let in_data = data(&format!(r#"{{"thing1":{}}}"#, deep(20_000)));
    assert_eq!(in_data.unwrap_err(), "field `data`: is nested deeper than 64 levels");
}

/// Any JSON, skewed towards the names that mean something.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("event_id"),
        Just("company_no"),
        Just("app_id"),
        Just("template_id"),
        Just("data"),
        Just("value"),
        Just("thing1"),
        Just("openids"),
        Just("page"),
        Just("expires_at"),
        Just("lang"),
        Just("\u{0}"),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_malformed(body in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Event::decode(&body, &arrival());
    }

    #[test]
    fn a_damaged_event_is_an_event_or_malformed(place in 0..SAMPLE.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = SAMPLE.as_bytes().to_vec();
        body[place] = byte;
        if cut {
            body.truncate(place);
        }
        let _ = Event::decode(&body, &arrival());
    }

    #[test]
    fn any_json_is_an_event_or_malformed(json in any_json()) {
        let _ = decode(&json.to_string());
    }

    #[test]
    fn numbers_keep_their_text(number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?") {
        let sent = data(&format!(r#"{{"number1":{number}}}"#)).unwrap();
        prop_assert_eq!(sent, format!(r#"{{"number1":{{"value":"{number}"}}}}"#));
    }

    #[test]
    fn text_reaches_wechat_unchanged(text in any::<String>()) {
        let sent = data(&json!({ "thing1": text }).to_string()).unwrap();
        let sent: Value = serde_json::from_str(&sent).unwrap();
        prop_assert_eq!(sent["thing1"]["value"].as_str(), Some(text.as_str()));
    }
}
