//! Reasons in words.

use crate::domain::answer;
use crate::domain::outcome::{DeadReason, SkipReason};

/// What a reason of the ledger or of a dead letter means, and what can be done about it where something can.
pub fn meaning(reason: &str) -> &'static str {
    match (SkipReason::parse(reason), DeadReason::parse(reason)) {
        (Some(skip), _) => meaning_of_skip(skip),
        (_, Some(dead)) => meaning_of_death(dead),
        _ => "a reason that is not known to this release",
    }
}

fn meaning_of_skip(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NoRecipients => {
            "no rule matched this company, app, template and customer, or the event had an empty list"
        }
        SkipReason::NotBound => "no WeChat user of the app was bound to this business user",
        SkipReason::Disabled => "the user was disabled",
        SkipReason::AppDisabled => "the app was disabled",
        SkipReason::NotSubscribed => "the user had not answered for this template",
        SkipReason::Rejected => "the user had refused this template",
        SkipReason::Banned => "WeChat bans this template for the user",
        SkipReason::QuotaUsed => "the user's one-time sends were used up; they must accept again",
        SkipReason::BadOpenid => {
            "WeChat does not know the openid in this app: was the user bound in another app?"
        }
        SkipReason::Expired => "it was past its expiry",
        SkipReason::RefusedAfterUnknown => {
            "WeChat refused a second attempt; the first, without an answer, may have reached the user"
        }
    }
}

fn meaning_of_death(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Malformed => "the message is not an event",
        DeadReason::Oversized => "the message is larger than amqp.max_body",
        DeadReason::UnknownApp => "the app is not registered; `app add` registers it",
        DeadReason::WrongCompany => "the app belongs to another company",
        DeadReason::EventIdReused => "the same event id was used before with other data or another page",
        DeadReason::Content => "WeChat refuses the content; sending it again cannot help",
        DeadReason::Template => "WeChat refuses the template",
        DeadReason::Exhausted => "all retries failed",
        DeadReason::UnknownOutcome => {
            "nobody can know whether it was sent, and on_unknown forbids another attempt"
        }
        DeadReason::DeliveryLimit => "the broker gave up after too many redeliveries",
        DeadReason::Panicked => "the daemon failed on it; please report this",
        DeadReason::Stranded => "its message was lost, and an operator closed it",
        DeadReason::Unreadable => {
            "the archiver failed on its dead letter, which is kept raw; please report this"
        }
    }
}

/// WeChat's code, what it means, and what to do.
pub fn errcode(code: i64) -> String {
    match answer::explain(code) {
        Some(known) => format!("WeChat answered {code} ({}; {})", known.meaning, known.advice),
        None => format!("WeChat answered {code} (a code that is not known to this release)"),
    }
}
