//! How many sends an app may still make today and in this minute.

use crate::errcode::{DAILY_QUOTA, MINUTE_QUOTA, Refusal};

/// Daily quotas are full again at midnight in Shanghai, which is UTC+8 all year.
const SHANGHAI_OFFSET_MS: u64 = 8 * 3_600_000;
const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// The sends of one app.
#[derive(Debug, Default)]
pub struct Quota {
    today: Window,
    this_minute: Window,
}

/// A count that begins at zero with each period.
#[derive(Debug, Default)]
struct Window {
    period: u64,
    used: u64,
}

impl Quota {
    /// Counts one send.
    ///
    /// # Errors
    /// 45009 when the day's are used up, 45011 when the minute's are.
    pub fn use_one(
        &mut self,
        now_ms: u64,
        daily: Option<u64>,
        per_minute: Option<u64>,
    ) -> Result<(), Refusal> {
        let day = (now_ms + SHANGHAI_OFFSET_MS) / DAY_MS;
        let minute = now_ms / MINUTE_MS;
        if !self.today.has_room(day, daily) {
            return Err(Refusal::of(DAILY_QUOTA));
        }
        if !self.this_minute.has_room(minute, per_minute) {
            return Err(Refusal::of(MINUTE_QUOTA));
        }
        self.today.used += 1;
        self.this_minute.used += 1;
        Ok(())
    }
}

impl Window {
    fn has_room(&mut self, period: u64, limit: Option<u64>) -> bool {
        if self.period != period {
            *self = Self { period, used: 0 };
        }
        limit.is_none_or(|limit| self.used < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 15:59 UTC is one minute before midnight in Shanghai.
    const BEFORE_MIDNIGHT: u64 = 20_000 * DAY_MS + 15 * 3_600_000 + 59 * MINUTE_MS;

    #[test]
    fn the_daily_quota_comes_back_at_midnight_in_shanghai() {
        let mut quota = Quota::default();
        assert_eq!(quota.use_one(BEFORE_MIDNIGHT, Some(1), None), Ok(()));
        assert_eq!(quota.use_one(BEFORE_MIDNIGHT, Some(1), None), Err(Refusal::of(DAILY_QUOTA)));
        assert_eq!(quota.use_one(BEFORE_MIDNIGHT + MINUTE_MS, Some(1), None), Ok(()));
    }

    #[test]
    fn the_minute_quota_comes_back_with_the_next_minute() {
        let mut quota = Quota::default();
        assert!(
            quota.use_one(BEFORE_MIDNIGHT, None, Some(2)).is_ok()
                && quota.use_one(BEFORE_MIDNIGHT, None, Some(2)).is_ok()
        );
        assert_eq!(quota.use_one(BEFORE_MIDNIGHT, None, Some(2)), Err(Refusal::of(MINUTE_QUOTA)));
        assert_eq!(quota.use_one(BEFORE_MIDNIGHT + MINUTE_MS, None, Some(2)), Ok(()));
    }
}
