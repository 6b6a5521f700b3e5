//! The event as it is in JSON, split into fields but not yet read.
//!
//! Every field stays raw until a reader that knows its name takes it up. So an error can name the field, numbers keep
//! their text, and serde never gets to quote a value in an error of its own.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Malformed;

/// Deepest nesting accepted, unknown fields included; an event itself needs three. Readers further on (a person's `jq`,
/// any JSON library) give up somewhere above a hundred, or overflow their stack.
const MAX_NESTING: usize = 64;

/// A business event for `wechat-notifier`: which users are to be notified of what, with which template of which Mini Program.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(title = "Event"))]
pub(super) struct Wire<'a> {
    /// The publisher's id of the event; an id is processed once. If it is missing, the AMQP `message_id` is used.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<String>", length(min = 1, max = 128)))]
    pub event_id: Option<&'a RawValue>,
    /// The company (tenant) the event belongs to.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "String", length(min = 1, max = 128)))]
    pub company_no: Option<&'a RawValue>,
    /// Appid of the Mini Program to send from.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "String", length(min = 1, max = 128)))]
    pub app_id: Option<&'a RawValue>,
    /// The subscribe message template (`priTmplId`).
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "String", length(min = 1, max = 128)))]
    pub template_id: Option<&'a RawValue>,
    /// Only rules for this customer, and those for all customers, apply.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<String>", length(min = 1, max = 128)))]
    pub customer_id: Option<&'a RawValue>,
    /// Send to these business users instead of asking the rules. An empty list means nobody; the rules apply only if both lists
    /// are absent or null.
    #[serde(borrow)]
    #[cfg_attr(
        test,
        schemars(with = "Option<Vec<String>>", length(max = 100_000), inner(length(min = 1, max = 128)))
    )]
    pub sys_user_ids: Option<&'a RawValue>,
    /// Send to these WeChat users of the Mini Program instead of asking the rules. An empty list means nobody.
    #[serde(borrow)]
    #[cfg_attr(
        test,
        schemars(with = "Option<Vec<String>>", length(max = 100_000), inner(length(min = 1, max = 128)))
    )]
    pub openids: Option<&'a RawValue>,
    /// Page of the Mini Program that a tap opens; a query string is allowed.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<String>", length(max = 1024)))]
    pub page: Option<&'a RawValue>,
    /// The template's parameters, each as `{"value": x}` or plain `x`. Numbers are sent exactly as written.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(schema_with = "schema::data", required))]
    pub data: Option<&'a RawValue>,
    /// Build of the Mini Program that a tap opens; the app's setting if missing.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<schema::MiniprogramState>"))]
    pub miniprogram_state: Option<&'a RawValue>,
    /// Language of the message card; the app's setting if missing.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<schema::Lang>"))]
    pub lang: Option<&'a RawValue>,
    /// When it happened, RFC 3339 with offset.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<schema::Instant>"))]
    pub occurred_at: Option<&'a RawValue>,
    /// Do not send before this time, RFC 3339 with offset.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<schema::Instant>"))]
    pub deliver_after: Option<&'a RawValue>,
    /// Do not send after this time, RFC 3339 with offset.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<schema::Instant>"))]
    pub expires_at: Option<&'a RawValue>,
    /// What to do with an unknown outcome: `resend` (at least once) or `park` (at most once); the installation's setting if
    /// missing.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<schema::OnUnknown>"))]
    pub on_unknown: Option<&'a RawValue>,
}

impl<'a> Wire<'a> {
    /// Checks that the body is one JSON object of bounded depth and finds its fields.
    pub(super) fn split(body: &'a [u8]) -> Result<Self, Malformed> {
        let body = object(body)?;
        let wire = serde_json::from_str(body).map_err(|error| not_split(&error))?;
        refuse_deep_nesting(body)?;
        Ok(wire)
    }
}

/// The body as text that at least starts like an object. (Serde would take a list for a struct.)
pub(in crate::domain) fn object(body: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Malformed::new(format!("is not UTF-8, from byte {} on", error.valid_up_to())))?;
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Ok(text),
        Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
            Err(Malformed::new("is not a JSON object"))
        }
        Some(_) => Err(Malformed::new("is not JSON: a JSON object starts with a brace")),
        None => Err(Malformed::new("is empty")),
    }
}

/// With raw fields serde can object to syntax, which it reports by line and column, and to a field that comes twice.
pub(in crate::domain) fn not_split(error: &serde_json::Error) -> Malformed {
    let text = error.to_string();
    match text.split('`').nth(1).filter(|_| error.is_data()) {
        Some(field) => Malformed::at(field, "comes twice"),
        None => Malformed::new(format!("is not JSON: {text}")),
    }
}

/// Splitting skips over values without recursion, so any depth gets here safely, and is stopped here.
fn refuse_deep_nesting(body: &str) -> Result<(), Malformed> {
    // Hardly any event has as many brackets as may be nested; counting them costs next to nothing.
    let brackets = body.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets <= MAX_NESTING || nesting(body) <= MAX_NESTING {
        return Ok(());
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(body).map_err(|error| not_split(&error))?;
    let deep = fields.iter().find(|(_, value)| nesting(value.get()) >= MAX_NESTING);
    let problem = Malformed::new(format!("is nested deeper than {MAX_NESTING} levels"));
    Err(match deep {
        Some((field, _)) => problem.under(field),
        // A field that comes twice, once deep and once not: the map kept the other one.
        None => problem,
    })
}

/// Levels of brackets in valid JSON.
fn nesting(json: &str) -> usize {
    let (mut level, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_text => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod schema;
