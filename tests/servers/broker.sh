# shellcheck shell=bash disable=SC2154 # `control`, which sources this, knows the folder
# One private RabbitMQ in $folder/broker, with an epmd of its own, on the loopback address only.

# Debian's wrapper in /usr/sbin changes to the user `rabbitmq`, who cannot write to a private folder.
broker_programs=/usr/lib/rabbitmq/bin

# Creates and starts a broker on fresh ports, and writes its URL.
broker_begin() {
  local attempt
  for attempt in 1 2 3; do
    broker_configure
    broker_start && break
    # Most likely another program took one of the ports between our look and the start.
    broker_end
    [ "$attempt" -lt 3 ] || return 1
  done
  echo "WN_TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:$(<"$folder/broker/port")/%2f" >"$folder/broker/url"
  [ ! -d "$folder/tls" ] ||
    echo "WN_TEST_AMQPS_URL=amqps://guest:guest@127.0.0.1:$(<"$folder/broker/port.tls")/%2f" >>"$folder/broker/url"
}

# Memory and disk limits are absolute: a share of the machine would differ from one machine to the next. The write-ahead
# log of quorum queues is kept small, as every private broker has one.
broker_configure() {
  rm -rf "$folder/broker"
  mkdir -p "$folder/broker/data"
  free_port >"$folder/broker/port"
  free_port >"$folder/broker/port.distribution"
  free_port >"$folder/broker/port.epmd"
  echo '[].' >"$folder/broker/enabled_plugins"
  cat >"$folder/broker/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$(<"$folder/broker/port")
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 67108864
log.console = false
log.file = broker.log
CONF
  # How often a quorum queue's length, as list_queues shows it, is brought up to date: a test that asks should not wait
  # for the usual 5 s.
  echo '[{rabbit, [{quorum_tick_interval, 1000}]}].' >"$folder/broker/advanced.config"
  [ ! -d "$folder/tls" ] || broker_configure_tls
}

broker_configure_tls() {
  free_port >"$folder/broker/port.tls"
  cat >>"$folder/broker/rabbitmq.conf" <<CONF
listeners.ssl.1 = 127.0.0.1:$(<"$folder/broker/port.tls")
ssl_options.cacertfile = $folder/tls/ca.pem
ssl_options.certfile = $folder/tls/server.pem
ssl_options.keyfile = $folder/tls/server.key
ssl_options.verify = verify_none
CONF
}

# Returns when the broker answers; returns at once when it is already up.
broker_start() {
  broker_answers && return 0
  broker_environment
  # Erlang would start an epmd that detaches itself; this one stays a process that we can end.
  [ -e "$folder/broker/epmd.pid" ] || spawn "$folder/broker/epmd.pid" "$folder/broker/epmd.log" epmd
  spawn "$folder/broker/pid" "$folder/broker/console.log" "$broker_programs/rabbitmq-server"
  if ! started "$folder/broker/pid" broker_answers; then
    echo "the private RabbitMQ did not start; see $folder/broker/" >&2
    tail -n 5 "$folder/broker/console.log" >&2
    return 1
  fi
}

# TERM lets RabbitMQ close its queues in order.
broker_stop() {
  end_process "$folder/broker/pid" TERM
}

# Ends the broker as a crash would.
broker_kill() {
  end_process "$folder/broker/pid"
  wait_until "$STOP_SECONDS" broker_silent
}

# For good: the data is about to be removed, so nothing needs to be closed in order.
broker_end() {
  end_process "$folder/broker/pid"
  end_process "$folder/broker/epmd.pid"
}

broker_ctl() {
  broker_environment
  "$broker_programs/rabbitmqctl" "$@"
}

# Everything RabbitMQ and Erlang would otherwise take from, or put into, places shared with other brokers.
broker_environment() {
  export RABBITMQ_NODENAME=private@localhost
  export RABBITMQ_CONFIG_FILE=$folder/broker/rabbitmq.conf
  export RABBITMQ_ADVANCED_CONFIG_FILE=$folder/broker/advanced.config
  export RABBITMQ_CONF_ENV_FILE=/dev/null
  export RABBITMQ_ENABLED_PLUGINS_FILE=$folder/broker/enabled_plugins
  export RABBITMQ_MNESIA_BASE=$folder/broker/data
  export RABBITMQ_LOG_BASE=$folder/broker
  RABBITMQ_DIST_PORT=$(<"$folder/broker/port.distribution")
  ERL_EPMD_PORT=$(<"$folder/broker/port.epmd")
  export RABBITMQ_DIST_PORT ERL_EPMD_PORT
  export ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
  export RABBITMQ_CTL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
  # Erlang keeps its cookie there.
  export HOME=$folder/broker
}

# Erlang may take a moment longer to be gone than the script around it, and the next start needs its port.
broker_silent() {
  ! port_answers "$(<"$folder/broker/port")"
}

# The listener opens last, so a broker that answers the AMQP protocol header is ready for work.
broker_answers() {
  local answer
  answer=$({
    exec 3<>"/dev/tcp/127.0.0.1/$(<"$folder/broker/port")" && printf 'AMQP\0\0\011\001' >&3 &&
      timeout 2 head -c 1 <&3 | od -An -tx1
  } 2>/dev/null)
  [ -n "$answer" ]
}
