//! The command line. The flags of `serve` come from the registry of settings, so each is declared once.

pub(crate) mod date;
pub mod doctor;
pub mod environment;
pub mod log;
pub mod store;
pub mod token;

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use corecast::config::{self, Argument, Config, RawSetting, SETTINGS, Setting};

/// A WebSocket message server with one pinned thread per core.
#[derive(Parser, Debug)]
#[command(
    version,
    after_help = "\
Examples:
  corecast serve --dev                 run a server for this machine only, without tokens
  corecast config > corecast.toml      write every setting with its default and its reason
  corecast check-config corecast.toml  list the errors of a settings file, each with its fix
  corecast doctor                      check whether this host is ready for many clients
  corecast token secret                make random secrets for tokens and for the server API
  corecast token --help                make and check tokens
  corecast store --help                check, print, export and import durable histories

Exit codes: 0 success, 1 an error while starting or running, 2 wrong arguments or settings,
3 a second signal ended the server at once. `doctor`, `token check` and `store` describe their own in --help.
Results go to stdout, logs and errors to stderr. CORECAST_LOG sets the log level: error, warn, info
or debug."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Task,
}

#[derive(Subcommand, Debug)]
pub enum Task {
    /// Run the server until SIGTERM or SIGINT
    #[command(after_help = "\
Examples:
  corecast serve --dev
  corecast serve --config /etc/corecast/corecast.toml
  corecast serve --config corecast.toml --listen '[::]:8000' --listen tls:0.0.0.0:8443 --cores 0,2-5
  CORECAST_CLIENT_PING_INTERVAL=60s corecast serve --config corecast.toml

Flags override the environment, which overrides the file. Every setting has an environment variable:
`client.ping_interval` is CORECAST_CLIENT_PING_INTERVAL. `corecast config` prints every setting.

Signals: SIGTERM or SIGINT closes every connection in order, a second one, at least a second later,
ends the server at once, SIGHUP reads the settings and certificates again.

Exit codes: 0 shut down in order, 1 an error while starting or running,
2 wrong arguments or settings, 3 ended at once by a second signal.")]
    Serve {
        /// File with the settings: TOML, or JSON if its name ends in .json [env: CORECAST_CONFIG]
        #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG", hide_env = true)]
        config: Option<PathBuf>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Print every setting with its default and its reason, as a TOML file
    Config {
        /// Print a Markdown table instead
        #[arg(long)]
        markdown: bool,
    },
    /// List the errors of a settings file, each with its fix; the environment overrides the file, as for `serve`
    #[command(after_help = "\
Certificates and keys that the settings name are opened. No address is opened, and no key set is fetched.

Exit codes: 0 no errors (warnings go to stdout), 2 errors (on stderr).")]
    CheckConfig {
        /// TOML, or JSON if its name ends in .json
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not open certificates and keys: to check the settings of another host
        #[arg(long)]
        skip_files: bool,
    },
    /// Check whether this host is ready: actual and expected values, reasons, costs and fixes
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Doctor),
    /// Make tokens and secrets, and check tokens
    #[command(subcommand)]
    Token(Box<token::TokenTask>),
    /// Check, print, export and import the durable log of a directory
    #[command(subcommand, after_help = store::HELP)]
    Store(store::StoreTask),
}

/// The flags of `serve` that were given.
#[derive(Debug, Default)]
pub struct Flags(pub Vec<RawSetting>);

impl Flags {
    fn settings() -> impl Iterator<Item = (&'static str, &'static Setting)> {
        SETTINGS.iter().filter_map(|setting| Some((setting.flag?, setting)))
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let default = Config::default();
        Self::settings().fold(command, |command, (flag, setting)| {
            let arg = Arg::new(flag).long(flag);
            let arg = match setting.argument {
                Argument::None => arg.action(ArgAction::SetTrue),
                Argument::One(name) => arg.value_name(name),
                Argument::Many(name) => arg.action(ArgAction::Append).value_name(name),
            };
            let shown = setting.show(&default).filter(|_| setting.argument != Argument::None);
            let bare = |value: &str| {
                value.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(value).replace('"', "")
            };
            let shown = shown.map_or(String::new(), |value| format!(" [default: {}]", bare(&value)));
            command.arg(arg.help(format!("{}{shown}", setting.reason)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (flag, setting) in Self::settings() {
            let values: Vec<String> = match setting.argument {
                Argument::None if matches.get_flag(flag) => vec!["true".into()],
                Argument::None => Vec::new(),
                _ => matches.get_many::<String>(flag).into_iter().flatten().cloned().collect(),
            };
            if !values.is_empty() {
                self.0.push(config::flag(&setting.name, flag, values));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_named_values() {
        let line = ["corecast", "serve", "--dev", "--listen", "127.0.0.1:1", "--listen", "[::1]:1", "--shards", "2"];
        let Task::Serve { flags, .. } = Cli::parse_from(line).command else { panic!("serve was asked for") };
        let names: Vec<&str> = flags.0.iter().map(|setting| setting.name.as_str()).collect();
        assert_eq!(names, ["dev", "listen", "shards"]);
        let config = config::assemble(&flags.0).unwrap();
        assert_eq!((config.listeners.len(), config.shards, config.dev), (2, Some(2), true));
    }
}
