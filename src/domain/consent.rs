//! What a user said to a template, and whether that lets one more message through.

use super::outcome::SkipReason;

/// Consent as `t_wechat_user.subscribe_template` records it for one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    pub answer: Answer,
    /// Sends left of a one-time template; `None` where sends are not counted (long-term template).
    pub remaining: Option<i64>,
}

/// The user's answer to `wx.requestSubscribeMessage` (docs/WECHAT.md#consent).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `accept`, and any `acceptWith…`: WeChat has `acceptWithAudio` and `acceptWithAlert`, and may have more.
    Accept,
    Reject,
    /// Closed by WeChat's refusal of a send that followed one whose outcome nobody knows: that one used the last send.
    UsedUp,
    /// Closed because WeChat does not know the openid in this app; the user was never asked.
    BadOpenid,
    /// The platform bans the template for this user.
    Ban,
    /// Filtered as a double of another title; no answer was given.
    Filter,
    /// Nothing is recorded, or something this version does not know.
    Unanswered,
}

impl Answer {
    /// Reads the words of the record: `status`, and for a `reject` its `cause`, where we closed it ourselves (see
    /// [`Closing`]). Unknown words of status count as no answer, unknown causes as the user's own.
    pub fn parse(status: Option<&str>, cause: Option<&str>) -> Self {
        match status {
            Some(word) if word == "accept" || word.starts_with("acceptWith") => Self::Accept,
            Some("reject") => match cause.and_then(Closing::parse) {
                Some(Closing::UsedUp) => Self::UsedUp,
                Some(Closing::BadOpenid) => Self::BadOpenid,
                Some(Closing::Refused) | None => Self::Reject,
            },
            Some("ban") => Self::Ban,
            Some("filter") => Self::Filter,
            Some(_) | None => Self::Unanswered,
        }
    }
}

/// Why WeChat's answer closes a consent; written into the record as its `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// 43101 for a consent that our count, if there is one, says is good: the user withdrew it.
    Refused,
    /// 43101 after an attempt that nobody knows the end of, and that may have used the last counted send.
    UsedUp,
    /// 40003.
    BadOpenid,
}

impl Closing {
    /// What 43101 says of a consent with so many sends left, after so many attempts that nobody knows the end of.
    pub fn of_refusal(remaining: Option<i64>, unknowns: i32) -> Self {
        match remaining {
            Some(left) if unknowns > 0 && left <= i64::from(unknowns) => Self::UsedUp,
            _ => Self::Refused,
        }
    }

    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UsedUp => "sent",
            Self::BadOpenid => "bad_openid",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Refused, Self::UsedUp, Self::BadOpenid].into_iter().find(|closing| closing.as_str() == word)
    }
}

impl Consent {
    /// May a message go out? `Err` is the reason to skip.
    pub fn allows(self) -> Result<(), SkipReason> {
        match (self.answer, self.remaining) {
            (Answer::Accept, Some(left)) if left <= 0 => Err(SkipReason::QuotaUsed),
            (Answer::Accept, _) => Ok(()),
            // Whatever the count says: WeChat's refusal sets it to 0, and the user's no is not a used-up quota.
            (Answer::Reject, _) => Err(SkipReason::Rejected),
            (Answer::UsedUp, _) => Err(SkipReason::QuotaUsed),
            (Answer::BadOpenid, _) => Err(SkipReason::BadOpenid),
            (Answer::Ban, _) => Err(SkipReason::Banned),
            (Answer::Filter | Answer::Unanswered, _) => Err(SkipReason::NotSubscribed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(word: &str, remaining: Option<i64>) -> Result<(), SkipReason> {
        Consent { answer: Answer::parse(Some(word), None), remaining }.allows()
    }

    #[test]
    fn a_closed_consent_says_why_it_was_closed() {
        let closed =
            |cause| Consent { answer: Answer::parse(Some("reject"), cause), remaining: Some(0) }.allows();
        assert_eq!(closed(None), Err(SkipReason::Rejected));
        assert_eq!(closed(Some("refused")), Err(SkipReason::Rejected));
        assert_eq!(closed(Some("sent")), Err(SkipReason::QuotaUsed));
        assert_eq!(closed(Some("bad_openid")), Err(SkipReason::BadOpenid));
        assert_eq!(closed(Some("settings")), Err(SkipReason::Rejected), "a cause of somebody else's");
        let accepted = Answer::parse(Some("accept"), Some("bad_openid"));
        assert_eq!(accepted, Answer::Accept, "a new answer counts, whatever closed the one before");
    }

    #[test]
    fn a_refusal_is_a_used_up_quota_only_where_an_unknown_attempt_can_have_used_it() {
        assert_eq!(Closing::of_refusal(None, 2), Closing::Refused);
        assert_eq!(Closing::of_refusal(Some(1), 0), Closing::Refused);
        assert_eq!(Closing::of_refusal(Some(1), 1), Closing::UsedUp);
        assert_eq!(Closing::of_refusal(Some(3), 1), Closing::Refused, "two are left even if one was used");
    }

    #[test]
    fn only_an_accept_with_sends_left_lets_a_message_through() {
        assert_eq!(consent("accept", None), Ok(()));
        assert_eq!(consent("acceptWithAudio", Some(1)), Ok(()));
        assert_eq!(consent("accept", Some(0)), Err(SkipReason::QuotaUsed));
        assert_eq!(consent("reject", None), Err(SkipReason::Rejected));
        assert_eq!(consent("reject", Some(0)), Err(SkipReason::Rejected));
        assert_eq!(consent("ban", None), Err(SkipReason::Banned));
        assert_eq!(consent("filter", None), Err(SkipReason::NotSubscribed));
        assert_eq!(consent("whatever", None), Err(SkipReason::NotSubscribed));
    }
}
