//! What follows from WeChat's last answer.

use std::time::Duration;

use jiff::Timestamp;

use super::answer::{Class, MAX_RETRIES_OF_UNKNOWN_CODE};
use super::ladder::Ladder;
use super::outcome::{DeadReason, Outcome, SkipReason};
use super::protocol::OnUnknown;

/// What else bears on the decision.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub ladder: &'a Ladder,
    /// Charged steps already used.
    pub step: usize,
    pub on_unknown: OnUnknown,
    /// Attempts in a row whose answer never came, before this one.
    pub timeouts: i32,
    /// Some earlier attempt may have reached the user.
    pub unknown_before: bool,
    /// Does the user's consent count its sends?
    pub counted: bool,
    /// When the app's trouble is expected to be over, where that is known.
    pub due: Option<Timestamp>,
}

/// Decides. Pure; `deliver::settle` acts on it.
pub fn outcome(class: &Class, situation: &Situation<'_>) -> Outcome {
    match *class {
        Class::Sent { msgid } => Outcome::Sent { msgid },
        Class::Token | Class::AppFault | Class::Quota | Class::Throttled | Class::Conflict => {
            Outcome::Uncharged { due: situation.due }
        }
        Class::Transient { retry_after, known } => retry(situation, retry_after, known),
        Class::Unknown if situation.on_unknown.resends_after_timeouts(situation.timeouts + 1) => Outcome::Unknown,
        Class::Unknown => Outcome::Dead(DeadReason::UnknownOutcome),
        Class::Recipient(reason) => Outcome::Skipped(refusal(reason, situation)),
        Class::Content => Outcome::Dead(DeadReason::Content),
        Class::Template => Outcome::Dead(DeadReason::Template),
    }
}

fn retry(situation: &Situation<'_>, at_least: Option<Duration>, known: bool) -> Outcome {
    let used_up = !known && situation.step >= MAX_RETRIES_OF_UNKNOWN_CODE;
    match situation.ladder.delay(situation.step, at_least).filter(|_| !used_up) {
        Some(after) => Outcome::Retry { step: situation.step + 1, after },
        None => Outcome::Dead(DeadReason::Exhausted),
    }
}

/// 43101 has four causes and one code (facts: wechat-api 3.3); what we know besides tells them apart.
fn refusal(reason: SkipReason, situation: &Situation<'_>) -> SkipReason {
    match reason {
        SkipReason::Rejected if situation.unknown_before => SkipReason::RefusedAfterUnknown,
        SkipReason::Rejected if situation.counted => SkipReason::QuotaUsed,
        reason => reason,
    }
}
