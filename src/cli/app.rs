//! `app add|list|set|pause|resume|seal`: the Mini Programs that messages are sent from.

mod list;
mod pause;
mod seal;
mod secret;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::secret::SecretSource;
use super::output::{line, note};
use super::{Exit, database};
use crate::config::Config;
use crate::db::registry::apps::{self, AppChanges};
use crate::db::registry::tokens;
use crate::domain::app::TokenApi;
use crate::domain::ids::{AppId, CompanyNo};

#[derive(Debug, Subcommand)]
pub enum App {
    /// Register an app
    Add(Add),
    /// List apps
    List(list::List),
    /// Change an app; omitted options keep their value. Takes effect within seconds
    Set(Set),
    /// Stop sending for an app, or for one of its templates, until `app resume`
    Pause(pause::Pause),
    /// Resume an app or template that an operator paused; probe at once one that a daemon paused
    Resume(pause::Resume),
    /// Encrypt secrets and tokens that are stored in plaintext, with the configured master key
    Seal(seal::Seal),
}

impl App {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::Add(command) => command.execute(config).await,
            Self::List(command) => command.execute(config).await,
            Self::Set(command) => command.execute(config).await,
            Self::Pause(command) => command.execute(config).await,
            Self::Resume(command) => command.execute(config).await,
            Self::Seal(command) => command.execute(config).await,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wechat-notifier app add --app-id wx0123456789abcdef --name Shop --secret-file shop.secret"
)]
pub struct Add {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  printf %s \"$SECRET\" | wechat-notifier app set --app-id wx0123456789abcdef --secret-stdin"
)]
pub struct Set {
    #[command(flatten)]
    settings: Settings,
    /// Enable the app: its deliveries are sent
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Disable the app: its deliveries are skipped as app_disabled
    #[arg(long)]
    disable: bool,
}

#[derive(Debug, Args)]
struct Settings {
    /// The Mini Program's appid
    #[arg(long, value_name = "APPID")]
    app_id: AppId,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// The only company that may use the app; by default any company may ("" removes the restriction)
    #[arg(long, value_name = "COMPANY_NO", value_parser = company)]
    company: Option<String>,
    #[command(flatten)]
    secret: SecretSource,
    /// The endpoint for access tokens: stable (default), or classic, where each fetch invalidates the tokens of other
    /// systems
    #[arg(long, value_name = "API", value_parser = [TokenApi::Stable.as_str(), TokenApi::Classic.as_str()])]
    token_api: Option<String>,
    /// Maximum requests per second, over all daemons (0 removes the limit)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    rate_per_second: Option<i32>,
    /// Maximum requests per day, over all daemons; days begin at midnight in Beijing (0 removes the limit)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    daily_quota: Option<i64>,
    /// Default version of the Mini Program that a tap on the message opens
    #[arg(long, value_name = "STATE", value_parser = ["formal", "trial", "developer"])]
    miniprogram_state: Option<String>,
    /// The language of the message card, if the event does not say
    #[arg(long, value_parser = ["zh_CN", "en_US", "zh_HK", "zh_TW"])]
    lang: Option<String>,
}

/// An empty string means any company.
fn company(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    CompanyNo::parse(text).map(|company| company.to_string()).map_err(|error| error.to_string())
}

impl Settings {
    fn into_changes(self, active: Option<bool>) -> Result<AppChanges> {
        Ok(AppChanges {
            app_name: self.name,
            app_secret: self.secret.read()?,
            company_no: self.company,
            token_api: self.token_api,
            miniprogram_state: self.miniprogram_state,
            lang: self.lang,
            rate_per_second: self.rate_per_second,
            daily_quota: self.daily_quota,
            active,
        })
    }
}

impl Add {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let app_id = self.settings.app_id.clone();
        let new = self.settings.into_changes(None)?;
        new.app_secret.as_ref().with_context(|| {
            format!("the app secret is missing: use --secret-file, --secret-stdin or {}", secret::VARIABLE)
        })?;
        let db = database::open(config)?;
        if !apps::add(&db, &app_id, &new).await? {
            bail!("app {app_id} is already registered; `app set` changes it");
        }
        tokens::announce(&db, &app_id).await?;
        line(&format!("registered app {app_id}"))?;
        Ok(Exit::Done)
    }
}

impl Set {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let active = (self.enable || self.disable).then_some(self.enable);
        let app_id = self.settings.app_id.clone();
        let changes = self.settings.into_changes(active)?;
        let db = database::open(config)?;
        if !apps::set(&db, &app_id, &changes).await? {
            note!("app {app_id} is not registered; `app add` registers it");
            return Ok(Exit::FoundNothing);
        }
        tokens::announce(&db, &app_id).await?;
        line(&format!("changed app {app_id}"))?;
        Ok(Exit::Done)
    }
}
