//! What can be written behind `staunch`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use staunch::config::ListenAddress;

use super::plugin::PluginCommand;

/// A reverse proxy and load balancer whose decisions are WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// Starts with this configuration, like `run -c FILE`.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Starts in the foreground. SIGTERM and SIGINT let requests finish and end it; a second one ends it at once.
    Run {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
    },
    /// Starts a proxy in front of three small servers of its own, and says what to try.
    Demo(DemoArguments),
    /// Starts a proxy without a configuration.
    Proxy(ProxyArguments),
    /// Validates everything that `run` would load, plugins included.
    Check {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
    },
    /// Has a running proxy serve this configuration. Relative paths in it begin where those of the one before did.
    Apply {
        /// The configuration.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Goes back after this time unless it is confirmed, and at once when a route does clearly worse.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        confirm: Option<Duration>,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Has the configuration stay that was applied with `--confirm`.
    Confirm(RemoteArguments),
    /// Has a running proxy serve an earlier configuration again: the one before, or the one of a number.
    Rollback {
        /// The generation, as `/api/config` lists it.
        #[arg(value_name = "N")]
        generation: Option<u64>,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Has a running proxy read its configuration again.
    Reload(RemoteArguments),
    /// Has a new process of the same program take over a running proxy's sockets; the old one finishes and ends.
    Upgrade(RemoteArguments),
    /// Has a running proxy finish what is in flight and end.
    Drain(RemoteArguments),
    /// What the author of a plugin has.
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
}

/// A proxy without a configuration.
#[derive(Debug, Args)]
pub(super) struct ProxyArguments {
    /// Where requests go to: `10.0.0.1:80`, `name:80` or `unix:/path`. Repeat it for more.
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(super) to: Vec<String>,
    /// Where to accept them.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(super) listen: ListenAddress,
    /// The balancer that picks among several.
    #[arg(long, value_name = "NAME", default_value = "round-robin")]
    pub(super) balance: String,
}

/// Which running proxy is meant.
#[derive(Debug, Args)]
pub(super) struct RemoteArguments {
    /// The configuration whose `[admin]` says where the proxy answers.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(super) config: PathBuf,
    /// Where it answers, whatever the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) admin: Option<ListenAddress>,
    /// Its token. Others can see arguments: better set STAUNCH_ADMIN_TOKEN, or leave it to the configuration.
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

/// Where the demo listens.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Where the proxy accepts requests.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: ListenAddress,
    /// Where its admin server does.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
    pub(crate) admin: ListenAddress,
}

impl Command {
    /// What is meant when no command is given.
    pub(super) fn run(config: Option<PathBuf>) -> Self {
        Self::Run { config: config.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)) }
    }
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

const DEFAULT_FILE: &str = "staunch.toml";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_configuration_is_named_with_and_without_a_command() {
        for (line, file) in [
            ("staunch run", "staunch.toml"),
            ("staunch run -c a.toml", "a.toml"),
            ("staunch run --config=a.toml", "a.toml"),
            ("staunch --config a.toml", "a.toml"),
            ("staunch -c a.toml", "a.toml"),
        ] {
            let arguments = parse(line).unwrap();
            let command = arguments.command.unwrap_or_else(|| Command::run(arguments.config));
            assert!(matches!(&command, Command::Run { config } if config.as_os_str() == file), "{line}: {command:?}");
        }
    }

    #[test]
    fn a_proxy_has_several_endpoints_and_defaults() {
        let Ok(Arguments { command: Some(Command::Proxy(proxy)), .. }) = parse("staunch proxy --to a:1 --to b:2")
        else {
            panic!("a proxy was asked for");
        };

        assert_eq!(proxy.to, ["a:1", "b:2"]);
        assert_eq!(proxy.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(proxy.balance, "round-robin");
    }

    #[test]
    fn a_running_proxy_is_named_by_file_or_address() {
        let Ok(Arguments { command: Some(Command::Upgrade(remote)), .. }) =
            parse("staunch upgrade --admin unix:/run/a --token t")
        else {
            panic!("an upgrade was asked for");
        };

        assert_eq!(remote.config.as_os_str(), "staunch.toml");
        assert_eq!(remote.admin.map(|address| address.to_string()).as_deref(), Some("unix:/run/a"));
        assert_eq!(remote.token.as_deref(), Some("t"));
    }

    #[test]
    fn a_configuration_is_applied_and_gone_back_from() {
        let apply = parse("staunch apply new.toml --confirm 1m30s --admin 127.0.0.1:1").unwrap().command;
        let Some(Command::Apply { file, confirm, remote }) = apply else { panic!("it was to be applied") };
        let back = parse("staunch rollback 7 -c a.toml").unwrap().command;
        let Some(Command::Rollback { generation, remote: other }) = back else { panic!("it was to go back") };

        assert_eq!((file.as_os_str(), confirm), ("new.toml".as_ref(), Some(Duration::from_secs(90))));
        assert!(remote.admin.is_some());
        assert_eq!((generation, other.config.as_os_str()), (Some(7), "a.toml".as_ref()));
        assert!(matches!(parse("staunch rollback").unwrap().command, Some(Command::Rollback { generation: None, .. })));
    }

    #[test]
    fn wrong_arguments_end_with_2() {
        for line in [
            "staunch",
            "staunch walk",
            "staunch proxy",
            "staunch run -x",
            "staunch -c a run",
            "staunch apply",
            "staunch apply a --confirm 60",
            "staunch rollback first",
            "staunch proxy --to a:1 --listen x",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
        assert_eq!(parse("staunch --version").unwrap_err().kind(), ErrorKind::DisplayVersion);
    }
}
