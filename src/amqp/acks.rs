//! Which acks are due: pure bookkeeping over the delivery tags of one channel.
//!
//! One ack per message is what makes a lapin consumer slow (48 of 58 µs per message; coalesced the whole consume takes
//! 10). `multiple` acks everything up to a tag, so it may only name the end of a settled *prefix*; what is settled beyond
//! an unsettled tag waits a little for the gap to close, and is then acked singly.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long one unsettled tag, the head, may hold up the settled ones behind it. Longer means more redeliveries after a crash
/// and a window that stalls; shorter means more single acks.
pub(super) const GAP_PATIENCE: Duration = Duration::from_millis(50);

/// This share of the window may be settled without being acked; more would starve the consumer of new messages.
const WINDOW_SHARE: usize = 4;

/// What to write to the channel, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueAcks {
    /// Ack up to and including this tag.
    pub prefix: Option<u64>,
    /// Ack these alone.
    pub singles: Vec<u64>,
}

/// The tags of one channel with one consumer: 1, 2, 3, … without holes, each settled once.
#[derive(Debug)]
pub struct AckWindow {
    /// So many settled tags beyond a gap are enough.
    enough: usize,
    /// The highest tag ever settled.
    top: u64,
    /// Unsettled tags below `top`, rising. Bounded by the prefetch, as the broker hands out no more.
    gaps: VecDeque<u64>,
    /// The highest tag of the settled prefix that is not acked yet. The broker refuses (and closes the channel for) a
    /// `multiple` that names a tag which is acked already, so this is always one that is not.
    prefix: Option<u64>,
    /// The end of the settled prefix: the tag after it is the head.
    floor: u64,
    /// Settled, not acked, beyond the head.
    islands: Vec<u64>,
    /// Since when this very head has held islands up. While one head after the other is settled nothing is slow, and singles
    /// would only cost.
    held_up_since: Option<Instant>,
}

impl AckWindow {
    /// A fresh channel that is given at most `prefetch` messages at once (0 means no limit).
    pub fn new(prefetch: u16) -> Self {
        let enough = (usize::from(prefetch) / WINDOW_SHARE).max(1);
        Self {
            enough,
            top: 0,
            gaps: VecDeque::new(),
            prefix: None,
            floor: 0,
            islands: Vec::new(),
            held_up_since: None,
        }
    }

    /// The message of `tag` is done with and wants its ack.
    pub fn settle(&mut self, tag: u64, now: Instant) {
        self.close_gap(tag);
        self.islands.push(tag);
        self.absorb_islands(now);
    }

    /// The message of `tag` went back to the broker: nothing to ack, and no gap either.
    pub fn give_back(&mut self, tag: u64, now: Instant) {
        self.close_gap(tag);
        self.absorb_islands(now);
    }

    /// Takes the acks that are due now. They are the caller's duty from here on.
    pub fn take_due(&mut self, now: Instant) -> DueAcks {
        let overdue = self.wake_at().is_some_and(|at| at <= now);
        let singles = if overdue || self.islands.len() >= self.enough {
            self.held_up_since = None;
            std::mem::take(&mut self.islands)
        } else {
            Vec::new()
        };
        DueAcks { prefix: self.prefix.take(), singles }
    }

    /// When to look again although nothing more is settled; `None` while nothing waits.
    pub fn wake_at(&self) -> Option<Instant> {
        self.held_up_since.map(|since| since + GAP_PATIENCE)
    }

    fn close_gap(&mut self, tag: u64) {
        if tag > self.top {
            self.gaps.extend(self.top + 1..tag);
            self.top = tag;
        } else if let Ok(position) = self.gaps.binary_search(&tag) {
            self.gaps.remove(position);
        }
    }

