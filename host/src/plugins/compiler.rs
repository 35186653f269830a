//! Files become code, once for each file however many hosts and uses there are: compiled, or taken from a folder where an
//! earlier process has kept it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::plugins::cache::{CodeCache, Key};
use crate::plugins::error::PluginError;
use crate::plugins::inspect::{self, Inspected};
use crate::plugins::instance::State;
use crate::plugins::{builtin, engine, imports, load, reexport};

/// Compiles components for one engine.
pub(super) struct Compiler {
    engine: Engine,
    linker: Linker<State>,
    /// What is compiled and still in use, by digest.
    compiled: Mutex<HashMap<String, Weak<Compiled>>>,
    /// Built-in plugins, which are kept: a use of one often follows another.
    kept: Mutex<Vec<Arc<Compiled>>>,
}

/// A component ready to be instantiated.
pub(super) struct Compiled {
    pub(super) pre: InstancePre<State>,
    pub(super) inspected: Inspected,
    pub(super) digest: String,
    /// Bytes of the file.
    pub(super) size: usize,
    pub(super) origin: Origin,
}

/// Where this process has the code of a plugin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Compiled.
    Compiled,
    /// From the folder of compiled plugins.
    Cached,
}

impl Origin {
    /// As JSON tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Cached => "cached",
        }
    }
}

impl Compiler {
    /// The compiler of this process.
    pub(super) fn of_process() -> Result<Arc<Self>, PluginError> {
        static COMPILER: OnceLock<Arc<Compiler>> = OnceLock::new();
        match COMPILER.get() {
            Some(compiler) => Ok(compiler.clone()),
            // Who comes second drops what it has made.
            None => Self::new(false).map(|compiler| COMPILER.get_or_init(|| Arc::new(compiler)).clone()),
        }
    }

    /// A metered one makes code that counts its instructions.
    pub(super) fn new(metered: bool) -> Result<Self, PluginError> {
        let engine = engine::engine(metered)?;
        let linker = imports::linker(&engine).map_err(|error| PluginError::Engine { message: format!("{error:#}") })?;
        Ok(Self { engine, linker, compiled: Mutex::default(), kept: Mutex::default() })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What a file's bytes become: compiled now, unless the same bytes are in use already or the cache has them.
    pub(super) fn compile(
        &self,
        name: &str,
        bytes: &[u8],
        cache: Option<&CodeCache>,
    ) -> Result<Arc<Compiled>, PluginError> {
        let digest = digest(bytes);
        if let Some(known) = self.compiled.lock().get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let compiled = Arc::new(self.compile_anew(name, bytes, digest, cache)?);
        let mut all = self.compiled.lock();
        all.retain(|_, other| other.strong_count() > 0);
        all.insert(compiled.digest.clone(), Arc::downgrade(&compiled));
        if builtin::contains(bytes) {
            self.kept.lock().push(compiled.clone());
        }
        Ok(compiled)
    }

    fn compile_anew(
        &self,
        name: &str,
        bytes: &[u8],
        digest: String,
        cache: Option<&CodeCache>,
    ) -> Result<Compiled, PluginError> {
        let given = load::component(name, bytes)?;
        let quicker = reexport::imported(&given);
        let binary = quicker.as_deref().unwrap_or(&given);
        let cache = cache.map(|cache| (cache, Key::of(binary, &self.engine)));
        let (component, origin) = match cache.and_then(|(cache, key)| cache.load(&key, &self.engine)) {
            Some(component) => (component, Origin::Cached),
            // What is wrong is to be told of the file that was given.
            None => (self.component(name, binary).or_else(|_| self.component(name, &given))?, Origin::Compiled),
        };
        let inspected = inspect::component(name, &component)?;
        let pre = (self.linker.instantiate_pre(&component))
            .map_err(|error| PluginError::Shape { plugin: name.to_owned(), message: format!("{error:#}") })?;
        if let (Some((cache, key)), Origin::Compiled) = (cache, origin) {
            cache.store(&key, &component);
        }
        Ok(Compiled { pre, inspected, digest, size: bytes.len(), origin })
    }

    fn component(&self, name: &str, binary: &[u8]) -> Result<Component, PluginError> {
        Component::from_binary(&self.engine, binary)
            .map_err(|error| PluginError::Invalid { plugin: name.to_owned(), message: format!("{error:#}") })
    }
}

/// The SHA-256 of a file's bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
