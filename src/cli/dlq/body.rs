//! A dead letter's body for people: in full where asked for, otherwise with everything masked that may be personal data.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::cli::output::Masking;

/// Fields of an event, and of a delivery message around it, whose values are shown: business ids, no texts for users.
const SHOWN: [&str; 13] = [
    "event_id",
    "company_no",
    "app_id",
    "template_id",
    "customer_id",
    "sys_user_id",
    "sys_user_ids",
    "page",
    "miniprogram_state",
    "lang",
    "occurred_at",
    "deliver_after",
    "expires_at",
];
/// Fields that hold openids.
const OPENIDS: [&str; 2] = ["openid", "openids"];

/// The body's JSON with openids masked, and only the length of other texts. `None`: it is not JSON.
pub fn masked(body: &[u8], masking: Masking) -> Option<Value> {
    let json: Value = serde_json::from_slice(body).ok()?;
    Some(hide(json, masking))
}

/// The body as received: `body` where it is UTF-8, otherwise `body_base64`.
pub fn put_received(body: &[u8], into: &mut Value) {
    match std::str::from_utf8(body) {
        Ok(text) => into["body"] = text.into(),
        Err(_) => into["body_base64"] = STANDARD.encode(body).into(),
    }
}

fn hide(value: Value, masking: Masking) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|field| hide_field(field, masking)).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(|item| hide(item, masking)).collect(),
        Value::String(text) => format!("… ({} characters)", text.chars().count()).into(),
        Value::Number(number) => format!("… ({} digits)", number.to_string().len()).into(),
        plain => plain,
    }
}

fn hide_field((name, value): (String, Value), masking: Masking) -> (String, Value) {
    let value = match value {
        value if SHOWN.contains(&name.as_str()) && is_plain(&value) => value,
        value if OPENIDS.contains(&name.as_str()) => shorten(value, masking),
        value => hide(value, masking),
    };
    (name, value)
}

/// A string, a number or a list of them: what these fields should contain.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| !item.is_array() && !item.is_object()),
        other => !other.is_object(),
    }
}

fn shorten(value: Value, masking: Masking) -> Value {
    match value {
        Value::String(openid) => masking.openid(&openid).into(),
        Value::Array(items) => items.into_iter().map(|item| shorten(item, masking)).collect(),
        other => hide(other, masking),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_stay_and_words_to_people_are_counted() {
        let body = json!({
            "recipient": { "openid": "oZHANGSAN1", "sys_user_id": "zhangsan" },
            "event": { "event_id": "pay-1", "data": { "thing2": { "value": "广州至北京" }, "amount1": 12 },
                       "openids": ["oLISI12345"], "phone": "13800000000", "page": { "odd": "shape" } },
        });
        let shown = masked(body.to_string().as_bytes(), Masking::default()).unwrap();
        let expected = json!({
            "recipient": { "openid": "oZHANG…", "sys_user_id": "zhangsan" },
            "event": { "event_id": "pay-1", "data": { "thing2": { "value": "… (5 characters)" }, "amount1": "… (2 digits)" },
                       "openids": ["oLISI1…"], "phone": "… (11 characters)", "page": { "odd": "… (5 characters)" } },
        });
        assert_eq!(shown, expected);
        assert_eq!(masked(b"\xffno json", Masking::default()), None);
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let mut line = json!({});
        put_received(b"\xff\0", &mut line);
        assert_eq!(line, json!({ "body_base64": "/wA=" }));
    }
}
