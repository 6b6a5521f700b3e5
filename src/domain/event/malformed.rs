//! Why a message is not an event.

use std::borrow::Cow;
use std::fmt;

/// Longest path shown. A publisher chooses the keys; a dead letter's reason must stay one line.
const MAX_FIELD_CHARS: usize = 64;

/// What is wrong with a message, and where. Names fields, never quotes values: they are somebody's business.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Malformed {
    /// Path of the field, as in `data.thing1.value` or `openids[3]`; `None` where the whole body is at fault.
    pub field: Option<String>,
    /// What is wrong with it, to be read after its name.
    pub problem: String,
}

impl Malformed {
    /// The value is wrong; its reader knows its name ([`Self::under`]).
    pub(in crate::domain) fn new(problem: impl Into<String>) -> Self {
        Self { field: None, problem: problem.into() }
    }

    /// These properties of the message, at least one, are not UTF-8, as AMQP asks for.
    pub fn not_utf8(properties: &[&'static str]) -> Self {
        let others = match properties {
            [] | [_] => String::new(),
            [_, others @ ..] => format!(", and so are {}", others.join(", ")),
        };
        let problem = format!(
            "is not UTF-8, which AMQP asks of properties, or holds the control character U+001A{others}; the publisher must encode it so"
        );
        Self { field: properties.first().map(|name| (*name).to_owned()), problem }
    }

    /// The field `path` is wrong.
    pub(in crate::domain) fn at(path: &str, problem: impl Into<String>) -> Self {
        Self { field: Some(shown(path)), problem: problem.into() }
    }

    /// The same, seen from the object or list around it.
    pub(in crate::domain) fn under(self, parent: &str) -> Self {
        let path = match self.field.as_deref() {
            None => Cow::Borrowed(parent),
            Some(index) if index.starts_with('[') => format!("{parent}{index}").into(),
            Some(field) => format!("{parent}.{field}").into(),
        };
        Self { field: Some(shown(&path)), problem: self.problem }
    }
}

fn shown(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(MAX_FIELD_CHARS).collect()
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "field `{field}`: {}", self.problem),
            None => write!(f, "the body {}", self.problem),
        }
    }
}
