# shellcheck shell=bash
# Sourced by `control`. Processes that outlive the shell that starts them, known by a file that holds their pid, and waiting.

# spawn PIDFILE LOG COMMAND…: starts a process that leads a group of its own and holds none of our open files.
spawn() {
  local pidfile=$1 log=$2
  shift 2
  setsid "$@" </dev/null >>"$log" 2>&1 &
  echo $! >"$pidfile"
}

# end_process PIDFILE [SIGNAL]: sends the signal and gives the process time to follow it, then kills its whole group.
end_process() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  if [ $# -eq 2 ]; then
    kill "-$2" "$pid" 2>/dev/null || true
    wait_until "$STOP_SECONDS" process_gone "$pid" || echo "$1: $pid did not end after $2" >&2
  fi
  kill -KILL -- "-$pid" 2>/dev/null || true
  wait_until "$STOP_SECONDS" process_gone "$pid"
  rm -f "$1"
}

# A process that has ended but whose parent has not taken note (Z) is gone too.
process_gone() {
  ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"
}

# started PIDFILE ANSWERS: true when the command ANSWERS holds, an error as soon as the process is gone.
started() {
  wait_until "$START_SECONDS" settled "$@" && "$2"
}

settled() {
  "$2" || process_gone "$(<"$1")"
}

# wait_until SECONDS COMMAND…: returns 1 when the command has not come true by then.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

free_port() {
  local port
  while port=$((LOWEST_PORT + SRANDOM % PORT_COUNT)); port_answers "$port"; do :; done
  echo "$port"
}

port_answers() {
  (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
