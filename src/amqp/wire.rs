//! The one place where lapin's words become ours, and ours lapin's.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;

use super::header::{HeaderValue, Headers, head};
use super::message::Message;
use super::stream::SUBSTITUTE;

/// AMQP: survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// AMQP short strings end here; lapin panics above.
const MAX_SHORT_STRING_BYTES: usize = 255;

/// A received message. The body changes hands without a copy.
pub(super) fn received(routing_key: &ShortString, properties: &BasicProperties, body: Vec<u8>) -> Message {
    Message {
        damaged: damaged(routing_key, properties),
        body: Bytes::from(body),
        headers: properties.headers().as_ref().map(headers_from).unwrap_or_default(),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        content_type: text(properties.content_type()),
        kind: text(properties.kind()),
        app_id: text(properties.app_id()),
        timestamp: *properties.timestamp(),
    }
}

/// The properties of a message on its way out: clean headers, persistent, and nothing that a client must not repeat
/// (`expiration`, `user_id`, `reply_to` have no place in [`Message`]).
pub(super) fn properties(message: &Message) -> BasicProperties {
    let mut headers = message.headers.clone();
    headers.clean();
    let mut properties =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(table_of(headers));
    if let Some(text) = &message.message_id {
        properties = properties.with_message_id(short(text));
    }
    if let Some(text) = &message.correlation_id {
        properties = properties.with_correlation_id(short(text));
    }
    if let Some(text) = &message.content_type {
        properties = properties.with_content_type(short(text));
    }
    if let Some(text) = &message.kind {
        properties = properties.with_type(short(text));
    }
    if let Some(text) = &message.app_id {
        properties = properties.with_app_id(short(text));
    }
    match message.timestamp {
        Some(seconds) => properties.with_timestamp(seconds),
        None => properties,
    }
}

/// A short string, cut at a character's edge where it is too long: an id of 128 Chinese characters does not fit whole.
pub(super) fn short(text: &str) -> ShortString {
    ShortString::from(head(text, MAX_SHORT_STRING_BYTES))
}

fn text(property: &Option<ShortString>) -> Option<String> {
    property.as_ref().map(readable)
}

/// The text with the character that everybody knows where the stream put its own (see `stream`).
fn readable(text: &ShortString) -> String {
    match is_repaired(text) {
        true => text.as_str().replace(char::from(SUBSTITUTE), "\u{fffd}"),
        false => text.as_str().to_owned(),
    }
}

fn is_repaired(text: &ShortString) -> bool {
    text.as_str().as_bytes().contains(&SUBSTITUTE)
}

/// What the stream had to repair, by AMQP's names, those that matter most first.
fn damaged(routing_key: &ShortString, properties: &BasicProperties) -> Vec<&'static str> {
    let texts = [
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("app_id", properties.app_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("user_id", properties.user_id()),
        ("cluster_id", properties.cluster_id()),
    ];
    let texts = texts.into_iter().filter(|(_, text)| text.as_ref().is_some_and(is_repaired));
    let headers = properties.headers().as_ref().is_some_and(has_repaired_name);
    let others = [("headers", headers), ("routing_key", is_repaired(routing_key))];
    texts
        .map(|(name, _)| name)
        .chain(others.into_iter().filter(|(_, bad)| *bad).map(|(name, _)| name))
        .collect()
}

/// Names in the tables within it too.
fn has_repaired_name(table: &FieldTable) -> bool {
    table.into_iter().any(|(name, value)| is_repaired(name) || holds_repaired_name(value))
}

fn holds_repaired_name(value: &AMQPValue) -> bool {
    match value {
        AMQPValue::FieldTable(table) => has_repaired_name(table),
        AMQPValue::FieldArray(list) => list.as_slice().iter().any(holds_repaired_name),
        _ => false,
    }
}

fn headers_from(table: &FieldTable) -> Headers {
    let mut headers: Headers =
        table.into_iter().map(|(name, value)| (readable(name), header_from(value))).collect();
    headers.rename_former();
    headers
}

