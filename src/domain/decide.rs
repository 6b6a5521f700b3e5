//! What follows from WeChat's last answer.

use std::time::Duration;

use super::answer::{Class, MAX_UNLISTED_ATTEMPTS};
use super::ladder::Ladder;
use super::outcome::{DeadReason, Outcome};
use super::protocol::OnUnknown;

/// What else bears on the decision.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub ladder: &'a Ladder,
    /// Charged steps already used.
    pub step: usize,
    pub on_unknown: OnUnknown,
    /// Requests charged so far, this attempt's included.
    pub attempts: i32,
    /// Attempts in a row whose answer never came, before this one.
    pub timeouts: i32,
    /// Some earlier attempt may have reached the user.
    pub unknown_before: bool,
    /// WeChat's message id, where it gave one.
    pub msgid: Option<u64>,
    /// WeChat's wish: not again before this long.
    pub retry_after: Option<Duration>,
    /// Nobody of this app's users could be reached lately: the failure is not this delivery's.
    pub is_the_apps: bool,
}

/// Decides. Pure; `pipeline::settle` acts on it.
pub fn outcome(class: Class, situation: &Situation<'_>) -> Outcome {
    match class {
        Class::Sent => Outcome::Sent { msgid: situation.msgid },
        Class::Token | Class::AppFault(_) | Class::Quota | Class::Throttled | Class::Conflict => {
            Outcome::Uncharged
        }
        Class::Transient if situation.is_the_apps => Outcome::Uncharged,
        // Who would rather have no message than two is not sent to again for any reason.
        Class::Unknown if situation.is_the_apps && situation.on_unknown == OnUnknown::Resend => {
            Outcome::Uncharged
        }
        Class::Unlisted if situation.attempts >= MAX_UNLISTED_ATTEMPTS => {
            Outcome::Dead(DeadReason::Exhausted)
        }
        Class::Transient | Class::Unlisted => climb(situation),
        Class::Unknown if situation.on_unknown.resends_after_timeouts(situation.timeouts + 1) => {
            Outcome::Unknown
        }
        Class::Unknown => Outcome::Dead(DeadReason::UnknownOutcome),
        Class::Recipient(refusal) => Outcome::Skipped(refusal.reason(situation.unknown_before)),
        Class::Content => Outcome::Dead(DeadReason::Content),
        Class::Template => Outcome::Dead(DeadReason::Template),
    }
}

/// The ladder's next step, or the end of it.
fn climb(situation: &Situation<'_>) -> Outcome {
    match situation.ladder.delay(situation.step, situation.retry_after) {
        Some(after) => Outcome::Retry { step: situation.step + 1, after },
        None => Outcome::Dead(DeadReason::Exhausted),
    }
}

#[cfg(test)]
mod tests {
    use super::super::consent::Refusal;
    use super::super::outcome::SkipReason;
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn decided(class: Class, change: impl FnOnce(&mut Situation<'_>)) -> Outcome {
        let ladder = Ladder::new(vec![seconds(10), seconds(60)]).unwrap();
        let mut situation = Situation {
            ladder: &ladder,
            step: 0,
            on_unknown: OnUnknown::Resend,
            attempts: 1,
            timeouts: 0,
            unknown_before: false,
            msgid: None,
            retry_after: None,
            is_the_apps: false,
        };
        change(&mut situation);
        outcome(class, &situation)
    }

    #[test]
    fn the_ladder_is_climbed_step_by_step_and_then_it_is_over() {
        assert_eq!(decided(Class::Transient, |_| ()), Outcome::Retry { step: 1, after: seconds(10) });
        assert_eq!(decided(Class::Transient, |s| s.step = 1), Outcome::Retry { step: 2, after: seconds(60) });
        assert_eq!(decided(Class::Transient, |s| s.step = 2), Outcome::Dead(DeadReason::Exhausted));
    }

    #[test]
    fn an_unlisted_code_gets_few_tries() {
        let last = |s: &mut Situation<'_>| s.attempts = MAX_UNLISTED_ATTEMPTS;
        assert_eq!(decided(Class::Unlisted, last), Outcome::Dead(DeadReason::Exhausted));
        assert!(matches!(decided(Class::Unlisted, |_| ()), Outcome::Retry { .. }));
    }

    #[test]
    fn the_apps_failures_never_charge_the_delivery() {
        for class in [Class::Token, Class::Quota, Class::Throttled, Class::Conflict] {
            assert_eq!(decided(class, |s| s.step = 9), Outcome::Uncharged);
        }
        let away = |s: &mut Situation<'_>| (s.step, s.is_the_apps) = (9, true);
        assert_eq!(decided(Class::Transient, away), Outcome::Uncharged);
        let hangs = |s: &mut Situation<'_>| (s.timeouts, s.is_the_apps) = (9, true);
        assert_eq!(decided(Class::Unknown, hangs), Outcome::Uncharged);
        let parked = |s: &mut Situation<'_>| (s.on_unknown, s.is_the_apps) = (OnUnknown::Park, true);
        assert_eq!(decided(Class::Unknown, parked), Outcome::Dead(DeadReason::UnknownOutcome));
    }

    #[test]
    fn nobody_knows_twice_and_then_a_person_decides() {
        assert_eq!(decided(Class::Unknown, |s| s.timeouts = 1), Outcome::Unknown);
        let third = decided(Class::Unknown, |s| s.timeouts = 2);
        assert_eq!(third, Outcome::Dead(DeadReason::UnknownOutcome));
        let parked = decided(Class::Unknown, |s| s.on_unknown = OnUnknown::Park);
        assert_eq!(parked, Outcome::Dead(DeadReason::UnknownOutcome));
    }

    #[test]
    fn a_refusal_says_which_of_its_causes_it_was() {
        let refused = Class::Recipient(Refusal::NoConsent);
        assert_eq!(decided(refused, |_| ()), Outcome::Skipped(SkipReason::Rejected));
        let after = decided(refused, |s| s.unknown_before = true);
        assert_eq!(after, Outcome::Skipped(SkipReason::RefusedAfterUnknown));
        let unheard_of = Class::Recipient(Refusal::BadOpenid);
        assert_eq!(decided(unheard_of, |_| ()), Outcome::Skipped(SkipReason::BadOpenid));
    }
}
