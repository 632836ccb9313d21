#!/usr/bin/env bash
# Installs what Debian packages must provide, and only what is missing:
#   install-deps.sh build   a C compiler, which links Rust programs and compiles SQLite
#   install-deps.sh test    that, a Python 3.7 or newer that can make virtual environments, sqlite3, which the
#                           pages use to look into the queue, curl, and RabbitMQ and PostgreSQL, of which tests
#                           start servers of their own
#   install-deps.sh lint    that, and shellcheck
# Says nothing when everything is there. Rust itself is not installed: see https://rustup.rs.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }

cargo_works() { cargo --version >/dev/null 2>&1; }
make_works() { have make; }
compiler_works() { have cc && printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -fsyntax-only - 2>/dev/null; }
python_works() { have python3 && python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null; }
sqlite3_works() { have sqlite3; }
# Not the programs on PATH: those insist on the system's directories.
rabbitmq_works() { [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && have epmd && have openssl; }
# Only its programs: the service of the package stays as it is, and tests start clusters of their own.
postgresql_works() { have psql && { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }; }
curl_works() { have curl; }
shellcheck_works() { have shellcheck; }

packages_for() {
    case $1 in
        make) echo make ;;
        compiler) echo gcc libc6-dev ;;
        python) echo python3 python3-venv ;;
        sqlite3) echo sqlite3 ;;
        rabbitmq) echo rabbitmq-server openssl ;;
        postgresql) echo postgresql ;;
        curl) echo curl ;;
        shellcheck) echo shellcheck ;;
    esac
}

fail() {
    printf 'install-deps: %s\n' "$@" >&2
    exit 1
}

case ${1:-} in
    build) needs=(make compiler) ;;
    test) needs=(make compiler python sqlite3 rabbitmq postgresql curl) ;;
    lint) needs=(make compiler python shellcheck) ;;
    *) fail "say what for: build, test or lint" ;;
esac

cargo_works || fail "cargo is not on PATH; install Rust 1.95 or newer (https://rustup.rs), then try again"

missing=()
packages=()
for need in "${needs[@]}"; do
    if ! "${need}_works"; then
        missing+=("$need")
        read -ra more <<<"$(packages_for "$need")"
        packages+=("${more[@]}")
    fi
done
[ "${#missing[@]}" -gt 0 ] || exit 0

by_hand="install by hand, then try again: ${packages[*]}"
have apt-get || fail "missing: ${missing[*]}, and there is no apt-get here" "$by_hand"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    have sudo || fail "missing: ${missing[*]}, and neither root nor sudo is at hand" "$by_hand"
    # Ask for a password where somebody can type one; never hang where nobody can.
    as_root=(sudo)
    [ -t 0 ] || as_root+=(-n)
fi

log=$(mktemp)
# Tests start servers of their own, so the services of packages stay off while they are installed. A rule that is
# there already is the machine's and stays.
policy=/usr/sbin/policy-rc.d
our_policy=false
leave() {
    rm -f "$log"
    if $our_policy; then "${as_root[@]}" rm -f "$policy"; fi
}
trap leave EXIT
forbid_services() {
    [ ! -e "$policy" ] && [ -d "${policy%/*}" ] || return 0
    our_policy=true
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
}
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1
}

echo "install-deps: installing ${packages[*]}" >&2
# An update that fails in part may still suffice, so only the installation decides.
apt update || true
forbid_services
if ! apt install --yes --no-install-recommends "${packages[@]}"; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install them" "$by_hand"
fi
for need in "${missing[@]}"; do
    "${need}_works" || fail "$need still does not work after installing: $(packages_for "$need")"
done
