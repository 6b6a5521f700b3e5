//! From a raw value to a typed one, with its bounds; an error names the key, the place and what is expected.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::document::Raw;
use super::error::ConfigError;
use super::settings::Settings;

impl Settings {
    /// A text; it may be empty.
    pub(super) fn text(&self, key: &str) -> Result<&str, ConfigError> {
        match &self.get(key).value {
            Raw::Text(text) => Ok(text),
            other => Err(self.fault(key, format!("must be a string, is {}", kind(other)))),
        }
    }

    /// One of a few words, or any text that `parse` understands.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let text = self.text(key)?;
        parse(text).ok_or_else(|| self.fault(key, format!("must be {wanted}, is {}", shown(text))))
    }

    /// `true` or `false`.
    pub(super) fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        match self.get(key).value {
            Raw::Switch(switch) => Ok(switch),
            ref other => Err(self.fault(key, format!("must be true or false, is {}", kind(other)))),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        key: &str,
        bounds: RangeInclusive<i64>,
    ) -> Result<T, ConfigError> {
        let wanted = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let Raw::Number(number) = self.get(key).value else {
            return Err(self.fault(key, format!("must be {wanted}, is {}", kind(&self.get(key).value))));
        };
        let within = Some(number).filter(|number| bounds.contains(number));
        within
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.fault(key, format!("must be {wanted}, is {number}")))
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &self,
        key: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let duration =
            self.parsed(key, "a duration such as \"250ms\", \"10s\", \"5m\" or \"2h\"", duration)?;
        self.within(key, duration, &bounds, |bound| format!("{bound:?}"))
    }

    /// A list of durations.
    pub(super) fn durations(&self, key: &str) -> Result<Vec<Duration>, ConfigError> {
        let wanted = r#"must be a list of durations such as ["10s", "1m"]"#;
        let Raw::List(items) = &self.get(key).value else { return Err(self.fault(key, wanted)) };
        let each = |item: &Raw| match item {
            Raw::Text(text) => {
                duration(text).ok_or_else(|| self.fault(key, format!("{wanted}, has {}", shown(text))))
            }
            other => Err(self.fault(key, format!("{wanted}, has {}", kind(other)))),
        };
        items.iter().map(each).collect()
    }

    /// A size in bytes within bounds, written as a number or with a unit.
    pub(super) fn size(&self, key: &str, bounds: RangeInclusive<usize>) -> Result<usize, ConfigError> {
        let size = match &self.get(key).value {
            Raw::Number(bytes) => usize::try_from(*bytes)
                .map_err(|_| self.fault(key, format!("must be a size in bytes, is {bytes}")))?,
            _ => self.parsed(key, "a size such as \"256KiB\", \"1MiB\" or a number of bytes", size)?,
        };
        self.within(key, size, &bounds, |bytes| format!("{bytes} bytes"))
    }

    /// Where to listen; empty means nowhere.
    pub(super) fn address(&self, key: &str) -> Result<Option<SocketAddr>, ConfigError> {
        if self.text(key)?.is_empty() {
            return Ok(None);
        }
        self.parsed(key, "an IP address and a port such as \"127.0.0.1:9180\"", |text| text.parse().ok())
            .map(Some)
    }

    /// The path of a file; empty means none.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.text(key)?;
        Ok((!text.is_empty()).then(|| text.into()))
    }

    /// A secret: from the file that `<key>_file` names, or the value itself. Whichever was given in the later layer wins. A
    /// fault never quotes it.
    pub(super) fn secret(&self, key: &str) -> Result<SecretString, ConfigError> {
        let file_key = format!("{key}_file");
        let Some(path) = self.path(&file_key)? else { return Ok(self.text(key)?.into()) };
        let (file, plain) = (self.get(&file_key), self.get(key));
        if file.layer == plain.layer {
            return Err(self.fault(key, format!("is set together with `{file_key}`: keep one of them")));
        }
        if file.layer < plain.layer { Ok(self.text(key)?.into()) } else { read_secret(&path) }
    }

    /// A fault of this key's value, with its place.
    pub(super) fn fault(&self, key: &str, problem: impl Display) -> ConfigError {
        let set_by = self.get(key).set_by.clone();
        ConfigError::Value { key: key.to_owned(), set_by, problem: problem.to_string() }
    }

    fn within<T: PartialOrd>(
        &self,
        key: &str,
        value: T,
        bounds: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Result<T, ConfigError> {
        if bounds.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (show(bounds.start()), show(bounds.end()));
        Err(self.fault(key, format!("must be between {least} and {most}, is {}", show(&value))))
    }
}

fn read_secret(path: &Path) -> Result<SecretString, ConfigError> {
    let unreadable =
        |source| ConfigError::Unreadable { what: "the secret file", path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    // Editors and `echo` end a file with a newline that is not part of the secret.
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

/// "250ms", "10s", "1h 30m", "90d". A bare number is refused: its unit is not known.
fn duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

/// "256KiB", "1 MiB", "4096".
fn size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit: usize = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// A wrong value, for an error. One that can hold a password, or is one, is not repeated.
fn shown(text: &str) -> String {
    let is_url = text.contains("://") || text.contains('@');
    if is_url || text.len() > LONGEST_SHOWN {
        "a value that is not shown here".to_owned()
    } else {
        format!("`{text}`")
    }
}

/// Words, numbers, spans, addresses; secrets are longer.
const LONGEST_SHOWN: usize = 30;

fn kind(value: &Raw) -> String {
    match value {
        Raw::Text(text) => shown(text),
        Raw::Number(number) => number.to_string(),
        Raw::Switch(switch) => switch.to_string(),
        Raw::List(_) => "a list".to_owned(),
        Raw::Other(name) => format!("a {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_may_hold_a_password_is_not_repeated() {
        let shared = ["http://user:hush@host/x?k=hush", "me:hush@host", &"0123456789abcdef".repeat(2)];
        for text in shared {
            assert_eq!(shown(text), "a value that is not shown here");
        }
        assert_eq!(shown("ten seconds"), "`ten seconds`");
    }

    #[test]
    fn durations_are_written_as_people_do() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("72h"), Some(Duration::from_secs(72 * 3600)));
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("90d"), Some(Duration::from_secs(90 * 24 * 3600)));
        for wrong in ["10", "", "-10s", "ten seconds", "10 parsecs", "1 month"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        assert_eq!(size("256KiB"), Some(256 * 1024));
        assert_eq!(size("1 MiB"), Some(1024 * 1024));
        assert_eq!(size("4096"), Some(4096));
        for wrong in ["", "KiB", "1 parsec", "-1", "99999999999999999999MiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
