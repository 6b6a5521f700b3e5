//! What keeps the house in order: which module may know which, who may name a third party, and how big things get.
//!
//! Each check is a function from source text to findings; `planted` shows that each of them can find something. They read
//! text, not syntax, so they cost milliseconds; only the lengths of functions are a parser's. Needs no server.

mod circles;
mod functions;
mod imports;
mod journey;
mod lengths;
mod planted;
mod sizes;
mod source;
mod words;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use circles::circles;
use imports::{strays, upward_imports};
use journey::lost_steps;
use lengths::{Lengths, report};
use sizes::{long_files, long_functions};
use source::{BENCHES, SIMULATOR, Source, TextFile, daemon, sources, text_files, words};
use words::retired_words;

/// The one writes what commands say, the other the log.
const MAY_PRINT: &[&str] = &["src/cli/output.rs", "src/telemetry.rs"];

const SQL: &[&str] = &["SELECT ", "INSERT INTO ", "UPDATE t_", "DELETE FROM "];

/// Names for "whatever had no place". The thing inside has a better one.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "misc", "type", "types", "models"];

/// Where people's own folders begin. In two halves, so that this file does not find itself.
const OWN_FOLDERS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

static FILES: LazyLock<Vec<TextFile>> = LazyLock::new(|| text_files(Path::new(env!("CARGO_MANIFEST_DIR"))));
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| sources(&FILES));

#[test]
fn imports_run_one_way() {
    expect_none(
        upward_imports(&SOURCES),
        "Move what both need down a layer, or the caller up. The layers stand in tests/it/tidy/imports.rs.",
    );
}

#[test]
fn no_files_need_each_other() {
    let named = |circle: BTreeSet<String>| circle.into_iter().collect::<Vec<_>>().join(", ");
    expect_none(
        circles(&SOURCES).into_iter().map(named).collect(),
        "They need each other, or, a file alone, the files below it. Move what both need to a third file, or hand it in as an \
         argument.",
    );
}

#[test]
fn the_way_of_an_event_is_as_the_document_tells_it() {
    expect_none(
        lost_steps(&FILES, &SOURCES),
        "Tell the way in docs/ARCHITECTURE.md as it is now. If it has become longer, make it shorter again.",
    );
}

#[test]
fn each_third_party_is_named_in_one_place() {
    expect_none(strays(&SOURCES), "Let that place offer what you need, in our own words.");
}

#[test]
fn sql_stands_in_the_database_adapter() {
    expect_none(sql_elsewhere(&SOURCES), "Make it a function of src/db/, named by what it asks.");
}

#[test]
fn the_simulator_shares_no_code_with_the_daemon() {
    expect_none(
        shared_with_simulator(&SOURCES),
        "Write it again from docs/WECHAT.md: each checks the other.",
    );
}

#[test]
fn names_say_what_is_inside() {
    expect_none(
        empty_names(&FILES),
        "Name it after the one thing it holds, or move its parts to where they are used.",
    );
}

#[test]
fn files_fit_a_sitting() {
    expect_none(long_files(&SOURCES), "Split it by noun: one file, one thing.");
}

#[test]
fn functions_fit_a_screen() {
    expect_none(long_functions(&SOURCES), "Take a step out of it and name it.");
}

/// Not a check: what `tests/lengths` runs. It names the trees, a line each, a tab between name and folder.
#[test]
#[ignore = "tests/lengths runs it"]
fn lengths_of_trees() {
    let given =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name}: start me through tests/lengths"));
    let trees = given("WN_LENGTHS_OF");
    let named = trees.lines().filter_map(|line| line.split_once('\t'));
    let measured: Vec<(String, Lengths)> =
        named.map(|(name, folder)| (name.to_owned(), Lengths::of(&text_files(Path::new(folder))))).collect();
    std::fs::write(given("WN_LENGTHS_TO"), report(&measured)).unwrap();
}

#[test]
fn nothing_unwraps_outside_tests() {
    expect_none(unwraps(&SOURCES), "Handle it, or say with `expect` why it cannot happen.");
}

#[test]
fn what_is_printed_goes_through_one_place() {
    expect_none(
        prints(&SOURCES),
        "Use `line`, `lines`, `note!` or `Format` of src/cli/output.rs: there nothing can act on a terminal.",
    );
}

#[test]
fn columns_are_read_with_errors() {
    expect_none(
        panicking_reads(&SOURCES),
        "Use `row.read(\"column\")?` of src/db/row.rs: `Row::get` panics on a column of another type.",
    );
}

#[test]
fn values_of_statements_have_names() {
    expect_none(
        numbered_placeholders(&SOURCES),
        "Give the value a name, `:app_id`, and run the statement with `sql!` of src/db/query.rs, which numbers the names.",
    );
}