fn header_from(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::LongString(text) => HeaderValue::Text(text.to_string()),
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::Boolean(yes) => HeaderValue::Bool(*yes),
        other => integer(other).map_or_else(|| HeaderValue::Other(json_from(other)), HeaderValue::Number),
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::Timestamp(seconds) => i64::try_from(*seconds).ok(),
        _ => None,
    }
}

fn json_from(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => text.to_string().into(),
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::Boolean(yes) => (*yes).into(),
        AMQPValue::Float(number) => (*number).into(),
        AMQPValue::Double(number) => (*number).into(),
        AMQPValue::DecimalValue(decimal) => {
            (f64::from(decimal.value) / 10_f64.powi(decimal.scale.into())).into()
        }
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into(),
        AMQPValue::FieldArray(list) => list.as_slice().iter().map(json_from).collect(),
        AMQPValue::FieldTable(table) => {
            table.into_iter().map(|(name, value)| (readable(name), json_from(value))).collect()
        }
        other => integer(other).map_or(Value::Null, Value::from),
    }
}

fn table_of(headers: Headers) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(&name), value_of(value));
    }
    table
}

fn value_of(value: HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Text(text) => AMQPValue::LongString(text.into()),
        HeaderValue::Number(number) => AMQPValue::LongLongInt(number),
        HeaderValue::Bool(yes) => AMQPValue::Boolean(yes),
        HeaderValue::Other(json) => value_of_json(json),
    }
}

fn value_of_json(json: Value) -> AMQPValue {
    match json {
        Value::Null => AMQPValue::Void,
        Value::Bool(yes) => AMQPValue::Boolean(yes),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => AMQPValue::LongLongInt(integer),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(text.into()),
        Value::Array(list) => {
            AMQPValue::FieldArray(list.into_iter().map(value_of_json).collect::<Vec<_>>().into())
        }
        Value::Object(object) => {
            let mut table = FieldTable::default();
            for (name, value) in object {
                table.insert(short(&name), value_of_json(value));
            }
            AMQPValue::FieldTable(table)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::own;

    fn message() -> Message {
        let mut message = Message::json("{}");
        message.message_id = Some("pay-17".into());
        message.kind = Some("payment.paid".into());
        message.timestamp = Some(1_800_000_000);
        message.headers.set(own::EPOCH, 3);
        message.headers.set("tenant", "甲");
        message.headers.set("urgent", true);
        message.headers.set("nested", HeaderValue::Other(serde_json::json!({"a": [1, 2.5, null, "b"]})));
        message
    }

    #[test]
    fn a_message_goes_out_and_comes_back_the_same() {
        let sent = message();
        assert_eq!(received(&"payment.paid".into(), &properties(&sent), sent.body.to_vec()), sent);
    }

    #[test]
    fn what_the_stream_repaired_is_named_and_readable() {
        let mut nested = FieldTable::default();
        nested.insert("sp\u{1a}t".into(), AMQPValue::Void);
        let mut headers = FieldTable::default();
        headers.insert("deep".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(nested)].into()));
        let properties = BasicProperties::default()
            .with_message_id("pay-\u{1a}\u{1a}".into())
            .with_type("paid".into())
            .with_headers(headers);
        let message = received(&"payment.\u{1a}".into(), &properties, Vec::new());
        assert_eq!(message.damaged, ["message_id", "headers", "routing_key"]);
        assert_eq!(message.message_id.as_deref(), Some("pay-\u{fffd}\u{fffd}"));
        let deep = message.headers.get("deep").map(|deep| format!("{deep:?}")).unwrap();
        assert!(deep.contains("sp\u{fffd}t"), "{deep}");
    }

    #[test]
    fn what_is_published_is_persistent_and_clean() {
        let mut message = message();
        message.headers.set("x-death", 1);
        let properties = properties(&message);
        assert_eq!(*properties.delivery_mode(), Some(PERSISTENT));
        assert!(properties.expiration().is_none() && properties.user_id().is_none());
        assert!(!properties.headers().as_ref().is_some_and(|headers| headers.contains_key("x-death")));
    }

    #[test]
    fn an_id_too_long_for_the_wire_is_cut_between_characters() {
        let text = "订".repeat(128);
        assert_eq!(short(&text).as_str(), "订".repeat(85));
    }
}
