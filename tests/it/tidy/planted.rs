//! Each check finds what it is for, and lets its near neighbour pass.

use super::functions::{Function, functions};
use super::sizes::{MAX_FILE_LINES, MAX_FUNCTION_LINES};
use super::*;

fn file(path: &str, text: &str) -> TextFile {
    TextFile { path: path.to_owned(), text: text.to_owned() }
}

fn source(path: &str, text: &str) -> Vec<Source> {
    sources(&[file(path, text)])
}

/// How much a check finds in one planted file.
fn found(check: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> usize {
    check(&source(path, text)).len()
}

#[test]
fn an_import_from_above_is_found_however_it_is_written() {
    let upward = |path, text| found(upward_imports, path, text);
    assert_eq!(upward("src/domain/plan.rs", "use crate::db::Error;"), 1);
    assert_eq!(upward("src/domain/plan.rs", "use super::super::db::Error;"), 1);
    assert_eq!(upward("src/domain/mod.rs", "fn f() { super::clock::now(); }"), 1);
    assert_eq!(upward("src/amqp/link.rs", "use crate::{clock, domain::{ids, plan}, db::Error};"), 1);
    assert_eq!(upward("src/db/pool.rs", "use crate::wechat::Client;"), 1, "adapters are strangers");
    assert_eq!(upward("src/db/pool.rs", "use crate::*;"), 1, "a star hides what it names");
    assert_eq!(upward("src/extras.rs", ""), 1, "a module without a layer");

    assert_eq!(upward("src/pipeline/process.rs", "use crate::{amqp::Message, db, domain::ids};"), 0);
    assert_eq!(upward("src/domain/event/read.rs", "use super::super::ids::AppId;"), 0);
    assert_eq!(upward("src/metrics.rs", "use crate::clock;\nuse super::config;"), 0);
    assert_eq!(upward("src/domain/plan.rs", "//! As crate::db does.\nconst A: &str = \"crate::db::x\";"), 0);
}

#[test]
fn an_import_from_above_is_found_in_the_simulator_too() {
    let upward = |file, text| found(upward_imports, &format!("{SIMULATOR}{file}"), text);
    assert_eq!(upward("world/app.rs", "use crate::endpoints::login::LoginCode;"), 1);
    assert_eq!(upward("faults/rule.rs", "use crate::tokens::Kind;"), 1, "neighbours are strangers");
    assert_eq!(upward("attic/box.rs", ""), 1, "a room without a layer");
    assert_eq!(upward("endpoints/login.rs", "use super::request;\nuse crate::world::LoginCode;"), 0);
}

#[test]
fn files_that_know_each_other_are_found_by_whatever_way_round() {
    let found = |files: &[(&str, &str)]| {
        let files: Vec<TextFile> = files.iter().map(|(path, text)| file(path, text)).collect();
        circles(&sources(&files))
    };
    let circle = |files: &[&str]| vec![files.iter().map(|&path| path.to_owned()).collect::<BTreeSet<_>>()];
    let (up, down) =
        (("src/a/up.rs", "use super::down::Down;"), ("src/a/down.rs", "use crate::a::{up::{self, Up}};"));
    let both = circle(&["src/a/down.rs", "src/a/up.rs"]);
    assert_eq!(found(&[("src/a/mod.rs", "mod down; mod up;"), up, down]), both);
    // By a name that the parent defers, and by a third file.
    let hands_on = ("src/a/mod.rs", "mod down;\nmod up;\npub use up::Up;");
    assert_eq!(found(&[hands_on, up, ("src/a/down.rs", "fn f() { super::Up::new() }")]), both);
    let (b, c) = (("src/a/down.rs", "use super::c;"), ("src/a/c.rs", "fn f() { super::up::f() }"));
    assert_eq!(
        found(&[("src/a/mod.rs", ""), up, b, c]),
        circle(&["src/a/c.rs", "src/a/down.rs", "src/a/up.rs"])
    );
    // A child that needs its parent, which needs it.
    let parent = ("src/a.rs", "mod child;\nfn f() { child::g() }");
    let child = ("src/a/child.rs", "use super::Thing;");
    assert_eq!(found(&[parent, child]), circle(&["src/a.rs"]));
    assert_eq!(found(&[parent, ("src/a/child.rs", "use crate::b::Other;"), ("src/b.rs", "")]), []);

    // Deferring is no need, a word in a comment or a test is none, and one way is no circle.
    assert_eq!(found(&[("src/a.rs", "mod child;\npub use child::Thing;"), child]), []);
    let quiet = "// super::up::f\n#[cfg(test)]\nmod tests { use super::super::up; }";
    assert_eq!(found(&[("src/a/mod.rs", ""), up, ("src/a/down.rs", quiet)]), []);
}

#[test]
fn files_that_know_each_other_are_found_in_every_program() {
    for program in [SIMULATOR, BENCHES] {
        let named = |name: &str| format!("{program}{name}.rs");
        let files = [
            file(&named("main"), "mod a;\nmod b;\nuse a::run;"),
            file(&named("a"), "use super::b::B;"),
            file(&named("b"), "use crate::a::A;"),
        ];
        assert_eq!(circles(&sources(&files)), [BTreeSet::from([named("a"), named("b")])]);
    }
    // Files of the same name in another program are others.
    let apart = [file("src/a.rs", "use super::b::B;"), file(&format!("{SIMULATOR}b.rs"), "use crate::a::A;")];
    assert_eq!(circles(&sources(&apart)), []);
}

#[test]
fn a_third_party_outside_its_place_is_found() {
    let stray = |path, text| found(strays, path, text);
    assert_eq!(stray("src/pipeline/process.rs", "use lapin::Channel;"), 1);
    assert_eq!(stray("src/http/ops.rs", "fn f(row: &tokio_postgres::Row) {}"), 1);
    assert_eq!(stray("src/cli/check.rs", "use reqwest as r;"), 1);
    assert_eq!(stray("src/main.rs", "use wechat_notifier::{cli::Cli, db};"), 1);

    assert_eq!(stray("src/amqp/link.rs", "use lapin::Channel;"), 0);
    assert_eq!(stray("src/delays.rs", "use backoff::backoff::Backoff;"), 0);
    assert_eq!(stray("src/token/entry.rs", "let backoff = self.backoff.next();"), 0);
    assert_eq!(stray("src/main.rs", "use wechat_notifier::cli::{self, Cli};"), 0);
    assert_eq!(stray("src/bin/wechat-simulator/main.rs", "use clap::Parser;"), 0);
}

#[test]
fn sql_in_a_string_is_found_and_in_a_comment_is_not() {
    let sql = |path, text| found(sql_elsewhere, path, text);
    assert_eq!(sql("src/cli/app.rs", "const Q: &str = r#\"SELECT \"a\" FROM t\"#;"), 1);
    assert_eq!(sql("src/cli/app.rs", "const Q: &str = \"-- app: new\n INSERT INTO t VALUES (1)\";"), 1);
    assert_eq!(sql("src/cli/app.rs", "// SELECT nothing\nfn f() {}"), 0);
    assert_eq!(sql("src/db/registry/apps.rs", "const Q: &str = \"SELECT 1\";"), 0);
}

#[test]
fn a_read_of_a_column_that_can_panic_is_found() {
    let reads = |path, text| found(panicking_reads, path, text);
    assert_eq!(reads("src/db/ledger/story.rs", "let id = row.get(\"id\");"), 1);
    assert_eq!(reads("src/db/ledger/story.rs", "rows.iter().map(|it| it.get::<_, i64>(0))"), 1);
    assert_eq!(reads("src/db/ledger/story.rs", "let many = query::rows(client).await?[0].get(0);"), 1);
    assert_eq!(reads("src/db/ledger/story.rs", "let id = row.read(\"id\")?; let app = apps.get(&id);"), 0);
    assert_eq!(reads("src/cli/user.rs", "let cell = row.get(0);"), 0);
}

#[test]
fn a_numbered_placeholder_is_found() {
    let numbered = |path, text| found(numbered_placeholders, path, text);
    assert_eq!(numbered("src/db/ledger/story.rs", "const Q: &str = \"SELECT $2::text, $1\";"), 1);
    assert_eq!(
        numbered("src/db/ledger/story.rs", "const Q: &str = \"SELECT :a::text WHERE b ~ '^a$'\"; // $1"),
        0
    );
    assert_eq!(numbered("src/db/ledger/story.rs", "macro_rules! m { ($a:expr) => { $a }; }"), 0);
    assert_eq!(numbered("src/cli/app.rs", "const PRICE: &str = \"$1\";"), 0);
}

#[test]
fn a_simulator_that_borrows_from_the_daemon_is_found() {
    let text = "use wechat_notifier::domain::answer;";
    assert_eq!(found(shared_with_simulator, "src/bin/wechat-simulator/send.rs", text), 1);
    assert_eq!(found(shared_with_simulator, "src/main.rs", text), 0);
}

#[test]
fn empty_names_are_found_as_folder_and_as_file() {
    let named = |path| empty_names(&[file(path, "")]).len();
    assert_eq!(["src/utils/a.rs", "src/db/types.rs", "tests/it/common/mod.rs"].map(named), [1, 1, 1]);
    assert_eq!(["src/db/commonest.rs", "deploy/helpers/x"].map(named), [0, 0]);
}

#[test]
fn long_files_and_functions_are_found_but_their_tests_do_not_count() {
    let lines = |count| "    f();\n".repeat(count);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(MAX_FILE_LINES));
    assert_eq!(found(long_files, "src/a.rs", &format!("{}{tests}", lines(MAX_FILE_LINES + 1))), 1);
    assert_eq!(found(long_files, "src/a.rs", &format!("{}{tests}", lines(MAX_FILE_LINES))), 0);

    let function =
        |inside| format!("trait T {{ fn short(&self, a: [u8; 2]); }}\nfn f() {{\n{}}}\n", lines(inside));
    assert_eq!(found(long_functions, "src/a.rs", &function(MAX_FUNCTION_LINES - 1)), 1);
    assert_eq!(found(long_functions, "src/a.rs", &function(MAX_FUNCTION_LINES - 2)), 0);
}

