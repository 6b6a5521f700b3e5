//! Pauses in words. Pure.

use std::collections::HashSet;

use super::output::time;
use crate::db::registry::pauses::Found;
use crate::domain::pause::PauseReason;

/// Without repetition: several daemons pause the same thing for the same reason. Pauses by an operator first, then the oldest.
pub fn distinct(pauses: &[Found]) -> Vec<&Found> {
    let mut sorted: Vec<&Found> = pauses.iter().collect();
    sorted.sort_by_key(|pause| (pause.template_id.is_some(), pause.process.is_some(), pause.since));
    let mut seen = HashSet::new();
    sorted.retain(|pause| seen.insert((&pause.template_id, &pause.reason)));
    sorted
}

/// Short, for a table cell.
pub fn in_short(pause: &Found) -> String {
    let what = pause.template_id.as_ref().map(|id| format!("template {id}: ")).unwrap_or_default();
    format!("{what}{}{} since {}", pause.reason, detail(pause), time(pause.since))
}

/// As part of a sentence: what is paused, why, and what to do.
pub fn in_full(pause: &Found) -> String {
    let what = if pause.template_id.is_some() { "its template" } else { "its app" };
    let reason = PauseReason::parse(&pause.reason);
    let meaning = reason.map_or("the reason is not known to this release", PauseReason::meaning);
    let advice = reason.map(|reason| format!("; what to do: {}", reason.advice())).unwrap_or_default();
    let until = pause.until.map(|at| format!(", next probe about {}", time(at))).unwrap_or_default();
    format!(
        "{what} is paused as {} since {}{until}: {meaning}{}{advice}",
        pause.reason,
        time(pause.since),
        detail(pause)
    )
}

fn detail(pause: &Found) -> String {
    let parts = [pause.operator.as_deref(), pause.detail.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(": ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(process: Option<&str>, reason: &str, since: i64) -> Found {
        Found {
            app_id: "wx1".to_owned(),
            template_id: None,
            process: process.map(str::to_owned),
            reason: reason.to_owned(),
            errcode: None,
            detail: Some("why".to_owned()),
            since: jiff::Timestamp::from_second(since).unwrap(),
            until: None,
            operator: None,
        }
    }

    #[test]
    fn several_daemons_pause_an_app_once() {
        let pauses = [pause(Some("b"), "away", 2), pause(Some("a"), "away", 1), pause(None, "by_hand", 3)];
        let told: Vec<String> = distinct(&pauses).into_iter().map(in_short).collect();
        assert_eq!(
            told,
            ["by_hand (why) since 1970-01-01 00:00:03Z", "away (why) since 1970-01-01 00:00:01Z"]
        );
    }
}