#[test]
fn retired_words_do_not_come_back() {
    expect_none(
        retired_words(&FILES).iter().map(ToString::to_string).collect(),
        "Say it as tests/it/tidy/words.rs has it, or add the phrase in which the word is right there.",
    );
}

#[test]
fn no_path_of_anyones_machine() {
    expect_none(own_paths(&FILES), "Use a path from the repository's root, or an argument.");
}

#[test]
fn every_story_is_told() {
    expect_none(
        untold(&FILES),
        "Name it in tests/it/main.rs; a file that no `mod` names is not even compiled.",
    );
}

fn expect_none(findings: Vec<String>, advice: &str) {
    assert!(findings.is_empty(), "\n{}\n\n{advice}\n", findings.join("\n"));
}

fn sql_elsewhere(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    let elsewhere = |path: &str| path.starts_with("src/") && !path.starts_with("src/db/");
    for source in sources.iter().filter(|source| elsewhere(&source.path)) {
        for literal in
            source.strings.iter().filter(|literal| SQL.iter().any(|word| literal.text.contains(word)))
        {
            findings.push(format!("{}:{}: SQL outside src/db/", source.path, source.line(literal.at)));
        }
    }
    findings
}

fn shared_with_simulator(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with(SIMULATOR)) {
        for at in words(&source.code, "wechat_notifier") {
            findings.push(format!("{}:{}: names the daemon's library", source.path, source.line(at)));
        }
    }
    findings
}

/// Files beside `tests/it/main.rs` that it does not name.
fn untold(files: &[TextFile]) -> Vec<String> {
    let main = files.iter().find(|file| file.path == "tests/it/main.rs").map_or("", |file| &file.text);
    let stories = files.iter().filter_map(|file| file.path.strip_prefix("tests/it/")?.strip_suffix(".rs"));
    stories
        .filter(|story| !story.contains('/') && *story != "main")
        .filter(|story| !main.contains(&format!("\nmod {story};")))
        .map(|story| format!("tests/it/{story}.rs is no part of the tests"))
        .collect()
}

fn empty_names(files: &[TextFile]) -> Vec<String> {
    let named = |path: &str| path.split('/').any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")));
    let ours = files.iter().filter(|file| file.path.starts_with("src/") || file.path.starts_with("tests/"));
    ours.filter(|file| named(&file.path)).map(|file| format!("{}: says nothing", file.path)).collect()
}

fn unwraps(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for (at, _) in source.code.match_indices(".unwrap()") {
            findings.push(format!("{}:{}: bare unwrap", source.path, source.line(at)));
        }
    }
    findings
}

/// Who writes to a terminal but the two that make text safe for it.
fn prints(sources: &[Source]) -> Vec<String> {
    let by_macro = ["println", "eprintln", "print", "eprint", "dbg"].map(|name| (name, '!'));
    let by_handle = ["stdout", "stderr"].map(|name| (name, '('));
    let mut findings = Vec::new();
    for source in daemon(sources).filter(|source| !MAY_PRINT.contains(&source.path.as_str())) {
        for (printer, sign) in by_macro.into_iter().chain(by_handle) {
            let called = |at: &usize| source.code[at + printer.len()..].starts_with(sign);
            for at in words(&source.code, printer).filter(called) {
                findings.push(format!("{}:{}: `{printer}`", source.path, source.line(at)));
            }
        }
    }
    findings
}

/// `Row::get`, by the names that rows have, and by its two parameters.
fn panicking_reads(sources: &[Source]) -> Vec<String> {
    const READS: &[&str] = &["row.get(", "row.get::<", "rows[0].get(", "?[0].get(", "?.get(0)", ".get::<_, "];
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/db/")) {
        for at in READS.iter().flat_map(|read| source.code.match_indices(read)).map(|(at, _)| at) {
            findings.push(format!("{}:{}: a read that can panic", source.path, source.line(at)));
        }
    }
    findings
}

/// `$1` in SQL: whoever reads it has to count, and `$17` may come before `$16`.
fn numbered_placeholders(sources: &[Source]) -> Vec<String> {
    let is_numbered =
        |text: &str| text.split('$').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/db/")) {
        for literal in source.strings.iter().filter(|literal| is_numbered(&literal.text)) {
            findings.push(format!("{}:{}: a numbered placeholder", source.path, source.line(literal.at)));
        }
    }
    findings
}

fn own_paths(files: &[TextFile]) -> Vec<String> {
    let mut findings = BTreeSet::new();
    for file in files {
        for (number, line) in (1..).zip(file.text.lines()) {
            for folder in OWN_FOLDERS {
                let begins =
                    |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}*".contains(c));
                if line.match_indices(folder).any(|(at, _)| begins(at)) {
                    findings.insert(format!("{}:{number}: a path of somebody's machine", file.path));
                }
            }
        }
    }
    findings.into_iter().collect()
}
