//! Reasons in words.

use crate::domain::message_kind;
use crate::domain::outcome::{DeadReason, SkipReason};

/// What a reason of the ledger or of a dead letter means, and what can be done about it where something can.
pub fn meaning(reason: &str) -> &'static str {
    let skip = SkipReason::parse(reason).map(SkipReason::meaning);
    skip.or_else(|| DeadReason::parse(reason).map(DeadReason::meaning))
        .unwrap_or("a reason that is not known to this release")
}

/// WeChat's code, what it means, and what to do.
pub fn errcode(code: i64) -> String {
    match message_kind::explain(code) {
        Some(known) => format!("WeChat answered {code} ({}; {})", known.meaning, known.advice),
        None => format!("WeChat answered {code} (a code that is not known to this release)"),
    }
}
