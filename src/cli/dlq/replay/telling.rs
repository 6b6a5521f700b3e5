//! A replay in words.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cli::output::{or_dash, time};
use crate::db::replay::Account;
use crate::dead_letters::replay::Survey;
use crate::domain::replay::Refusal;

/// What would go and what not, by group, and what to do about the latter.
pub fn survey(survey: &Survey) -> String {
    let mut text = format!("{} would go", survey.going);
    if survey.groups.is_empty() {
        return "no letter matches".to_owned();
    }
    for group in &survey.groups {
        let _ = write!(
            text,
            "\n  group {}: {} (code {}, field {}), app {}: {} would go{}",
            group.group,
            group.reason,
            or_dash(group.errcode),
            or_dash(group.field.as_ref()),
            or_dash(group.app_id.as_ref()),
            group.going,
            counts(", refused: ", &group.refused),
        );
    }
    for refusal in Refusal::ALL {
        if let Some(count) = survey.refused.get(refusal.as_str()) {
            let _ = write!(text, "\n{count} {refusal}: {}", refusal.advice());
        }
    }
    text
}

/// Who, when, why, and what became of it.
pub fn account(account: &Account) -> String {
    let mut text = format!(
        "replay {}: {}, by {} at {}",
        account.replay,
        account.state,
        account.operator,
        time(account.created_at)
    );
    if let Some(why) = &account.why {
        let _ = write!(text, "\nwhy: {why}");
    }
    if let Some(because) = &account.stopped_because {
        let _ = write!(text, "\nstopped: {because}; --resume {} goes on past it", account.replay);
    }
    let _ = write!(
        text,
        "\n{} letters: {} published, {} refused, {} not gone out{}{}",
        account.letters,
        account.published,
        account.refused,
        account.pending,
        counts("\noutcomes: ", &account.outcomes),
        counts("\nrefused: ", &account.refusals),
    );
    text
}

fn counts<K: std::fmt::Display>(before: &str, counts: &BTreeMap<K, i64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{before}{}", words.join(", "))
}
