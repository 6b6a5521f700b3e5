//! `app seal`: encrypts secrets that were stored before there was a master key.

use anyhow::{Result, ensure};
use clap::Args;

use crate::cli::output::line;
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::registry::sealing;
use crate::domain::ids::AppId;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier app seal --all\n\n\
Give every daemon the master key first: a daemon without it cannot read sealed values and pauses their apps.")]
pub struct Seal {
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Only of this app
    #[arg(long, value_name = "APPID")]
    app_id: Option<AppId>,
    /// Of every app
    #[arg(long)]
    all: bool,
}

impl Seal {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        ensure!(
            db.sealer().has_key(),
            "security.master_key_file is not set: `openssl rand -hex 32 > master.key` makes a key"
        );
        let sealed = sealing::seal(&db, self.whose.app_id.as_ref()).await?;
        line(&format!("sealed {sealed} secrets"))?;
        Ok(Exit::Done)
    }
}
