//! The key that every call but the fetching of itself needs.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// One access token of one app, ready for the wire. Never shown.
pub struct AccessToken {
    value: SecretString,
    /// `access_token=…`, encoded once here rather than once a request.
    query: SecretString,
    generation: i64,
}

impl AccessToken {
    /// `generation` is the row's `token_version` that this token was, or is to be, stored under.
    pub fn new(value: SecretString, generation: i64) -> Self {
        let query = format!("access_token={}", percent_encoded(value.expose_secret())).into();
        Self { value, query, generation }
    }

    /// Counts the tokens of an app. A complaint about an older generation says nothing about this token.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The token itself, for storing and comparing.
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    pub(super) fn query(&self) -> &str {
        self.query.expose_secret()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(generation {})", self.generation)
    }
}

/// Everything but RFC 3986's unreserved characters becomes `%XX`; WeChat's own tokens pass unchanged.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_encoded_for_the_query_and_never_shown() {
        let token = AccessToken::new("57_a-B+/=&订".into(), 7);
        assert_eq!(token.query(), "access_token=57_a-B%2B%2F%3D%26%E8%AE%A2");
        assert_eq!(format!("{token:?}"), "AccessToken(generation 7)");
    }
}
