//! What a user said to a template, and whether that lets one more message through.

use super::outcome::SkipReason;

/// Consent as `t_wechat_user.subscribe_template` records it for one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    pub answer: Answer,
    /// Sends left of a one-time template; `None` where sends are not counted (long-term template).
    pub remaining: Option<i64>,
}

/// The user's answer to `wx.requestSubscribeMessage` (facts: wechat-api 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Any `accept…`: `acceptWithAudio` and `acceptWithAlert` are accepts too.
    Accept,
    Reject,
    /// The platform bans the template for this user.
    Ban,
    /// Filtered as a double of another title; no answer was given.
    Filter,
    /// Nothing is recorded, or something this version does not know.
    Unanswered,
}

impl Answer {
    /// Reads the `status` word of the record; unknown words count as no answer.
    pub fn parse(word: Option<&str>) -> Self {
        match word {
            Some(word) if word.starts_with("accept") => Self::Accept,
            Some("reject") => Self::Reject,
            Some("ban") => Self::Ban,
            Some("filter") => Self::Filter,
            Some(_) | None => Self::Unanswered,
        }
    }
}

impl Consent {
    /// May a message go out? `Err` is the reason to skip.
    pub fn allows(self) -> Result<(), SkipReason> {
        match (self.answer, self.remaining) {
            // The count is looked at first: a template used up says so, even where WeChat's refusal has closed it too.
            (Answer::Accept | Answer::Reject, Some(left)) if left <= 0 => Err(SkipReason::QuotaUsed),
            (Answer::Accept, _) => Ok(()),
            (Answer::Reject, _) => Err(SkipReason::Rejected),
            (Answer::Ban, _) => Err(SkipReason::Banned),
            (Answer::Filter | Answer::Unanswered, _) => Err(SkipReason::NotSubscribed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(word: &str, remaining: Option<i64>) -> Result<(), SkipReason> {
        Consent { answer: Answer::parse(Some(word)), remaining }.allows()
    }

    #[test]
    fn only_an_accept_with_sends_left_lets_a_message_through() {
        assert_eq!(consent("accept", None), Ok(()));
        assert_eq!(consent("acceptWithAudio", Some(1)), Ok(()));
        assert_eq!(consent("accept", Some(0)), Err(SkipReason::QuotaUsed));
        assert_eq!(consent("reject", None), Err(SkipReason::Rejected));
        assert_eq!(consent("reject", Some(0)), Err(SkipReason::QuotaUsed));
        assert_eq!(consent("ban", None), Err(SkipReason::Banned));
        assert_eq!(consent("filter", None), Err(SkipReason::NotSubscribed));
        assert_eq!(consent("whatever", None), Err(SkipReason::NotSubscribed));
    }
}
