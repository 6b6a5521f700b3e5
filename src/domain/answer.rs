//! What WeChat's answer means.
//!
//! The codes that all endpoints share are data ([`COMMON_CODES`]). A kind of message has some of its own, which take
//! precedence ([`MessageKind::codes`](super::message_kind::MessageKind::codes)); at the token endpoints some mean something else
//! ([`classify_token`]).

mod class;
mod codes;
mod errmsg;

use std::time::Duration;

use super::outcome::AnswerFacts;
pub use super::pause::PauseReason;
pub use class::{Class, MAX_UNLISTED_ATTEMPTS};
pub use codes::{COMMON_CODES, ErrorCode};
pub(super) use codes::{code, explain};
pub use errmsg::{MAX_ERRMSG_CHARS, blocked_ip, field_of, split as split_errmsg};

/// What came back from a request to send, as far as the adapter could read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendAnswer {
    /// HTTP 200 with a readable body.
    Read {
        errcode: i64,
        /// Bounded, and without the trace id (see [`split_errmsg`]).
        errmsg: String,
        /// Trace id of the request, where the body has one.
        rid: Option<String>,
        /// WeChat's id of the message; often above 2^53, not always there (docs/WECHAT.md#the-answer).
        msgid: Option<u64>,
    },
    /// Another HTTP status. WeChat itself answers errors with 200, so this is a gateway, or something on the way.
    Http { status: u16, retry_after: Option<Duration> },
    /// No connection came about, so no request left.
    NotConnected,
    /// The request left; no answer in time.
    TimedOut,
    /// The request left; the connection broke before a whole answer.
    Broken,
    /// HTTP 200, but the body is not what the API returns.
    Unreadable,
}

impl SendAnswer {
    /// How long WeChat asks us to wait at least.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// WeChat's code, where it answered with one.
    pub fn errcode(&self) -> Option<i64> {
        match self {
            Self::Read { errcode, .. } => Some(*errcode),
            _ => None,
        }
    }

    /// WeChat's id of the message, where it gave one.
    pub fn msgid(&self) -> Option<u64> {
        match self {
            Self::Read { msgid, .. } => *msgid,
            _ => None,
        }
    }

    /// What is worth keeping in the ledger.
    pub fn facts(&self) -> AnswerFacts {
        match self {
            Self::Read { errcode, errmsg, rid, .. } => AnswerFacts {
                errcode: Some(*errcode),
                errmsg: Some(errmsg.clone()),
                rid: rid.clone(),
                field: field_of(errmsg).filter(|_| *errcode == errmsg::BAD_DATA),
            },
            Self::Http { status, .. } => said(format!("HTTP {status}")),
            Self::NotConnected => said("not connected"),
            Self::TimedOut => said("timed out"),
            Self::Broken => said("connection broke"),
            Self::Unreadable => said("unreadable answer"),
        }
    }
}

fn said(words: impl Into<String>) -> AnswerFacts {
    AnswerFacts { errmsg: Some(words.into()), ..AnswerFacts::default() }
}

/// What an answer to a send means; `own` are the codes that the kind of message gives a meaning of its own.
pub(super) fn classify_send(answer: &SendAnswer, own: &'static [ErrorCode]) -> Class {
    match answer {
        SendAnswer::Read { errcode, .. } => class_of(*errcode, own),
        SendAnswer::Http { status, .. } => class_of_status(*status),
        SendAnswer::NotConnected => Class::Transient,
        SendAnswer::TimedOut | SendAnswer::Broken | SendAnswer::Unreadable => Class::Unknown,
    }
}

/// What `errcode` means after a send.
pub(super) fn class_of(errcode: i64, own: &'static [ErrorCode]) -> Class {
    match explain(errcode, own) {
        Some(listed) => listed.class,
        None if codes::IP_CONFIRMATION.contains(&errcode) => Class::AppFault(PauseReason::IpNotAllowed),
        None => Class::Unlisted,
    }
}

fn class_of_status(status: u16) -> Class {
    match status {
        // The server says that it did not do it.
        429 | 500 | 503 => Class::Transient,
        // Redirects are not followed, and a 4xx is a refusal by something before WeChat, which answers its own errors
        // with 200. Either way the request was not acted on.
        300..=499 => Class::Transient,
        // 502 and 504 come from gateways that may have passed the request on. So may any other 5xx, and any other 2xx
        // says that something was accepted.
        _ => Class::Unknown,
    }
}

/// What an error of a token endpoint means to the refresher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// The app's credentials, address or account are at fault: pause it until they are fixed.
    App(PauseReason),
    /// No more tokens today.
    Quota,
    /// No more tokens this minute.
    Throttled,
    /// Back off and ask again, while the old token lasts.
    Transient,
}

/// What `errcode` means when a token endpoint returns it (docs/WECHAT.md#error-codes-of-the-token-endpoints).
pub fn classify_token(errcode: i64) -> TokenFault {
    match class_of(errcode, &[]) {
        // Nothing but appid and secret was sent: "invalid credential" (40001) means the secret.
        Class::Token => TokenFault::App(PauseReason::SecretWrong),
        Class::AppFault(reason) => TokenFault::App(reason),
        Class::Quota => TokenFault::Quota,
        Class::Throttled => TokenFault::Throttled,
        // A code of another endpoint, or a new one: nothing is lost by asking again later.
        _ => TokenFault::Transient,
    }
}

#[cfg(test)]
mod tests;
