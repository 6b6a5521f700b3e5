//! The `data` of an event: from the publisher's form to the one that WeChat takes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::read::{Kind, kind, unquoted};
use super::{Malformed, required};

/// First 16 bytes of a SHA-256: enough to tell two contents apart, small enough for five million rows.
pub type ContentHash = [u8; 16];

/// Most parameters of one message. Templates have two to five of them (docs/WECHAT.md#templates); the rest of the room is for
/// whatever WeChat thinks of next.
pub(super) const MAX_KEYS: usize = 64;

/// Longest key, in bytes. WeChat's longest is `character_string` with an index.
pub(super) const MAX_KEY_BYTES: usize = 64;

/// Longest value, in characters. WeChat's longest is 32 (docs/WECHAT.md#parameter-types); more is refused there and named, so this
/// bound only keeps nonsense from being carried through every retry.
pub(super) const MAX_VALUE_CHARS: usize = 1024;

/// What WeChat gets: keys sorted, every value `{"value": "text"}`, raw UTF-8 (docs/WECHAT.md#the-request). Sorted, so that a
/// publisher who writes the same data in another order still publishes a duplicate.
pub(super) fn normalised(raw: &RawValue) -> Result<Box<RawValue>, Malformed> {
    let mut parameters = parameters(raw)?;
    parameters.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    if let Some(twice) = parameters.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Malformed::at(&twice[0].0, "comes twice"));
    }
    serde_json::value::to_raw_value(&Normalised(&parameters)).map_err(|_| Malformed::new("cannot be written"))
}

/// Tells two contents apart: the normalised data, and whether and which page.
pub(super) fn hash(data: &RawValue, page: Option<&str>) -> ContentHash {
    let mut hasher = Sha256::new();
    hasher.update(data.get());
    if let Some(page) = page {
        // JSON holds no raw NUL, so data and page cannot run into each other.
        hasher.update([0]);
        hasher.update(page);
    }
    let mut first = ContentHash::default();
    first.copy_from_slice(&hasher.finalize()[..size_of::<ContentHash>()]);
    first
}

type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

fn parameters(raw: &RawValue) -> Result<Vec<Parameter<'_>>, Malformed> {
    if kind(raw) != Kind::Object {
        return Err(Malformed::new(format!("must be an object, not {}", kind(raw).with_article())));
    }
    let Entries(entries) = serde_json::from_str(raw.get())
        .map_err(|_| Malformed::new("has a key with an escape that is no character"))?;
    match entries.len() {
        0 => Err(Malformed::new("is empty")),
        1..=MAX_KEYS => entries.into_iter().map(|(Key(key), raw)| parameter(key, raw)).collect(),
        _ => Err(Malformed::new(format!("has more than {MAX_KEYS} keys"))),
    }
}

fn parameter<'a>(key: Cow<'a, str>, raw: &'a RawValue) -> Result<Parameter<'a>, Malformed> {
    if !is_parameter_name(&key) {
        return Err(Malformed::at(&key, "is not a parameter's name (letters and _, then digits)"));
    }
    match value(raw) {
        Ok(value) => Ok((key, value)),
        Err(malformed) => Err(malformed.under(&key)),
    }
}

/// `[A-Za-z_]+[0-9]*`, as in the template's `{{thing1.DATA}}` (docs/WECHAT.md#templates).
fn is_parameter_name(key: &str) -> bool {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    !name.is_empty()
        && key.len() <= MAX_KEY_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

fn value(raw: &RawValue) -> Result<Cow<'_, str>, Malformed> {
    if kind(raw) != Kind::Object {
        return scalar(raw);
    }
    let Wrapped { value } = serde_json::from_str(raw.get())
        .map_err(|_| Malformed::new("must be {\"value\": …} with one value"))?;
    required(value, "value", scalar)
}

/// A string, or a number exactly as written: `100.10` is an amount and must not become `100.1`.
fn scalar(raw: &RawValue) -> Result<Cow<'_, str>, Malformed> {
    let text = match kind(raw) {
        Kind::Text => unquoted(raw)?,
        Kind::Number => Cow::Borrowed(raw.get()),
        other => {
            return Err(Malformed::new(format!(
                "must be a string or a number, not {}",
                other.with_article()
            )));
        }
    };
    // Few texts have even as many bytes, which need no counting.
    if text.len() > MAX_VALUE_CHARS && text.chars().nth(MAX_VALUE_CHARS).is_some() {
        return Err(Malformed::new(format!("is longer than {MAX_VALUE_CHARS} characters")));
    }
    Ok(text)
}

/// A value in WeChat's own form. What else is beside it (`color`, say) is ignored there, and here.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// The members of an object in the order written, doubles included.
struct Entries<'a>(Vec<(Key<'a>, &'a RawValue)>);

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(8);
        while let Some(entry) = map.next_entry()? {
            // One beyond the bound is enough to know that there are too many.
            if entries.len() <= MAX_KEYS {
                entries.push(entry);
            }
        }
        Ok(Entries(entries))
    }
}

struct Normalised<'a>(&'a [Parameter<'a>]);

impl Serialize for Normalised<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Value<'a> {
            value: &'a str,
        }

        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, &Value { value })?;
        }
        map.end()
    }
}
