#!/usr/bin/env bash
# Builds asya, asya-sidecar and asya-gateway and runs a command with them on the PATH, beside a RabbitMQ node of its own. The command
# finds the node in ASYA_RABBITMQ_URL and RABBITMQ_API, and this source tree in CHECKOUT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With a test, so that dependencies have the features with which `make test` has built them.
cargo build --workspace --exclude asya-benches --test e2e \
    --bin asya --bin asya-sidecar --bin asya-gateway --bin asya-operator --bin native-echo --bin with-rabbitmq
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
export CHECKOUT=$PWD PATH="$target/debug:$PATH"
exec with-rabbitmq "$@"
