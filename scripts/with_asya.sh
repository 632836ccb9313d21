#!/usr/bin/env bash
# Builds asya and runs a command with it on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --package asya
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
PATH="$target/debug:$PATH" exec "$@"
