//! The command line: one file a command. The only place that sees every module.

mod app;
mod check;
mod confirm;
mod credentials;
mod deliveries;
mod dlq;
mod exit;
mod fault;
mod migrate;
mod operator;
mod output;
mod pauses;
mod publish;
mod rule;
mod run;
mod span;
mod token;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

pub use exit::Exit;
pub use fault::tell;

use crate::config::{self, Config};
use crate::db::{Database, Planning};
use crate::sealing::Sealer;

/// Turns business events from RabbitMQ into WeChat subscribe messages.
#[derive(Debug, Parser)]
#[command(name = "wechat-notifier", version, propagate_version = true, after_help = exit::HELP)]
pub struct Cli {
    /// Configuration file [default: wechat-notifier.toml, if present]
    #[arg(long, global = true, value_name = "FILE", env = "WECHAT_NOTIFIER_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run,
    /// Bring the database's tables to what this release expects
    Migrate(migrate::Migrate),
    /// Try every dependency and every app's credentials
    Check(check::Check),
    /// Mini programs that messages are sent through
    #[command(subcommand)]
    App(app::App),
    /// Rules: who hears of a template
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Recipients: WeChat users bound to business users, and what they consented to
    #[command(subcommand)]
    User(user::User),
    /// Publish an event
    Publish(publish::Publish),
    /// What became of events, from the ledger
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    /// Dead letters: what was given up
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Access tokens
    #[command(subcommand)]
    Token(token::Token),
}

impl Cli {
    /// What this process was called with; prints help or a usage error, and ends, where that is the answer.
    pub fn from_arguments() -> Self {
        Self::try_parse().unwrap_or_else(|answer| {
            if !answer.use_stderr() {
                answer.exit();
            }
            // A usage error quotes its argument, which a script may have from anywhere.
            output::aside(output::Text::laid_out(answer.render().to_string().trim_end()));
            std::process::exit(answer.exit_code())
        })
    }
}

/// Does what the command line asks for. An error is a fault worth telling; "found nothing" is not one.
pub async fn execute(cli: Cli) -> Result<ExitCode> {
    let config = Config::load(cli.config.as_deref(), config::environment())?;
    let exit = match cli.command {
        Command::Run => return run::run(config).await,
        Command::Migrate(command) => command.execute(&config).await,
        Command::Check(command) => command.execute(&config).await,
        Command::App(command) => command.execute(&config).await,
        Command::Rule(command) => command.execute(&config).await,
        Command::User(command) => command.execute(&config).await,
        Command::Publish(command) => command.execute(&config).await,
        Command::Deliveries(command) => command.execute(&config).await,
        Command::Dlq(command) => command.execute(&config).await,
        Command::Token(command) => command.execute(&config).await,
    }?;
    Ok(exit.into())
}

/// The database of the configuration, with its master key, as commands use it. Connects on first use.
fn database(config: &Config) -> Result<Database> {
    database_with(config, Planning::ByValues)
}

/// The same, as the daemon uses it too.
fn database_with(config: &Config, planning: Planning) -> Result<Database> {
    let sealer = Sealer::from_file(config.security.master_key_file.as_deref())?;
    let database = Database::new(&config.database, planning).context("cannot use the configured database")?;
    Ok(database.sealed_by(sealer))
}
