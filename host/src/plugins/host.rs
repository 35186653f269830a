//! The plugin host of a process, and the plugins it has loaded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::InstancePre;

use crate::config::{OnFailure, Settings};
use crate::plugins::Kind;
use crate::plugins::cache::CodeCache;
use crate::plugins::clock::Clock;
use crate::plugins::compiler::{Compiled, Compiler, Origin, hex};
use crate::plugins::engine::Ticker;
use crate::plugins::error::PluginError;
use crate::plugins::inspect::Exports;
use crate::plugins::instance::State;
use crate::plugins::rebuild::Builder;
use crate::plugins::uses::{Surroundings, Use};

/// Loads plugins. One for each process; clones are the same host.
#[derive(Clone)]
pub struct PluginHost {
    host: Arc<Host>,
    cache: Option<CodeCache>,
}

pub(super) struct Host {
    pub(super) ticker: Ticker,
    pub(super) clock: Clock,
    pub(super) builder: Builder,
    /// Whether instructions are counted.
    pub(super) metered: bool,
    compiler: Arc<Compiler>,
}

/// What one call of a plugin may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// CPU time of one pick, decision or rewriting; `None`: 10 ms, 20 ms for a rewriter.
    pub deadline: Option<Duration>,
    /// Bytes of memory and tables of one instance.
    pub memory: usize,
    /// Bytes of the values that the instances of one use share.
    pub shared: usize,
    pub on_failure: Option<OnFailure>,
    /// The share of a worker's time that one use may have on it, from 0 to 1; `None`: all of it.
    pub cpu: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: None, memory: 64 * 1024 * 1024, shared: 1024 * 1024, on_failure: None, cpu: None }
    }
}

/// A loaded plugin; clones are the same one.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

struct Loaded {
    name: Arc<str>,
    limits: Limits,
    compiled: Arc<Compiled>,
    host: Arc<Host>,
}

impl PluginHost {
    /// # Errors
    /// When this machine has no support for compiled code, or no thread can be started.
    pub fn new() -> Result<Self, PluginError> {
        Self::with(Compiler::of_process()?, false)
    }

    /// A host whose plugins run slower and count the instructions of each call, for a [`Simulation`](crate::plugins::Simulation) to tell;
    /// a call has half as much time again.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn metered() -> Result<Self, PluginError> {
        Self::with(Arc::new(Compiler::new(true)?), true)
    }

    fn with(compiler: Arc<Compiler>, metered: bool) -> Result<Self, PluginError> {
        let ticker = Ticker::start(compiler.engine())?;
        let builder = Builder::start()?;
        let host = Arc::new(Host { ticker, clock: Clock::start(), builder, metered, compiler });
        Ok(Self { host, cache: None })
    }

    /// The same host, which takes compiled plugins from a folder and keeps there what it compiles.
    #[must_use]
    pub fn with_cache(self, cache: Option<CodeCache>) -> Self {
        Self { cache, ..self }
    }

    /// Makes a plugin of a file's bytes: compiles it, unless the same bytes are in use already or in the cache, and looks
    /// at what it imports and exports. Takes up to seconds for large components. `name` is for messages and metrics.
    ///
    /// # Errors
    /// When the bytes are no plugin that this proxy can serve; the message says what to do.
    pub fn load(&self, name: &str, bytes: &[u8], limits: Limits) -> Result<Plugin, PluginError> {
        let compiled = self.host.compiler.compile(name, bytes, self.cache.as_ref())?;
        Ok(Plugin(Arc::new(Loaded { name: name.into(), limits, compiled, host: self.host.clone() })))
    }
}

impl Plugin {
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The SHA-256 of the file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.compiled.digest
    }

    /// The beginning of the digest, for a line of a log.
    pub fn short_digest(&self) -> &str {
        let digest = self.digest();
        digest.get(..12).unwrap_or(digest)
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.0.compiled.size
    }

    /// Where its code is from.
    pub fn origin(&self) -> Origin {
        self.0.compiled.origin
    }

    pub fn exports(&self) -> Exports {
        self.0.compiled.inspected.exports
    }

    /// The interfaces it imports, sorted, each with its version.
    pub fn imports(&self) -> &[String] {
        &self.0.compiled.inspected.imports
    }

    /// The version of the contract it was built for ("0.1.0").
    pub fn contract(&self) -> &str {
        &self.0.compiled.inspected.contract
    }

    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// A place where this plugin decides, shared by all workers. `name` is for messages ("upstream api: balance").
    ///
    /// # Errors
    /// When the plugin is of another kind.
    pub fn use_as(&self, kind: Kind, name: &str, settings: &Settings) -> Result<Use, PluginError> {
        self.use_in(kind, name, settings, Surroundings::default())
    }

    /// The same for a plugin that may reach what is around it.
    ///
    /// # Errors
    /// When the plugin is of another kind.
    pub fn use_in(
        &self,
        kind: Kind,
        name: &str,
        settings: &Settings,
        around: Surroundings,
    ) -> Result<Use, PluginError> {
        self.check_kind(kind)?;
        Ok(Use::new(self.clone(), kind, name, settings.clone(), around))
    }

    pub(super) fn check_kind(&self, kind: Kind) -> Result<(), PluginError> {
        if self.exports().offers(kind) {
            return Ok(());
        }
        let kinds: Vec<_> = self.exports().kinds().map(|kind| format!("a {kind}")).collect();
        Err(PluginError::Kind { plugin: self.name().to_owned(), wanted: kind, offers: kinds.join(" and ") })
    }

    pub(super) fn host(&self) -> &Host {
        &self.0.host
    }

    pub(super) fn pre(&self) -> &InstancePre<State> {
        &self.0.compiled.pre
    }

    /// Whether it leaves a part of the decision to a balancer behind it.
    pub fn delegates(&self) -> bool {
        self.0.compiled.inspected.delegates
    }

    /// Whether it imports a function that tells times to a response head.
    pub(super) fn reads_latency(&self) -> bool {
        self.0.compiled.inspected.reads_latency
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing can be called any more: every instance holds its use, and every use this host.
        self.ticker.stop();
    }
}

impl fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginHost").finish_non_exhaustive()
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.0.name).field("digest", &self.digest()).finish_non_exhaustive()
    }
}

/// Checks a plugin file against the digest that a configuration gives.
///
/// # Errors
/// When it is another file.
pub fn verify_digest(name: &str, bytes: &[u8], expected: &[u8; 32]) -> Result<(), PluginError> {
    let found = Sha256::digest(bytes);
    if found[..] == expected[..] {
        return Ok(());
    }
    Err(PluginError::Digest { plugin: name.to_owned(), expected: hex(expected), found: hex(&found) })
}
