//! `user bind|show`: WeChat users, the business users they are bound to, and their consents.

use std::str::FromStr;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::output::{Format, Masking, Text, line, or_dash, time};
use super::{Exit, database};
use crate::config::Config;
use crate::db::registry::users::{self, Binding, NewConsent};
use crate::domain::ids::{AppId, Openid, SysUserId, TemplateId};

#[derive(Debug, Subcommand)]
pub enum User {
    /// Bind a WeChat user to a business user and record consents; omitted options keep their value
    Bind(Bind),
    /// Show a user's bindings and consents
    Show(Show),
}

impl User {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::Bind(command) => command.execute(config).await,
            Self::Show(command) => command.execute(config).await,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wechat-notifier user bind --app-id wx0123456789abcdef --openid oABC --sys-user zhangsan --accept TEMPLATE:2"
)]
pub struct Bind {
    /// The Mini Program's appid
    #[arg(long, value_name = "APPID")]
    app_id: AppId,
    /// The WeChat user's openid in that app
    #[arg(long)]
    openid: Openid,
    /// The business user to bind to
    #[arg(long, value_name = "USER")]
    sys_user: Option<SysUserId>,
    /// Display name
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// The user accepts a template: for N sends (one-time template), or uncounted (long-term)
    #[arg(long, value_name = "TEMPLATE[:N]")]
    accept: Vec<Accepted>,
    /// The user refuses a template
    #[arg(long, value_name = "TEMPLATE")]
    reject: Vec<TemplateId>,
}

/// `TEMPLATE[:N]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Accepted {
    template_id: TemplateId,
    remaining: Option<i64>,
}

impl FromStr for Accepted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (template, count) =
            text.rsplit_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let remaining = count.map(|count| count.parse::<u32>().map(i64::from)).transpose();
        Ok(Self {
            template_id: TemplateId::parse(template).map_err(|error| format!("template {error}"))?,
            remaining: remaining
                .map_err(|_| "the part after the colon must be a number of sends".to_owned())?,
        })
    }
}

impl Bind {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let binding = self.into_binding();
        let is_new = users::bind(&database::open(config)?, &binding).await?;
        let verb = if is_new { "bound" } else { "changed the binding of" };
        line(&format!("{verb} {} in app {}", binding.openid, binding.app_id))?;
        Ok(Exit::Done)
    }

    fn into_binding(self) -> Binding {
        let accepted = self.accept.into_iter().map(|accepted| NewConsent {
            template_id: accepted.template_id,
            accepts: true,
            remaining: accepted.remaining,
        });
        let rejected = self.reject.into_iter().map(|template_id| NewConsent {
            template_id,
            accepts: false,
            remaining: None,
        });
        Binding {
            consents: accepted.chain(rejected).collect(),
            app_id: self.app_id,
            openid: self.openid,
            sys_user_id: self.sys_user,
            username: self.username,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier user show zhangsan --json")]
#[command(group(clap::ArgGroup::new("who").required(true)))]
pub struct Show {
    /// A business user or an openid
    #[arg(group = "who")]
    user: Option<String>,
    /// A WeChat user's openid
    #[arg(long, group = "who")]
    openid: Option<String>,
    /// A business user
    #[arg(long, value_name = "USER", group = "who")]
    sys_user: Option<String>,
    /// Only in this app
    #[arg(long, value_name = "APPID")]
    app_id: Option<String>,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

impl Show {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let who = self.user.or(self.openid).or(self.sys_user).unwrap_or_default();
        let mut users = users::find(&database::open(config)?, self.app_id.as_deref(), &who).await?;
        for user in &mut users {
            user.openid = self.masking.openid(&user.openid);
        }
        self.format.list(
            &users,
            ["app", "openid", "business user", "name", "state", "consents", "changed"],
            |user| {
                [
                    user.app_id.clone().into(),
                    user.openid.clone().into(),
                    or_dash(user.sys_user_id.as_ref()).into(),
                    or_dash(user.username.as_ref()).into(),
                    (if user.active { "on" } else { "off" }).to_owned().into(),
                    Text::from(consents(&user.subscribe_template)),
                    or_dash(user.update_time.map(time)).into(),
                ]
            },
        )?;
        Ok(if users.is_empty() { Exit::FoundNothing } else { Exit::Done })
    }
}

/// One line per template: the user's answer and how many sends remain.
fn consents(record: &Value) -> Vec<String> {
    let one = |(template, consent): (&String, &Value)| {
        let status = consent.get("status").and_then(Value::as_str).unwrap_or("?");
        match consent.get("remaining").and_then(Value::as_i64) {
            Some(left) => format!("{template}: {status}, {left} left"),
            None => format!("{template}: {status}"),
        }
    };
    record.as_object().map(|record| record.iter().map(one).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_may_carry_a_number_of_sends() {
        let read = |text: &str| text.parse::<Accepted>();
        assert_eq!(read("T1:2").unwrap().remaining, Some(2));
        assert_eq!(
            read("T1").unwrap(),
            Accepted { template_id: TemplateId::parse("T1").unwrap(), remaining: None }
        );
        assert!(read("T1:many").is_err());
        assert!(read(":2").is_err());
    }
}