/// Each has one statement more than fits, behind a signature that is hard to read.
#[test]
fn a_long_function_is_found_whatever_its_signature() {
    let signatures = [
        "fn f() -> Result<u8, Error>",
        "fn f<T: Into<u8>, U>(a: [u8; 2], g: impl Fn(T) -> Vec<(u8, U)>) -> Result<Vec<u8>, Error>",
        "fn f<F>(f: F) -> u8\nwhere\n    F: Fn(u8, u8) -> Result<u8, Error>,\n    F: Send,",
        "pub(super) const unsafe fn f(g: fn(u8, u8) -> u8) -> [u8; 4]",
        "async fn f(&self) -> impl Iterator<Item = (u8, u8)> + '_",
    ];
    for signature in signatures {
        let text = |inside| format!("{signature} {{\n{}}}\n", "    f();\n".repeat(inside));
        let more = signature.lines().count() - 1;
        assert_eq!(found(long_functions, "src/a.rs", &text(MAX_FUNCTION_LINES - 1 - more)), 1, "{signature}");
        assert_eq!(found(long_functions, "src/a.rs", &text(MAX_FUNCTION_LINES - 2 - more)), 0, "{signature}");
    }
    assert_eq!(found(long_functions, "src/a.rs", "fn f( {"), 1, "no Rust");
}

