//! `app add|list|set|pause|resume|seal`: mini programs that messages are sent through.

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
    /// Register a mini program
    Add(Add),
    /// List the registered ones
    List(list::List),
    /// Change one; what is not given stays as it is. A running daemon notices within seconds
    Set(Set),
    /// Stop sending for one, or for one of its templates, until somebody resumes it
    Pause(pause::Pause),
    /// Go on with what was paused by hand, and try at once what was paused by itself
    Resume(pause::Resume),
    /// Seal secrets and tokens that still stand plain in the database, with the configured master key
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
    /// Switch the app on: its deliveries are sent
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Switch the app off: its deliveries are skipped as app_disabled
    #[arg(long)]
    disable: bool,
}

#[derive(Debug, Args)]
struct Settings {
    /// The mini program's appid
    #[arg(long, value_name = "APPID")]
    app_id: AppId,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// The only company that may use it; without one any may ("" lifts the restriction)
    #[arg(long, value_name = "COMPANY_NO", value_parser = company)]
    company: Option<String>,
    #[command(flatten)]
    secret: SecretSource,
    /// Which endpoint its access token comes from: stable (the usual one), or classic, where whoever fetches a token
    /// invalidates everybody else's
    #[arg(long, value_name = "API", value_parser = [TokenApi::Stable.as_str(), TokenApi::Classic.as_str()])]
    token_api: Option<String>,
    /// Requests a second at most, over all daemons (0 lifts the limit)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    rate_per_second: Option<i32>,
    /// Requests a day at most, over all daemons; days begin at midnight in Beijing (0 lifts the limit)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    daily_quota: Option<i64>,
    /// The build that a tap opens, where the event does not say
    #[arg(long, value_name = "STATE", value_parser = ["formal", "trial", "developer"])]
    miniprogram_state: Option<String>,
    /// The language of the message's frame, where the event does not say
    #[arg(long, value_parser = ["zh_CN", "en_US", "zh_HK", "zh_TW"])]
    lang: Option<String>,
}

/// An empty text is no company, but a wish: any company.
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
            format!("an app needs its secret: --secret-file, --secret-stdin or {}", secret::VARIABLE)
        })?;
        let db = database(config)?;
        if !apps::add(&db, &app_id, &new).await? {
            bail!("app {app_id} is registered already; `app set` changes it");
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
        let db = database(config)?;
        if !apps::set(&db, &app_id, &changes).await? {
            note!("no app {app_id} is registered; `app add` registers it");
            return Ok(Exit::FoundNothing);
        }
        tokens::announce(&db, &app_id).await?;
        line(&format!("changed app {app_id}"))?;
        Ok(Exit::Done)
    }
}
