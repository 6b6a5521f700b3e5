//! `dlq export`: dead letters as JSON lines, any number of them in bounded memory.

use std::fs::OpenOptions;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use super::body;
use super::filter::{Which, dead_letters_in_words};
use crate::cli::output::{Masking, json_text, note, pipe};
use crate::cli::{Exit, database, mask};
use crate::config::Config;
use crate::db::dead_letters::{self, Whole};

/// Dead letters in memory at once. A body has up to 256 KiB by default; a larger page would only use more memory.
const PAGE: i64 = 32;

#[derive(Debug, Args)]
#[command(
    after_help = "Each line is one dead letter: what `dlq list --json` shows, and with --full also its headers and its body \
(`body`, or `body_base64` if it is not UTF-8), otherwise `body_masked`. Dead letters that arrive meanwhile are not included.\n\n\
Example:\n  wechat-notifier dlq export --reason content --full --output content.jsonl"
)]
pub struct Export {
    /// Write to this new file, readable only by its owner [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    which: Which,
}

impl Export {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let filter = self.which.filter();
        let mut to = open(self.output.as_deref())?;
        let cut_off = dead_letters::newest(&db).await?;
        let (mut after, mut count) = (0, 0_u64);
        loop {
            let page = dead_letters::page(&db, &filter, after, cut_off, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.archived.id;
            for dead_letter in page {
                match writeln!(to, "{}", json_text(&self.line(dead_letter)?.to_string())) {
                    // A closed pipe (`| head`) is not an error.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Done),
                    written => written?,
                }
                count += 1;
            }
        }
        to.flush()
            .or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        note!("exported {}", dead_letters_in_words(count));
        Ok(if count == 0 { Exit::FoundNothing } else { Exit::Done })
    }

    fn line(&self, mut dead_letter: Whole) -> Result<Value> {
        mask::dead_letter(self.masking, &mut dead_letter.archived);
        let mut line = serde_json::to_value(&dead_letter.archived)?;
        if self.masking.is_off() {
            line["headers"] = dead_letter.headers;
            body::put_received(&dead_letter.body, &mut line);
        } else {
            line["body_masked"] = body::masked(&dead_letter.body, self.masking).unwrap_or_default();
        }
        Ok(line)
    }
}

/// Never overwrites a file, and readable only by its owner: dead letters contain personal data.
fn open(path: Option<&Path>) -> Result<Box<dyn Write>> {
    let Some(path) = path else { return Ok(Box::new(BufWriter::new(pipe()))) };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(Box::new(BufWriter::new(file.with_context(|| format!("cannot create {}", path.display()))?)))
}
