//! A terminal: runs the binary and keeps what it said.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use wechat_notifier::db::migrate;

use crate::scratch::Scratch;

/// One operator's terminal, pointed at one schema.
pub struct Terminal {
    pub scratch: Scratch,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Terminal {
    /// A terminal at an empty, migrated schema.
    pub async fn new() -> Self {
        let scratch = Scratch::new().await;
        migrate::apply(&scratch.database()).await.unwrap();
        Self { scratch }
    }

    /// Runs a command line; words are split at blanks.
    pub fn run(&self, line: &str) -> Said {
        self.run_with(line, "")
    }

    /// As [`Self::run`], with something on standard input.
    pub fn run_with(&self, line: &str, input: &str) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wechat-notifier"))
            .args(line.split_whitespace())
            .env("DATABASE_URL", self.scratch.url())
            .env_remove("WECHAT_NOTIFIER_APP_SECRET")
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "`{line}` said: {said:?}");
        said.stdout
    }

    /// Runs a listing that must succeed with `--json`.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap()
    }
}
