//! Message headers in our own words, their names, and what must never be published again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map;

use serde::{Deserialize, Serialize};

use super::own;

/// W3C trace context: kept on every hop.
pub const TRACEPARENT: &str = "traceparent";

/// All headers must fit into one frame (128 KiB by default), together with the other properties; half of it is ours.
/// Higher would risk a closed connection, lower would cut business headers for nothing.
pub const MAX_TOTAL_BYTES: usize = 64 * 1024;

/// A text that is cut keeps this much: enough for an error message, small enough that hundreds fit.
const CUT_TEXT_BYTES: usize = 256;

/// Set by the broker, or an order to the broker; harmful or refused when published by a client (docs/STACK.md#headers-that-a-client-must-not-publish-again).
/// `CC` and `BCC` would multiply the message; a copied `x-death` can stop the retry ladder on RabbitMQ 3.
const BROKERS_OWN: [&str; 5] = ["x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"];
const BROKERS_OWN_PREFIXES: [&str; 3] = ["x-death-", "x-first-death-", "x-last-death-"];

/// One header's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderValue {
    Bool(bool),
    /// Any integer that fits; AMQP timestamps (Unix seconds) too.
    Number(i64),
    /// Bytes that are not UTF-8 are replaced by `�`.
    Text(String),
    /// Tables, arrays, floating point, nothing.
    Other(serde_json::Value),
}

impl HeaderValue {
    /// Roughly what it takes on the wire.
    fn size_bytes(&self) -> usize {
        match self {
            Self::Bool(_) => 2,
            Self::Number(_) => 9,
            Self::Text(text) => text.len() + 5,
            Self::Other(json) => json.to_string().len() + 5,
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for HeaderValue {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

/// A message's headers by name. Serialises as a plain JSON object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, HeaderValue>);

impl Headers {
    /// The value of header `name`.
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.0.get(name)
    }

    /// The header as text; `None` where it is missing or something else.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            HeaderValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The header as a number; texts that spell one count, because shells and HTTP bridges can send nothing else.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            HeaderValue::Number(number) => Some(*number),
            HeaderValue::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Sets or replaces a header.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<HeaderValue>) {
        self.0.insert(name.into(), value.into());
    }

    /// Takes a header out.
    pub fn remove(&mut self, name: &str) -> Option<HeaderValue> {
        self.0.remove(name)
    }

    /// All headers in the order of their names.
    pub fn iter(&self) -> btree_map::Iter<'_, String, HeaderValue> {
        self.0.iter()
    }

    /// No headers at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives headers with a former name today's name. A header that already has today's name wins.
    pub(super) fn rename_former(&mut self) {
        for (former, name) in own::FORMER {
            if let Some(value) = self.0.remove(former) {
                self.0.entry(name.to_owned()).or_insert(value);
            }
        }
    }

    /// Makes them fit to be published: without what belongs to the broker, within [`MAX_TOTAL_BYTES`].
    pub(super) fn clean(&mut self) {
        self.0.retain(|name, _| !belongs_to_broker(name));
        let excess = self.size_bytes().saturating_sub(MAX_TOTAL_BYTES);
        if excess > 0 {
            let excess = self.cut_texts(excess);
            self.drop_largest(excess);
        }
    }

    fn size_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| size_bytes(name, value)).sum()
    }

    /// Cuts long texts, largest first, ours too, until `excess` bytes are saved. Returns what is left to save.
    fn cut_texts(&mut self, mut excess: usize) -> usize {
        let texts = self.0.values_mut().filter_map(|value| match value {
            HeaderValue::Text(text) if text.len() > CUT_TEXT_BYTES => Some(text),
            _ => None,
        });
        let mut texts: Vec<&mut String> = texts.collect();
        texts.sort_by_key(|text| Reverse(text.len()));
        for text in texts {
            if excess == 0 {
                break;
            }
            let before = text.len();
            cut(text);
            excess = excess.saturating_sub(before - text.len());
        }
        excess
    }

    /// Drops whole headers, largest first, until `excess` bytes are saved. Never the protocol's own.
    fn drop_largest(&mut self, mut excess: usize) {
        let droppable = self.0.iter().filter(|(name, _)| !is_kept(name));
        let mut droppable: Vec<(usize, String)> =
            droppable.map(|(name, value)| (size_bytes(name, value), name.clone())).collect();
        droppable.sort_by_key(|(size, _)| Reverse(*size));
        for (size, name) in droppable {
            if excess == 0 {
                break;
            }
            self.0.remove(&name);
            excess = excess.saturating_sub(size);
        }
    }
}

