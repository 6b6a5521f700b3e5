//! A replay in words.

use std::collections::BTreeMap;

use crate::cli::output::{or_dash, time};
use crate::db::replay::Account;
use crate::dead_letters::replay::Preview;
use crate::domain::replay::Refusal;

/// What would be sent and what not, by group, and what to do about the latter; in lines.
pub fn preview(preview: &Preview) -> Vec<String> {
    if preview.groups.is_empty() {
        return vec!["no dead letter matches".to_owned()];
    }
    let mut lines = vec![format!("{} would be sent", preview.going)];
    for group in &preview.groups {
        lines.push(format!(
            "  group {}: {} (code {}, field {}), app {}: {} would be sent{}",
            group.group,
            group.reason,
            or_dash(group.errcode),
            or_dash(group.field.as_ref()),
            or_dash(group.app_id.as_ref()),
            group.going,
            counts(", refused: ", &group.refused),
        ));
    }
    for refusal in Refusal::ALL {
        if let Some(count) = preview.refused.get(refusal.as_str()) {
            lines.push(format!("{count} {refusal}: {}", refusal.advice()));
        }
    }
    lines
}

/// Who, when, why, and with which outcome; in lines.
pub fn account(account: &Account) -> Vec<String> {
    let mut lines = vec![format!(
        "replay {}: {}, by {} at {}",
        account.replay,
        account.state,
        account.operator,
        time(account.created_at)
    )];
    lines.extend(account.why.as_ref().map(|why| format!("why: {why}")));
    if let Some(because) = &account.stopped_because {
        lines.push(format!("stopped: {because}; --resume {} continues past it", account.replay));
    }
    lines.push(format!(
        "{} dead letters: {} published, {} refused, {} not published yet",
        account.dead_letters, account.published, account.refused, account.pending,
    ));
    let counted = [counts("outcomes: ", &account.outcomes), counts("refused: ", &account.refusals)];
    lines.extend(counted.into_iter().filter(|line| !line.is_empty()));
    lines
}

fn counts<K: std::fmt::Display>(before: &str, counts: &BTreeMap<K, i64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{before}{}", words.join(", "))
}
