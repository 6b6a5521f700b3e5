//! Asks for confirmation before something that cannot be undone.

use std::io::{BufRead, IsTerminal};

use anyhow::{Result, bail};

use crate::cli::output::unfinished_line;
use clap::Args;

/// The option that answers the question in advance.
#[derive(Debug, Clone, Copy, Args)]
pub struct Confirming {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl Confirming {
    /// Asks on the terminal; only `y` or `yes` is a yes. Question and answer stay off standard output.
    ///
    /// # Errors
    /// Without a terminal nobody can be asked: then `--yes` is needed.
    pub fn confirm(self, question: &str) -> Result<bool> {
        if self.yes {
            return Ok(true);
        }
        let input = std::io::stdin();
        if !input.is_terminal() {
            bail!("{question} There is no terminal to ask on; pass --yes to confirm");
        }
        unfinished_line("", &format!("{question} [y/N] "));
        let mut answer = String::new();
        input.lock().read_line(&mut answer)?;
        Ok(is_yes(&answer))
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_yes_is_a_no() {
        assert!(is_yes("y\n") && is_yes("YES\n"));
        assert!(!is_yes("\n") && !is_yes("yep\n") && !is_yes("n\n"));
    }
}
