# What a developer types; `make` alone says what there is.

.DEFAULT_GOAL := help
.PHONY: help build run test lint fuzz bench microbench instructions examples clean plugins need-rust need-lints

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The built-in plugins are a workspace of their own; natively they share the proxy's target directory.
PLUGINS := --manifest-path plugins/Cargo.toml --target-dir $(TARGET)
EXAMPLES := $(wildcard examples/plugins/*/Cargo.toml)

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: plugins ## build the proxy with the built-in plugins inside
	cargo build --release -p staunch

run: build ## build and start the demo: a proxy on 127.0.0.1:8080 with three origins
	$(TARGET)/release/staunch demo

test: plugins ## run all tests
	cargo test --workspace
	cargo test $(PLUGINS)
	for example in $(EXAMPLES); do cargo test --manifest-path $$example --target-dir $(TARGET) || exit; done

lint: plugins need-lints ## check format, lints and documentation
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path plugins/Cargo.toml
	for example in $(EXAMPLES); do cargo fmt --check --manifest-path $$example || exit; done
	CLIPPY_CONF_DIR="$(CURDIR)/tests" cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $(PLUGINS) --all-targets -- -D warnings
	for example in $(EXAMPLES); do \
	    cargo clippy --manifest-path $$example --target-dir $(TARGET) --all-targets -- -D warnings || exit; done
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

fuzz: plugins ## fuzz the parsers for a while
	host/fuzz/run

bench: build ## measure the proxy beside others, for README's table: tests/bench
	tests/bench/bench.py $(BENCH)

microbench: plugins ## time the parts of the request path
	cargo bench --workspace --bench '*'

instructions: plugins ## count the instructions of a request, which may not be many more than accepted
	tests/instructions/count.py --check

examples: ## build the example plugins, in every language
	examples/plugins/build

clean: ## remove all that was built
	cargo clean

plugins: need-rust
	@plugins/build

need-rust:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer, https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc" >&2; exit 1; }

need-lints:
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || \
	    { echo "rustfmt or clippy is missing: rustup component add rustfmt clippy" >&2; exit 1; }
