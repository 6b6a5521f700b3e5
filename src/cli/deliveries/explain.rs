//! What became of an event, in sentences. Pure.

use std::collections::BTreeMap;

use super::reasons::{errcode, meaning};
use crate::cli::output::{Masking, time};
use crate::cli::pauses::{distinct, in_full};
use crate::db::dead_letters::Archived;
use crate::db::ledger::browse::LedgerRow;
use crate::db::registry::pauses;
use crate::db::registry::rules::Rule;

/// What is known of one event under one company, app and template.
#[derive(Debug, Default)]
pub struct EventHistory {
    pub company_no: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    /// In the order they were written.
    pub deliveries: Vec<LedgerRow>,
    pub dead_letters: Vec<Archived>,
    /// The current rules.
    pub rules: Vec<Rule>,
    /// Current pauses of its app and its template.
    pub pauses: Vec<pauses::Found>,
}

impl EventHistory {
    /// A sentence for each recipient, then for the dead letters without a row. Empty for an event without planned recipients.
    pub fn tell(&self, masking: Masking) -> Vec<String> {
        let rows = self.deliveries.iter().map(|delivery| of_delivery(delivery, self, masking));
        let dead_letters =
            self.dead_letters.iter().filter(|dead_letter| !has_row(dead_letter, self)).map(of_dead_letter);
        rows.chain(dead_letters).collect()
    }
}

/// The event in one sentence; about all of its recipients, also where one is asked for.
pub fn heading(event_id: &str, history: &EventHistory) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let (company, app, template) =
        (part(&history.company_no), part(&history.app_id), part(&history.template_id));
    let seen = history.deliveries.iter().map(|delivery| delivery.created_at);
    let seen = seen.chain(history.dead_letters.iter().map(|dead_letter| dead_letter.archived_at)).min();
    let seen = seen.map(|at| format!(", first seen {}", time(at))).unwrap_or_default();
    format!(
        "Event {event_id} (company {company}, app {app}, template {template}){seen}: {}.",
        counts(history)
    )
}

/// "2 sent, 1 skipped".
fn counts(history: &EventHistory) -> String {
    if history.deliveries.is_empty() {
        return "given up before recipients were planned".to_owned();
    }
    let mut counts = BTreeMap::<&str, usize>::new();
    for delivery in &history.deliveries {
        *counts.entry(&delivery.status).or_default() += 1;
    }
    counts.iter().map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ")
}

