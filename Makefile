# What a developer types. `make` alone says what there is.

.DEFAULT_GOAL := help
.PHONY: help build run test lint bench clean plugins need-cargo

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Everything but the built-in plugins, which `make test-plugins` tests with a workspace of their own.
PLUGINS := --manifest-path plugins/Cargo.toml --target-dir $(TARGET)
EXAMPLES := $(wildcard examples/plugins/*/Cargo.toml)

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: plugins ## build the proxy, with the built-in plugins inside: $(TARGET)/release/staunch
	cargo build --release -p staunch

run: build ## build and start the demo: a proxy on 127.0.0.1:8080 before three origins
	$(TARGET)/release/staunch demo

test: plugins ## run all tests
	cargo test --workspace
	cargo test $(PLUGINS)
	for example in $(EXAMPLES); do cargo test --manifest-path $$example --target-dir $(TARGET) || exit; done

lint: plugins ## check format, lints and documentation
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path plugins/Cargo.toml
	for example in $(EXAMPLES); do cargo fmt --check --manifest-path $$example || exit; done
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $(PLUGINS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

bench: plugins ## measure the request path
	cargo bench --workspace

clean: ## remove all that was built
	cargo clean
	rm -rf "$(TARGET)/plugins"

plugins: need-cargo
	@plugins/build

need-cargo:
	@command -v cargo >/dev/null || { echo "There is no cargo here: install Rust 1.95 or newer from https://rustup.rs." >&2; exit 1; }
	@command -v cc >/dev/null || { echo "There is no C compiler here: install gcc (Debian: apt-get install gcc)." >&2; exit 1; }
