//! Where an app's secret comes from. Never an argument: those are visible in the process list and the shell's history.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use secrecy::SecretString;

/// The environment variable that may hold it.
pub const VARIABLE: &str = "WECHAT_NOTIFIER_APP_SECRET";

/// WeChat's secrets have 32 characters; a file this large is the wrong file.
const MAX_BYTES: u64 = 4096;

#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct SecretSource {
    /// Read the app's secret from a file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Read the app's secret from standard input
    #[arg(long)]
    secret_stdin: bool,
}

impl SecretSource {
    /// The secret, or `None` where none is given. Surrounding white space (an editor's last line break) is removed.
    pub fn read(&self) -> Result<Option<SecretString>> {
        let text = if let Some(path) = &self.secret_file {
            let shown = || format!("cannot read the secret from {}", path.display());
            Some(read_bounded(std::fs::File::open(path).with_context(shown)?).with_context(shown)?)
        } else if self.secret_stdin {
            Some(read_bounded(std::io::stdin()).context("cannot read the secret from standard input")?)
        } else {
            std::env::var(VARIABLE).ok()
        };
        text.map(|text| checked(text.trim())).transpose()
    }
}

fn read_bounded(source: impl Read) -> Result<String> {
    let mut text = String::new();
    source.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn checked(text: &str) -> Result<SecretString> {
    ensure!(!text.is_empty(), "the secret is empty");
    ensure!(!text.contains(char::is_whitespace), "the secret contains white space: is it the right file?");
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_one_word() {
        assert_eq!(checked("0123abc").unwrap().expose_secret(), "0123abc");
        assert!(checked("").is_err());
        assert!(checked("two words").is_err());
    }
}
