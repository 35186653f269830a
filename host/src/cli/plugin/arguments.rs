//! What can be written behind `staunch plugin`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use staunch::author::cases;
use staunch::author::check::{self, Claim, Property};
use staunch::author::scaffold::Language;
use staunch::plugins::Kind;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Makes a project that builds, and passes its test, as it is.
    New(NewArguments),
    /// Builds a project with the toolchain of its language, or says what to install.
    Build {
        /// The project's folder.
        #[arg(default_value = ".", value_name = "DIR")]
        folder: PathBuf,
    },
    /// Tells a plugin's kind, contract version, imports, size and what it asks for.
    Inspect {
        /// A component, a core module or WAT text; or the name of a built-in plugin.
        file: PathBuf,
    },
    /// Judges a plugin by properties that every plugin of its kind has, with no proxy around it.
    #[command(after_long_help = check::PROPERTIES)]
    Check(CheckArguments),
    /// Runs recorded cases against a plugin, with no proxy around it.
    #[command(after_long_help = cases::FORMAT)]
    Test(TestArguments),
    /// Measures what a plugin's calls cost, with no proxy around it.
    Bench(BenchArguments),
}

#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// The plugin's name, and its folder's.
    pub(super) name: String,
    /// What it decides.
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub(super) kind: Kind,
    /// What it is written in.
    #[arg(long, value_name = "LANGUAGE", value_parser = languages())]
    pub(super) lang: Language,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// A component, a core module or WAT text; or the name of a built-in plugin.
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// What all chance of the check comes from: the same number makes the same findings.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// Properties a balancer has besides those that are made out from how it picks.
    #[arg(long, value_name = "PROPERTY", value_delimiter = ',', value_parser = claims())]
    pub(super) claim: Vec<Claim>,
    /// Properties it is not meant to have.
    #[arg(long, value_name = "PROPERTY", value_delimiter = ',', value_parser = claims())]
    pub(super) no_claim: Vec<Claim>,
    /// Properties to judge, and no others.
    #[arg(long, value_name = "PROPERTY", value_delimiter = ',', value_parser = properties())]
    pub(super) only: Vec<Property>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// A file of cases, or a folder with `cases.toml`, `*.cases.toml` or `cases/*.toml`.
    #[arg(default_value = ".")]
    pub(super) file: PathBuf,
    /// Only cases with this in their name.
    #[arg(long, value_name = "PART")]
    pub(super) name: Option<String>,
    /// Another file of the plugin than the one that the cases name.
    #[arg(long, value_name = "FILE")]
    pub(super) plugin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// A component, a core module or WAT text; or the name of a built-in plugin.
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
}

/// The plugin's own settings.
#[derive(Debug, Args)]
pub(crate) struct SettingsArguments {
    /// The plugin's settings, as they stand under `config`: `--config 'key = "path"'`.
    #[arg(long, value_name = "TOML", conflicts_with = "config_file")]
    pub(super) config: Option<String>,
    /// A file with the plugin's settings.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config_file: Option<PathBuf>,
    /// An upstream that a rewriter may send requests to. Repeat it for more.
    #[arg(long, value_name = "NAME")]
    pub(super) upstream: Vec<String>,
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    const KINDS: [Kind; 3] = [Kind::Balancer, Kind::Retry, Kind::Rewriter];
    let named = |name: String| KINDS.into_iter().find(|kind| kind.name() == name).expect("a possible value");
    PossibleValuesParser::new(KINDS.map(Kind::name)).map(named)
}

fn languages() -> impl TypedValueParser<Value = Language> {
    let named = |name: String| Language::ALL.into_iter().find(|l| l.name() == name).expect("a possible value");
    PossibleValuesParser::new(Language::ALL.map(Language::name)).map(named)
}

fn properties() -> impl TypedValueParser<Value = Property> {
    let named = |name: String| Property::ALL.into_iter().find(|p| p.name() == name).expect("a possible value");
    PossibleValuesParser::new(Property::ALL.map(Property::name)).map(named)
}

fn claims() -> impl TypedValueParser<Value = Claim> {
    let named = |name: String| Claim::ALL.into_iter().find(|claim| claim.name() == name).expect("a possible value");
    PossibleValuesParser::new(Claim::ALL.map(Claim::name)).map(named)
}
