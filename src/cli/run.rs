//! `run`: the daemon.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::config::Config;

/// Starts the pipeline and runs it until it is told to stop.
pub async fn run(_config: Config) -> Result<ExitCode> {
    bail!("the pipeline is not part of this build yet")
}
