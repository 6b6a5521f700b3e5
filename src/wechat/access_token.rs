//! The access token, which every call needs except those that fetch it.

use std::fmt;
use std::sync::OnceLock;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::message_kind::MessageKind;

/// One access token of one app, ready for the wire. Never shown.
pub struct AccessToken {
    value: SecretString,
    /// `access_token=…`, encoded once here rather than once a request.
    query: SecretString,
    /// The endpoint of each kind of message with the query, parsed once.
    send_urls: [OnceLock<Url>; MessageKind::ALL.len()],
    generation: i64,
}

impl AccessToken {
    /// `generation` is the row's `token_version` that this token was, or is to be, stored under.
    pub fn new(value: SecretString, generation: i64) -> Self {
        let query = format!("access_token={}", percent_encoded(value.expose_secret())).into();
        Self { value, query, send_urls: Default::default(), generation }
    }

    /// Counts the tokens of an app. A rejection of an older generation says nothing about this token.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The token itself, for storing and comparing.
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// The endpoint with the token in its query. A process has one endpoint for each kind, so the first one is kept.
    pub(super) fn send_url(&self, kind: MessageKind, endpoint: &Url) -> Url {
        let with_query = || {
            let mut url = endpoint.clone();
            url.set_query(Some(self.query.expose_secret()));
            url
        };
        self.send_urls[kind as usize].get_or_init(with_query).clone()
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
        let endpoint = Url::parse("https://wechat.test/send").unwrap();
        let expected = "https://wechat.test/send?access_token=57_a-B%2B%2F%3D%26%E8%AE%A2";
        assert_eq!(token.send_url(MessageKind::Subscribe, &endpoint).as_str(), expected);
        assert_eq!(format!("{token:?}"), "AccessToken(generation 7)");
    }
}
