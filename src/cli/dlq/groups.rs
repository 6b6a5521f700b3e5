//! `dlq groups`: dead letters by cause.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::advice::{Advice, advice};
use super::filter::Which;
use crate::cli::output::{Format, lines, or_dash, time};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::dead_letters::{self, Group};

#[derive(Debug, Args)]
#[command(
    after_help = "Dead letters of a group have the same reason, app, template, code and field, and so the same fix.\n\n\
Example:\n  wechat-notifier dlq groups --state open --since 1d"
)]
pub struct Groups {
    /// Maximum number of groups, those with the most open dead letters first
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    which: Which,
}

/// A group and what to do about it.
#[derive(Serialize)]
struct GroupWithAdvice {
    #[serde(flatten)]
    group: Group,
    runbook: Option<Advice>,
}

impl Groups {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let groups = dead_letters::groups(&database::open(config)?, &self.which.filter(), self.limit).await?;
        let groups: Vec<GroupWithAdvice> = groups.into_iter().map(with_advice).collect();
        let header = [
            "group",
            "dead letters",
            "reason",
            "errcode",
            "field",
            "app",
            "template",
            "first seen",
            "last seen",
            "example",
        ];
        self.format.list(&groups, header, |GroupWithAdvice { group, .. }| {
            [
                group.fingerprint.clone(),
                counts(&group.states),
                group.reason.to_string(),
                or_dash(group.errcode),
                or_dash(group.field.as_ref()),
                or_dash(group.app_id.as_ref()),
                or_dash(group.template_id.as_ref()),
                time(group.first_seen),
                time(group.last_seen),
                group.example.to_string(),
            ]
        })?;
        if !self.format.is_json() {
            print_advice(&groups)?;
        }
        Ok(Exit::Done)
    }
}

fn with_advice(group: Group) -> GroupWithAdvice {
    GroupWithAdvice { runbook: advice(&group.reason, group.class.as_deref()), group }
}

/// "3 open, 1 resolved".
fn counts(states: &BTreeMap<String, i64>) -> String {
    states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

/// Each runbook entry once, in the order of the table.
fn print_advice(groups: &[GroupWithAdvice]) -> Result<()> {
    let mut said: Vec<&Advice> = Vec::new();
    for advice in groups.iter().filter_map(|group| group.runbook.as_ref()) {
        if !said.contains(&advice) {
            lines([vec![String::new()], advice.lines()].concat())?;
            said.push(advice);
        }
    }
    Ok(())
}
