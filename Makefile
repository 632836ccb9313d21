# `make` explains itself; every target also works under `make -j` and without a terminal.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Cargo takes all cores for one target; two at once would only wait for each other.
.NOTPARALLEL:

# rustup's cargo, also where no login shell has put it on PATH.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# Where there is a Go toolchain an API server can be built, so tests that need one fail without it instead of being
# skipped; `make test ASYA_KUBE_REQUIRED=` where its modules are out of reach.
export ASYA_KUBE_REQUIRED ?= $(if $(shell command -v go),1)

# Every command of `make test` selects the same packages, since the selection decides about the features of their
# dependencies: with another one cargo builds them all once more.
SELECTED := --workspace --exclude asya-benches
# Tests of single crates. Whole-system tests have targets of their own.
CRATES := $(SELECTED) --exclude asya-tests

.PHONY: help demo build test test-unit test-integration test-e2e test-rabbitmq test-mcp test-cov lint lint-rust lint-files bench soak soak-local fuzz clean \
	deps-build deps-test deps-kube deps-lint

help: ## | Show this list
	@echo "Asya: actor pipelines of plain Python functions. Times on 2 idle cores; cold = nothing built or downloaded."
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)\| (.*)/\1|\2|\3/p' Makefile | \
		while IFS='|' read -r name time text; do printf '  make %-17s %-66s %s\n' "$$name" "$$text" "$$time"; done

demo: ## 10 s; cold 4 min | Build the command line, run the document pipeline, check its results
	@scripts/demo.sh

build: deps-build ## 1 min; cold 6 min | Build everything for development
	cargo build --workspace

test: test-unit test-integration test-e2e test-rabbitmq test-mcp ## 28 min; cold 45 min | Install what the tests need, run all tests

test-unit: deps-test ## 4 min | Unit and doc tests, the Python runtime, the example's handlers
	cargo test $(SELECTED) --lib --bins
	cargo test $(SELECTED) --doc
	runtime-protocol/python/check_versions.sh
	python3 -m unittest discover -s examples/document-pipeline/tests

test-integration: deps-test deps-kube ## 6 min; cold 12 min | Each crate against real sockets, processes, RabbitMQ, PostgreSQL and a Kubernetes API server
	cargo test $(CRATES) --test '*' -- --test-threads 4

test-e2e: deps-test deps-kube ## 6 min | The command line as a whole, and every command of the pages
	cargo test $(SELECTED) --test e2e --test sidecar --test charts -- --test-threads 4
	@scripts/with_asya.sh scripts/check_docs.py README.md docs/*.md docs/transports/*.md

test-rabbitmq: deps-test ## 5 min | Sidecars on throwaway RabbitMQ nodes through faults of all kinds, every message counted
	cargo test $(SELECTED) --test faults -- --test-threads 2

test-mcp: deps-test ## 2 min; cold 3 min | The official MCP conformance suite and a client in Python against the gateway
	tests/mcp/run.sh

test-cov: deps-test ## 10 min | Line coverage of the Rust tests; not part of CI
	@scripts/coverage.sh

lint: lint-rust lint-files ## 1 min; cold 4 min | Format, clippy, Python syntax, shell scripts, YAML

lint-rust: deps-build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

lint-files: deps-lint
	scripts/lint-files.sh

bench: deps-test ## 18 min; cold 34 min | Throughput, latency and memory at each hop, RabbitMQ and others; as ratios
	cargo run --release --package asya-benches --bin bench

soak: deps-test ## 20 min; cold 30 min | 200 000 envelopes on RabbitMQ and 220 kills of anything: nothing lost
	cargo run --release --package asya-benches --bin soak -- rabbitmq

soak-local: deps-test ## 10 min; cold 17 min | 100 000 envelopes on the embedded queue through repeated kill -9
	cargo run --release --package asya-benches --bin soak

FUZZ_SECONDS := 600
FUZZ_SEED := $(shell date +%s)
fuzz: deps-test ## 20 min | Broken and random frames for both ends of the runtime protocol, in Rust and in Python
	cargo run --release --package asya-runtime-protocol --example fuzz_frames -- --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)
	python3 runtime-protocol/python/tests/fuzz_frames.py --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

clean: ## | Remove everything that was built, the demo's results and caches
	cargo clean
	rm -rf .cache examples/*/.asya

deps-build deps-test:
	@scripts/install-deps.sh $(@:deps-%=%)

# The API server, etcd and helm are compiled once, from their Go modules; what cannot be had is said here, and the tests
# that need it are skipped and counted.
deps-kube:
	@tests/kube/tools.sh | sed -n 's/^missing /SKIPPING tests that need a Kubernetes API server: /p'

# A linter that cannot be installed is skipped, and lint-files.sh says so.
deps-lint: deps-test
	@scripts/install-deps.sh lint || true
