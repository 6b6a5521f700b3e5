//! What WeChat's answer means.

use std::time::Duration;

/// The fate of one request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendAnswer {
    /// WeChat answered in its own words.
    Read { errcode: i64, errmsg: String, rid: Option<String>, msgid: Option<u64> },
    /// Something answered with an HTTP error.
    Http { status: u16, retry_after: Option<Duration> },
    /// No connection came about: nothing was sent.
    NotConnected,
    /// No answer in time; the request may have been taken.
    TimedOut,
    /// The connection broke after the request began to leave.
    Broken,
    /// An answer came, but not one that can be read.
    Unreadable,
}
