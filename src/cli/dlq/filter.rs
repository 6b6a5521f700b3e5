//! Which dead letters a command is about: the same options for all of them.

use clap::Args;
use jiff::Timestamp;

use crate::cli::span;
use crate::db::dead_letters::Filter;
use crate::domain::dead_letter::{CLASSES, State};
use crate::domain::outcome::DeadReason;

/// Which dead letters. Flatten it into a command; each option narrows.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub struct Which {
    /// This dead letter; may be given several times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,
    /// Why they were given up, e.g. content
    #[arg(long, value_parser = DeadReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>())]
    reason: Option<String>,
    /// The class of WeChat's last answer, e.g. transient
    #[arg(long, value_parser = CLASSES.to_vec())]
    class: Option<String>,
    #[arg(long, alias = "app-id", value_name = "APPID")]
    app: Option<String>,
    #[arg(long, value_name = "COMPANY_NO")]
    company: Option<String>,
    #[arg(long, alias = "template-id", value_name = "TEMPLATE")]
    template: Option<String>,
    /// WeChat's code
    #[arg(long, allow_negative_numbers = true)]
    errcode: Option<i64>,
    /// The field that is to blame, e.g. thing2
    #[arg(long)]
    field: Option<String>,
    #[arg(long, value_name = "EVENT_ID")]
    event: Option<String>,
    /// A business user or an openid
    #[arg(long, alias = "sys-user", alias = "openid")]
    user: Option<String>,
    /// A group of `dlq groups`, or how its name begins
    #[arg(long, value_parser = group)]
    group: Option<String>,
    /// Archived since then: a span such as 2h or 3d, or a timestamp
    #[arg(long, value_name = "TIME", value_parser = span::since)]
    since: Option<Timestamp>,
    /// Archived before then
    #[arg(long, value_name = "TIME", value_parser = span::since)]
    until: Option<Timestamp>,
    /// open, replaying, replayed, resolved or purged [default: all but purged]
    #[arg(long, value_parser = State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>())]
    state: Option<String>,
}

impl Which {
    /// The filter as the archive takes it.
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

/// Hex, as fingerprints are; anything else would match nothing, or too much.
fn group(text: &str) -> Result<String, String> {
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase()).ok_or_else(|| "is no group: `dlq groups` shows them".to_owned())
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
