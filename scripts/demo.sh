#!/usr/bin/env bash
# Builds the command line and nothing else, runs the document pipeline, and checks what came out of it.
# Ends with 0 if every section but the deliberately damaged one was digested.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '\ndemo: FAILED: %s\n' "$@" >&2
    exit 1
}

scripts/install-deps.sh build
command -v python3 >/dev/null || fail "the handlers are Python: install python3"

echo "demo: building asya (a few minutes the first time, seconds after that)" >&2
cargo build --package asya
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

state="$target/demo"
results="$state/results.jsonl"
rm -rf "$state"
mkdir -p "$state"

printf '\ndemo: asya run examples/document-pipeline\n' >&2
code=0
"$target/debug/asya" run examples/document-pipeline --state-dir "$state" --timeout 2m >"$results" </dev/null || code=$?
case $code in
    1) ;; # The damaged section, if the check below agrees.
    0) fail "no section failed, but one is damaged on purpose; was examples/document-pipeline/data changed?" ;;
    3) fail "the pipeline was not done after 2 minutes; what it did so far is in $state" ;;
    130) exit 130 ;;
    *) fail "asya run ended with exit code $code, see above" ;;
esac

python3 scripts/check_demo.py "$state" "$results" || fail "the results are not the expected ones; they are in $state"