fn of_delivery(delivery: &LedgerRow, history: &EventHistory, masking: Masking) -> String {
    let parts = [
        format!("{}: {}", who(delivery, masking), what_happened(delivery)),
        paused(delivery, &history.pauses),
        last_answer(delivery),
        unknowns(delivery),
        named_by(delivery, &history.rules),
        dead_letters_of(delivery, history),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ") + "."
}

fn who(delivery: &LedgerRow, masking: Masking) -> String {
    let openid = delivery.openid.as_deref().map(|openid| masking.openid(openid));
    match (&delivery.sys_user_id, openid) {
        (Some(user), Some(openid)) => format!("{user} ({openid})"),
        (Some(user), None) => user.clone(),
        (None, Some(openid)) => openid,
        (None, None) => "Nobody".to_owned(),
    }
}

fn what_happened(delivery: &LedgerRow) -> String {
    let at = delivery.settled_at.map(|at| format!(" at {}", time(at))).unwrap_or_default();
    let attempts = attempts(delivery);
    let reason =
        delivery.reason.as_deref().map(|word| format!(" as {word}: {}", meaning(word))).unwrap_or_default();
    let due = delivery.due_at.map(|at| format!(", due {}", time(at))).unwrap_or_default();
    match delivery.status.as_str() {
        "sent" => {
            let msgid = delivery.msgid.as_deref().map(|id| format!(", msgid {id}")).unwrap_or_default();
            let receipt = delivery.receipt.as_deref().map(|word| format!(", WeChat's receipt: {word}"));
            format!("sent{at} by {attempts}{msgid}{}", receipt.unwrap_or_default())
        }
        "skipped" => format!("skipped{at}{reason}"),
        "dead" => format!("dead{at} after {attempts}{reason}"),
        "planned" => {
            format!("planned{due}; waiting for its due time, the recipient lock or a paused app")
        }
        "retrying" => format!("waiting for its next attempt{due}, after {attempts}"),
        "attempting" => {
            let until = delivery.claimed_until.map(|at| format!(" until {}", time(at))).unwrap_or_default();
            format!(
                "being attempted, claimed{until}, after {attempts}; after that time another process takes it over"
            )
        }
        other => format!("in a status that is not known to this release ({other})"),
    }
}

fn attempts(delivery: &LedgerRow) -> String {
    match delivery.attempts {
        0 => "no counted attempt".to_owned(),
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

fn last_answer(delivery: &LedgerRow) -> String {
    let Some(code) = delivery.errcode.filter(|code| *code != 0) else { return String::new() };
    let rid = delivery.rid.as_deref().map(|rid| format!(", rid {rid}")).unwrap_or_default();
    format!("{}{rid}", errcode(code))
}

fn unknowns(delivery: &LedgerRow) -> String {
    match delivery.unknowns {
        0 => String::new(),
        1 => "the outcome of 1 attempt is unknown; it may have reached the user".to_owned(),
        count => format!("the outcome of {count} attempts is unknown; each may have reached the user"),
    }
}

/// What a waiting delivery waits for.
fn paused(delivery: &LedgerRow, pauses: &[pauses::Found]) -> String {
    if !matches!(delivery.status.as_str(), "planned" | "retrying") {
        return String::new();
    }
    distinct(pauses).into_iter().map(in_full).collect::<Vec<_>>().join("; ")
}

fn named_by(delivery: &LedgerRow, rules: &[Rule]) -> String {
    if delivery.key.recipient.is_empty() {
        return String::new();
    }
    let names = |list: &[String], one: &Option<String>| one.as_ref().is_some_and(|one| list.contains(one));
    let naming = rules.iter().filter(|rule| {
        names(&rule.sys_user_ids, &delivery.sys_user_id) || names(&rule.openids, &delivery.openid)
    });
    let each: Vec<String> = naming.map(|rule| as_it_is_now(rule, delivery)).collect();
    if each.is_empty() {
        return "no current rule matches this user: the event named them itself, or the rule has changed"
            .to_owned();
    }
    // The ledger does not record how a recipient was found, and an event can name a user whom a rule names too.
    format!("matched by {} now, unless the event named its recipients itself", each.join(", "))
}

/// A rule, with what speaks against its having matched when the delivery was planned.
fn as_it_is_now(rule: &Rule, delivery: &LedgerRow) -> String {
    let mut doubts = Vec::new();
    if !rule.active {
        doubts.push("disabled".to_owned());
    }
    if let Some(customer) = rule.customer_id.as_deref().filter(|id| !id.is_empty()) {
        doubts.push(format!("only for customer {customer}"));
    }
    if rule.update_time.is_some_and(|changed| changed > delivery.created_at) {
        doubts.push("changed after this delivery was planned".to_owned());
    }
    if doubts.is_empty() {
        format!("rule {}", rule.id)
    } else {
        format!("rule {} ({})", rule.id, doubts.join(", "))
    }
}

fn dead_letters_of(delivery: &LedgerRow, history: &EventHistory) -> String {
    let dead_letters = history.dead_letters.iter().filter(|dead_letter| is_about(dead_letter, delivery));
    dead_letters
        .map(|dead_letter| format!("dead letter {} ({})", dead_letter.id, dead_letter.state))
        .collect::<Vec<_>>()
        .join(", ")
}

fn is_about(dead_letter: &Archived, delivery: &LedgerRow) -> bool {
    dead_letter.dead_letter.about.recipient.as_deref() == Some(&delivery.key.recipient)
}

fn has_row(dead_letter: &Archived, history: &EventHistory) -> bool {
    history.deliveries.iter().any(|delivery| is_about(dead_letter, delivery))
}

/// A dead letter in one sentence.
pub fn of_dead_letter(archived: &Archived) -> String {
    let Archived { id, state, dead_letter, .. } = archived;
    let reason = dead_letter.reason.as_str();
    let field = dead_letter.field.as_deref().map(|field| format!(", field {field}")).unwrap_or_default();
    let text = dead_letter.errmsg.as_deref().map(|text| format!(" ({text})")).unwrap_or_default();
    format!(
        "Dead letter {} ({}): {}{field}: {}{text}; `dlq show {}` shows it.",
        id,
        state,
        reason,
        meaning(reason),
        id
    )
}
