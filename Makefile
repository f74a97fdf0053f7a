# Each target is a line that runs a program; the programs explain themselves with --help.

# Builds Waygate and the control plane side by side, then calls the testbed.
TESTBED = tests/start

.PHONY: help demo test check fmt bench fuzz crds manifests docs sqlx-prepare up down
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## pods get addresses and give them back, each change printed as it happens
	$(TESTBED) demo

test: ## all tests, the end-to-end ones on a real control plane and a real Postgres
	$(TESTBED) run -- .ci/test

check: ## formatting, lints, documents, licences, unused dependencies, layers
	.ci/check

fmt: ## formats Rust and Go
	cargo fmt --all && cargo fmt --manifest-path fuzz/Cargo.toml && gofmt -w tests/controlplane tests/chart

bench: ## crowds, the port allocator and announcements of pods, each compared with its bound; about half an hour
	$(TESTBED) run -- cargo bench --profile dev --workspace --bench crowds
	$(TESTBED) run -- cargo bench -p waygate-store --bench allocation --bench announcements

fuzz: ## hostile input for every parser, FUZZ_SECONDS (60) a target; needs nightly Rust and cargo-fuzz
	fuzz/run

crds: ## writes manifests/crds.yaml, from the types in core/src/resources.rs
	UPDATE_MANIFESTS=1 cargo test -p waygate-core --test manifests

manifests: ## writes manifests/waygate.yaml, the installation without Helm, from manifests/chart
	UPDATE_MANIFESTS=1 cargo test -p testbed --test repository manifests

docs: ## writes docs/cloud-reasons.md, from the table in cloud/src/error/codes.rs
	UPDATE_DOCS=1 cargo test -p waygate-cloud --lib error::codes

sqlx-prepare: ## renews store/.sqlx, after a statement or a migration changed
	cargo build --bin testbed && target/debug/testbed run -- target/debug/testbed queries

up: ## the whole stack in the background, of two WORKERS and two WEBHOOKS; its addresses are in target/testbed/env
	$(TESTBED) up --workers $(or $(WORKERS),2) --webhooks $(or $(WEBHOOKS),2)

down: ## ends what `up` started
	target/debug/testbed down