impl FromIterator<(String, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, HeaderValue)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

impl IntoIterator for Headers {
    type Item = (String, HeaderValue);
    type IntoIter = btree_map::IntoIter<String, HeaderValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn belongs_to_broker(name: &str) -> bool {
    BROKERS_OWN.contains(&name) || BROKERS_OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Small, and carrying what the next hop rests on.
fn is_kept(name: &str) -> bool {
    name.starts_with(own::PREFIX) || name == TRACEPARENT
}

/// Roughly what a header takes on the wire.
fn size_bytes(name: &str, value: &HeaderValue) -> usize {
    name.len() + 1 + value.size_bytes()
}

fn cut(text: &mut String) {
    text.truncate(head(text, CUT_TEXT_BYTES - '…'.len_utf8()).len());
    text.push('…');
}

/// As much of the text as fits into `max_bytes`, ending between characters.
pub(super) fn head(text: &str, max_bytes: usize) -> &str {
    let edge = (0..=max_bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..edge.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, HeaderValue)]) -> Headers {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn what_belongs_to_the_broker_is_not_published_again() {
        let mut headers = headers(&[
            ("x-death", HeaderValue::Other(serde_json::json!([{"count": 1}]))),
            ("x-first-death-queue", "wechat.retry.10s".into()),
            ("x-last-death-reason", "expired".into()),
            ("x-delivery-count", 3.into()),
            ("CC", "elsewhere".into()),
            (TRACEPARENT, "00-ab-cd-01".into()),
            (own::EPOCH, 2.into()),
            ("tenant", "C001".into()),
        ]);
        headers.clean();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tenant", TRACEPARENT, own::EPOCH]);
    }

    #[test]
    fn headers_that_are_too_large_are_cut_but_ours_survive() {
        let mut headers = headers(&[
            (own::EPOCH, 2.into()),
            (own::ERRMSG, "错".repeat(30_000).into()),
            ("stack", "x".repeat(70_000).into()),
            ("table", HeaderValue::Other(serde_json::json!(vec!["y"; 20_000]))),
        ]);
        headers.clean();
        assert!(headers.size_bytes() <= MAX_TOTAL_BYTES);
        assert_eq!(headers.number(own::EPOCH), Some(2));
        assert!(
            headers.text(own::ERRMSG).is_some_and(|text| text.ends_with('…') && text.len() <= CUT_TEXT_BYTES)
        );
        assert!(headers.text("stack").is_some_and(|text| text.len() <= CUT_TEXT_BYTES));
    }

    #[test]
    fn very_many_small_headers_are_dropped_until_the_rest_fits() {
        let mut headers: Headers =
            (0..10_000).map(|n| (format!("business-{n}"), HeaderValue::Number(n))).collect();
        headers.set(own::STEP, 1);
        headers.clean();
        assert!(headers.size_bytes() <= MAX_TOTAL_BYTES);
        assert_eq!(headers.number(own::STEP), Some(1));
    }

    #[test]
    fn a_number_may_arrive_as_text() {
        let headers = headers(&[(own::EPOCH, "7".into()), (own::STEP, "two".into())]);
        assert_eq!(headers.number(own::EPOCH), Some(7));
        assert_eq!(headers.number(own::STEP), None);
    }

    #[test]
    fn a_message_of_the_release_before_says_its_epoch_by_the_former_name() {
        let mut headers = headers(&[
            ("x-wn-turn", 2.into()),
            ("x-wn-letter", "old".into()),
            (own::DEAD_LETTER, "new".into()),
        ]);
        headers.rename_former();
        assert_eq!(headers.number(own::EPOCH), Some(2));
        assert_eq!(headers.text(own::DEAD_LETTER), Some("new"), "today's name wins");
        assert_eq!(headers.iter().count(), 2, "no former name is left");
    }
}
