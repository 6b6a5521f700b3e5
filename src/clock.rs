//! The one place that reads the clock. Everything else takes time as an argument.

use jiff::Timestamp;

/// Now, by this machine's wall clock. For freshness and for people; leases are judged by the database's clock.
#[expect(clippy::disallowed_methods, reason = "this is the place the ban points to")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
