//! The command line: one file a command. The only place that sees every module.

mod app;
mod check;
mod confirm;
mod credentials;
mod database;
mod deliveries;
mod dlq;
mod exit;
mod fault;
mod mask;
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

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use exit::Exit;
pub use fault::tell;

use crate::config::{self, Config};

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
    /// Create or update the database's tables
    Migrate(migrate::Migrate),
    /// Test every dependency and every app's credentials
    Check(check::Check),
    /// Manage the Mini Programs (apps) that messages are sent from
    #[command(subcommand)]
    App(app::App),
    /// Manage rules: which users are notified of which events
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Manage recipients: WeChat users, their business users and consents
    #[command(subcommand)]
    User(user::User),
    /// Publish an event
    Publish(publish::Publish),
    /// Show what became of events
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    /// Inspect, close and replay dead letters
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Show and refresh access tokens
    #[command(subcommand)]
    Token(token::Token),
}

impl Cli {
    /// Parses the command line. Prints help or a usage error and exits where that is the result.
    pub fn from_arguments() -> Self {
        Self::try_parse().unwrap_or_else(|answer| {
            if !answer.use_stderr() {
                answer.exit();
            }
            // A usage error quotes its argument, which can contain anything.
            output::aside(output::Text::laid_out(answer.render().to_string().trim_end()));
            std::process::exit(answer.exit_code())
        })
    }
}

/// Runs the command. "Found nothing" is an exit code, not an error.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// What has no help, by its path on the command line.
    fn unexplained(command: &clap::Command, path: &str) -> Vec<String> {
        let mut found: Vec<String> = command
            .get_arguments()
            .filter(|argument| argument.get_help().is_none_or(|help| help.to_string().is_empty()))
            .map(|argument| format!("{path} --{}", argument.get_id()))
            .collect();
        for subcommand in command.get_subcommands() {
            let path = format!("{path} {}", subcommand.get_name());
            if subcommand.get_about().is_none() {
                found.push(path.clone());
            }
            found.extend(unexplained(subcommand, &path));
        }
        found
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        let mut command = Cli::command();
        command.build();
        assert_eq!(unexplained(&command, "wechat-notifier"), [""; 0]);
    }
}
