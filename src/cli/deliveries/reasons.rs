//! Reasons in words.

use crate::domain::answer;
use crate::domain::outcome::{DeadReason, SkipReason};

/// What a reason of the ledger or of a dead letter means, and what can be done about it where something can.
pub fn meaning(reason: &str) -> &'static str {
    match (SkipReason::parse(reason), DeadReason::parse(reason)) {
        (Some(skip), _) => meaning_of_skip(skip),
        (_, Some(dead)) => meaning_of_death(dead),
        _ => "a reason that this release does not know",
    }
}

fn meaning_of_skip(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NoRecipients => {
            "no rule named anybody for this company, app, template and customer, or the event gave an empty list"
        }
        SkipReason::NotBound => "no WeChat user of the app was bound to this name",
        SkipReason::Disabled => "the user's row was switched off",
        SkipReason::AppDisabled => "the app was switched off",
        SkipReason::NotSubscribed => "the user had not answered for this template",
        SkipReason::Rejected => "the user had said no to this template",
        SkipReason::Banned => "WeChat bans this template for the user",
        SkipReason::QuotaUsed => "the user's one-time sends were used up; he has to accept again",
        SkipReason::BadOpenid => {
            "WeChat does not know the openid in this app: was the user bound through another one?"
        }
        SkipReason::Expired => "it had become too old to be of use",
        SkipReason::RefusedAfterUnknown => {
            "WeChat refused a second attempt; the first, whose answer never came, may have reached the user"
        }
    }
}

fn meaning_of_death(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Malformed => "the message is no event",
        DeadReason::Oversized => "the message is larger than amqp.max_body",
        DeadReason::UnknownApp => "no such app is registered; `app add` registers it",
        DeadReason::WrongCompany => "the app belongs to another company",
        DeadReason::EventIdReused => "the same event id had come before with other data or another page",
        DeadReason::Content => "WeChat refuses the content; sending it again cannot help",
        DeadReason::Template => "WeChat refuses the template",
        DeadReason::Exhausted => "every retry was used",
        DeadReason::UnknownOutcome => {
            "nobody can know whether it went out, and policy forbids another attempt"
        }
        DeadReason::DeliveryLimit => "the broker gave up after too many redeliveries",
        DeadReason::Panicked => "the daemon failed on it; please report this",
        DeadReason::Stranded => "its row had no message left, and an operator closed it",
        DeadReason::Unreadable => {
            "the archiver failed on its dead letter, which is kept raw; please report this"
        }
    }
}

/// WeChat's code, what it means, and what to do.
pub fn errcode(code: i64) -> String {
    match answer::explain(code) {
        Some(known) => format!("WeChat said {code} ({}; {})", known.meaning, known.advice),
        None => format!("WeChat said {code} (a code that this release does not know)"),
    }
}
