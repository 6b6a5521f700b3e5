//! Which dead letters a command applies to: the same options for all commands.

use clap::Args;
use jiff::Timestamp;

use crate::cli::span;
use crate::db::dead_letters::Filter;
use crate::domain::dead_letter::{CLASSES, State};
use crate::domain::outcome::DeadReason;

/// Which dead letters. Flatten it into a command; each option narrows the selection.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub struct Which {
    /// Only this dead letter; may be given several times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,
    /// Only with this reason, e.g. content
    #[arg(long, value_parser = DeadReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>())]
    reason: Option<String>,
    /// Only with this class of WeChat's last answer, e.g. transient
    #[arg(long, value_parser = CLASSES.to_vec())]
    class: Option<String>,
    /// Only of this app
    #[arg(long, alias = "app-id", value_name = "APPID")]
    app: Option<String>,
    /// Only of this company
    #[arg(long, value_name = "COMPANY_NO")]
    company: Option<String>,
    /// Only of this template
    #[arg(long, alias = "template-id", value_name = "TEMPLATE")]
    template: Option<String>,
    /// Only with this code of WeChat's
    #[arg(long, allow_negative_numbers = true)]
    errcode: Option<i64>,
    /// Only where WeChat rejected this field, e.g. thing2
    #[arg(long)]
    field: Option<String>,
    /// Only of this event
    #[arg(long, value_name = "EVENT_ID")]
    event: Option<String>,
    /// A business user or an openid
    #[arg(long, alias = "sys-user", alias = "openid")]
    user: Option<String>,
    /// Only of this group of `dlq groups`; the first characters are enough
    #[arg(long, value_parser = group)]
    group: Option<String>,
    /// Only archived since this time: a duration such as 2h or 3d, or a timestamp
    #[arg(long, value_name = "TIME", value_parser = span::since)]
    since: Option<Timestamp>,
    /// Only archived before this time
    #[arg(long, value_name = "TIME", value_parser = span::since)]
    until: Option<Timestamp>,
    /// Only in this state [default: all but purged]
    #[arg(long, value_parser = State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>())]
    state: Option<String>,
}

impl Which {
    /// The filter for the archive.
    pub fn filter(&self) -> Filter {
        let Self { ids, reason, class, app, company, template, errcode, field, event, user, group, .. } =
            self.clone();
        Filter {
            ids,
            reason,
            class,
            app_id: app,
            company_no: company,
            template_id: template,
            errcode,
            field,
            event_id: event,
            user,
            group,
            since: self.since,
            until: self.until,
            state: self.state.clone(),
        }
    }
}

/// Hex digits, like fingerprints; anything else would match nothing, or too much.
fn group(text: &str) -> Result<String, String> {
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "is not a group: `dlq groups` lists them".to_owned())
}

/// "1 dead letter", "17 dead letters".
pub fn dead_letters_in_words(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_hex() {
        assert_eq!(group("0AfF"), Ok("0aff".to_owned()));
        assert!(group("").is_err() && group("a%").is_err());
    }
}
