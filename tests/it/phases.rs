//! The way through the tests on a plain Rust toolchain (`tests/servers/phases.sh`), told with a cargo that only takes notes.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The tests that the pretended cargo has.
const TESTS: &str = "domain::plan::tests::pure
restarts::the_broker_restarts
big_loads::a_flood
faults::database::cut
faults::load::stalls
replay::once
replay::twice
";

/// Lists [`TESTS`], all or those that contain a word; runs what it is told by name, as `cargo test` would say it.
const CARGO: &str = r#"#!/usr/bin/env bash
shift # "test"
words=() list=no at_once=
while [ $# -gt 0 ]; do
  case $1 in
    --list) list=yes ;;
    --test-threads) at_once=$2 && shift ;;
    --format) shift ;;
    --*) ;;
    *) words+=("$1") ;;
  esac
  shift
done
here=$(dirname "$0")
if [ $list = yes ]; then
  while read -r name; do
    for word in "${words[@]:-}"; do
      if [[ $name == *$word* ]]; then echo "$name: test" && break; fi
    done
  done <"$here/tests"
  exit
fi
echo "$at_once: ${words[*]}" >>"$here/runs"
failed=0 passed=0 failures=()
for name in "${words[@]}"; do
  case " ${WN_PRETEND_HANGS:-} " in *" $name "*) sleep 600 ;; esac
  case " ${WN_PRETEND_GONE:-} " in *" $name "*) continue ;; esac
  case " ${WN_PRETEND_FAILS:-} " in
    *" $name "*) failed=$((failed + 1)) && failures+=("$name") ;;
    *) passed=$((passed + 1)) ;;
  esac
done
if [ $failed -gt 0 ]; then printf 'failures:\n' && printf '    %s\n' "${failures[@]}"; fi
[ $failed -eq 0 ] && word=ok || word=FAILED
echo "test result: $word. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"
[ $failed -eq 0 ] || exit 101
"#;

/// A folder with the pretended cargo, for one run.
struct Stage(PathBuf);

impl Stage {
    fn set() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder =
            std::env::temp_dir().join(format!("wn-phases-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("tests"), TESTS).unwrap();
        std::fs::write(folder.join("cargo"), CARGO).unwrap();
        std::fs::set_permissions(folder.join("cargo"), PermissionsExt::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// Runs those whose names contain a word, on four threads, with these variables.
    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Output {
        let script = ". tests/servers/lifetime.sh && . tests/servers/phases.sh && phases_run 4 \"$@\"";
        let mut bash = Command::new("bash");
        bash.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-euo", "pipefail", "-c"]);
        bash.arg(format!("cargo=$folder/cargo build=(--lib) servers_folder=$folder; {script}"));
        bash.arg("phases").args(words).env("folder", &self.0).envs(variables.iter().copied());
        bash.output().unwrap()
    }

    /// What was run: how many at once, and which.
    fn runs(&self) -> Vec<String> {
        let runs = std::fs::read_to_string(self.0.join("runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn each_test_runs_once_with_the_room_that_it_needs() {
    let stage = Stage::set();
    let output = stage.run(&[], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(
        stage.runs(),
        [
            "4: domain::plan::tests::pure replay::once replay::twice",
            "2: faults::database::cut faults::load::stalls",
            "1: restarts::the_broker_restarts",
            "1: big_loads::a_flood",
        ]
    );
    assert!(said(&output).contains("in all: 7 passed, 0 failed, 0 ignored, of 7 tests"), "{}", said(&output));
}

#[test]
fn words_choose_tests_in_every_phase() {
    let stage = Stage::set();
    let output = stage.run(&["twice", "big_loads"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(stage.runs(), ["4: replay::twice", "1: big_loads::a_flood"]);

    let nothing = stage.run(&["no such word"], &[]);
    assert_eq!(nothing.status.code(), Some(4), "{}", said(&nothing));
}

#[test]
fn a_failure_in_any_phase_is_told_at_the_end_and_the_others_still_run() {
    let stage = Stage::set();
    let output = stage.run(&[], &[("WN_PRETEND_FAILS", "replay::once")]);
    assert_eq!((output.status.code(), stage.runs().len()), (Some(1), 4), "{}", said(&output));
    let end = "    replay::once\nin all: 6 passed, 1 failed, 0 ignored, of 7 tests\n";
    assert!(said(&output).ends_with(end), "{}", said(&output));
}

#[test]
fn a_test_that_is_never_heard_of_again_is_a_failure() {
    let stage = Stage::set();
    let output = stage.run(&[], &[("WN_PRETEND_GONE", "big_loads::a_flood")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("7 chosen, 6 finished"), "{}", said(&output));
}

#[test]
fn a_test_that_hangs_ends_its_phase_only() {
    let stage = Stage::set();
    let variables = [("WN_PRETEND_HANGS", "replay::once"), ("WN_TEST_PHASE_LIMIT", "1s")];
    let output = stage.run(&[], &variables);
    assert_eq!((output.status.code(), stage.runs().len()), (Some(1), 4), "{}", said(&output));
    assert!(said(&output).contains("the phase was ended after 1s"), "{}", said(&output));
}
