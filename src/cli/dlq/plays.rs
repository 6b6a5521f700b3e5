//! The runbook as commands print it.

use serde::Serialize;

use crate::domain::outcome::DeadReason;
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
pub fn advice(reason: &str, class: Option<&str>) -> Option<Advice> {
    let known = DeadReason::parse(reason)?;
    let play = runbook::of(known, class);
    Some(Advice {
        reason: reason.to_owned(),
        cause: play.cause,
        who: play.who,
        action: play.action,
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
