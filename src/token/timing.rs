//! When the refresher does what.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::delays::between;
use crate::domain::app::TokenApi;

/// The refresher's times. The defaults are meant for WeChat; tests shorten them.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How long before its end a stable token is refreshed, drawn again each time. Inside its last five minutes, earlier
    /// the endpoint only repeats it; not in the last one, so that a failure leaves time for the next.
    pub stable_ahead: RangeInclusive<Duration>,
    /// The same for a classic token. Earlier, since a fetch here gives the full two hours at any time.
    pub classic_ahead: RangeInclusive<Duration>,
    /// A refresh does not follow a refresh sooner than this, however short WeChat says the token lives: a token that is
    /// always "nearly over" must not eat the day's quota.
    pub least_gap: Duration,
    /// How often all rows are read. Every change is announced or found by this; a fixed row works within 5 s.
    pub poll: Duration,
    /// How often the row is read while another process fetches and we have no token at all.
    pub peek: Duration,
    /// A rejection of a token younger than this is a sign that fetching does not help; after a few, fetching slows down.
    pub young: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stable_ahead: Duration::from_secs(60)..=Duration::from_secs(270),
            classic_ahead: Duration::from_secs(600)..=Duration::from_secs(720),
            least_gap: Duration::from_secs(30),
            poll: Duration::from_secs(2),
            peek: Duration::from_millis(250),
            young: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// How long to wait before refreshing a token that has `left` to live.
    pub(super) fn refresh_in(&self, api: TokenApi, left: Duration) -> Duration {
        let ahead = match api {
            TokenApi::Stable => &self.stable_ahead,
            TokenApi::Classic => &self.classic_ahead,
        };
        left.saturating_sub(between(*ahead.start(), *ahead.end())).max(self.least_gap.min(left / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_HOURS: Duration = Duration::from_secs(7_200);

    fn seconds(range: RangeInclusive<u64>) -> RangeInclusive<Duration> {
        Duration::from_secs(*range.start())..=Duration::from_secs(*range.end())
    }

    #[test]
    fn each_api_is_asked_at_its_right_moment() {
        let timing = Timing::default();
        for _ in 0..200 {
            let stable = timing.refresh_in(TokenApi::Stable, TWO_HOURS);
            assert!(seconds(6_930..=7_140).contains(&stable), "inside the last five minutes: {stable:?}");
            let classic = timing.refresh_in(TokenApi::Classic, TWO_HOURS);
            assert!(seconds(6_480..=6_600).contains(&classic), "ten minutes ahead at least: {classic:?}");
        }
    }

    #[test]
    fn a_short_life_does_not_make_a_storm() {
        let timing = Timing::default();
        assert_eq!(timing.refresh_in(TokenApi::Classic, Duration::from_secs(100)), timing.least_gap);
        assert_eq!(timing.refresh_in(TokenApi::Stable, Duration::from_secs(20)), Duration::from_secs(10));
    }
}
