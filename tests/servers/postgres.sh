# shellcheck shell=bash disable=SC2154 # `control`, which sources this, knows the folder
# One private PostgreSQL in $folder/postgres, on the loopback address only.

# PostgreSQL refuses to run as root; Debian's package brings a user for it.
as_postgres=()
[ "$(id -u)" -ne 0 ] || as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
# Debian keeps a folder for each version; the newest is as good as any.
postgres_programs=$(compgen -G '/usr/lib/postgresql/*/bin' | sort --version-sort | tail -n 1)

# Creates and starts a cluster on a fresh port, and writes its URL.
postgres_begin() {
  local attempt
  postgres_configure
  for attempt in 1 2 3; do
    free_port >"$folder/postgres/port"
    postgres_start && break
    # Most likely another program took the port between our look and the start.
    [ "$attempt" -lt 3 ] || return 1
  done
  echo "WN_TEST_DATABASE_URL=postgres://postgres@127.0.0.1:$(<"$folder/postgres/port")/postgres" >"$folder/postgres/url"
}

# Durability is left as in production, since tests crash the server; only creating the cluster skips the disk.
# 400 connections are enough for some 20 tests at once, each with two daemons and a pool of 8.
postgres_configure() {
  local data=$folder/postgres/data
  rm -rf "$folder/postgres"
  mkdir -p "$data"
  [ "$(id -u)" -ne 0 ] || chown postgres "$data"
  if ! "${as_postgres[@]}" "$postgres_programs/initdb" --pgdata="$data" --username=postgres --auth=trust \
    --encoding=UTF8 --locale=C --no-sync >"$folder/postgres/initdb.log" 2>&1; then
    cat "$folder/postgres/initdb.log" >&2
    return 1
  fi
  cat >>"$data/postgresql.conf" <<'CONF'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 400
shared_preload_libraries = 'pg_stat_statements'
log_line_prefix = '%m [%p] %a '
CONF
  [ ! -d "$folder/tls" ] || postgres_configure_tls
}

# PostgreSQL wants its key to itself.
postgres_configure_tls() {
  local data=$folder/postgres/data
  install -m 600 "$folder/tls/server.key" "$folder/tls/server.pem" "$data/"
  [ "$(id -u)" -ne 0 ] || chown postgres "$data/server.key" "$data/server.pem"
  cat >>"$data/postgresql.conf" <<'CONF'
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
CONF
}

# Returns when the server takes connections; returns at once when it is already up.
postgres_start() {
  postgres_answers && return 0
  spawn "$folder/postgres/pid" "$folder/postgres/postgres.log" "${as_postgres[@]}" "$postgres_programs/postgres" \
    -D "$folder/postgres/data" -p "$(<"$folder/postgres/port")"
  if ! started "$folder/postgres/pid" postgres_answers; then
    echo "the private PostgreSQL did not start; see $folder/postgres/postgres.log" >&2
    tail -n 5 "$folder/postgres/postgres.log" >&2
    return 1
  fi
}

# A fast shutdown: ends the connections and writes a checkpoint.
postgres_stop() {
  end_process "$folder/postgres/pid" INT
}

# An immediate shutdown is a crash in all but name: the next start recovers from the write-ahead log.
postgres_stop_immediate() {
  end_process "$folder/postgres/pid" QUIT
}

# For good. Unlike a kill, an immediate shutdown leaves no shared memory behind.
postgres_end() {
  postgres_stop_immediate
}

postgres_psql() {
  local url
  url=$(<"$folder/postgres/url")
  "$postgres_programs/psql" "${url#*=}" "$@"
}

postgres_answers() {
  "$postgres_programs/pg_isready" --quiet --host=127.0.0.1 --port="$(<"$folder/postgres/port")"
}
