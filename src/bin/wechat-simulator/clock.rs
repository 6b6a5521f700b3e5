//! The one place that reads the clock; everything else takes time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulator's own clock: all its other code takes time as an argument"
)]
pub fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch: the unit of every validity rule here.
pub fn now_ms() -> u64 {
    now_us() / 1_000
}
