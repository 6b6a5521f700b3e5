# shellcheck shell=bash
# Sourced. Installs the Debian packages that a script needs, or says which are missing.

# Installs those of the named packages that are missing. Returns 1, having said what to do, where that is not possible.
packages_need() {
  local package missing=()
  for package in "$@"; do
    package_is_there "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}. On Debian or Ubuntu:  sudo apt-get install ${missing[*]}" >&2
    return 1
  fi
  packages_install "${missing[@]}"
}

# Looks for the thing itself, not for Debian's record of it: it may have come another way.
package_is_there() {
  case $1 in
    rabbitmq-server) [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] ;;
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
    libfaketime) faketime_library >/dev/null ;;
    python3-pika) python_with_pika >/dev/null ;;
    prometheus) command -v promtool >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Prints where the library is that gives a process another clock.
faketime_library() {
  compgen -G '/usr/lib/*/faketime/libfaketime.so.1'
}

# Prints the Python that has pika. A developer's own python3 may stand before Debian's, for which the package is.
python_with_pika() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import pika' 2>/dev/null; then
      echo "$python"
      return 0
    fi
  done
  return 1
}

# One installer at a time: two runs may start together, and both write the policy file below.
packages_install() (
  exec 9>/var/lock/wechat-notifier-packages
  flock 9
  echo "installing: $*"
  trap packages_allow_services EXIT
  packages_forbid_services
  log=$(mktemp)
  if ! { apt-get -o DPkg::Lock::Timeout=300 -q update &&
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y --no-install-recommends install "$@"; } >"$log" 2>&1 9>&-; then
    tail -n 20 "$log" >&2
    echo "apt-get cannot install $*; its output is in $log" >&2
    return 1
  fi
  rm -f "$log"
)

# Debian starts a freshly installed server as a system service unless this file says no (exit code 101). Ours are
# private, and a developer's machine keeps the services it had. A policy that is already there stays as it is.
packages_forbid_services() {
  [ -e /usr/sbin/policy-rc.d ] && return 0
  printf '#!/bin/sh\n# wechat-notifier: packages are being installed\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
}

packages_allow_services() {
  if grep -qs 'wechat-notifier: packages are being installed' /usr/sbin/policy-rc.d; then
    rm -f /usr/sbin/policy-rc.d
  fi
}
