#!/usr/bin/env bash
# Builds asya, asya-sidecar and asya-gateway and runs a command with them on the PATH, beside a RabbitMQ node of its own. The command
# finds the node in ASYA_RABBITMQ_URL and RABBITMQ_API, and this source tree in CHECKOUT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --package asya --package asya-sidecar --package asya-gateway --package asya-tests --bins
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export CHECKOUT=$PWD PATH="$target/debug:$PATH"
exec with-rabbitmq "$@"
