//! `token show|refresh`: access tokens, never in full.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::output::{Format, line, note, or_dash};
use super::{Exit, credentials, database};
use crate::config::Config;
use crate::db::registry::apps::{self, AppRow};
use crate::domain::ids::AppId;
use crate::wechat::Client;

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Show the current tokens: first characters, length and remaining lifetime
    Show(Show),
    /// Fetch a token now and give it to the running daemons
    Refresh(Refresh),
}

impl Token {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::Show(command) => command.execute(config).await,
            Self::Refresh(command) => command.execute(config).await,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier token show --app-id wx0123456789abcdef")]
pub struct Show {
    /// Only this app
    #[arg(long, value_name = "APPID")]
    app_id: Option<AppId>,
    #[command(flatten)]
    format: Format,
}

/// A token in a form that may be shown.
#[derive(Serialize)]
struct Shown {
    app_id: String,
    token: Option<String>,
    expires_in_s: Option<u64>,
    generation: i64,
    token_api: &'static str,
}

impl Show {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let rows = match &self.app_id {
            Some(app_id) => apps::one(&db, app_id).await?.into_iter().collect(),
            None => apps::all(&db).await?,
        };
        let shown: Vec<Shown> = rows.iter().map(shown).collect();
        self.format.list(&shown, ["app", "token", "expires in", "generation", "token api"], |token| {
            [
                token.app_id.clone(),
                or_dash(token.token.as_ref()),
                or_dash(token.expires_in_s.map(|seconds| format!("{seconds} s"))),
                token.generation.to_string(),
                token.token_api.to_owned(),
            ]
        })?;
        Ok(if shown.is_empty() { Exit::FoundNothing } else { Exit::Done })
    }
}

fn shown(row: &AppRow) -> Shown {
    Shown {
        app_id: row.app.app_id.to_string(),
        token: row.token.as_ref().map(|token| match &token.value {
            Ok(value) => masked(value),
            Err(_) => "sealed".to_owned(),
        }),
        expires_in_s: row.token.as_ref().map(|token| token.expires_in.as_secs()),
        generation: row.token_version,
        token_api: row.app.token_api.as_str(),
    }
}

/// Enough to compare two tokens by eye, not enough to use one.
fn masked(token: &SecretString) -> String {
    let text = token.expose_secret();
    let count = text.chars().count();
    // Of a short token six characters would be most of it.
    let head: String = text.chars().take((count / 4).min(6)).collect();
    format!("{head}… ({count} characters)")
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier token refresh --app-id wx0123456789abcdef")]
pub struct Refresh {
    /// The Mini Program's appid
    #[arg(long, value_name = "APPID")]
    app_id: AppId,
}

impl Refresh {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let Some(row) = apps::one(&db, &self.app_id).await? else {
            note!("app {} is not registered; `app add` registers it", self.app_id);
            return Ok(Exit::FoundNothing);
        };
        let client = Client::new(&config.wechat, 1)?;
        let token = credentials::renew(&db, &client, &row).await.context("cannot refresh the token")?;
        let seconds = token.expires_in.as_secs();
        line(&format!("{}: {}, expires in {seconds} s", self.app_id, masked(&token.value)))?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_whole() {
        assert_eq!(masked(&"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345".into()), "ABCDEF… (32 characters)");
        assert_eq!(masked(&"abcd".into()), "a… (4 characters)");
        assert_eq!(masked(&"".into()), "… (0 characters)");
    }
}
