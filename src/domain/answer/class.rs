//! The classes of answers: what a delivery, and its app, can make of them.

use crate::domain::consent::Refusal;
use crate::domain::pause::PauseReason;

/// What an answer to a send means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// WeChat took the message.
    Sent,
    /// The token is not, or no longer, good: report its generation, wait for a newer one. Uncharged.
    Token,
    /// Something is wrong with the app or its account, not with the delivery: pause the app. Uncharged.
    AppFault(PauseReason),
    /// The day's number of calls is used up: pause until the next day, Asia/Shanghai. Uncharged.
    Quota,
    /// Too many calls this minute: pause until the next. Uncharged.
    Throttled,
    /// Another send to the same openid is under way (43108). Nothing was sent, nothing is charged.
    Conflict,
    /// Not sent, and may well succeed a little later.
    Transient,
    /// As [`Self::Transient`], but with a code that no source lists: at most [`MAX_UNLISTED_ATTEMPTS`], and logged once
    /// per code.
    Unlisted,
    /// Nobody can know whether the message went out.
    Unknown,
    /// The user cannot be reached this way. A normal end.
    Recipient(Refusal),
    /// WeChat will never take this content.
    Content,
    /// WeChat will not take this template from this app.
    Template,
}

/// Attempts at an answer that no source lists. It may be permanent: the whole ladder would be pestering; one attempt
/// would lose what a new word for "busy" only delays.
pub const MAX_UNLISTED_ATTEMPTS: i32 = 3;

impl Class {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Token => "token",
            Self::AppFault(_) => "app_fault",
            Self::Quota => "quota",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Transient | Self::Unlisted => "transient",
            Self::Unknown => "unknown",
            Self::Recipient(_) => "recipient",
            Self::Content => "content",
            Self::Template => "template",
        }
    }

    /// Why the app should be paused, where this answer alone is a reason to.
    pub const fn pause_reason(self) -> Option<PauseReason> {
        match self {
            Self::AppFault(reason) => Some(reason),
            Self::Quota => Some(PauseReason::Quota),
            Self::Throttled => Some(PauseReason::Throttled),
            _ => None,
        }
    }
}
