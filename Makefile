# The only entry to the project: CI, too, runs `make test`. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
# sudo and cron drop these two from PATH
export PATH := $(PATH):/usr/local/go/bin:$(HOME)/.cargo/bin

# Demo and tests have clusters of their own; what the caller's shell points to must not matter to them.
unexport E2E_ID E2E_NET E2E_STATE E2E_S3 KUBEDR_LOCKED
ifneq ($(CLUSTER),current)
unexport KUBECONFIG
endif
# The same holds for what `eval "$$(make -s env)"` leaves in a shell.
PLAIN := env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_REGION -u RESTIC_REPOSITORY -u RESTIC_PASSWORD -u RESTIC_PASSWORD_FILE
RUN := $(PLAIN) KUBEDR_TOOLS="$$(e2e/cluster/build bin-dir)"
# The S3 server of the tests; only the command line sets it.
S3 := versitygw
ON_TEST_CLUSTER := $(PLAIN) E2E_ID=kubedr-test E2E_S3=$(S3) e2e/cluster/with-cluster
.NOTPARALLEL:
.PHONY: help demo demo-down kubeconfig env test preflight apt tools minio lint unit e2e e2e-long bench images push gen screenshot

help:
	@echo 'make TARGET, as root on Debian 12:'; sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r t d; do printf '  %-12s %s\n' $$t "$$d"; done

demo: ## a cluster, an S3 server and KubeDR, and its first backup (CLUSTER=current: your own cluster)
	@e2e/demo
demo-down: ## removes the demo's cluster and its S3 server, with the backups
	@e2e/cluster/down; e2e/cluster/s3 down
kubeconfig: ## prints the path of the demo cluster's kubeconfig
	@e2e/cluster/env kubeconfig
env: ## prints what a client of the demo needs: eval "$(make -s env)"
	@e2e/cluster/env

STEPS := preflight apt tools lint unit e2e
test: ## everything that proves the project: the six below, in this order
	@for step in $(STEPS); do \
	  printf '\n==== make %s\n' $$step; began=$$SECONDS; \
	  $(MAKE) $$step || { printf '\n==== %s FAILED after %s s\n' $$step $$((SECONDS - began)) >&2; exit 1; }; \
	  printf '==== %s passed in %s s\n' $$step $$((SECONDS - began)); \
	done; printf '\n==== make test passed in %s s\n' $$SECONDS
preflight: ## names what this machine lacks
	@e2e/cluster/preflight
apt: ## installs the Debian packages that are missing
	@e2e/cluster/build apt prometheus
tools: ## Kubernetes, etcd, Helm and the S3 server, compiled once
	@e2e/cluster/build bin images
minio: tools ## the S3 server of `make e2e S3=minio`, compiled once
	@e2e/cluster/build minio
lint: ## formatting, clippy, generated files, who imports whom
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo xtask gen --check
	cargo xtask deps
# Everywhere cargo is given targets, never packages: with a package's name it would take the features which that package
# alone asks for, and compile what all share once more.
# Two for each processor: they wait for servers and time limits as long as they work.
UNIT := $(RUN) RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))} cargo test --release --workspace
# Of kubedr-e2e what is in its library; its other tests need the cluster.
unit: ## the tests that need no cluster; they start etcd and S3 servers of their own
	$(UNIT) --lib
	$(UNIT) --exclude kubedr-e2e --bins --test '*'
ifeq ($(S3),minio)
E2E := --test e2e --test secrets
# Left out: what has nothing to do with S3; the pages, which `make e2e` runs against the other server; and the one test that needs a
# second account, since MinIO's program has no commands that make one.
E2E_SKIP := -- $(patsubst %,--skip %,admission:: guides:: input:: schedule:: chart:: start:: somebody_elses_bucket_is_refused)
E2E_ARGS = $(if $(filter --,$(ARGS)),$(patsubst --,$(E2E_SKIP),$(ARGS)),$(ARGS) $(E2E_SKIP))
else
# The pages of `--test guides` are a test of `--test e2e` too, beside the others.
E2E := --test e2e --test secrets --test uninstall
E2E_ARGS = $(ARGS)
endif
# Six at a time: they mostly wait for the cluster.
e2e: images $(filter minio,$(S3)) ## the tests on a cluster of their own, which is removed afterwards (KEEP=1 leaves it; S3=minio)
	cargo test --release $(E2E) --no-run
	$(ON_TEST_CLUSTER) env RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} cargo test --release $(E2E) $(E2E_ARGS)
e2e-long: images ## a new admin's whole path: README, first backup, the cluster lost and brought back (not in `make test`)
	cargo build --release --bin kubedrctl
	$(ON_TEST_CLUSTER) e2e/long
bench: images ## backup, restore and retention over 500 backups beside restic; the operator's memory (ARGS='backup retention operator')
	cargo build --release --bin bench
	$(ON_TEST_CLUSTER) cargo run --release --bin bench -- $(ARGS)

images: tools ## compiles and packs the two images
	@e2e/cluster/image build; e2e/cluster/image env
push: images ## pushes them: make images push IMAGE_REGISTRY=registry.example.com/kubedr
	@e2e/cluster/image push
gen: ## writes CRDs and reference pages anew
	cargo xtask gen
screenshot: ## draws what `kubedrctl status` shows of the running demo into docs/images
	@environment=$$(e2e/cluster/env); kubeconfig=$$(e2e/cluster/env kubeconfig); eval "$$environment"; \
	KUBECONFIG=$$kubeconfig cargo xtask screenshot docs/images/kubedrctl-status.svg "$$KUBEDRCTL" status
