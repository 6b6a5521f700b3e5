//! Is WeChat away for an app, or is it only this delivery? An app's answers in a row tell. Pure.
//!
//! Trouble is not judged by when its answer came but by when its request was made: what overlapped an outage belongs to the
//! outage, also where its answer comes before anybody could know, or after the first good one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Different users who must have been met by trouble, with nothing good since, before it counts as the app's. One user
/// alone may be trouble himself.
const USERS: usize = 5;
/// Answers in a row, none of them good, before the app is paused.
const ANSWERS: u32 = 20;
/// …and for so long. Shorter would pause an app for a hiccup that a retry rides out.
const LASTS: Duration = Duration::from_secs(10);

/// A request that came to nothing: no answer, or one that says "not now".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// Hash of the user it was for.
    pub user: u64,
    /// When the request was made.
    pub begun: Instant,
    /// When it was over.
    pub ended: Instant,
}

/// Whose a trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// WeChat answered a request that was made after it.
    Deliverys,
    /// Nobody of several users could be reached: no delivery is to blame.
    Apps,
    /// What comes next will tell.
    Open,
}

/// What an app's latest answers say.
#[derive(Debug, Default)]
pub struct OutageDetector {
    /// The latest trouble of each of the users met last, oldest first, nothing good since; never more than [`USERS`].
    recent: VecDeque<Trouble>,
    /// Since when, and how often, nothing good has come.
    bad_since: Option<Instant>,
    bad_answers: u32,
    /// When the latest good answer came, and when the latest of the requests that got one was made.
    good_at: Option<Instant>,
    good_begun: Option<Instant>,
    /// The end of the last outage detector that was the app's: requests made before belong to it.
    apps_until: Option<Instant>,
}

impl OutageDetector {
    /// WeChat answered a request made at `begun`, whatever it said. True where somebody may wait to hear of it.
    pub fn good(&mut self, begun: Instant, now: Instant) -> bool {
        let (was_apps, was_bad) = (self.is_the_apps(), !self.recent.is_empty());
        // A slow answer to an early request does not speak for what came later.
        self.recent.retain(|trouble| trouble.ended >= begun);
        self.good_begun = self.good_begun.max(Some(begun));
        self.good_at = Some(now);
        (self.bad_since, self.bad_answers) = (None, 0);
        if was_apps && !self.is_the_apps() {
            self.apps_until = Some(now);
        }
        was_bad
    }

    /// Trouble with one more request. True where the app has been away for so long that it should be paused.
    pub fn trouble(&mut self, trouble: Trouble) -> bool {
        self.recent.retain(|earlier| earlier.user != trouble.user);
        self.recent.push_back(trouble);
        if self.recent.len() > USERS {
            self.recent.pop_front();
        }
        let bad_since =
            *self.bad_since.get_or_insert(self.good_at.map_or(trouble.begun, |good| good.max(trouble.begun)));
        self.bad_answers = self.bad_answers.saturating_add(1);
        self.is_the_apps()
            && self.bad_answers >= ANSWERS
            && trouble.ended.saturating_duration_since(bad_since) >= LASTS
    }

    /// Whose this trouble, told to [`Self::trouble`] before, is by what is known now.
    pub fn verdict(&self, trouble: &Trouble) -> Verdict {
        let overlapped = self.apps_until.is_some_and(|until| trouble.begun < until);
        if self.is_the_apps() || overlapped {
            Verdict::Apps
        } else if self.good_begun.is_some_and(|begun| begun > trouble.ended) {
            Verdict::Deliverys
        } else {
            Verdict::Open
        }
    }

    fn is_the_apps(&self) -> bool {
        self.recent.len() >= USERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at milliseconds of one story.
    struct Story {
        outage_detector: OutageDetector,
        zero: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self { outage_detector: OutageDetector::default(), zero: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.zero + Duration::from_millis(ms)
        }

        fn trouble(&mut self, user: u64, begun: u64, ended: u64) -> Trouble {
            let trouble = Trouble { user, begun: self.at(begun), ended: self.at(ended) };
            self.outage_detector.trouble(trouble);
            trouble
        }

        fn good(&mut self, begun: u64, ended: u64) {
            let (begun, ended) = (self.at(begun), self.at(ended));
            self.outage_detector.good(begun, ended);
        }

        /// Trouble with so many users, all at once.
        fn outage(&mut self, users: u64, begun: u64, ended: u64) -> Vec<Trouble> {
            (0..users).map(|user| self.trouble(user, begun, ended)).collect()
        }

        fn verdicts(&self, troubles: &[Trouble]) -> Vec<Verdict> {
            troubles.iter().map(|trouble| self.outage_detector.verdict(trouble)).collect()
        }
    }

    #[test]
    fn one_users_trouble_is_not_the_apps() {
        let mut story = Story::new();
        let troubles: Vec<_> = (0..1_000).map(|n| story.trouble(n % 4, n, n + 1)).collect();
        assert!(story.verdicts(&troubles).iter().all(|verdict| *verdict == Verdict::Open));
    }

    #[test]
    fn the_first_users_of_an_outage_are_cleared_by_the_fifth() {
        let mut story = Story::new();
        let first = story.outage(4, 0, 1);
        assert_eq!(story.verdicts(&first), [Verdict::Open; 4]);
        story.trouble(9, 5, 6);
        assert_eq!(story.verdicts(&first), [Verdict::Apps; 4]);
    }

    #[test]
    fn a_good_answer_to_a_later_request_leaves_the_trouble_with_the_delivery() {
        let mut story = Story::new();
        let lonely = story.trouble(1, 0, 10);
        story.good(5, 20);
        assert_eq!(
            story.outage_detector.verdict(&lonely),
            Verdict::Open,
            "that request was made before the trouble was over"
        );
        story.good(11, 30);
        assert_eq!(story.outage_detector.verdict(&lonely), Verdict::Deliverys);
    }

    #[test]
    fn what_overlapped_an_outage_belongs_to_it_however_late_its_answer_comes() {
        let mut story = Story::new();
        let met = story.outage(5, 0, 10);
        story.good(20, 100);
        assert_eq!(story.verdicts(&met), [Verdict::Apps; 5], "the outage is over, and was the app's");
        let late = story.trouble(7, 50, 200);
        story.good(210, 220);
        assert_eq!(story.outage_detector.verdict(&late), Verdict::Apps);
        let after = story.trouble(8, 101, 210);
        story.good(211, 230);
        assert_eq!(story.outage_detector.verdict(&after), Verdict::Deliverys);
    }

    #[test]
    fn a_slow_good_answer_from_before_the_outage_does_not_end_it() {
        let mut story = Story::new();
        let met = story.outage(5, 10, 20);
        story.good(0, 1_000);
        assert_eq!(story.verdicts(&met), [Verdict::Apps; 5]);
        assert_eq!(story.outage_detector.apps_until, None);
    }

    #[test]
    fn an_app_is_away_after_a_while_of_silence_counted_from_the_first_request() {
        let lasts = 10_000;
        let mut story = Story::new();
        for n in 0..19 {
            story.trouble(n % 5, 0, lasts);
        }
        let last = Trouble { user: 1, begun: story.at(0), ended: story.at(lasts) };
        assert!(story.outage_detector.trouble(last), "nothing good for ten seconds");
        story.good(lasts, lasts + 1);
        for n in 0..40 {
            let early = Trouble { user: n % 5, begun: story.at(lasts - 1), ended: story.at(2 * lasts) };
            assert!(!story.outage_detector.trouble(early), "something good came less than ten seconds ago");
        }
    }
}
