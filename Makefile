# Each target is one line that runs a program; the programs say what they do when asked for --help.

TESTBED = cargo build --workspace --bins && target/debug/testbed

.PHONY: demo test check bench fuzz sqlx-prepare up down

demo: ## the whole way of a few pods, told as it happens
	$(TESTBED) demo

test: ## every test, the end-to-end ones on a real control plane and a real Postgres
	$(TESTBED) run -- .ci/test

check: ## formatting, lints, documents, licences, layers
	.ci/check

bench: ## the rate of the port allocator, from an empty pool to a full one and to a million leases; some five minutes
	$(TESTBED) run -- cargo bench -p waygate-store --bench allocation

fuzz: ## hostile input for every parser, FUZZ_SECONDS (60) a target; needs nightly Rust and cargo-fuzz
	fuzz/run

sqlx-prepare: ## renews store/.sqlx, after a statement or a migration changed
	cargo build --bin testbed && target/debug/testbed run -- target/debug/testbed queries

up: ## the whole stack in the background; its addresses are in target/testbed/env
	$(TESTBED) up

down: ## ends what `up` started
	target/debug/testbed down
