//! Parses times as operators type them.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::clock;

/// Reads `2h`, `3 days` (that long ago) or a timestamp such as `2026-11-22T10:00:00+08:00`.
pub fn since(text: &str) -> Result<Timestamp, String> {
    before(clock::now(), text)
}

/// Reads a length such as `30s` or `5m`.
pub fn length(text: &str) -> Result<Duration, String> {
    let length = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let length = length.ok().and_then(|length| Duration::try_from(length).ok());
    length.ok_or_else(|| "must be a duration such as 30s or 5m".to_owned())
}

fn before(now: Timestamp, text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let ago: SignedDuration =
        ago.map_err(|_| "must be a duration such as 2h or 3d, or a timestamp with an offset".to_owned())?;
    now.checked_sub(ago.abs()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_back_from_now_and_a_timestamp_stands_for_itself() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let read = |text| before(now, text).map(|at| at.to_string());
        assert_eq!(read("90m").as_deref(), Ok("2026-11-22T10:30:00Z"));
        assert_eq!(read("2d").as_deref(), Ok("2026-11-20T12:00:00Z"));
        assert_eq!(read("2026-11-22T10:00:00+08:00").as_deref(), Ok("2026-11-22T02:00:00Z"));
        assert!(read("yesterday").is_err());
    }
}
