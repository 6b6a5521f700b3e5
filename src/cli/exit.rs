//! Exit codes, which scripts rely on.

use std::process::ExitCode;

/// Shown below the help of the whole program.
pub const HELP: &str = "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, \
3 nothing found or nothing to do, or not healthy (check, migrate --status).";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Done,
    /// 1: failed; trying again may help.
    Failed,
    /// 2: wrong usage; trying again cannot help. (clap uses it too.)
    Usage,
    /// 3: nothing was found.
    FoundNothing,
    /// 3, for `check`: at least one dependency does not work.
    NotHealthy,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::FoundNothing | Exit::NotHealthy => Self::from(3),
        }
    }
}
