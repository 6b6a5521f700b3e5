//! `app list`: the registered apps, and which of them are paused.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::cli::output::{Format, Text, or_dash, time};
use crate::cli::pauses::{distinct, in_short};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::registry::apps;
use crate::db::registry::pauses::{self, Found};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier app list --json")]
pub struct List {
    #[command(flatten)]
    format: Format,
}

/// An app, and its pauses in force.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    app: apps::AppListing,
    pauses: Vec<Found>,
}

impl List {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let mut pauses = pauses::by_app(&db).await?;
        let listed =
            |app: apps::AppListing| Listed { pauses: pauses.remove(&app.app_id).unwrap_or_default(), app };
        let apps: Vec<Listed> = apps::list(&db).await?.into_iter().map(listed).collect();
        let header = [
            "app",
            "name",
            "company",
            "state",
            "paused",
            "secret",
            "token api",
            "rate/s",
            "used/quota today",
            "changed",
        ];
        self.format.list(&apps, header, |Listed { app, pauses }| {
            let secret = match (app.has_secret, app.secret_sealed) {
                (false, _) => "MISSING",
                (true, true) => "sealed",
                (true, false) => "plaintext",
            };
            [
                app.app_id.clone().into(),
                or_dash(app.app_name.as_ref()).into(),
                app.company_no.clone().unwrap_or_else(|| "any".to_owned()).into(),
                (if app.active { "on" } else { "off" }).to_owned().into(),
                Text::from(paused(pauses)),
                secret.to_owned().into(),
                app.token_api.clone().into(),
                or_dash(app.rate_per_second).into(),
                used_of_quota(app).into(),
                or_dash(app.update_time.map(time)).into(),
            ]
        })?;
        Ok(Exit::Done)
    }
}

fn paused(pauses: &[Found]) -> Vec<String> {
    if pauses.is_empty() {
        return vec!["-".to_owned()];
    }
    distinct(pauses).into_iter().map(in_short).collect()
}

fn used_of_quota(app: &apps::AppListing) -> String {
    app.daily_quota
        .map_or_else(|| "-".to_owned(), |quota| format!("{}/{quota}", app.quota_used.unwrap_or_default()))
}
