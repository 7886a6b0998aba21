#!/bin/sh
# Installs what drydock needs on a fresh Debian (12 or later) and is missing.
#
#   build/setup.sh demo   what "make build" and "make demo" need
#   build/setup.sh test   that, and what "make test" needs (the default); also the
#                         nats CLI, which is built (build/natscli)
#
# As root it asks nothing; otherwise it uses sudo if there is one, else it says
# what to install and ends with status 1. A MariaDB, SSH or Prometheus service
# that comes with a package installed here is neither started nor enabled; one
# that was there before is left alone.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin

# need THING PACKAGE notes the package unless the command or file is there.
missing=
need() {
	case $1 in
	/*) [ -e "$1" ] && return ;;
	*) command -v "$1" >/dev/null && return ;;
	esac
	case " $missing " in
	*" $2 "*) ;;
	*) missing="${missing:+$missing }$2" ;;
	esac
}

needs_of_demo() {
	need mariadbd mariadb-server
	need mariadb-install-db mariadb-server
	need mariadb mariadb-client
	need mariadb-check mariadb-client
	need my_print_defaults mariadb-client
	need mariadb-backup mariadb-backup
	need mbstream mariadb-backup
	need socat socat
	need openssl openssl
	need gzip gzip
	need zstd zstd
	need go golang-go
	need /etc/ssl/certs/ca-certificates.crt ca-certificates # for the Go module proxy
}

needs_of_test() {
	need shellcheck shellcheck
	need /usr/sbin/sshd openssh-server
	need mydumper mydumper
	need restic restic
	need age age
	need curl curl
	need promtool prometheus # rules of docs/prometheus
	need chromium chromium
	need gcc gcc # the race detector is linked with cgo
	need /usr/include/stdlib.h libc6-dev
}

# as_root COMMAND... runs a command as root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

cannot() {
	echo "setup: $1; please install: $missing" >&2
	exit 1
}

# While this file exists, Debian's packages start no service.
policy=/usr/sbin/policy-rc.d
forbidden= # set while the file is ours

forbid_services() {
	if [ -e "$policy" ]; then
		return # somebody else's; quiet_service covers what it lets through
	fi
	forbidden=yes
	trap allow_services EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
}

allow_services() {
	[ -z "$forbidden" ] || as_root rm -f "$policy"
	forbidden=
	trap - EXIT HUP INT TERM
}

# quiet_service NAME stops and disables the service of a server we just installed.
quiet_service() {
	if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
		as_root systemctl disable --now --quiet "$1.service"
	elif [ -x "/etc/init.d/$1" ]; then
		as_root update-rc.d "$1" disable >/dev/null 2>&1 || true
		as_root "/etc/init.d/$1" stop >/dev/null 2>&1 || true
	fi
}

install_missing() {
	command -v apt-get >/dev/null || cannot "this is not Debian"
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || cannot "not root, and no sudo"
	fi
	echo "setup: installing $missing"
	forbid_services
	as_root apt-get -qq update
	# shellcheck disable=SC2086 # one word per package
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends $missing
	case " $missing " in
	*" mariadb-server "*)
		quiet_service mariadb
		echo "setup: the mariadb service is neither running nor enabled; drydock starts its own servers"
		;;
	esac
	case " $missing " in
	*" openssh-server "*)
		quiet_service ssh
		echo "setup: the ssh service is neither running nor enabled; the tests start their own"
		;;
	esac
	case " $missing " in
	*" prometheus "*)
		quiet_service prometheus
		echo "setup: the prometheus service is neither running nor enabled; the tests only need its promtool"
		;;
	esac
	allow_services
}

case ${1:-test} in
demo) needs_of_demo ;;
test) needs_of_demo && needs_of_test ;;
*)
	echo "usage: build/setup.sh [demo|test]" >&2
	exit 2
	;;
esac

if [ -n "$missing" ]; then
	install_missing
fi
cd "$here/.." # inside the module, so that go takes the version it asks for
version=$("$here/go" env GOVERSION)
if [ "${1:-test}" = test ]; then
	"$here/natscli" >/dev/null # now, so that no test waits for it
fi
echo "setup: all there (${version})"
