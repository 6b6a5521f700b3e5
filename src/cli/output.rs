//! What commands print: tables for people, JSON for programs. Apart from the log nothing else writes to a terminal (a test
//! checks it), and nothing printed here can control one: see [`crate::domain::visible`].

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::ids::Openid;
use crate::domain::recipient;
use crate::domain::visible::{visible, visible_json};

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Format {
    /// Prints the rows: one JSON array, or a table.
    pub fn list<T: Serialize, C: Into<Text>, const N: usize>(
        self,
        rows: &[T],
        header: [&str; N],
        cells: impl Fn(&T) -> [C; N],
    ) -> Result<()> {
        if self.json {
            return json(&rows);
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
        table.add_rows(rows.iter().map(|row| cells(row).map(|cell| cell.into().shown())));
        print(&table.to_string())
    }

    /// Is the reader a program? Then nothing else may be written to standard output.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints one value: as JSON, or as `text` formats it.
    pub fn one<T: Serialize, W: Into<Text>>(self, value: &T, text: impl FnOnce(&T) -> W) -> Result<()> {
        if self.json { json(value) } else { print(&text(value).into().shown()) }
    }
}

/// Lines of text. A single string is one line, whatever it contains: a line break in it is shown as `\n`, so that no value can
/// forge a line.
#[derive(Debug, Default)]
pub struct Text(Vec<String>);

impl Text {
    /// The lines of text that was formatted by us, such as indented JSON.
    pub fn laid_out(text: &str) -> Vec<String> {
        text.split('\n').map(str::to_owned).collect()
    }

    fn shown(&self) -> String {
        self.0.iter().map(|line| visible(line)).collect::<Vec<_>>().join("\n")
    }
}

impl From<String> for Text {
    fn from(line: String) -> Self {
        Self(vec![line])
    }
}

impl From<Vec<String>> for Text {
    fn from(lines: Vec<String>) -> Self {
        Self(lines)
    }
}

fn json<T: Serialize>(value: &T) -> Result<()> {
    print(&json_text(&serde_json::to_string_pretty(value)?))
}

/// Equivalent JSON that is safe to print on a terminal.
pub fn json_text(json: &str) -> String {
    visible_json(json).into_owned()
}

/// Prints one line.
pub fn line(text: &str) -> Result<()> {
    print(&visible(text))
}

/// Prints lines.
pub fn lines(text: Vec<String>) -> Result<()> {
    print(&Text(text).shown())
}

/// A closed pipe (`| head`) is not an error.
fn print(shown: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{shown}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// Standard output for a program that reads lines of [`json_text`].
pub fn pipe() -> impl Write {
    std::io::stdout()
}

/// Prints to standard error, beside the result; for a single line see [`note!`].
pub fn aside(text: impl Into<Text>) {
    // If stderr is closed, the exit code still shows it.
    let _ = writeln!(std::io::stderr().lock(), "{}", text.into().shown());
}

/// `note!("no app {id}")`: a line on standard error.
macro_rules! note {
    ($($words:tt)*) => { $crate::cli::output::aside(format!($($words)*)) };
}
pub(crate) use note;

/// Overwrites the current line on standard error, or leaves the cursor behind a question; see [`is_watched`].
pub fn unfinished_line(start: &'static str, text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{start}{}", visible(text)).and_then(|()| stderr.flush());
}

/// Is standard error a terminal?
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// A table cell for a value that may be missing.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A list in a cell.
pub fn joined(values: &[String]) -> String {
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}

/// To the second, in UTC, as in the log.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Whether openids are shown in full.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Masking {
    /// Show openids in full (personal data; masked by default)
    #[arg(long)]
    full: bool,
}

impl Masking {
    /// The openid, in full or its first six characters.
    pub fn openid(self, text: &str) -> String {
        match Openid::parse(text) {
            Ok(openid) if !self.full => openid.to_string(),
            _ => text.to_owned(),
        }
    }

    /// A ledger key: the openid as in [`Self::openid`]; `@` and a business user stay as they are.
    pub fn recipient(self, text: &str) -> String {
        if self.full { text.to_owned() } else { recipient::masked(text) }
    }

    /// Are openids, and bodies that may contain them, shown in full?
    pub fn is_off(self) -> bool {
        self.full
    }
}
