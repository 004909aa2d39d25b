# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help demo local test check contract bench figures soak mutants build invoke package deploy alerts key audit clean

PYTHON ?= python3
LOCAL := $(PYTHON) tests/local/bootstrap.py
# The vendor's Python client, 170 MB: only tests need it.
VENDOR := .local/contract/python/bin/python
FN ?= random-percentage
EVENT ?=
# Which installation has no default: nobody updates production by leaving a word out.
STAGE ?=
ARCH ?= arm64
RELEASE = target/release-packages/$(shell $(PYTHON) infra/release/checkout.py $(ARCH))
DEPLOY = $(PYTHON) infra/release/deploy.py
DENY := .local/cargo-deny-0.20.2
CHECK ?= licenses bans sources
# Where the contract was generated from, if it is here.
SPEC ?= ../shared/genesys/publicapi-excerpt.json

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: need ## play a healthy and a broken rollout on a local stack; STRATEGY=traffic-cop (default), pointer, in-flow or publish-watch
	@echo "▸ install the local tools (once)" && $(LOCAL)
	@echo "▸ build (the first time this takes some minutes)" && cargo build --workspace --bins --locked
	@$(PYTHON) tests/local/demo.py $(if $(STRATEGY),--strategy $(STRATEGY)) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep)

local: need ## a local stack with callers on which time runs, to try `serin` on: . .local/env in another terminal; SPEED=1.5 minutes a second
	@echo "▸ install the local tools (once)" && $(LOCAL)
	@echo "▸ build (the first time this takes some minutes)" && cargo build --workspace --bins --locked
	@$(PYTHON) tests/local/playground.py $(if $(SPEED),--speed $(SPEED)) $(if $(SEED),--seed $(SEED))

test: need ## everything that must hold
	cargo fmt --all --check
	@echo "▸ install what the tests need, while the compiler runs" && mkdir -p .local
	@set -m; $(LOCAL) --all > .local/install.log 2>&1 & installing=$$!; \
	  set +m; trap 'kill -- -$$installing 2>/dev/null || :' EXIT; \
	  set -x; cargo clippy --workspace --all-targets --locked -- -D warnings; cargo build --workspace --bins --locked; \
	  cargo test --workspace --locked --quiet; cargo build --release -p random-percentage --locked; set +x; \
	  wait $$installing || { cat .local/install.log >&2; exit 1; }
	$(LOCAL) -m pytest -q -n 3 --dist loadfile tests/local --ignore tests/local/test_vendor_client.py
	$(VENDOR) -m pytest -q tests/local/test_vendor_client.py

check: need ## the fast part: formatting, lints, tests in process
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked --quiet

contract: need ## both of the vendor's own clients against the simulator, and the contract against its source (the first time installs 280 MB)
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "node or npm is missing: install Node.js 20 or newer, see https://nodejs.org" >&2; exit 1; }
	@if test -f "$(SPEC)"; then $(PYTHON) tests/local/contract/generate.py --check "$(SPEC)"; \
	  else echo "▸ $(SPEC) is not here: the committed contract is not compared with its source"; fi
	cargo build -p serin-simulator --locked
	@$(LOCAL) --all
	@mkdir -p .local/contract/js && cp tests/local/contract/package*.json .local/contract/js/
	@npm ci --prefix .local/contract/js --ignore-scripts --no-audit --no-fund --silent
	cargo test -p serin-simulator -p serin-genesys --locked --quiet --test contract
	$(VENDOR) -m pytest -q tests/local/test_vendor_client.py

bench: need ## what takes minutes: the sequential judge's guarantee over 40,000 rollouts, the time and memory of a tick, what ticks of many rollouts ask of the vendor, how long callers wait for containment and restoration (RUNS=200), how long people wait for `serin`, and what a phone call waits for
	cargo test --release -p serin-core --locked -- --ignored --nocapture
	cargo bench -p serin-core --locked --features bench --bench judge
	cargo test -p serin-acceptance --locked --test fleet --test restoration -- --ignored --nocapture
	$(LOCAL) && cargo build --workspace --bins --locked
	@$(PYTHON) tests/local/times.py $(if $(RUNS),--runs $(RUNS))
	cargo build --release -p serin-cli --locked
	@$(PYTHON) tests/local/tool_times.py
	@$(MAKE) --no-print-directory figures