/// One of everything that holds functions, with the length in its name.
const EVERY_FUNCTION: &str = r#"
fn one() {}
/// Doc comments do not count.
#[must_use]
pub(crate) async fn three<const N: usize>(a: [u8; N]) -> Vec<fn(u8) -> u8> {
    "fn none() { } // {";
}
mod inside {
    impl<T> S<T> where T: Fn(u8) -> u8 {
        fn one() -> impl Sized { |x: u8| { x } }
        fn four(&self) {
            fn one() {}
            one()
        }
    }
    trait T {
        fn none(&self);
        fn two(&self) {
        }
    }
}
struct None { f: fn(u8) -> Result<u8, ()> }
macro_rules! m {
    ($three:ident) => {
        fn $three() where [(); { 1 }]: {
            f()
        }
    };
}
#[cfg(test)]
mod tests {
    fn one() {}
    proptest! {
        #[test]
        fn two(a in 0..2) {
        }
    }
}
"#;

#[test]
fn every_function_is_counted_wherever_it_is() {
    let numbers = ["none", "one", "two", "three", "four"];
    let (tests, others): (Vec<_>, Vec<_>) =
        functions(EVERY_FUNCTION).unwrap().into_iter().partition(|function| function.in_tests);
    for function in tests.iter().chain(&others) {
        assert_eq!(function.name.trim_start_matches('$'), numbers[function.lines], "{function:?}");
    }
    let names =
        |functions: &[Function]| functions.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&others), "one three one one four two $three");
    assert_eq!(names(&tests), "one two");
}

