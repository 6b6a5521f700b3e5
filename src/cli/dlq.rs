//! `dlq …`: the archive of dead letters.

mod advice;
mod body;
mod export;
mod filter;
mod groups;
mod history;
mod list;
mod purge;
mod replay;
mod resolve;
mod show;

use anyhow::Result;
use clap::Subcommand;

use super::Exit;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// Group dead letters by cause, with what to do about each group
    Groups(Box<groups::Groups>),
    /// List dead letters, newest first
    List(Box<list::List>),
    /// Show everything about one dead letter
    Show(show::Show),
    /// Write dead letters as JSON lines to a file or to standard output, oldest first
    Export(Box<export::Export>),
    /// Close dead letters that need no further action
    Resolve(Box<resolve::Resolve>),
    /// Permanently delete bodies and headers of old dead letters
    Purge(Box<purge::Purge>),
    /// Send dead letters again
    Replay(Box<replay::Replay>),
    /// Show who replayed or closed what, when, why, and with which outcome
    History(history::History),
}

impl Dlq {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::Groups(command) => command.execute(config).await,
            Self::List(command) => command.execute(config).await,
            Self::Show(command) => command.execute(config).await,
            Self::Export(command) => command.execute(config).await,
            Self::Resolve(command) => command.execute(config).await,
            Self::Purge(command) => command.execute(config).await,
            Self::Replay(command) => command.execute(config).await,
            Self::History(command) => command.execute(config).await,
        }
    }
}
