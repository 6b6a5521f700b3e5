//! What is remembered of the tokens that WeChat rejected, so that rejections never become a loop.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::delays::Delays;

/// How often one and the same token may be rejected before it is barred: once can be a slow corner of WeChat's.
const REJECTIONS_OF_ONE_TOKEN: u32 = 2;
/// Rejections of young tokens that are answered at once; from then on a fetch has to wait.
const QUICK_FETCHES: u32 = 2;
/// Whatever the jitter, a failure that needs an operator is not retried sooner than this.
const LEAST_DELAY: Duration = Duration::from_secs(5);

/// The rejections of one app.
pub(super) struct Rejections {
    /// The token rejected last, and how often.
    last: Option<(SecretString, u32)>,
    /// Rejections in a row of tokens that had hardly been used.
    young: u32,
    delays: Delays,
}

impl Rejections {
    pub(super) fn none() -> Self {
        Self { last: None, young: 0, delays: Delays::endpoint_refuses() }
    }

    /// Notes one, and says how long to wait before the next fetch. `young`: the token had hardly been used. A third
    /// party that keeps replacing the token would else have us fetch without end, and the day's quota with it.
    pub(super) fn note(&mut self, value: &SecretString, young: bool) -> Duration {
        let times = if young && self.last_was(value) { self.times() + 1 } else { 1 };
        self.last = Some((value.clone(), times));
        if !young {
            self.young = 0;
            self.delays.reset();
            return Duration::ZERO;
        }
        self.young += 1;
        // The same token again ends in a fault, which has its own delays.
        if self.young <= QUICK_FETCHES || times >= REJECTIONS_OF_ONE_TOKEN {
            return Duration::ZERO;
        }
        slow(&mut self.delays)
    }

    /// Is this the token that was rejected last?
    pub(super) fn last_was(&self, value: &SecretString) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| last.expose_secret() == value.expose_secret())
    }

    /// The token not to be handed out again.
    pub(super) fn barred(&self) -> Option<&SecretString> {
        self.last.as_ref().filter(|_| self.times() >= REJECTIONS_OF_ONE_TOKEN).map(|(value, _)| value)
    }

    /// Is it this one?
    pub(super) fn bars(&self, value: &SecretString) -> bool {
        self.barred().is_some() && self.last_was(value)
    }

    /// Allows the barred token one more chance: how else would anybody notice that it works again?
    pub(super) fn allow_probe(&mut self) {
        if let Some((_, times)) = &mut self.last {
            *times = REJECTIONS_OF_ONE_TOKEN - 1;
        }
    }

    fn times(&self) -> u32 {
        self.last.as_ref().map_or(0, |(_, times)| *times)
    }
}

/// The next delay, but never a short one.
pub(super) fn slow(delays: &mut Delays) -> Duration {
    delays.next().unwrap_or_default().max(LEAST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> SecretString {
        text.into()
    }

    #[test]
    fn the_same_token_rejected_twice_is_barred_until_the_probe() {
        let mut rejections = Rejections::none();
        rejections.note(&token("a"), true);
        assert!(!rejections.bars(&token("a")), "once is no proof");
        rejections.note(&token("a"), true);
        assert!(rejections.bars(&token("a")) && !rejections.bars(&token("b")));

        rejections.allow_probe();
        assert!(!rejections.bars(&token("a")));
        rejections.note(&token("a"), true);
        assert!(rejections.bars(&token("a")), "a probe that fails bars at once");
    }

    #[test]
    fn tokens_that_die_young_one_after_the_other_slow_the_fetching_down() {
        let mut rejections = Rejections::none();
        assert_eq!(rejections.note(&token("a"), true), Duration::ZERO);
        assert_eq!(rejections.note(&token("b"), true), Duration::ZERO);
        assert!(rejections.note(&token("c"), true) >= LEAST_DELAY);
        assert_eq!(rejections.note(&token("d"), false), Duration::ZERO, "one that lived long is no loop");
    }
}
