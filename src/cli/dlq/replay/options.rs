//! The options of a replay, and its confirmation.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::report;
use crate::cli::confirm::Confirming;
use crate::cli::operator::operator;
use crate::cli::output::{aside, note};
use crate::cli::{Exit, span};
use crate::db::Database;
use crate::db::dead_letters::Filter;
use crate::db::replay::{self, EditedBody, Order};
use crate::dead_letters::replay::{Preview, Terms, read_edited};
use crate::domain::replay::{Canary, DEFAULT_RATE_PER_SECOND};

/// Higher: the broker is the limit.
const MAX_RATE_PER_SECOND: i64 = 10_000;

/// How dead letters are to be replayed.
#[derive(Debug, Args)]
pub struct Options {
    /// Dead letters per second
    #[arg(long, value_name = "N", conflicts_with = "control", default_value_t = DEFAULT_RATE_PER_SECOND,
          value_parser = clap::value_parser!(i32).range(1..=MAX_RATE_PER_SECOND))]
    rate: i32,
    /// Canary steps, e.g. 1,5,50: one dead letter, then five more, then fifty more, then the rest
    #[arg(long, value_name = "SIZES", conflicts_with = "control")]
    canary: Option<Canary>,
    /// Stop when more than this share of a canary step fails again
    #[arg(long, value_name = "PERCENT", conflicts_with = "control", default_value = "10%", value_parser = percent)]
    max_failed: i32,
    /// How long to wait for the outcomes of a canary step
    #[arg(long, value_name = "SPAN", conflicts_with = "control", default_value = "5m", value_parser = span::length)]
    canary_wait: Duration,
    /// Ask the rules again, and send to every user they name now
    #[arg(long, conflicts_with_all = ["body", "control"])]
    re_resolve: bool,
    /// Also send what has expired
    #[arg(long, conflicts_with = "control")]
    even_expired: bool,
    /// Send this corrected event instead (for one dead letter); the archive keeps the original
    #[arg(long, value_name = "FILE", conflicts_with = "control")]
    body: Option<PathBuf>,
    /// The reason, recorded in `dlq history`; required for more than one dead letter
    #[arg(long, value_name = "TEXT", conflicts_with = "control")]
    why: Option<String>,
}

impl Options {
    /// The order, with the edited body checked as the daemon would check it.
    pub fn order(&self, filter: Filter, cut_off: i64, terms: &Terms) -> Result<Order> {
        Ok(Order {
            operator: operator(),
            why: self.why.clone().filter(|why| !why.trim().is_empty()),
            filter,
            cut_off,
            rate_per_second: self.rate,
            canary: self.canary.clone().unwrap_or_default(),
            max_failed_percent: self.max_failed,
            canary_wait: self.canary_wait,
            even_expired: self.even_expired,
            re_resolve: self.re_resolve,
            edited: self.body.as_deref().map(|path| read_edited_file(path, terms)).transpose()?,
        })
    }
}

fn read_edited_file(path: &Path, terms: &Terms) -> Result<EditedBody> {
    let shown = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(shown)?;
    let mut body = Vec::new();
    // One byte more than is allowed is enough to see that it is too large.
    file.take(terms.max_body_bytes as u64 + 1).read_to_end(&mut body).with_context(shown)?;
    if body.len() > terms.max_body_bytes {
        bail!("{} is larger than amqp.max_body", path.display());
    }
    read_edited(body, terms).with_context(|| format!("{} is not an event", path.display()))
}

/// An edited body is for one dead letter; and where that is about one delivery, it must stay that delivery's event.
pub async fn check_edited(db: &Database, order: &Order) -> Result<()> {
    let Some(edited) = &order.edited else { return Ok(()) };
    let matching = replay::editable(db, &order.filter).await?;
    let [about] = matching.as_slice() else {
        bail!(
            "--body is for one dead letter, and the filter matches {}: use --id",
            if matching.is_empty() { "none" } else { "more" }
        );
    };
    if about.recipient.is_none() {
        return Ok(());
    }
    let fields = [
        ("company_no", &about.company_no, &edited.about.company_no),
        ("app_id", &about.app_id, &edited.about.app_id),
        ("template_id", &about.template_id, &edited.about.template_id),
        ("event_id", &about.event_id, &edited.about.event_id),
    ];
    for (field, must_be, is) in fields {
        if must_be != is {
            let must_be = must_be.as_deref().unwrap_or_default();
            bail!("field `{field}`: must stay {must_be}; otherwise it is another delivery");
        }
    }
    Ok(())
}

/// `None`: continue. More than one dead letter needs a reason and a confirmation.
pub fn confirmed(preview: &Preview, order: &Order, confirming: Confirming) -> Result<Option<Exit>> {
    if preview.going == 1 {
        return Ok(None);
    }
    if order.why.is_none() {
        note!(
            "{} dead letters would be sent: give a reason with --why (recorded in `dlq history`)",
            preview.going
        );
        return Ok(Some(Exit::Usage));
    }
    aside(report::preview(preview));
    if confirming.confirm(&format!("Replay {} dead letters?", preview.going))? {
        return Ok(None);
    }
    note!("nothing was changed");
    Ok(Some(Exit::Failed))
}

fn percent(text: &str) -> Result<i32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<i32>().ok();
    number
        .filter(|percent| (0..=100).contains(percent))
        .ok_or_else(|| "must be a percentage such as 10%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_percentage() {
        assert_eq!(percent("10%"), Ok(10));
        assert_eq!(percent("0"), Ok(0));
        assert!(percent("101%").is_err() && percent("a few").is_err());
    }
}
