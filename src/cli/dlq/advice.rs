//! The runbook as commands print it.

use serde::Serialize;

use crate::domain::dead_letter::Reason;
use crate::domain::runbook;

/// What to do about a dead letter, or a group of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    reason: String,
    cause: &'static str,
    who: &'static str,
    action: &'static str,
    /// Where the documentation says more.
    see: String,
}

/// The runbook entry; `None` for a reason that is not known to this release.
pub fn advice(reason: &Reason, class: Option<&str>) -> Option<Advice> {
    let known = reason.known()?;
    let entry = runbook::of(known, class);
    Some(Advice {
        reason: reason.to_string(),
        cause: entry.cause,
        who: entry.who,
        action: entry.action,
        see: runbook::section(known),
    })
}

impl Advice {
    /// A few lines for people.
    pub fn lines(&self) -> Vec<String> {
        let Self { reason, cause, who, action, see } = self;
        vec![
            format!("{reason}: {cause}"),
            format!("  who fixes it:  {who}"),
            format!("  safe to do:    {action}"),
            format!("  see {see}"),
        ]
    }
}
