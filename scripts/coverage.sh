#!/usr/bin/env bash
# Line coverage of the Rust tests, as a table here and as HTML below the target directory.
# Installs cargo-llvm-cov with cargo, and its llvm-tools with rustup, when they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo llvm-cov --version >/dev/null 2>&1; then
    echo "coverage: installing cargo-llvm-cov (some minutes, once)" >&2
    cargo install --locked cargo-llvm-cov
fi
if command -v rustup >/dev/null; then
    rustup component add llvm-tools >/dev/null
elif [ -z "${LLVM_COV:-}" ] || [ -z "${LLVM_PROFDATA:-}" ]; then
    echo "coverage: without rustup, set LLVM_COV and LLVM_PROFDATA to the tools of this Rust's LLVM version" >&2
    exit 1
fi

cargo llvm-cov --workspace --exclude asya-benches --no-report
cargo llvm-cov report --html
cargo llvm-cov report --summary-only
