//! What can be wrong with a configuration; each text says where, what, and how to fix it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named cannot be read.
    #[error("cannot read {what} {path}: {source}", path = path.display())]
    Unreadable { what: &'static str, path: PathBuf, source: std::io::Error },
    /// Another user controls the content of the file.
    #[error("the configuration file {path} {distrust}", path = path.display())]
    Distrusted { path: PathBuf, distrust: Distrust },
    /// The text is not TOML. Quotes nothing of the file, which may hold a password.
    #[error("{set_by} is not TOML: {problem}")]
    Syntax { set_by: SetBy, problem: String },
    /// An unknown key: most likely a typing error, so it must not be ignored.
    #[error("unknown key `{key}` in {set_by}; {advice}")]
    UnknownKey { key: String, set_by: SetBy, advice: Advice },
    /// An unknown variable with our prefix.
    #[error("unknown environment variable {name}; {advice}")]
    UnknownVariable { name: String, advice: Advice },
    /// A value of the wrong kind or out of range.
    #[error("`{key}` in {set_by} {problem}")]
    Value { key: String, set_by: SetBy, problem: String },
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetBy {
    /// The shipped example file.
    Default,
    /// A line of the configuration file.
    File { path: Arc<PathBuf>, line: usize },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the built-in defaults"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// What to do about an unknown name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Something that exists looks like it.
    DidYouMean(String),
    /// Nothing does.
    ReadTheList,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DidYouMean(name) => write!(f, "did you mean `{name}`?"),
            Self::ReadTheList => f.write_str("docs/CONFIGURATION.md lists all of them"),
        }
    }
}

/// Why a configuration file is refused; reads on after the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// Another user owns it.
    Owner { owner: u32, me: u32 },
    /// Another user made the symbolic link to it.
    Link { owner: u32, me: u32 },
    /// Others can write it.
    Writable { mode: u32 },
    /// Others can replace it.
    Folder { folder: PathBuf, mode: u32 },
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { owner, me } => write!(
                f,
                "is owned by user {owner}, and this process runs as user {me}: the owner could send app secrets \
                 anywhere; if the content is yours, run `chown {me}` on it"
            ),
            Self::Link { owner, me } => write!(
                f,
                "is a symbolic link of user {owner}, and this process runs as user {me}: pass the file itself with \
                 --config"
            ),
            Self::Writable { mode } => write!(
                f,
                "can be written by others (mode {mode:04o}): they could send app secrets anywhere; check its content, \
                 then run `chmod go-w` on it"
            ),
            Self::Folder { folder, mode } => write!(
                f,
                "is in {} (mode {mode:04o}), where everybody can replace it; run `chmod o-w` on the folder, or \
                 keep the file elsewhere",
                folder.display()
            ),
        }
    }
}