# Each alone: built together, the endpoint would get the features that the other asks for.
figures: need ## the part of `make bench` about the endpoint: beside Python and Node.js, then minutes of load; writes docs/performance.md (LOAD=60: seconds)
	cargo build --release -p random-percentage --locked
	cargo build --release -p serin-stopwatch --locked
	@$(PYTHON) tests/local/endpoint_bench.py $(if $(LOAD),--seconds $(LOAD))

soak: need ## the soup of faults with many seeds and months of releases on twenty flows, for some minutes: SOUP_SEEDS=3000
	SOUP_SEEDS=$(or $(SOUP_SEEDS),3000) MONTH_FLOWS=20 MONTH_SEEDS=5 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	  cargo test --release --workspace --locked --quiet --test laws --test month -- --nocapture \
	  | awk '/port calls in/ { met = $$0; next } { print } END { print met }'

mutants: need ## seeded bugs, each of which a test must catch: MUTANTS="lease row" for those alone
	@$(PYTHON) tests/local/mutants.py $(MUTANTS)

build: need ## all binaries, in the profile the local stack uses
	cargo build --workspace --bins --locked

invoke: build ## send one event to one function: make invoke FN=canary-evaluator EVENT=events/canary-evaluator.json
	@$(PYTHON) tests/local/invoke.py $(FN) $(EVENT)

package: need ## a release in target/release-packages: zips for Lambda, bills of materials, checksums; the same bytes for the same commit (ARCH=x86_64 for the other architecture)
	@$(LOCAL) --package infra/release/package.py $(ARCH)

# Everything that can be refused is refused before the half hour that a release takes. PARAMETERS reaches Python as it was written, past the shell.
deploy alerts key: export PARAMETERS_GIVEN = $(PARAMETERS)
deploy: ## deploy to AWS with the SAM CLI: make deploy STAGE=prod GENESYS_API=https://api.mypurecloud.com PARAMETERS="NotifyEmail=… KeyArn=…"; parameters not given keep their values; PACKAGE=folder deploys a release that is there
	@$(if $(PACKAGE),:,$(DEPLOY) serin --check-only --stage "$(STAGE)" --genesys-api "$(GENESYS_API)" --parameters "$$PARAMETERS_GIVEN")
	@$(if $(PACKAGE),:,$(MAKE) --no-print-directory package)
	@$(DEPLOY) serin --stage "$(STAGE)" --package "$(or $(PACKAGE),$(RELEASE))" --genesys-api "$(GENESYS_API)" --parameters "$$PARAMETERS_GIVEN"

alerts: ## one more target of alerts on AWS, after its secret is stored: make alerts STAGE=prod TARGET=oncall
	@$(DEPLOY) alerts --stage "$(STAGE)" --target "$(TARGET)" --parameters "$$PARAMETERS_GIVEN"

key: ## a customer key for the ledger, queues and topics, before the first deployment: make key STAGE=prod
	@$(DEPLOY) key --stage "$(STAGE)" --parameters "$$PARAMETERS_GIVEN"

audit: need $(DENY)/bin/cargo-deny ## licences, banned crates and sources of all dependencies, by cargo-deny (the first time builds it, some minutes); CHECK=advisories looks up known vulnerabilities
	$(DENY)/bin/cargo-deny --locked check $(CHECK)

clean: ## remove what was built and installed here, releases too
	rm -rf target .local

.PHONY: need
need:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.94.1 or newer, see https://rustup.rs" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=… if it has another name" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@command -v cc >/dev/null && command -v strip >/dev/null || { echo "a C compiler and strip are missing: on Debian and Ubuntu, apt-get install gcc libc6-dev" >&2; exit 1; }

$(DENY)/bin/cargo-deny:
	cargo install cargo-deny --version $(DENY:.local/cargo-deny-%=%) --locked --root $(DENY)
