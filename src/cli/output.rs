//! What commands print: tables for people, JSON for programs.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::ids::Openid;

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Format {
    /// Prints the rows: one JSON array, or a table.
    pub fn list<T: Serialize, const N: usize>(
        self,
        rows: &[T],
        header: [&str; N],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<()> {
        if self.json {
            return json(&rows);
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
        table.add_rows(rows.iter().map(cells));
        line(&table.to_string())
    }

    /// Is the reader a program? Then nothing else may stand on standard output.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints one thing: a JSON object, or whatever `text` makes of it.
    pub fn one<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json { json(value) } else { line(&text(value)) }
    }
}

fn json<T: Serialize>(value: &T) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints a line. A reader who has seen enough (`| head`) is no fault of ours.
pub fn line(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// Prints lines that end with their own newline.
pub fn text(lines: &str) -> Result<()> {
    line(lines.trim_end_matches('\n'))
}

/// A cell for something that may be missing.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A list in a cell.
pub fn joined(values: &[String]) -> String {
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}

/// To the second, in UTC: what a person compares with a log.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Whether openids are shown whole.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Masking {
    /// Show openids whole (they are personal data; masked without it)
    #[arg(long)]
    full: bool,
}

impl Masking {
    /// The openid, whole or as its first six characters.
    pub fn openid(self, text: &str) -> String {
        match Openid::parse(text) {
            Ok(openid) if !self.full => openid.to_string(),
            _ => text.to_owned(),
        }
    }

    /// A ledger key: the openid as in [`Self::openid`]; `@` and a business user stay as they are.
    pub fn recipient(self, text: &str) -> String {
        if text.starts_with('@') { text.to_owned() } else { self.openid(text) }
    }

    /// Are openids, and bodies that may hold them, to be shown whole?
    pub fn is_off(self) -> bool {
        self.full
    }
}
