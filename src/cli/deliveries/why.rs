//! `deliveries why`: collects what is known of an event and explains it.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::explain::{Chapter, heading};
use super::{at_broker, no_delivery};
use crate::cli::output::{Format, Masking, note};
use crate::cli::{Exit, database, mask};
use crate::config::Config;
use crate::db::Database;
use crate::db::dead_letters;
use crate::db::ledger::browse;
use crate::db::registry::live_apps;
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
        let db = database(config)?;
        let mut chapters = self.chapters(&db).await?;
        if chapters.is_empty() {
            return self.nothing_known(config, &db).await;
        }
        let mut sentences = Vec::new();
        for chapter in &mut chapters {
            sentences.push(heading(&self.event, chapter));
            let absence = self.narrow(&db, chapter).await?;
            sentences.extend(chapter.tell(self.masking));
            sentences.extend(absence);
        }
        self.print(chapters, sentences)?;
        Ok(Exit::Done)
    }

    async fn nothing_known(&self, config: &Config, db: &Database) -> Result<Exit> {
        note!("event {} is not known: it is in neither the ledger nor the dead letters", self.event);
        let apps = live_apps::all(db).await?.into_iter().map(|row| row.app.app_id);
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
    async fn chapters(&self, db: &Database) -> Result<Vec<Chapter>> {
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
        let mut chapters = Vec::new();
        for delivery in browse::list(db, &deliveries).await?.into_iter().rev() {
            let (company, app, template) =
                (&delivery.key.company_no, &delivery.key.app_id, &delivery.key.template_id);
            chapter(&mut chapters, Some(company), Some(app), Some(template)).deliveries.push(delivery);
        }
        for dead_letter in dead_letters::list(db, &dead_letters, None, MAX_TOLD).await?.into_iter().rev() {
            let about = &dead_letter.dead_letter.about;
            let keys = (&about.company_no, &about.app_id, &about.template_id);
            chapter(&mut chapters, keys.0.as_ref(), keys.1.as_ref(), keys.2.as_ref())
                .dead_letters
                .push(dead_letter);
        }
        for chapter in &mut chapters {
            chapter.rules = rules::list(db, &rules_of(chapter)).await?.rules;
            chapter.pauses = pauses_of(db, chapter).await?;
        }
        Ok(chapters)
    }

    /// Keeps only what concerns this user, under any of their names. Explains why they have no delivery, if they have none.
    async fn narrow(&self, db: &Database, chapter: &mut Chapter) -> Result<Vec<String>> {
        let Some(user) = self.user.as_deref() else { return Ok(Vec::new()) };
        let rows = users::find(db, chapter.app_id.as_deref(), user).await?;
        let is_he = |sys_user_id: &Option<String>, openid: &Option<String>| {
            let names = [sys_user_id.as_deref(), openid.as_deref()];
            names.contains(&Some(user)) || rows.iter().any(|row| openid.as_ref() == Some(&row.openid))
        };
        chapter.deliveries.retain(|delivery| is_he(&delivery.sys_user_id, &delivery.openid));
        chapter.dead_letters.retain(|dead_letter| {
            let about = &dead_letter.dead_letter.about;
            about.recipient.is_none() || is_he(&about.sys_user_id, &about.openid)
        });
        Ok(if chapter.deliveries.is_empty() { no_delivery::tell(user, chapter, &rows) } else { Vec::new() })
    }

    fn print(self, chapters: Vec<Chapter>, sentences: Vec<String>) -> Result<()> {
        let (mut deliveries, mut dead_letters, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
        for chapter in chapters {
            pauses.extend(chapter.pauses);
            deliveries.extend(chapter.deliveries);
            dead_letters.extend(chapter.dead_letters);
        }
        deliveries.iter_mut().for_each(|delivery| mask::ledger_row(self.masking, delivery));
        dead_letters.iter_mut().for_each(|dead_letter| mask::dead_letter(self.masking, dead_letter));
        let story = json!({ "event_id": self.event, "deliveries": deliveries, "dead_letters": dead_letters,
                            "pauses": pauses, "story": sentences });
        self.format.one(&story, |_| sentences.clone())
    }
}

impl Chapter {
    /// What is known around a dead letter: its delivery's row, all dead letters of that delivery, and the current rules. A dead letter
    /// of a whole event has no delivery.
    pub async fn of_dead_letter(db: &Database, about: &About) -> Result<Self> {
        let mut chapter = Self {
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
            chapter.deliveries = browse::list(db, &row).await?;
            chapter.dead_letters = dead_letters::of_delivery(db, about, MAX_TOLD).await?;
            chapter.rules = rules::list(db, &rules_of(&chapter)).await?.rules;
        }
        Ok(chapter)
    }
}

/// The chapter of these keys, new if there is none yet.
fn chapter<'a>(
    chapters: &'a mut Vec<Chapter>,
    company_no: Option<&String>,
    app_id: Option<&String>,
    template_id: Option<&String>,
) -> &'a mut Chapter {
    let is_it = |chapter: &Chapter| {
        (chapter.company_no.as_ref(), chapter.app_id.as_ref(), chapter.template_id.as_ref())
            == (company_no, app_id, template_id)
    };
    let position = chapters.iter().position(is_it).unwrap_or_else(|| {
        chapters.push(Chapter {
            company_no: company_no.cloned(),
            app_id: app_id.cloned(),
            template_id: template_id.cloned(),
            ..Chapter::default()
        });
        chapters.len() - 1
    });
    &mut chapters[position]
}

async fn pauses_of(db: &Database, chapter: &Chapter) -> Result<Vec<pauses::Found>> {
    let Some(app_id) = chapter.app_id.as_deref() else { return Ok(Vec::new()) };
    let mut pauses = pauses::list(db, Some(app_id)).await?;
    pauses.retain(|pause| pause.template_id.is_none() || pause.template_id == chapter.template_id);
    Ok(pauses)
}

fn rules_of(chapter: &Chapter) -> rules::RuleFilter {
    // An event without company, app or template has no rules; an empty string finds none.
    let part = |text: &Option<String>| Some(text.clone().unwrap_or_default());
    rules::RuleFilter {
        company_no: part(&chapter.company_no),
        app_id: part(&chapter.app_id),
        template_id: part(&chapter.template_id),
        user: None,
        after: None,
        limit: MAX_TOLD,
        people: i64::MAX,
    }
}
