# shellcheck shell=bash disable=SC2154 # `cargo`, `build` and `servers_folder` are the script's that sources this
# Sourced by `tests/run`: the way through the tests without cargo-nextest. `cargo test` starts as many tests at once as it has
# threads, whatever they need; so the tests are divided into phases by what tests/nextest.toml says they need, and each phase
# has as many threads as that leaves room for.
#
#   phases_run THREADS [WORD…]      runs the tests whose names contain one of the words, or all
#
# Exit code 0 only when every chosen test was run and passed; 4, as cargo-nextest has it, when no test fits.

# A whole phase. The longest takes a quarter of an hour on two cores; one that takes this long holds a test that hangs.
phase_limit=${WN_TEST_PHASE_LIMIT:-40m}

phases_run() {
  local threads=$1 weight broken=no names
  shift
  phases_log=$servers_folder/phases.log
  : >"$phases_log"
  phases_plan "$threads" "$@" >"$servers_folder/phases.plan" || return 1
  if [ ! -s "$servers_folder/phases.plan" ]; then
    echo "no test has a name that contains: $*" >&2
    return 4
  fi
  phases_options "$@"
  for weight in $(cut -d' ' -f1 "$servers_folder/phases.plan" | sort -n | uniq); do
    mapfile -t names < <(sed -n "s/^$weight //p" "$servers_folder/phases.plan" | sort -u)
    phase $((threads / weight > 0 ? threads / weight : 1)) "${names[@]}" || broken=yes
  done
  phases_account "$broken"
}

# A line for each chosen test: how many threads it needs, and its name.
phases_plan() {
  local threads=$1 list
  shift
  list=$("$cargo" test "${build[@]}" -- --list --format terse "$@" 2>"$servers_folder/phases.list.log") || {
    cat "$servers_folder/phases.list.log" >&2
    return 1
  }
  awk -v threads="$threads" '
    NR == FNR { need[$1] = $2 == "all" ? threads : $2; next }
    sub(/: test$/, "") {
      weight = 1
      for (word in need) if (index($0, word) && need[word] > weight) weight = need[word]
      print weight, $0
    }' <(phases_needs) - <<<"$list"
}

# What tests/nextest.toml says: a word in a test's name, and the threads such a test needs (or `all`).
phases_needs() {
  awk -F "'" '
    /^filter = / { words = $2 }
    /^threads-required = / {
      sub(/^threads-required = /, "")
      need = /num-test-threads/ ? "all" : $0
      while (match(words, /test\([a-z_:]+\)/)) {
        print substr(words, RSTART + 5, RLENGTH - 6), need
        words = substr(words, RSTART + RLENGTH)
      }
    }' tests/nextest.toml
}

# Of the arguments, those that matter beyond the choice of tests.
phases_options() {
  local argument
  options=()
  for argument in "$@"; do
    case $argument in
      --ignored | --include-ignored | --nocapture | --show-output) options+=("$argument") ;;
    esac
  done
}

# phase THREADS NAME…
phase() {
  local at_once=$1 code=0
  shift
  echo "== ${#} tests, $at_once at a time"
  # shellcheck disable=SC2016 # expanded by the inner shell
  run_child bash -c 'log=$1 && shift && set -o pipefail && "$@" 2>&1 | tee -a "$log"' phase "$phases_log" \
    timeout --kill-after=10s "$phase_limit" \
    "$cargo" test "${build[@]}" --no-fail-fast -- --test-threads "$at_once" "${options[@]}" --exact "$@" || code=$?
  [ "$code" -ne 124 ] || echo "the phase was ended after $phase_limit; the output above names the test that hangs (running for over 60 s)" >&2
  return "$code"
}

# phases_account BROKEN: adds up the result lines of all phases.
phases_account() {
  local chosen passed failed ignored
  chosen=$(wc -l <"$servers_folder/phases.plan")
  read -r passed failed ignored < <(awk '
    /^test result: / { passed += $4; failed += $6; ignored += $8 }
    END { print passed + 0, failed + 0, ignored + 0 }' "$phases_log")
  echo
  # cargo names what failed at the end of each program; here once more, all together.
  awk '/^failures:$/ { names = "" } /^    [a-z_0-9:]+$/ { names = names $0 "\n" } /^test result: FAILED/ { printf "%s", names }' "$phases_log"
  echo "in all: $passed passed, $failed failed, $ignored ignored, of $chosen tests"
  if [ $((passed + failed + ignored)) -ne "$chosen" ]; then
    echo "not every test finished: $chosen chosen, $((passed + failed + ignored)) finished" >&2
    return 1
  fi
  [ "$1" = no ] && [ "$failed" -eq 0 ]
}
