//! One TOML text as a flat list of keys, each with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as it was written, before its expected type is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<Raw>),
    /// A type that no key accepts (a float, a date, a table), by its name.
    Other(&'static str),
}

/// `section.key = value`, on this line.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Raw,
    pub(super) line: usize,
}

/// Not TOML, from this line on.
#[derive(Debug)]
pub(super) struct NotToml {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// Reads a whole document.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, NotToml> {
    let document = DeTable::parse(text).map_err(|error| NotToml {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        // Not the error's display, which quotes the line.
        problem: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (name, value) in document.get_ref() {
        match value.get_ref() {
            DeValue::Table(section) => entries.extend(entries_of(name.get_ref(), section, text)),
            _ => entries.push(entry(name.get_ref().to_string(), name, value, text)),
        }
    }
    Ok(entries)
}

/// Reads one list, e.g. of an environment variable.
pub(super) fn list(text: &str) -> Option<Raw> {
    let value = DeValue::parse(text).ok()?;
    value.get_ref().is_array().then(|| raw(value.get_ref()))
}

fn entries_of(section: &str, table: &DeTable<'_>, text: &str) -> Vec<Entry> {
    let full = |key: &str| format!("{section}.{key}");
    table.iter().map(|(key, value)| entry(full(key.get_ref()), key, value, text)).collect()
}

fn entry<K>(key: String, name: &Spanned<K>, value: &Spanned<DeValue<'_>>, text: &str) -> Entry {
    Entry { key, value: raw(value.get_ref()), line: line_of(text, name.span().start) }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(switch) => Raw::Switch(*switch),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("number beyond 64 bits"), Raw::Number),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Raw::Other(value.type_str()),
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}
