//! The retry ladder: which delay a delivery waits next.

use std::time::Duration;

/// The configured delays, at least one, strictly rising. Validated once, so it cannot be wrong later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder(Vec<Duration>);

/// Why a list of delays is no ladder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLadder {
    #[error("needs at least one delay")]
    Empty,
    #[error("has more than {} delays; each is a queue of its own", Ladder::MAX_STEPS)]
    TooLong,
    #[error("must increase: {0:?} is followed by {1:?}")]
    NotRising(Duration, Duration),
    #[error("has {0:?}: a delay is between 10 ms and 24 h")]
    OutOfRange(Duration),
}

impl Ladder {
    /// Each step is a queue; more than a handful helps nobody.
    pub const MAX_STEPS: usize = 12;
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    /// Checks the delays.
    pub fn new(delays: Vec<Duration>) -> Result<Self, InvalidLadder> {
        if delays.is_empty() {
            return Err(InvalidLadder::Empty);
        }
        if delays.len() > Self::MAX_STEPS {
            return Err(InvalidLadder::TooLong);
        }
        if let Some(&delay) = delays.iter().find(|d| **d < Self::SHORTEST || **d > Self::LONGEST) {
            return Err(InvalidLadder::OutOfRange(delay));
        }
        match delays.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(InvalidLadder::NotRising(pair[0], pair[1])),
            None => Ok(Self(delays)),
        }
    }

    /// All delays, shortest first.
    pub fn delays(&self) -> &[Duration] {
        &self.0
    }

    /// The delay of step `step`, or `None` when the ladder is used up. A wish of WeChat's (`Retry-After`) can only
    /// lengthen it: the first step from there on that is long enough, else the longest.
    pub fn delay(&self, step: usize, at_least: Option<Duration>) -> Option<Duration> {
        let rest = self.0.get(step..).filter(|rest| !rest.is_empty())?;
        let wish = at_least.unwrap_or_default();
        rest.iter().find(|delay| **delay >= wish).or(rest.last()).copied()
    }

    /// The step that uncharged deferrals wait on.
    pub fn first(&self) -> Duration {
        self.0[0]
    }

    /// The step to wait on after `times` times before; the longest, once all are used.
    pub fn nth(&self, times: usize) -> Duration {
        self.0[times.min(self.0.len() - 1)]
    }

    /// The longest step that does not overshoot `wait`; the first where all do.
    pub fn towards(&self, wait: Duration) -> Duration {
        self.0.iter().rev().find(|delay| **delay <= wait).copied().unwrap_or(self.0[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(list: &[u64]) -> Vec<Duration> {
        list.iter().copied().map(Duration::from_secs).collect()
    }

    fn ladder() -> Ladder {
        Ladder::new(seconds(&[10, 60, 300])).unwrap()
    }

    #[test]
    fn a_list_that_does_not_rise_is_no_ladder() {
        assert_eq!(Ladder::new(vec![]), Err(InvalidLadder::Empty));
        assert!(matches!(Ladder::new(seconds(&[10, 10])), Err(InvalidLadder::NotRising(..))));
        assert!(matches!(Ladder::new(seconds(&[0, 10])), Err(InvalidLadder::OutOfRange(_))));
    }

    #[test]
    fn steps_are_used_in_order_and_end() {
        assert_eq!(ladder().delay(0, None), Some(Duration::from_secs(10)));
        assert_eq!(ladder().delay(2, None), Some(Duration::from_secs(300)));
        assert_eq!(ladder().delay(3, None), None);
    }

    #[test]
    fn retry_after_only_lengthens() {
        let wish = |s| Some(Duration::from_secs(s));
        assert_eq!(ladder().delay(1, wish(5)), Some(Duration::from_secs(60)));
        assert_eq!(ladder().delay(0, wish(61)), Some(Duration::from_secs(300)));
        assert_eq!(ladder().delay(0, wish(9_999)), Some(Duration::from_secs(300)));
    }

    #[test]
    fn what_has_no_end_of_its_own_comes_ever_more_rarely() {
        assert_eq!([0, 1, 2, 3, 99].map(|times| ladder().nth(times).as_secs()), [10, 60, 300, 300, 300]);
    }

    #[test]
    fn a_later_due_time_takes_the_longest_step_that_fits() {
        assert_eq!(ladder().towards(Duration::from_secs(299)), Duration::from_secs(60));
        assert_eq!(ladder().towards(Duration::from_secs(3_000)), Duration::from_secs(300));
        assert_eq!(ladder().towards(Duration::from_secs(1)), Duration::from_secs(10));
    }
}
