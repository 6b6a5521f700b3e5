//! `app pause|resume`: pauses by an operator.

use anyhow::Result;
use clap::Args;

use crate::cli::operator::operator;
use crate::cli::output::{line, note};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::Database;
use crate::db::registry::apps;
use crate::db::registry::pauses::{self, Resumed};
use crate::db::registry::tokens;
use crate::domain::ids::{AppId, TemplateId};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wechat-notifier app pause wx0123456789abcdef --why 'wrong price in the template'\n\n\
All daemons stop sending within seconds, also after restarts, until `app resume`. Waiting deliveries are not charged; past \
their expiry they are skipped as expired."
)]
pub struct Pause {
    #[command(flatten)]
    what: What,
    /// The reason, shown by `app list`
    #[arg(long, value_name = "TEXT")]
    why: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier app resume wx0123456789abcdef\n\n\
Ends a pause by an operator. What a daemon paused is probed at once with one delivery, and resumes if that succeeds.")]
pub struct Resume {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct What {
    /// The Mini Program's appid
    #[arg(value_name = "APPID")]
    app_id: AppId,
    /// Only this template of the app
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<TemplateId>,
}

impl What {
    fn name(&self) -> String {
        let template = self.template.as_ref().map(|id| format!("template {id} of ")).unwrap_or_default();
        format!("{template}app {}", self.app_id)
    }

    fn unknown_app(&self) -> Exit {
        note!("app {} is not registered; `app list` shows the registered apps", self.app_id);
        Exit::FoundNothing
    }
}

impl Pause {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let What { app_id, template } = &self.what;
        let db = database::open(config)?;
        if !pauses::pause(&db, app_id, template.as_ref(), &self.why, &operator()).await? {
            return Ok(self.what.unknown_app());
        }
        line(&format!("paused {}; `app resume` ends the pause", self.what.name()))?;
        Ok(Exit::Done)
    }
}

impl Resume {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let What { app_id, template } = &self.what;
        let db = database::open(config)?;
        let Resumed { by_hand, daemons } = pauses::resume(&db, app_id, template.as_ref()).await?;
        // An app without a token is not probed: it needs one first.
        tokens::announce(&db, app_id).await?;
        if !by_hand && daemons == 0 {
            return self.nothing_to_resume(&db).await;
        }
        let lifted = by_hand.then(|| format!("ended the pause of {}", self.what.name()));
        let tried = (daemons > 0).then(|| format!("{daemons} daemons probe {} at once", self.what.name()));
        line(&lifted.into_iter().chain(tried).collect::<Vec<_>>().join("; "))?;
        Ok(Exit::Done)
    }

    async fn nothing_to_resume(&self, db: &Database) -> Result<Exit> {
        if !apps::list(db).await?.iter().any(|app| app.app_id == self.what.app_id.as_str()) {
            return Ok(self.what.unknown_app());
        }
        note!("{} is not paused; `app list` shows pauses", self.what.name());
        Ok(Exit::FoundNothing)
    }
}
