//! Guests for tests, written in WAT by hand: no toolchain is needed, and they may misbehave as they like.
//!
//! A guest is a core module with the canonical ABI's names. Its memory is a page; the first 1 KiB is for results and
//! data of the guest, and what the host passes is put behind it, over and over again.

/// The beginning of a name of an interface of the contract.
const PACKAGE: &str = "staunch:plugin";

/// A module under construction.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    imports: String,
    functions: String,
    configure: Option<String>,
    pages: u32,
    version: &'static str,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self { imports: String::new(), functions: String::new(), configure: None, pages: 1, version: "0.1.0" }
    }

    /// A balancer whose `pick` has this body: parameters `$key?` i32, `$key` i64, `$random` i64, `$now` i64,
    /// `$attempt` i32, `$previous?` i32, `$previous` i32; it may end with a call of `$endpoint` or `$unavailable`.
    pub(crate) fn balancer(pick: &str) -> Self {
        Self::new().with_balancer("", "", pick)
    }

    /// The same with bodies for `update` (`$version` i64, `$list` i32, `$length` i32) and `change` (`$list`,
    /// `$length`).
    pub(crate) fn with_balancer(self, update: &str, change: &str, pick: &str) -> Self {
        self.export("balancer", "update", "(param $version i64) (param $list i32) (param $length i32)", update)
            .export("balancer", "change", "(param $list i32) (param $length i32)", change)
            .export(
                "balancer",
                "pick",
                "(param $key? i32) (param $key i64) (param $random i64) (param $now i64) (param $attempt i32)
                 (param $previous? i32) (param $previous i32) (result i32)",
                pick,
            )
            .function(
                "(func $endpoint (param $id i32) (result i32)
                   (i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (local.get $id)) (i32.const 0))
                 (func $unavailable (result i32)
                   (i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 0)) (i32.const 0))",
            )
    }

    /// A retry policy whose `decide` has this body: parameters `$outcome` and `$detail` i32, `$endpoint`,
    /// `$attempt`, `$method`, `$sent` i32, `$elapsed` i64 and so on. It ends with `$again` or `$give_up`.
    pub(crate) fn retry(decide: &str) -> Self {
        Self::new()
            .export(
                "retry",
                "decide",
                "(param $outcome i32) (param $detail i32) (param $endpoint i32) (param $attempt i32)
                 (param $method i32) (param $sent i32) (param $elapsed i64) (param $remaining? i32)
                 (param $remaining i64) (param $budget i32) (param $after? i32) (param $after i64)
                 (param $random i64) (result i32)",
                decide,
            )
            .function(
                "(func $again (param $delay i64) (param $elsewhere i32) (result i32)
                   (i32.store (i32.const 0) (i32.const 1)) (i64.store (i32.const 8) (local.get $delay))
                   (i32.store (i32.const 16) (local.get $elsewhere)) (i32.const 0))
                 (func $give_up (result i32) (i32.store (i32.const 0) (i32.const 0)) (i32.const 0))",
            )
    }

    /// A rewriter of requests whose `on-request` has this body: parameters `$wanted` and `$length` i32. It ends with
    /// `$proceed`, or with `$fields` after calls of `$set` for each edit.
    pub(crate) fn request_rewriter(body: &str) -> Self {
        Self::new().with_rewriter("request", body)
    }

    pub(crate) fn response_rewriter(body: &str) -> Self {
        Self::new().with_rewriter("response", body)
    }

    fn with_rewriter(self, side: &str, body: &str) -> Self {
        let parameters = "(param $wanted i32) (param $length i32) (result i32)";
        self.export(&format!("{side}-rewriter"), &format!("on-{side}"), parameters, body).function(
            "(global $edits (mut i32) (i32.const 0))
             (func $proceed (result i32) (i32.store (i32.const 0) (i32.const 0)) (i32.const 0))
             ;; An edit that sets the header named at $name to the value at $value. Edits stand from 256 on.
             (func $set (param $name i32) (param $name_length i32) (param $value i32) (param $value_length i32)
               (local $at i32)
               (local.set $at (i32.add (i32.const 256) (i32.mul (global.get $edits) (i32.const 20))))
               (i32.store (local.get $at) (i32.const 0))
               (i32.store offset=4 (local.get $at) (local.get $name))
               (i32.store offset=8 (local.get $at) (local.get $name_length))
               (i32.store offset=12 (local.get $at) (local.get $value))
               (i32.store offset=16 (local.get $at) (local.get $value_length))
               (global.set $edits (i32.add (global.get $edits) (i32.const 1))))
             (func $fields (result i32)
               (i32.store (i32.const 0) (i32.const 1))
               (i32.store (i32.const 4) (i32.const 256))
               (i32.store (i32.const 8) (global.get $edits))
               (global.set $edits (i32.const 0))
               (i32.const 0))",
        )
    }

    /// Imports a function as `$name`.
    pub(crate) fn import(mut self, interface: &str, name: &str, signature: &str) -> Self {
        let version = self.version;
        self.imports +=
            &format!("(import \"{PACKAGE}/{interface}@{version}\" \"{name}\" (func ${name} {signature}))\n");
        self
    }

    /// Imports a function from anywhere.
    pub(crate) fn import_from(mut self, module: &str, name: &str, signature: &str) -> Self {
        self.imports += &format!("(import \"{module}\" \"{name}\" (func ${name} {signature}))\n");
        self
    }

    pub(crate) fn export(mut self, interface: &str, name: &str, parameters: &str, body: &str) -> Self {
        let version = self.version;
        self.functions += &format!("(func (export \"{PACKAGE}/{interface}@{version}#{name}\") {parameters}\n{body})\n");
        self
    }

    /// Anything else a module may have.
    pub(crate) fn function(mut self, text: &str) -> Self {
        self.functions += text;
        self
    }

    /// The body of `configure`. It ends with the address of its result: 0, where `ok` stands unless it was changed.
    pub(crate) fn configure(mut self, body: &str) -> Self {
        self.configure = Some(body.to_owned());
        self
    }

    pub(crate) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// The contract's version, for what is added from now on.
    pub(crate) fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn wat(self) -> String {
        let configure = self.configure.clone().unwrap_or_else(|| "(i32.const 0)".into());
        let Self { imports, functions, pages, .. } = self.export("lifecycle", "configure", "(result i32)", &configure);
        format!(
            "(module {imports}
               (memory (export \"memory\") {pages})
               (func (export \"cabi_realloc\") (param $old i32) (param $size i32) (param $align i32) (param $new i32)
                 (result i32)
                 (local $at i32)
                 (local.set $at (global.get $next))
                 (if (i32.gt_u (i32.add (local.get $at) (local.get $new)) (i32.const 60000))
                   (then (local.set $at (i32.const 1024))))
                 (global.set $next
                   (i32.and (i32.add (i32.add (local.get $at) (local.get $new)) (i32.const 15)) (i32.const -16)))
                 (local.get $at))
               (global $next (mut i32) (i32.const 1024))
               {functions})"
        )
    }
}
