//! A pause: why, since when, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tokio::time::Instant;

use crate::clock;
use crate::domain::answer::{Class, SendAnswer, blocked_ip};
use crate::domain::pause::PauseReason;

/// Between two probes of a paused app. Shorter burns calls on a fault that only a person can fix; longer delays
/// the resumption after the fix.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(3);
/// The same where WeChat is away: a probe may take the whole request timeout, and nobody has to fix anything.
const PROBE_AWAY_EVERY: Duration = Duration::from_secs(5);

/// All that holds an app's breaker open. What an operator says has precedence over what WeChat says, and neither ends the
/// other's pause.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) by_hand: Option<Arc<Facts>>,
    pub(super) own: Option<Pause>,
}

/// A pause that this process began by itself.
#[derive(Debug, Clone)]
pub(super) struct Pause {
    pub(super) reason: PauseReason,
    pub(super) ends: Ends,
    pub(super) facts: Arc<Facts>,
}

/// What is shown of a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub since: Timestamp,
    /// WeChat's code, where it gave one.
    pub errcode: Option<i64>,
    /// The blocked address; else WeChat's words, or the operator's.
    pub detail: String,
}

/// What ends a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// A delivery that gets through; the next may try at this time, by either clock.
    ByProbe { at: Instant, due: Timestamp },
    /// A delivery is trying just now.
    Probing,
    /// The refresher, when it has a token again.
    ByToken,
    /// The day's end or a higher `daily_quota`: the watch of limits says so.
    ByQuota { due: Timestamp },
    /// An operator.
    ByHand,
}

impl State {
    /// Is the app paused?
    pub fn is_open(&self) -> bool {
        self.by_hand.is_some() || self.own.is_some()
    }

    /// What must happen before the breaker closes; `None` where it is closed.
    pub fn ends(&self) -> Option<Ends> {
        match &self.by_hand {
            Some(_) => Some(Ends::ByHand),
            None => self.own.as_ref().map(|own| own.ends),
        }
    }

    /// The reason to show, and its facts.
    pub(super) fn shown(&self) -> Option<(PauseReason, &Arc<Facts>)> {
        let by_hand = self.by_hand.as_ref().map(|facts| (PauseReason::ByHand, facts));
        by_hand.or_else(|| self.own.as_ref().map(|own| (own.reason, &own.facts)))
    }
}

impl Facts {
    /// Of a pause that begins now with this answer to a send.
    pub(super) fn of_answer(answer: &SendAnswer) -> Self {
        Self::said(answer.errcode(), &answer.facts().errmsg.unwrap_or_default())
    }

    /// Of a pause that begins now, with WeChat's code, where there is one, and words, WeChat's or ours.
    pub fn said(errcode: Option<i64>, words: &str) -> Self {
        let detail = blocked_ip(words).map_or_else(|| words.to_owned(), |ip| ip.to_string());
        Self { since: clock::now(), errcode, detail }
    }
}

impl Ends {
    /// A probe so long from now.
    pub(super) fn by_probe_in(wait: Duration) -> Self {
        let due = clock::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        Self::ByProbe { at: Instant::now() + wait, due }
    }

    /// A probe at that time.
    pub(super) fn by_probe_at(due: Timestamp) -> Self {
        let wait = due.duration_since(clock::now()).try_into().unwrap_or_default();
        Self::ByProbe { at: Instant::now() + wait, due }
    }

    pub(super) fn is_due(self) -> bool {
        matches!(self, Self::ByProbe { at, .. } if at <= Instant::now())
    }

    /// When it may end, where that is known.
    pub(super) fn due(self) -> Option<Timestamp> {
        match self {
            Self::ByProbe { due, .. } | Self::ByQuota { due } => Some(due),
            Self::Probing | Self::ByToken | Self::ByHand => None,
        }
    }
}

/// Between two probes of an app that is paused for this.
pub(super) fn probe_every(reason: PauseReason) -> Duration {
    if reason == PauseReason::Away { PROBE_AWAY_EVERY } else { PROBE_EVERY }
}

/// When an app that WeChat answers like this is to be tried again.
pub(super) fn first_probe(class: Class) -> Ends {
    end_of(class, clock::now()).map_or_else(|| Ends::by_probe_in(PROBE_EVERY), Ends::by_probe_at)
}

/// When a quota's pause ends: WeChat's days and minutes begin by Beijing's clock (docs/WECHAT.md#error-codes-of-the-token-endpoints).
fn end_of(class: Class, now: Timestamp) -> Option<Timestamp> {
    let local = now.to_zoned(TimeZone::get("Asia/Shanghai").ok()?);
    let end = match class {
        Class::Quota => local.tomorrow().ok()?.start_of_day().ok()?,
        Class::Throttled => {
            local.with().second(0).subsec_nanosecond(0).build().ok()?.checked_add(1.minute()).ok()?
        }
        _ => return None,
    };
    Some(end.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_end_by_beijings_clock() {
        let now: Timestamp = "2026-11-22T15:59:30Z".parse().unwrap();
        let midnight = "2026-11-22T16:00:00Z".parse().unwrap();
        assert_eq!(end_of(Class::Quota, now), Some(midnight));
        assert_eq!(end_of(Class::Throttled, now), Some(midnight));
        assert_eq!(end_of(Class::Conflict, now), None);
    }
}
