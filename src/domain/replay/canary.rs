//! A canary: the first few dead letters go alone, in steps, and the rest only if they fare well.

use std::str::FromStr;

/// The steps' sizes, e.g. `1,5,50`: one dead letter, then five more, then fifty more, then the rest. Empty: all at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canary(Vec<i32>);

/// More steps than this are a typing error.
const MAX_STEPS: usize = 20;

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This step is out: its outcomes decide.
    Check { step: i32 },
    /// DeadLetters of this step may go out; `at_most` so many before the next check.
    Go { step: i32, at_most: Option<i64> },
}

impl Canary {
    /// From the database; what is not positive is left out.
    pub fn of(sizes: Vec<i32>) -> Self {
        Self(sizes.into_iter().filter(|size| *size > 0).collect())
    }

    /// As the database keeps them.
    pub fn sizes(&self) -> &[i32] {
        &self.0
    }

    /// The state of a replay that has published so many, and passed so many steps.
    pub fn place(&self, published: i64, steps_passed: i32) -> Place {
        let mut boundary = 0;
        for (step, size) in (0..).zip(&self.0) {
            boundary += i64::from(*size);
            if step < steps_passed {
                continue;
            }
            if published >= boundary {
                return Place::Check { step };
            }
            return Place::Go { step, at_most: Some(boundary - published) };
        }
        Place::Go { step: i32::try_from(self.0.len()).unwrap_or(i32::MAX), at_most: None }
    }
}

impl FromStr for Canary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Result<Vec<i32>, _> = text.split(',').map(|size| size.trim().parse::<i32>()).collect();
        match sizes {
            Ok(sizes) if sizes.iter().all(|size| *size > 0) && sizes.len() <= MAX_STEPS => Ok(Self(sizes)),
            _ => Err("is a list of step sizes such as 1,5,50".to_owned()),
        }
    }
}

/// How many dead letters came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: i64,
    pub skipped: i64,
    pub dead: i64,
    pub in_progress: i64,
}

impl Tally {
    /// All that went out.
    pub fn published(&self) -> i64 {
        self.sent + self.skipped + self.dead + self.in_progress
    }

    /// Have more than `max_percent` of them died again?
    pub fn fails(&self, max_percent: i32) -> bool {
        self.dead * 100 > i64::from(max_percent) * self.published()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_published_then_checked_then_left_behind() {
        let canary: Canary = "1, 5,50".parse().unwrap();
        assert_eq!(canary.place(0, 0), Place::Go { step: 0, at_most: Some(1) });
        assert_eq!(canary.place(1, 0), Place::Check { step: 0 });
        assert_eq!(canary.place(1, 1), Place::Go { step: 1, at_most: Some(5) });
        assert_eq!(canary.place(6, 1), Place::Check { step: 1 });
        assert_eq!(canary.place(56, 3), Place::Go { step: 3, at_most: None });
        assert_eq!(Canary::default().place(7, 0), Place::Go { step: 0, at_most: None });
    }

    #[test]
    fn only_sizes_make_a_canary() {
        for text in ["", "1,,2", "0", "-1", "a"] {
            assert!(text.parse::<Canary>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_step_fails_with_more_than_its_share() {
        let tally = |dead| Tally { sent: 10 - dead, dead, ..Tally::default() };
        assert!(!tally(1).fails(10));
        assert!(tally(2).fails(10));
        assert!(tally(1).fails(0) && !tally(0).fails(0));
    }
}
