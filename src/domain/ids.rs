//! Identifiers as types, so that an openid can never stand where an app id belongs.

use std::fmt;
use std::sync::Arc;

/// Longest identifier accepted, in characters. WeChat's own are 18 to 43; longer ones would only bloat the ledger's key.
pub const MAX_CHARS: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("is empty")]
    Empty,
    #[error("is longer than {MAX_CHARS} characters")]
    TooLong,
    /// PostgreSQL cannot store NUL in text; other control characters only ever come from broken publishers.
    #[error("contains a control character")]
    Control,
}

fn validate(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    // Hardly any is longer even in bytes, which need no counting.
    if text.len() > MAX_CHARS && text.chars().count() > MAX_CHARS {
        return Err(InvalidId::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidId::Control);
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length (1 to [`MAX_CHARS`] characters) and characters (no control characters).
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                validate(text).map(|()| Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

macro_rules! shown_whole {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}

id!(/// A mini program's appid, `wx…`.
    AppId);
id!(/// The company (tenant) an event belongs to.
    CompanyNo);
id!(/// A subscribe message template (`priTmplId`).
    TemplateId);
id!(/// The publisher's own id of an event; with company, app and template it is the key of deduplication.
    EventId);
id!(/// Narrows the rules of an event to one customer.
    CustomerId);
id!(/// A user of the business system; may own several openids.
    SysUserId);
id!(/// A WeChat user as one mini program sees them. Personal: shown masked everywhere but in the ledger and on the wire.
    Openid);

shown_whole!(AppId, CompanyNo, TemplateId, EventId, CustomerId, SysUserId);

impl fmt::Display for Openid {
    /// The first six characters: enough to compare two log lines, not enough to name a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: String = self.0.chars().take(6).collect();
        write!(f, "{head}…")
    }
}

impl fmt::Debug for Openid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_short_visible_text() {
        assert_eq!(EventId::parse(""), Err(InvalidId::Empty));
        assert_eq!(EventId::parse(&"订".repeat(129)), Err(InvalidId::TooLong));
        assert_eq!(EventId::parse("a\0b"), Err(InvalidId::Control));
        assert_eq!(EventId::parse(&"订".repeat(128)).unwrap().as_str().chars().count(), 128);
    }

    #[test]
    fn an_openid_is_never_shown_whole() {
        let openid = Openid::parse("oABCDEFGHIJKLMNOPQRSTUVWXYZ").unwrap();
        assert_eq!(format!("{openid} {openid:?}"), "oABCDE… oABCDE…");
    }
}