    /// Moves the islands that the prefix has reached into it.
    fn absorb_islands(&mut self, now: Instant) {
        let floor = self.gaps.front().map_or(self.top, |gap| gap - 1);
        if std::mem::replace(&mut self.floor, floor) != floor {
            self.held_up_since = None;
            let prefix = &mut self.prefix;
            self.islands.retain(|tag| {
                let reached = *tag <= floor;
                if reached {
                    *prefix = (*prefix).max(Some(*tag));
                }
                !reached
            });
        }
        if !self.islands.is_empty() {
            self.held_up_since.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn window() -> (AckWindow, Instant) {
        (AckWindow::new(16), Instant::now())
    }

    fn prefix(tag: u64) -> DueAcks {
        DueAcks { prefix: Some(tag), singles: vec![] }
    }

    #[test]
    fn what_is_settled_in_order_is_acked_as_one_prefix() {
        let (mut window, now) = window();
        (1..=9).for_each(|tag| window.settle(tag, now));
        assert_eq!(window.take_due(now), prefix(9));
        assert_eq!(window.take_due(now), DueAcks::default());
        assert_eq!(window.wake_at(), None);
    }

    #[test]
    fn a_slow_head_holds_the_others_for_a_moment_only() {
        let (mut window, now) = window();
        window.settle(2, now);
        window.settle(3, now + GAP_PATIENCE / 2);
        assert_eq!(window.take_due(now + GAP_PATIENCE / 2), DueAcks::default());
        let later = window.wake_at().unwrap();
        assert_eq!(window.take_due(later), DueAcks { prefix: None, singles: vec![2, 3] });
        // The head comes last; naming 3, already acked, would close the channel.
        window.settle(1, later);
        assert_eq!(window.take_due(later), prefix(1));
    }

    #[test]
    fn a_head_that_moves_on_holds_up_nobody() {
        let (mut window, now) = window();
        let soon = now + GAP_PATIENCE * 4 / 5;
        [2, 4].into_iter().for_each(|tag| window.settle(tag, now));
        window.settle(1, soon);
        assert_eq!(window.take_due(now + GAP_PATIENCE), prefix(2));
        // From now on 3 is the head, and has its own time.
        assert_eq!(window.wake_at(), Some(soon + GAP_PATIENCE));
        assert_eq!(window.take_due(soon + GAP_PATIENCE).singles, [4]);
    }

    #[test]
    fn a_quarter_of_the_window_does_not_wait() {
        let (mut window, now) = window();
        (2..=4).for_each(|tag| window.settle(tag, now));
        assert_eq!(window.take_due(now), DueAcks::default());
        window.settle(5, now);
        assert_eq!(window.take_due(now).singles, [2, 3, 4, 5]);
    }

    #[test]
    fn what_was_given_back_is_neither_acked_nor_a_gap() {
        let (mut window, now) = window();
        window.settle(2, now);
        window.give_back(1, now);
        assert_eq!(window.take_due(now), prefix(2));
        window.give_back(3, now);
        assert_eq!(window.take_due(now), DueAcks::default());
        window.settle(4, now);
        assert_eq!(window.take_due(now), prefix(4));
    }

    /// The broker's side: refuses what RabbitMQ refuses, and what would lose a message.
    struct Channel {
        unacked: BTreeSet<u64>,
        settled: BTreeSet<u64>,
    }

    impl Channel {
        fn ack(&mut self, due: DueAcks) {
            if let Some(tag) = due.prefix {
                assert!(self.unacked.contains(&tag), "unknown delivery tag {tag}");
                let beyond = self.unacked.split_off(&(tag + 1));
                let acked = std::mem::replace(&mut self.unacked, beyond);
                assert!(acked.is_subset(&self.settled), "an unsettled tag was acked: {acked:?}");
            }
            for tag in due.singles {
                assert!(self.unacked.remove(&tag), "unknown delivery tag {tag}");
                assert!(self.settled.contains(&tag), "unsettled tag {tag} was acked");
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Settle one of the tags in hand, by position.
        Settle(usize),
        GiveBack(usize),
        Write,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..16usize).prop_map(Step::Settle),
            1 => (0..16usize).prop_map(Step::GiveBack),
            3 => Just(Step::Write),
            1 => (0..80u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn every_settled_tag_is_acked_once_and_soon_and_no_other(steps in prop::collection::vec(step(), 1..400)) {
            const PREFETCH: u16 = 16;
            let (mut window, mut now) = (AckWindow::new(PREFETCH), Instant::now());
            let mut channel = Channel { unacked: BTreeSet::new(), settled: BTreeSet::new() };
            let mut in_hand: Vec<u64> = Vec::new();
            let mut next_tag = 1;
            for step in steps {
                while channel.unacked.len() < usize::from(PREFETCH) {
                    channel.unacked.insert(next_tag);
                    in_hand.push(next_tag);
                    next_tag += 1;
                }
                match step {
                    Step::Settle(n) if !in_hand.is_empty() => {
                        let tag = in_hand.swap_remove(n % in_hand.len());
                        channel.settled.insert(tag);
                        window.settle(tag, now);
                    }
                    Step::GiveBack(n) if !in_hand.is_empty() => {
                        let tag = in_hand.swap_remove(n % in_hand.len());
                        channel.unacked.remove(&tag);
                        window.give_back(tag, now);
                    }
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    _ => channel.ack(window.take_due(now)),
                }
                let late = channel.unacked.intersection(&channel.settled).count() > 0;
                prop_assert!(!late || window.prefix.is_some() || window.wake_at().is_some(), "an ack is forgotten");
                prop_assert!(window.wake_at().is_none_or(|at| at <= now + GAP_PATIENCE), "an ack waits too long");
                prop_assert!(window.gaps.len() <= usize::from(PREFETCH), "the window grows");
            }
            now += GAP_PATIENCE;
            channel.ack(window.take_due(now));
            prop_assert!(channel.unacked.is_disjoint(&channel.settled), "settled but never acked");
        }
    }
}
