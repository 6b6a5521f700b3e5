//! What is known of a user when a message is for them: their row, and what they said to the template.

use super::outcome::SkipReason;

/// What `t_wechat_user` says of one openid and one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub active: bool,
    pub consent: Consent,
}

/// Consent as `t_wechat_user.subscribe_template` records it for one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    pub answer: Answer,
    /// Sends left of a one-time template; `None` where sends are not counted (long-term template).
    pub remaining: Option<i64>,
}

/// The user's answer to `wx.requestSubscribeMessage` (docs/WECHAT.md#consent), or what WeChat's refusal made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `accept`, and any `acceptWith…`: WeChat has `acceptWithAudio` and `acceptWithAlert`, and may have more.
    Accept,
    /// The user said no.
    Reject,
    /// A `reject` that the daemon wrote, with its `cause`.
    Closed(ClosingCause),
    /// The platform bans the template for this user.
    Ban,
    /// Nothing is recorded, or something this version does not know. `filter` is here too: WeChat dropped the question
    /// because of another template's title.
    Unanswered,
}

impl Answer {
    /// Reads the words of the record: `status`, and for a `reject` its `cause`, where we closed it ourselves (see
    /// [`ClosingCause`]). Unknown words of status count as no answer, unknown causes as the user's own. `db::ledger::named`
    /// reads the same words in SQL.
    pub fn parse(status: Option<&str>, cause: Option<&str>) -> Self {
        match status {
            Some(word) if word == "accept" || word.starts_with("acceptWith") => Self::Accept,
            Some("reject") => cause.and_then(ClosingCause::parse).map_or(Self::Reject, Self::Closed),
            Some("ban") => Self::Ban,
            Some(_) | None => Self::Unanswered,
        }
    }
}

/// Why WeChat's answer closes a consent; written into the record as its `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosingCause {
    /// 43101 for a consent that our count, if there is one, says is good: the user withdrew it.
    Refused,
    /// 43101 after an attempt that nobody knows the end of, and that may have used the last counted send.
    UsedUp,
    /// 40003.
    BadOpenid,
}

impl ClosingCause {
    /// Every cause.
    pub const ALL: &[Self] = &[Self::Refused, Self::UsedUp, Self::BadOpenid];

    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UsedUp => "sent",
            Self::BadOpenid => "bad_openid",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|closing| closing.as_str() == word)
    }
}

/// Why WeChat says that a user cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 43101: never accepted, said no, or all one-time sends are used up; WeChat does not say which.
    NoConsent,
    /// 40003: no such openid in this app.
    BadOpenid,
}

impl Refusal {
    /// Why the delivery ends. 43101 has four causes and one code (docs/WECHAT.md#error-codes-of-a-send). Used up by our own count is not among
    /// them: such a consent is not sent to. So either the user withdrew it, or an attempt without an answer used it.
    pub const fn reason(self, unknown_before: bool) -> SkipReason {
        match self {
            Self::BadOpenid => SkipReason::BadOpenid,
            Self::NoConsent if unknown_before => SkipReason::RefusedAfterUnknown,
            Self::NoConsent => SkipReason::Rejected,
        }
    }

    /// How the consent is closed that had so many sends left, after so many attempts that nobody knows the end of.
    pub fn closing(self, remaining: Option<i64>, unknowns: i32) -> ClosingCause {
        match (self, remaining) {
            (Self::BadOpenid, _) => ClosingCause::BadOpenid,
            (Self::NoConsent, Some(left)) if unknowns > 0 && left <= i64::from(unknowns) => {
                ClosingCause::UsedUp
            }
            (Self::NoConsent, _) => ClosingCause::Refused,
        }
    }
}

/// Something about a user that decides whether a message goes out. A kind of message lists those that matter to it, with what
/// follows from each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// No user of the app is bound to the name or the openid.
    Unbound,
    /// The user's row is switched off.
    Disabled,
    /// The user accepted, and every counted send is used.
    NoneLeft,
    /// The user accepted.
    Accepts,
    /// We closed the consent for this cause.
    ClosedAs(ClosingCause),
    /// The record says `reject`, for whatever cause.
    Rejects,
    /// WeChat bans the template for the user.
    Banned,
    /// Whatever it is.
    Anything,
}

impl Finding {
    /// Is it so of this user? (`None`: no such user is bound.) `db::ledger::named` asks the same in SQL.
    pub fn fits(self, user: Option<User>) -> bool {
        let Some(User { active, consent: Consent { answer, remaining } }) = user else {
            return matches!(self, Self::Unbound | Self::Anything);
        };
        match self {
            Self::Unbound => false,
            Self::Disabled => !active,
            Self::NoneLeft => answer == Answer::Accept && remaining.is_some_and(|left| left <= 0),
            Self::Accepts => answer == Answer::Accept,
            Self::ClosedAs(closing) => answer == Answer::Closed(closing),
            Self::Rejects => matches!(answer, Answer::Reject | Answer::Closed(_)),
            Self::Banned => answer == Answer::Ban,
            Self::Anything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_consent_says_why_it_was_closed() {
        let closed = |cause| Answer::parse(Some("reject"), cause);
        for closing in ClosingCause::ALL {
            assert_eq!(closed(Some(closing.as_str())), Answer::Closed(*closing));
        }
        assert_eq!(closed(None), Answer::Reject);
        assert_eq!(closed(Some("settings")), Answer::Reject, "a cause of somebody else's");
        let accepted = Answer::parse(Some("accept"), Some("bad_openid"));
        assert_eq!(accepted, Answer::Accept, "a new answer counts, whatever closed the one before");
    }

    #[test]
    fn a_refusal_is_a_used_up_quota_only_where_an_unknown_attempt_can_have_used_it() {
        let closing = |remaining, unknowns| Refusal::NoConsent.closing(remaining, unknowns);
        assert_eq!(closing(None, 2), ClosingCause::Refused);
        assert_eq!(closing(Some(1), 0), ClosingCause::Refused);
        assert_eq!(closing(Some(1), 1), ClosingCause::UsedUp);
        assert_eq!(closing(Some(3), 1), ClosingCause::Refused, "two are left even if one was used");
        assert_eq!(Refusal::BadOpenid.closing(Some(1), 1), ClosingCause::BadOpenid);
    }
}