#[test]
fn a_report_has_number_mean_ninetieth_percentile_and_maximum() {
    let one_to_ten: String = (1..=10).map(|n| format!("fn f{n}() {{{}}}\n", "\n".repeat(n - 1))).collect();
    let files =
        [file("src/a.rs", &one_to_ten), file("tests/it/b.rs", "fn g() {}\n"), file("docs/c.md", "fn")];
    let table = report(&[("before".to_owned(), Lengths::of(&[])), ("HEAD".to_owned(), Lengths::of(&files))]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["functions", "before", "0"]);
    assert_eq!(lines[2], ["HEAD", "10", "5.5", "9", "10", "src/a.rs:46", "f10"]);
    assert_eq!(lines[4], ["HEAD", "1", "55.0", "55", "55", "src/a.rs"]);
    assert_eq!(lines[6], ["HEAD", "1", "1.0", "1", "1", "tests/it/b.rs:1", "g"]);
}

#[test]
fn an_unwrap_is_found_outside_tests_only() {
    let quiet =
        "const A: &str = \"it's \\\" .unwrap()\"; // .unwrap()\nlet b = '\"'; let c: &'static str = \"\";\n";
    assert_eq!(found(unwraps, "src/a.rs", quiet), 0);
    assert_eq!(found(unwraps, "src/a.rs", &format!("{quiet}x.unwrap();")), 1);
    let tests = "#[cfg(test)]\n#[allow(unused)]\nmod tests { fn f() { x.unwrap(); } }\n";
    assert_eq!(found(unwraps, "src/a.rs", tests), 0);
    assert_eq!(found(unwraps, "src/a.rs", &format!("{tests}fn g() {{ x.unwrap() }}")), 1);

    let own_file = [file("src/a.rs", "#[cfg(test)]\nmod trials;"), file("src/a/trials.rs", "x.unwrap()")];
    assert_eq!(unwraps(&sources(&own_file)).len(), 0);
}

#[test]
fn a_command_that_prints_by_itself_is_found() {
    let printing = |path, text| found(prints, path, text);
    assert_eq!(printing("src/cli/app.rs", "fn f() { eprintln!(\"{app_id}\"); }"), 1);
    assert_eq!(printing("src/db/pool.rs", "let mut out = std::io::stdout().lock();"), 1);
    let quiet = "fn print(stderr: bool) { note!(\"println!(\"); self.print(output.stdout) }";
    assert_eq!(printing("src/cli/app.rs", quiet), 0);
    assert_eq!(printing("src/cli/output.rs", "println!()"), 0);
}

