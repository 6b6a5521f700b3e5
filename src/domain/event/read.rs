//! Readers of single fields. Each takes raw JSON, knows what it wants, and says what is wrong in words that follow the
//! field's name.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::Malformed;
use crate::domain::ids::InvalidId;
use crate::domain::protocol::OnUnknown;

/// Most recipients one event may name. More would make the body the database; a rule can name as many as it likes.
const MAX_RECIPIENTS: usize = 100_000;

/// Longest page, in characters. WeChat names no limit; the mini program's own routing gives up around here.
const MAX_PAGE_CHARS: usize = 1024;

const STATES: &[&str] = &["developer", "trial", "formal"];
const LANGS: &[&str] = &["zh_CN", "en_US", "zh_HK", "zh_TW"];

type Read<T> = Result<T, Malformed>;

/// Reads the field `name`, which must be there.
pub(in crate::domain) fn required<'a, T>(
    raw: Option<&'a RawValue>,
    name: &str,
    read: impl FnOnce(&'a RawValue) -> Read<T>,
) -> Read<T> {
    optional(raw, name, read)?.ok_or_else(|| Malformed::at(name, "is missing"))
}

/// Reads the field `name` if it is there.
pub(in crate::domain) fn optional<'a, T>(
    raw: Option<&'a RawValue>,
    name: &str,
    read: impl FnOnce(&'a RawValue) -> Read<T>,
) -> Read<Option<T>> {
    raw.map(read).transpose().map_err(|malformed| malformed.under(name))
}

/// Any identifier of `ids.rs`.
pub(in crate::domain) fn id<T: FromStr<Err = InvalidId>>(raw: &RawValue) -> Read<T> {
    text(raw)?.parse().map_err(|invalid: InvalidId| Malformed::new(invalid.to_string()))
}

/// A list of identifiers, each kept once, in the order given.
pub(super) fn ids<T: FromStr<Err = InvalidId> + Clone + Eq + Hash>(raw: &RawValue) -> Read<Vec<T>> {
    if kind(raw) != Kind::List {
        return Err(Malformed::new(format!("must be a list of strings, not {}", kind(raw).with_article())));
    }
    let entries: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| unreadable())?;
    if entries.len() > MAX_RECIPIENTS {
        return Err(Malformed::new(format!("names more than {MAX_RECIPIENTS}")));
    }
    let mut seen = HashSet::with_capacity(entries.len());
    let mut list = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let one: T = id(entry).map_err(|malformed| malformed.under(&format!("[{index}]")))?;
        if seen.insert(one.clone()) {
            list.push(one);
        }
    }
    Ok(list)
}

/// A moment, RFC 3339 with an offset or `Z`. The last day of the year 9999, which many systems write for "never", lies
/// beyond what a [`Timestamp`] can hold and counts as its end.
pub(in crate::domain) fn instant(raw: &RawValue) -> Read<Timestamp> {
    let text = text(raw)?;
    let not_a_time =
        || Malformed::new("is not a time with offset as in RFC 3339 (2026-11-22T10:00:00+08:00)");
    // RFC 3339 has years of four digits only; others would be beyond what a database can hold.
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(not_a_time());
    }
    text.parse().ok().or_else(|| beyond_the_end(&text)).ok_or_else(not_a_time)
}

fn beyond_the_end(text: &str) -> Option<Timestamp> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    (pieces.offset().is_some()
        && pieces.time().is_some()
        && pieces.date() >= Timestamp::MAX.to_zoned(jiff::tz::TimeZone::UTC).date())
    .then_some(Timestamp::MAX)
}

/// A page of the mini program.
pub(super) fn page(raw: &RawValue) -> Read<String> {
    let page = text(raw)?;
    if page.chars().nth(MAX_PAGE_CHARS).is_some() {
        return Err(Malformed::new(format!("is longer than {MAX_PAGE_CHARS} characters")));
    }
    Ok(page.into_owned())
}

/// `miniprogram_state`.
pub(super) fn state(raw: &RawValue) -> Read<String> {
    one_of(raw, STATES).map(str::to_owned)
}

/// `lang`.
pub(super) fn lang(raw: &RawValue) -> Read<String> {
    one_of(raw, LANGS).map(str::to_owned)
}

/// `on_unknown`.
pub(super) fn on_unknown(raw: &RawValue) -> Read<OnUnknown> {
    OnUnknown::parse(&text(raw)?).ok_or_else(|| not_one_of(&["resend", "park"]))
}

fn one_of(raw: &RawValue, words: &[&'static str]) -> Read<&'static str> {
    let text = text(raw)?;
    words.iter().copied().find(|word| *word == text).ok_or_else(|| not_one_of(words))
}

fn not_one_of(words: &[&str]) -> Malformed {
    Malformed::new(format!("must be one of {}", words.join(", ")))
}

fn text(raw: &RawValue) -> Read<Cow<'_, str>> {
    match kind(raw) {
        Kind::Text => unquoted(raw),
        other => Err(Malformed::new(format!("must be a string, not {}", other.with_article()))),
    }
}

/// The text of a JSON string. Borrowed unless something in it is escaped.
pub(super) fn unquoted(raw: &RawValue) -> Read<Cow<'_, str>> {
    let quoted = raw.get();
    match quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        // Skipping over a string does not look at surrogates; reading it does.
        _ => serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| unreadable()),
    }
}

fn unreadable() -> Malformed {
    Malformed::new("contains an escape that is no character")
}

/// What a raw value is, told by its first byte: the syntax has been checked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Bool,
    Null,
    List,
    Object,
}

/// What a raw value is.
pub(super) fn kind(raw: &RawValue) -> Kind {
    match raw.get().as_bytes().first() {
        Some(b'"') => Kind::Text,
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::List,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

impl Kind {
    /// For the end of a sentence.
    pub(super) const fn with_article(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}
