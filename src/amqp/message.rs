//! A message as we hold it: body, headers and the properties that mean something to us.

use std::fmt;

use bytes::Bytes;

use super::header::Headers;

/// What one AMQP message says. Published messages are always persistent, and their headers are cleaned on the way out.
#[derive(Clone, Default, PartialEq)]
pub struct Message {
    /// The payload, untouched.
    pub body: Bytes,
    pub headers: Headers,
    /// Falls in for a missing `event_id`.
    pub message_id: Option<String>,
    pub correlation_id: Option<String>,
    /// `application/json` for events.
    pub content_type: Option<String>,
    /// AMQP's `type` property.
    pub kind: Option<String>,
    /// The publishing application's name (not WeChat's appid).
    pub app_id: Option<String>,
    /// When the publisher made it, Unix seconds.
    pub timestamp: Option<u64>,
    /// What of the properties was not UTF-8 when it came in, by AMQP's names (`message_id`, `headers`, `routing_key` …). `�`
    /// replaces each lost byte in their texts. Never published.
    pub damaged: Vec<&'static str>,
}

impl Message {
    /// A JSON message without headers.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), content_type: Some("application/json".to_owned()), ..Self::default() }
    }
}

impl fmt::Debug for Message {
    /// Without the body and the headers' values: they name people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Message")
            .field("body_bytes", &self.body.len())
            .field("headers", &headers)
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}
