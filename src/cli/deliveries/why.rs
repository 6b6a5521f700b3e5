//! `deliveries why`: collects what is known of an event and explains it.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::explain::{EventHistory, heading};
use super::{at_broker, no_delivery};
use crate::cli::output::{Format, Masking, note};
use crate::cli::{Exit, database, mask};
use crate::config::Config;
use crate::db::Database;
use crate::db::dead_letters;
use crate::db::ledger::browse;
use crate::db::registry::apps;
use crate::db::registry::pauses;
use crate::db::registry::{rules, users};
use crate::domain::dead_letter::About;

/// Longer explanations are better as a list: `deliveries list`.
const MAX_TOLD: i64 = 1000;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier deliveries why pay-20261122-000017 --user zhangsan")]
pub struct Why {
    /// The event's id
    event: String,
    /// Only about this business user or openid; also explains why they have no delivery
    #[arg(long)]
    user: Option<String>,
    /// Only the event of this company (several companies may use the same id)
    #[arg(long, value_name = "COMPANY_NO")]
    company: Option<String>,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

impl Why {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let mut histories = self.histories(&db).await?;
        if histories.is_empty() {
            return self.nothing_known(config, &db).await;
        }
        let mut sentences = Vec::new();
        for history in &mut histories {
            sentences.push(heading(&self.event, history));
            let absence = self.narrow(&db, history).await?;
            sentences.extend(history.tell(self.masking));
            sentences.extend(absence);
        }
        self.print(histories, sentences)?;
        Ok(Exit::Done)
    }

    async fn nothing_known(&self, config: &Config, db: &Database) -> Result<Exit> {
        note!("event {} is not known: it is in neither the ledger nor the dead letters", self.event);
        let apps = apps::all(db).await?.into_iter().map(|row| row.app.app_id);
        note!("{}", no_delivery::unheard_of(&at_broker::at_broker(config, apps).await));
        let paused = pauses::list(db, None).await?;
        let apps: BTreeSet<_> =
            paused.iter().filter(|pause| pause.template_id.is_none()).map(|pause| &pause.app_id).collect();
        for app_id in apps {
            note!("app {app_id} is paused: the event may wait in its lane; `app list` says why");
        }
        Ok(Exit::FoundNothing)
    }

    /// Everything known of the event, by company, app and template.
    async fn histories(&self, db: &Database) -> Result<Vec<EventHistory>> {
        let deliveries = browse::Filter {
            event_id: Some(self.event.clone()),
            company_no: self.company.clone(),
            limit: MAX_TOLD,
            ..Default::default()
        };
        let dead_letters = dead_letters::Filter {
            event_id: Some(self.event.clone()),
            company_no: self.company.clone(),
            ..Default::default()
        };
        let mut histories = Vec::new();
        for delivery in browse::list(db, &deliveries).await?.into_iter().rev() {
            let (company, app, template) =
                (&delivery.key.company_no, &delivery.key.app_id, &delivery.key.template_id);
            history_of(&mut histories, Some(company), Some(app), Some(template)).deliveries.push(delivery);
        }
        for dead_letter in dead_letters::list(db, &dead_letters, None, MAX_TOLD).await?.into_iter().rev() {
            let about = &dead_letter.dead_letter.about;
            let keys = (&about.company_no, &about.app_id, &about.template_id);
            history_of(&mut histories, keys.0.as_ref(), keys.1.as_ref(), keys.2.as_ref())
                .dead_letters
                .push(dead_letter);
        }
        for history in &mut histories {
            history.rules = rules::list(db, &rules_of(history)).await?.rules;
            history.pauses = pauses_of(db, history).await?;
        }
        Ok(histories)
    }