#[test]
fn a_retired_word_is_found_alone_and_inside_of_a_name() {
    let found = |path: &str, text: &str| -> Vec<String> {
        retired_words(&[file(path, text)]).iter().map(ToString::to_string).collect()
    };
    let count = |text: &str| found("src/a.rs", text).len();
    assert_eq!(found("docs/A.md", "one\nand his"), ["docs/A.md:2: his → say the user, they, it"]);
    assert_eq!(count("fn next_turn(turns: Turns, TURN: HTTPTurn)"), 5);
    assert_eq!(count("return Saturn::turned; // each in turn, by the lane's turn"), 0);
    assert_eq!(count("letter, OldLetter, by-letters"), 3);
    assert_eq!(
        count("dead letter, DeadLetter, DEAD_LETTERS, dead-letter, dead\n    /// letters, #dead-letters"),
        0
    );
    assert_eq!(count("// It waits for\n    // ever.\nHandOn; hand_on; \"for, ever\" hand(on)"), 3);
    assert_eq!(count("formal, trial; a formality\n a trial"), 1);
    assert_eq!(["src/amqp/acks.rs", "src/cli/a.rs"].map(|path| found(path, "Receipt").len()), [1, 0]);

    assert_eq!(found("migrations/0001.sql", "-- his").len() + found("tests/it/a.rs", "// his").len(), 0);
    let changelog = "# Changes\n\n## [Unreleased]\n- his\n\n## 0.1.0\n- his\n";
    assert_eq!(found("docs/CHANGELOG.md", changelog).len(), 1);
}

#[test]
fn a_path_of_a_machine_is_found_in_any_file() {
    let paths = |text: String| own_paths(&[file("docs/X.md", &text)]).len();
    assert_eq!(paths(format!("see {}anna/x", OWN_FOLDERS[0])), 1);
    assert_eq!(paths(format!("see \"{}x\"", OWN_FOLDERS[3])), 1);
    assert_eq!(paths(format!("see target{}x", OWN_FOLDERS[3])), 0);
}

#[test]
fn the_whole_tree_is_read() {
    let read = |path: &str| SOURCES.iter().any(|source| source.path == path);
    assert!(read("src/lib.rs") && read("src/domain/protocol.rs") && read("src/bin/wechat-simulator/main.rs"));
    assert!(read("benches/pipeline/main.rs"));
    assert!(!read("src/domain/event/tests.rs"), "tests are cut out");
    assert!(FILES.iter().any(|file| file.path == "Cargo.toml"));
}

#[test]
fn a_step_that_is_not_there_any_more_is_found() {
    let told = |rows: &str| {
        let text = format!(
            "# A\n\n## The way of an event\n\n| step | file: function | |\n|---|---|---|\n{rows}\n## B\n| 9 | no |\n"
        );
        let code = source("src/pipeline/intake.rs", "pub fn take_in() {}");
        lost_steps(&[file("docs/ARCHITECTURE.md", &text)], &code)
    };
    assert_eq!(told("| 1 | `src/pipeline/intake.rs`: `take_in` | takes in |"), [""; 0]);
    assert_eq!(told("| 1 | `src/pipeline/intake.rs`: `take_out` | |").len(), 1, "another function");
    assert_eq!(told("| 1 | `src/pipeline/outlet.rs`: `take_in` | |").len(), 1, "another file");
    assert_eq!(told("| 1 | src/pipeline/intake.rs | |").len(), 2, "no function, and so no way at all");
    assert_eq!(told("").len(), 1, "no way at all");
    let long: Vec<String> = (0..16).map(|n| format!("| {n} | `src/{n}.rs`: `f` | |")).collect();
    assert!(told(&long.join("\n")).iter().any(|finding| finding.contains("16 files")));
}
