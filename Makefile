# What a person or CI does with this repository. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help test lint fmt deps clients bench demo

CARGO ?= cargo
BENCH_SECONDS ?= 0.3
# Tests wait more than they compute: for browsers, clocks and databases.
TEST_THREADS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))

help: ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# Doc tests first, so that the runner's summary is the last thing on the screen.
test: deps ## install what the tests need, then run every test
	$(CARGO) test --doc --quiet
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run --no-fail-fast --test-threads $(TEST_THREADS); \
	else \
	    $(CARGO) test --no-fail-fast --lib --bins --tests; \
	fi

lint: ## formatting, clippy, and the dependency rules if cargo-deny is there
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --log-level error check bans licenses sources; \
	else \
	    echo 'cargo-deny is not installed: dependency rules not checked'; \
	fi

fmt: ## format the source
	$(CARGO) fmt --all

deps: ## install the tools and clients that the tests use (Debian, or what is missing elsewhere)
	@scripts/deps

clients: deps ## only the tests with real clients: curl, Python, Node, git, gRPC
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run --no-fail-fast --test clients; \
	else \
	    $(CARGO) test --no-fail-fast --test clients; \
	fi

bench: ## measure against direct, bare hyper, and nginx and squid if installed
	$(CARGO) build --profile profiling --bin countersign
	BENCH_SECONDS=$(BENCH_SECONDS) $(CARGO) bench --profile profiling --bench proxy

demo: ## a fake API and countersign on loopback, one request shown end to end
	$(CARGO) run --release -- demo
