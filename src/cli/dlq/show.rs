//! `dlq show`: one dead letter, with what the ledger and the history know of it.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::advice::{Advice, advice};
use super::body;
use crate::cli::deliveries::{EventHistory, of_dead_letter};
use crate::cli::output::{Format, Masking, Text, note, time};
use crate::cli::{Exit, database, mask};
use crate::config::Config;
use crate::db::Database;
use crate::db::dead_letters::{self, Archived, Done, Whole};
use crate::domain::dead_letter::DeadLetter;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --full the texts of the body are masked: they may contain personal data.\n\n\
Example:\n  wechat-notifier dlq show 17 --full"
)]
pub struct Show {
    /// The id that `dlq list` shows
    id: i64,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

impl Show {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let Some(dead_letter) = dead_letters::show(&db, self.id).await? else {
            note!("dead letter {} does not exist", self.id);
            return Ok(Exit::FoundNothing);
        };
        let details = Details::of(&db, dead_letter).await?;
        self.format.one(&details.json(self.masking)?, |_| details.text(self.masking))?;
        Ok(Exit::Done)
    }
}

/// A dead letter and everything known around it.
struct Details {
    dead_letter: Whole,
    /// The ledger's side: the delivery's row, its rules, all its dead letters.
    history: EventHistory,
    done: Vec<Done>,
    advice: Option<Advice>,
}

impl Details {
    async fn of(db: &Database, dead_letter: Whole) -> Result<Self> {
        let archived = &dead_letter.archived;
        Ok(Self {
            history: EventHistory::of_dead_letter(db, &archived.dead_letter.about).await?,
            done: dead_letters::done_to(db, archived.id).await?,
            advice: advice(&archived.dead_letter.reason, archived.dead_letter.class.as_deref()),
            dead_letter,
        })
    }

    /// Dead letters of the same delivery, without this one.
    fn others(&self) -> impl Iterator<Item = &Archived> {
        self.history.dead_letters.iter().filter(|other| other.id != self.dead_letter.archived.id)
    }

    fn json(&self, masking: Masking) -> Result<Value> {
        let mut archived = self.dead_letter.archived.clone();
        mask::dead_letter(masking, &mut archived);
        let mut value = json!(archived);
        value["body_bytes"] = json!(self.dead_letter.body.len());
        if masking.is_off() {
            value["headers"] = self.dead_letter.headers.clone();
            body::put_received(&self.dead_letter.body, &mut value);
        } else {
            value["body_masked"] = body::masked(&self.dead_letter.body, masking).unwrap_or_default();
        }
        let mut delivery = self.history.deliveries.first().cloned();
        delivery.iter_mut().for_each(|delivery| mask::ledger_row(masking, delivery));
        value["delivery"] = json!(delivery);
        let brief = |other: &Archived| {
            let DeadLetter { reason, epoch, .. } = &other.dead_letter;
            json!({ "id": other.id, "state": other.state, "reason": reason, "epoch": epoch })
        };
        value["other_dead_letters"] = self.others().map(brief).collect();
        value["actions"] = json!(self.done);
        value["runbook"] = json!(self.advice);
        Ok(value)
    }

    fn text(&self, masking: Masking) -> Vec<String> {
        let mut archived = self.dead_letter.archived.clone();
        mask::dead_letter(masking, &mut archived);
        let mut lines = fields(&json!(archived));
        lines.extend(self.ledger(masking));
        lines.extend(self.done.iter().map(deed));
        lines.extend(self.advice.iter().flat_map(|advice| section("What to do", advice.lines())));
        if masking.is_off() {
            lines.extend(section("Headers", Text::laid_out(&format!("{:#}", self.dead_letter.headers))));
        }
        lines.extend(section(&format!("Body ({} bytes)", self.dead_letter.body.len()), self.body(masking)));
        lines
    }

    fn ledger(&self, masking: Masking) -> Vec<String> {
        let about = &self.dead_letter.archived.dead_letter.about;
        let mut told = match (&about.event_id, &about.recipient) {
            (Some(event), None) => {
                vec![format!("about a whole event; `deliveries why {event}` shows its recipients")]
            }
            _ if self.history.deliveries.is_empty() => vec!["it has no row".to_owned()],
            _ => self.history.tell(masking),
        };
        told.extend(self.others().map(of_dead_letter));
        section("The ledger", told).collect()
    }

    /// Last, so that none of its lines can be mistaken for one of ours.
    fn body(&self, masking: Masking) -> Vec<String> {
        let body = &self.dead_letter.body;
        if self.dead_letter.archived.state == "purged" {
            return vec!["deleted: the dead letter was purged".to_owned()];
        }
        if masking.is_off() {
            let pretty = serde_json::from_slice::<Value>(body).map(|json| format!("{json:#}"));
            return Text::laid_out(&pretty.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned()));
        }
        match body::masked(body, masking) {
            Some(json) => {
                let mut lines = Text::laid_out(&format!("{json:#}"));
                lines.push("(--full shows the texts; they may contain personal data)".to_owned());
                lines
            }
            None => vec!["not JSON; --full shows it (it may contain personal data)".to_owned()],
        }
    }
}

/// A blank line, a heading, and the lines below it.
fn section(heading: &str, lines: Vec<String>) -> impl Iterator<Item = String> {
    [String::new(), heading.to_owned()].into_iter().chain(lines)
}

/// In the order in which an operator needs them.
const IN_ORDER: [&str; 24] = [
    "id",
    "state",
    "reason",
    "class",
    "errcode",
    "errmsg",
    "field",
    "company_no",
    "app_id",
    "template_id",
    "event_id",
    "recipient",
    "openid",
    "sys_user_id",
    "epoch",
    "attempts",
    "first_failed_at",
    "last_failed_at",
    "archived_at",
    "rid",
    "trace_id",
    "token_generation",
    "fingerprint",
    "dead_letter",
];

/// One line per field, without empty ones.
fn fields(dead_letter: &Value) -> Vec<String> {
    let line = |name: &&str| match &dead_letter[*name] {
        Value::Null => None,
        Value::String(text) => Some(format!("{name}: {text}")),
        other => Some(format!("{name}: {other}")),
    };
    IN_ORDER.iter().filter_map(line).collect()
}

fn deed(done: &Done) -> String {
    let why = done.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} {} by {}{why}", time(done.at), done.action, done.operator)
}
