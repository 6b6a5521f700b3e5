//! The headers that are ours: `x-wn-…`, on what we publish only.

/// How often the delivery has been deferred; absent means 0 (number).
pub const EPOCH: &str = "x-wn-epoch";
/// How many charged steps of the retry ladder are used (number).
pub const STEP: &str = "x-wn-step";
/// When the delivery is due, Unix milliseconds; it goes round the ladder until then (number).
pub const DUE: &str = "x-wn-due";
/// Version of the message format (number).
pub const VERSION: &str = "x-wn-version";
/// Identity of the dead letter; archiving is idempotent by it (text).
pub const DEAD_LETTER: &str = "x-wn-dead-letter";
/// The replay that brought a dead letter back (text).
pub const REPLAY: &str = "x-wn-replay";
/// A replay that no longer asks for freshness (present or absent).
pub const EVEN_EXPIRED: &str = "x-wn-even-expired";
/// Why the message was given up: the spelling of `DeadReason` (text).
pub const REASON: &str = "x-wn-reason";
/// WeChat's code (number).
pub const ERRCODE: &str = "x-wn-errcode";
/// WeChat's text (text).
pub const ERRMSG: &str = "x-wn-errmsg";
/// The field of `data` that WeChat objects to (text).
pub const FIELD: &str = "x-wn-field";
/// The class of WeChat's last answer: the spelling of `Class` (text).
pub const CLASS: &str = "x-wn-class";
/// The generation of the token that the last request used (number).
pub const TOKEN_GENERATION: &str = "x-wn-token-generation";
/// WeChat's request id (text).
pub const RID: &str = "x-wn-rid";
/// Requests charged so far (number).
pub const ATTEMPTS: &str = "x-wn-attempts";
/// When an attempt failed for the first time, Unix milliseconds; on delivery messages too (number).
pub const FIRST_FAILED: &str = "x-wn-first-failed";
/// When the message was given up, Unix milliseconds (number).
pub const DIED_AT: &str = "x-wn-died-at";
/// Free words on what is wrong, for people (text).
pub const DETAIL: &str = "x-wn-detail";

/// What all of them start with.
pub const PREFIX: &str = "x-wn-";

/// Names that release 0.1 wrote, with today's. Messages in the queues outlive an upgrade, so the old names are read for one
/// release.
pub(super) const FORMER: [(&str, &str); 2] = [("x-wn-turn", EPOCH), ("x-wn-letter", DEAD_LETTER)];
