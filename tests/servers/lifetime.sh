# shellcheck shell=bash
# Sourced by `tests/run`, `deploy/demo` and whoever else needs real servers for as long as it runs:
#
#   servers_begin broker postgres   starts them in the background, so that cargo can build meanwhile
#   servers_ready                   waits for them and exports their URLs (WN_TEST_…)
#   run_child COMMAND…              runs a command that ends with us
#   start_child NAME COMMAND…       the same in the background, with a log of its own in the folder
#
# All that was started ends with the script, whichever way that ends: by itself, by Ctrl-C, TERM or HUP, and even when it
# is killed. The folder goes too, but a script that failed outside CI leaves its logs, and WN_KEEP=1 leaves everything.

servers_control=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/control

servers_begin() {
  servers_folder=$(mktemp -d /tmp/wechat-notifier.XXXXXX)
  export WN_SERVERS_FOLDER=$servers_folder
  trap servers_end EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  setsid "$servers_control" begin $$ "$@" </dev/null &
  servers_starting=$!
}

servers_ready() {
  local line
  wait "$servers_starting"
  while read -r line; do
    export "${line?}"
  done < <("$servers_control" urls)
}

# In a session of its own, so that one signal reaches all of it; in the background, as bash heeds a signal at once only
# while it waits.
run_child() {
  setsid "$@" </dev/null &
  echo $! >"$servers_folder/foreground.child"
  wait $!
}

start_child() {
  local name=$1
  shift
  setsid "$@" </dev/null >"$servers_folder/$name.log" 2>&1 &
  echo $! >"$servers_folder/$name.child"
}

# The script's own exit code survives.
servers_end() {
  local code=$?
  trap '' HUP INT TERM
  if [ -n "${WN_KEEP:-}" ]; then
    echo data >"$servers_folder/keep"
    echo "logs and data are kept in $servers_folder; start the servers again with its control program"
  elif [ "$code" -ne 0 ] && [ "$code" -lt 128 ] && [ -z "${CI:-}" ]; then
    echo logs >"$servers_folder/keep"
    echo "the servers' logs are kept in $servers_folder"
  fi
  if [ -x "$servers_folder/control" ]; then
    "$servers_folder/control" end
  fi
  exit "$code"
}
