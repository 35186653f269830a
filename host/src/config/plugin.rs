//! Plugins, and the places where they are used.

use std::path::PathBuf;
use std::time::Duration;

use super::fault::{BadValue, Fault, did_you_mean};
use super::reader::{Reader, Scope};
use super::settings::{Place, Settings};
use super::tree::{Key, Kind, Value};
use super::value;

/// The plugins inside the binary. They need no entry, and their names cannot be taken.
pub const BUILTIN: &[(&str, PluginKind)] = include!(concat!(env!("OUT_DIR"), "/builtin_kinds.rs"));

/// Balancers behind one another.
const MOST_BEHIND: usize = 3;

/// The decision a plugin makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginKind {
    Balancer,
    Retry,
    Rewriter,
}

/// A plugin in a place where it is used. Equal to another that says the same, wherever it is written.
#[derive(Clone, Debug)]
pub struct PluginUse {
    /// A name from [`Config::plugins`](super::Config::plugins), or a built-in's.
    pub plugin: String,
    /// The plugin's own settings with this use's on top.
    pub settings: Settings,
    /// The balancer behind this one, for a balancer that leaves a part of the decision to another.
    pub then: Option<Box<Self>>,
    /// Where the use is written.
    pub place: Place,
}

/// A plugin of the operator's own, or what the operator says of a built-in one. Equal to another that says the same,
/// wherever it is written.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub name: String,
    /// Absent for a built-in plugin.
    pub path: Option<PathBuf>,
    pub sha256: Option<[u8; 32]>,
    /// CPU time of one pick, decision or rewriting; absent: 10 ms, 20 ms for a rewriter.
    pub deadline: Option<Duration>,
    /// Bytes of memory one instance may have ("64MiB"; 64 KiB to 4 GiB).
    pub memory: usize,
    /// Bytes of the values that the instances of one use may share ("1MiB"; 64 KiB to 1 GiB).
    pub shared: usize,
    /// Absent: `Fallback` for a balancer, `Deny` for a rewriter.
    pub on_failure: Option<OnFailure>,
    /// The share of a worker's time one use may have ("5%"; above 0, at most 100%); absent: all of it.
    pub cpu: Option<f64>,
    /// Whether a changed file takes over by itself.
    pub watch: bool,
    /// How long a version that took over is judged beside the one before ("60s"; `false` or "0s": not at all).
    pub probation: Option<Duration>,
    pub settings: Settings,
    pub place: Place,
}

/// How long a version is judged when nothing else is said.
pub const PROBATION: Duration = Duration::from_secs(60);

/// What answers a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// A balancer's: the host's own round robin.
    Fallback,
    /// A rewriter's: the message passes as it is.
    Skip,
    /// A rewriter's: 500.
    Deny,
}

impl PluginKind {
    /// What to write where another kind is wanted.
    fn example(self) -> &'static str {
        match self {
            Self::Balancer => "name a balancer, such as `round-robin`",
            Self::Retry => "name a retry policy, such as `standard`",
            Self::Rewriter => "name a rewriter, such as `set-headers`",
        }
    }

    /// With its article, for a sentence.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::Balancer => "a balancer",
            Self::Retry => "a retry policy",
            Self::Rewriter => "a rewriter",
        }
    }
}

impl PartialEq for PluginUse {
    fn eq(&self, other: &Self) -> bool {
        let Self { plugin, settings, then, place: _ } = self;
        (plugin, settings, then) == (&other.plugin, &other.settings, &other.then)
    }
}

impl PartialEq for Plugin {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            path,
            sha256,
            deadline,
            memory,
            shared,
            on_failure,
            cpu,
            watch,
            probation,
            settings,
            place: _,
        } = self;
        (name, path, sha256, deadline, memory, shared)
            == (&other.name, &other.path, &other.sha256, &other.deadline, &other.memory, &other.shared)
            && (on_failure, cpu, watch, probation, settings)
                == (&other.on_failure, &other.cpu, &other.watch, &other.probation, &other.settings)
    }
}

impl PluginUse {
    /// A built-in plugin without settings.
    pub fn builtin(name: impl Into<String>) -> Self {
        Self { plugin: name.into(), settings: Settings::default(), then: None, place: Place::default() }
    }

    /// Says where a use by default stands, so that the plugin's complaints lead somewhere.
    #[must_use]
    pub(super) fn at(mut self, place: Place) -> Self {
        self.place = place;
        self.settings.place = place;
        self
    }

    /// Reads a name, or a table of `plugin`, `config` and, for a balancer, `then`.
    pub(super) fn read(value: &Value, kind: PluginKind, scope: &Scope<'_>) -> Option<Self> {
        Self::read_behind(value, kind, 0, scope)
    }

    /// The same for one that is behind so many others.
    fn read_behind(value: &Value, kind: PluginKind, behind: usize, scope: &Scope<'_>) -> Option<Self> {
        if behind > MOST_BEHIND {
            let message = format!("there are more than {MOST_BEHIND} balancers behind one another");
            scope.fault(Fault::new(value.place, message));
            return None;
        }
        match &value.kind {
            Kind::String(name) => Self::resolve(name, value.place, None, kind, scope),
            Kind::Table(table) => {
                let mut reader = Reader::new(table, scope);
                let settings = reader.optional("config");
                let then = if kind == PluginKind::Balancer { reader.value("then") } else { None };
                let then = then.map(|then| Self::read_behind(then, kind, behind + 1, scope));
                let name = reader.required_value("plugin")?;
                let mut used = Self::resolve(scope.text(name)?, name.place, settings, kind, scope)?;
                if let Some(then) = then {
                    used.then = Some(Box::new(then?));
                }
                Some(used)
            }
            _ => {
                scope.mismatch(value, "a plugin's name or a table with a `plugin`");
                None
            }
        }
    }

