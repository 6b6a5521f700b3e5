//! `rule add|list|remove`: which users are notified of which events.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::output::{Format, Masking, joined, line, note, or_dash, time};
use super::{Exit, database};
use crate::config::Config;
use crate::db::registry::rules::{self, NewRule, Page, RuleFilter};
use crate::domain::ids::{AppId, CompanyNo, CustomerId, Openid, SysUserId, TemplateId};

#[derive(Debug, Subcommand)]
pub enum Rule {
    /// Add a rule
    Add(Add),
    /// List rules
    List(List),
    /// Remove a rule
    Remove(Remove),
}

impl Rule {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::Add(command) => command.execute(config).await,
            Self::List(command) => command.execute(config).await,
            Self::Remove(command) => command.execute(config).await,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wechat-notifier rule add --company C001 --app-id wx0123456789abcdef --template-id TEMPLATE --sys-users zhangsan,lisi"
)]
#[command(group(clap::ArgGroup::new("people").required(true).multiple(true)))]
pub struct Add {
    /// The company of the events
    #[arg(long, value_name = "COMPANY_NO")]
    company: CompanyNo,
    /// The app that is sent from
    #[arg(long, value_name = "APPID")]
    app_id: AppId,
    /// The template of the events
    #[arg(long, value_name = "TEMPLATE")]
    template_id: TemplateId,
    /// Only events of this customer [default: of all customers]
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Option<CustomerId>,
    /// Business users (sent to the WeChat users bound to them)
    #[arg(long, alias = "sys-user", value_name = "USERS", value_delimiter = ',', group = "people")]
    sys_users: Vec<SysUserId>,
    /// WeChat users
    #[arg(long, alias = "openid", value_name = "OPENIDS", value_delimiter = ',', group = "people")]
    openids: Vec<Openid>,
}

impl Add {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let rule = NewRule {
            company_no: self.company,
            app_id: self.app_id,
            template_id: self.template_id,
            customer_id: self.customer,
            sys_user_ids: self.sys_users,
            openids: self.openids,
        };
        let id = rules::add(&database::open(config)?, &rule).await?;
        line(&format!("added rule {id}"))?;
        Ok(Exit::Done)
    }
}

/// A few megabytes, with the table around them.
const PEOPLE_A_PAGE: i64 = 20_000;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier rule list --company C001 --user zhangsan")]
pub struct List {
    /// Only of this company
    #[arg(long, value_name = "COMPANY_NO")]
    company: Option<String>,
    /// Only of this app
    #[arg(long, value_name = "APPID")]
    app_id: Option<String>,
    /// Only of this template
    #[arg(long, value_name = "TEMPLATE")]
    template_id: Option<String>,
    /// Only rules that name this business user or openid
    #[arg(long)]
    user: Option<String>,
    /// Maximum number of rules
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Show the next page: rules after this one, the last of the previous page
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

impl List {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let filter = RuleFilter {
            company_no: self.company,
            app_id: self.app_id,
            template_id: self.template_id,
            user: self.user,
            after: self.after,
            limit: self.limit,
            people: PEOPLE_A_PAGE,
        };
        let Page { mut rules, is_full } = rules::list(&database::open(config)?, &filter).await?;
        for openid in rules.iter_mut().flat_map(|rule| &mut rule.openids) {
            *openid = self.masking.openid(openid);
        }
        let header =
            ["id", "company", "app", "template", "customer", "business users", "openids", "state", "changed"];
        self.format.list(&rules, header, |rule| {
            [
                rule.id.to_string(),
                rule.company_no.clone(),
                rule.app_id.clone(),
                rule.template_id.clone(),
                or_dash(rule.customer_id.as_ref()),
                joined(&rule.sys_user_ids),
                joined(&rule.openids),
                (if rule.active { "on" } else { "off" }).to_owned(),
                or_dash(rule.update_time.map(time)),
            ]
        })?;
        if let Some(last) = rules.last().filter(|_| is_full) {
            note!("there may be more: use --after {} for the next page", last.id);
        }
        Ok(Exit::Done)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier rule remove 17")]
pub struct Remove {
    /// The id that `rule list` shows
    id: i64,
}

impl Remove {
    async fn execute(self, config: &Config) -> Result<Exit> {
        if !rules::remove(&database::open(config)?, self.id).await? {
            note!("rule {} does not exist", self.id);
            return Ok(Exit::FoundNothing);
        }
        line(&format!("removed rule {}", self.id))?;
        Ok(Exit::Done)
    }
}
