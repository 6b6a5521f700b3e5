//! The way of one event, as `docs/ARCHITECTURE.md` tells it step by step: each file is there and has its function, and the way is
//! short enough to be walked.

use std::collections::BTreeSet;

use super::functions::functions;
use super::source::{Source, TextFile};

const DOCUMENT: &str = "docs/ARCHITECTURE.md";
const HEADING: &str = "\n## The way of an event\n";
/// More, and nobody reads the way from end to end.
const MAX_FILES: usize = 15;

/// A row of the table: where a step is.
struct Step<'a> {
    line: usize,
    file: &'a str,
    function: &'a str,
}

pub fn lost_steps(files: &[TextFile], sources: &[Source]) -> Vec<String> {
    let document = files.iter().find(|file| file.path == DOCUMENT).map_or("", |file| &file.text);
    let Some(begin) = document.find(HEADING).map(|at| at + HEADING.len()) else {
        return vec![format!("{DOCUMENT}: no heading `{}`", HEADING.trim())];
    };
    let section = document[begin..].split("\n## ").next().unwrap_or_default();
    let first_line = document[..begin].lines().count() + 1;
    let mut findings = Vec::new();
    let mut steps = Vec::new();
    for (line, row) in (first_line..).zip(section.lines()).filter(|(_, row)| is_step(row)) {
        match step(line, row) {
            Some(step) => steps.push(step),
            None => findings.push(format!("{DOCUMENT}:{line}: not `| step | `file`: `function` | … |`")),
        }
    }
    findings.extend(steps.iter().filter_map(|step| problem(step, sources)));
    let count = steps.iter().map(|step| step.file).collect::<BTreeSet<_>>().len();
    if steps.is_empty() || count > MAX_FILES {
        findings.push(format!("{DOCUMENT}: the way leads through {count} files; {MAX_FILES} at most"));
    }
    findings
}

fn is_step(row: &str) -> bool {
    row.strip_prefix("| ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `| 3 | `src/a.rs`: `function` | what it does |`
fn step(line: usize, row: &str) -> Option<Step<'_>> {
    let place = row.split('|').nth(2)?.trim();
    let (file, function) = place.strip_prefix('`')?.strip_suffix('`')?.split_once("`: `")?;
    Some(Step { line, file, function })
}

fn problem(step: &Step<'_>, sources: &[Source]) -> Option<String> {
    let Step { line, file, function } = step;
    match sources.iter().find(|source| source.path == *file) {
        None => Some(format!("{DOCUMENT}:{line}: there is no {file}")),
        Some(source) if !has(source, function) => {
            Some(format!("{DOCUMENT}:{line}: {file} has no function `{function}`"))
        }
        Some(_) => None,
    }
}

/// Has the file this function, outside of its tests?
fn has(source: &Source, name: &str) -> bool {
    functions(&source.text).is_ok_and(|found| found.iter().any(|it| !it.in_tests && it.name == name))
}