    /// The use of a plugin that must exist. `settings` are the use's own.
    pub(super) fn resolve(
        name: &str,
        place: Place,
        settings: Option<Settings>,
        kind: PluginKind,
        scope: &Scope<'_>,
    ) -> Option<Self> {
        let fitting = || BUILTIN.iter().filter(|(_, k)| *k == kind).map(|(name, _)| *name);
        let base = if let Some((_, builtin)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) {
            if *builtin != kind {
                let message = format!("`{name}` is {}, not {}", builtin.said(), kind.said());
                scope.fault(Fault::new(place, message).with_hint(kind.example().to_owned()));
                return None;
            }
            scope.uses.borrow_mut().push((name.to_owned(), kind));
            let entry = scope.plugins.iter().find(|(own, _)| *own == name);
            entry.map(|(_, settings)| settings.clone()).unwrap_or_default()
        } else if let Some((_, settings)) = scope.plugins.iter().find(|(own, _)| *own == name) {
            scope.uses.borrow_mut().push((name.to_owned(), kind));
            settings.clone()
        } else {
            let names: Vec<_> = fitting().chain(scope.plugins.iter().map(|(name, _)| *name)).collect();
            let name = value::shown(name);
            let hint = did_you_mean(&name, &names)
                .unwrap_or_else(|| format!("add `[plugins.{name}]` with its `path` for one of your own"));
            scope.absence(Fault::new(place, format!("there is no plugin `{name}`")).with_hint(hint));
            return None;
        };
        let mut settings = settings.unwrap_or_default().over(&base);
        if settings.place == Place::default() {
            settings.place = place;
        }
        Some(Self { plugin: name.to_owned(), settings, then: None, place })
    }
}

impl Plugin {
    /// A plugin with all defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: None,
            sha256: None,
            deadline: None,
            memory: 64 << 20,
            shared: 1 << 20,
            on_failure: None,
            cpu: None,
            watch: false,
            probation: Some(PROBATION),
            settings: Settings::default(),
            place: Place::default(),
        }
    }

    pub(super) fn read_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let scope = reader.scope;
        let read = |(key, value): &(Key, Value)| {
            scope.accept(key.place, value::name(&key.name));
            Self::read(&key.name, scope.table(value)?)
        };
        reader.entries("plugins").iter().filter_map(read).collect()
    }

    fn read(name: &str, mut reader: Reader<'_>) -> Option<Self> {
        let mut plugin = Self::new(name);
        plugin.place = reader.place();
        plugin.settings = reader.optional("config").unwrap_or_default();
        plugin.sha256 = reader.parse("sha256", sha256);
        plugin.deadline = reader.optional("deadline");
        reader.set_size("memory", 64 << 10..=4 << 30, &mut plugin.memory);
        reader.set_size("shared", 64 << 10..=1 << 30, &mut plugin.shared);
        let policies =
            [("fallback", Some(OnFailure::Fallback)), ("skip", Some(OnFailure::Skip)), ("deny", Some(OnFailure::Deny))];
        plugin.on_failure = reader.word("on_failure", &policies);
        plugin.cpu = reader.parse("cpu", value::share);
        reader.set("watch", &mut plugin.watch);
        let none = |text: &str| value::duration(text).is_ok_and(|length| length.is_zero());
        match reader.value("probation").map(|value| &value.kind) {
            Some(Kind::String(text)) if none(text) => plugin.probation = None,
            _ => reader.set_or_off("probation", &mut plugin.probation),
        }
        if BUILTIN.iter().any(|(builtin, _)| *builtin == name) {
            reader.misplaced(
                &["path", "sha256", "watch"],
                "is not for a built-in plugin: give a plugin of your own another name",
            );
            return Some(plugin);
        }
        let path = reader.required_parse("path", |text| match text {
            "" => Err(BadValue::new("the path is empty")),
            path => Ok(PathBuf::from(path)),
        })?;
        plugin.path = Some(reader.scope.resolve(path));
        Some(plugin)
    }
}

/// A digest in hexadecimal.
fn sha256(text: &str) -> Result<[u8; 32], BadValue> {
    let bad = || BadValue::new("a SHA-256 digest has 64 hexadecimal digits");
    if !text.is_ascii() || text.len() != 64 {
        return Err(bad().with_hint("`sha256sum FILE` prints it".to_owned()));
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok()).ok_or_else(bad);
        *byte = nibble(digits[0])? << 4 | nibble(digits[1])?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_64_hexadecimal_digits() {
        let text = format!("{}fF", "0a".repeat(31));
        let mut digest = [10; 32];
        digest[31] = 255;
        assert_eq!(sha256(&text), Ok(digest));
        for text in ["", "0a", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert!(sha256(text).is_err(), "for {text}");
        }
    }
}