    /// Keeps only what concerns this user, under any of their names. Explains why they have no delivery, if they have none.
    async fn narrow(&self, db: &Database, history: &mut EventHistory) -> Result<Vec<String>> {
        let Some(user) = self.user.as_deref() else { return Ok(Vec::new()) };
        let rows = users::find(db, history.app_id.as_deref(), user).await?;
        let is_theirs = |sys_user_id: &Option<String>, openid: &Option<String>| {
            let names = [sys_user_id.as_deref(), openid.as_deref()];
            names.contains(&Some(user)) || rows.iter().any(|row| openid.as_ref() == Some(&row.openid))
        };
        history.deliveries.retain(|delivery| is_theirs(&delivery.sys_user_id, &delivery.openid));
        history.dead_letters.retain(|dead_letter| {
            let about = &dead_letter.dead_letter.about;
            about.recipient.is_none() || is_theirs(&about.sys_user_id, &about.openid)
        });
        Ok(if history.deliveries.is_empty() { no_delivery::tell(user, history, &rows) } else { Vec::new() })
    }

    fn print(self, histories: Vec<EventHistory>, sentences: Vec<String>) -> Result<()> {
        let (mut deliveries, mut dead_letters, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
        for history in histories {
            pauses.extend(history.pauses);
            deliveries.extend(history.deliveries);
            dead_letters.extend(history.dead_letters);
        }
        deliveries.iter_mut().for_each(|delivery| mask::ledger_row(self.masking, delivery));
        dead_letters.iter_mut().for_each(|dead_letter| mask::dead_letter(self.masking, dead_letter));
        let story = json!({ "event_id": self.event, "deliveries": deliveries, "dead_letters": dead_letters,
                            "pauses": pauses, "story": sentences });
        self.format.one(&story, |_| sentences.clone())
    }
}

impl EventHistory {
    /// What is known around a dead letter: its delivery's row, all dead letters of that delivery, and the current rules. A dead letter
    /// of a whole event has no delivery.
    pub async fn of_dead_letter(db: &Database, about: &About) -> Result<Self> {
        let mut history = Self {
            company_no: about.company_no.clone(),
            app_id: about.app_id.clone(),
            template_id: about.template_id.clone(),
            ..Self::default()
        };
        if let (Some(event), Some(recipient)) = (&about.event_id, &about.recipient) {
            let row = browse::Filter {
                company_no: about.company_no.clone(),
                app_id: about.app_id.clone(),
                template_id: about.template_id.clone(),
                event_id: Some(event.clone()),
                recipient: Some(recipient.clone()),
                limit: 1,
                ..Default::default()
            };
            history.deliveries = browse::list(db, &row).await?;
            history.dead_letters = dead_letters::of_delivery(db, about, MAX_TOLD).await?;
            history.rules = rules::list(db, &rules_of(&history)).await?.rules;
        }
        Ok(history)
    }
}

/// The history of these keys, new if there is none yet.
fn history_of<'a>(
    histories: &'a mut Vec<EventHistory>,
    company_no: Option<&String>,
    app_id: Option<&String>,
    template_id: Option<&String>,
) -> &'a mut EventHistory {
    let is_it = |history: &EventHistory| {
        (history.company_no.as_ref(), history.app_id.as_ref(), history.template_id.as_ref())
            == (company_no, app_id, template_id)
    };
    let position = histories.iter().position(is_it).unwrap_or_else(|| {
        histories.push(EventHistory {
            company_no: company_no.cloned(),
            app_id: app_id.cloned(),
            template_id: template_id.cloned(),
            ..EventHistory::default()
        });
        histories.len() - 1
    });
    &mut histories[position]
}

async fn pauses_of(db: &Database, history: &EventHistory) -> Result<Vec<pauses::Found>> {
    let Some(app_id) = history.app_id.as_deref() else { return Ok(Vec::new()) };
    let mut pauses = pauses::list(db, Some(app_id)).await?;
    pauses.retain(|pause| pause.template_id.is_none() || pause.template_id == history.template_id);
    Ok(pauses)
}

fn rules_of(history: &EventHistory) -> rules::RuleFilter {
    // An event without company, app or template has no rules; an empty string finds none.
    let part = |text: &Option<String>| Some(text.clone().unwrap_or_default());
    rules::RuleFilter {
        company_no: part(&history.company_no),
        app_id: part(&history.app_id),
        template_id: part(&history.template_id),
        user: None,
        after: None,
        limit: MAX_TOLD,
        people: i64::MAX,
    }
}
