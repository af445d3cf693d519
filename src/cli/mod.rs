//! The command line. The flags of `serve` are made from the table of settings, so that each stands once.

pub mod doctor;
pub mod log;
mod report;
pub mod token;

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use corecast::config::{self, Config, Given, SETTINGS, Setting, Unit};

/// A WebSocket message server, one pinned thread per core.
#[derive(Parser, Debug)]
#[command(
    version,
    about,
    after_help = "\
Try it:
  corecast serve --dev                 a server for this machine only, open to all, with a page to look at
  corecast config > corecast.toml      the settings, each with its reason
  corecast check-config corecast.toml  what is wrong with a file, and the mend
  corecast doctor                      what this host lacks for many clients, and the mend
  corecast token secret                random keys for tokens and for the server API, as settings
  corecast token --help                tokens for clients, and why one is refused

Exit codes: 0 done, 1 failed while starting or running, 2 wrong arguments or settings,
3 ended at once by a second signal.
Logs go to stderr; CORECAST_LOG chooses what (error, warn, info, debug)."
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
  corecast serve --config corecast.toml --listen 0.0.0.0:8000 --listen '[::]:8000' --cores 0,2-5
  CORECAST_CLIENT_PING_INTERVAL=60s corecast serve --config corecast.toml

Flags override the environment, which overrides the file. Every setting can stand in the environment:
`client.ping_interval` is CORECAST_CLIENT_PING_INTERVAL. `corecast config` prints all of them.")]
    Serve {
        /// File with the settings: TOML, or JSON where its name ends in .json [env: CORECAST_CONFIG]
        #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG", hide_env = true)]
        config: Option<PathBuf>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Print every setting with its default and its reason, as a TOML file to start from
    Config {
        /// Print a Markdown table instead
        #[arg(long)]
        markdown: bool,
    },
    /// Say what is wrong with a file of settings, and the mend; the environment is not looked at
    CheckConfig {
        /// TOML, or JSON where its name ends in .json
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Look at this host as the server needs it: what is, what should be, why, what it costs, how to mend
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Doctor),
    /// Make tokens and secrets, and say what is wrong with a token
    #[command(subcommand)]
    Token(Box<token::TokenTask>),
}

/// What was typed as flags of `serve`.
#[derive(Debug, Default)]
pub struct Flags(pub Vec<Given>);

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
            let arg = match setting.unit {
                Unit::Switch => arg.action(ArgAction::SetTrue),
                Unit::Listeners => arg.action(ArgAction::Append).value_name("ADDR:PORT"),
                Unit::Address => arg.value_name("ADDR:PORT"),
                Unit::Cores => arg.value_name("LIST"),
                _ => arg.value_name("N"),
            };
            let shown = setting.show(&default).filter(|_| setting.unit != Unit::Switch);
            let shown =
                shown.map_or(String::new(), |value| format!(" [default: {}]", value.replace(['"', '[', ']'], "")));
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
            let typed: Vec<String> = match setting.unit {
                Unit::Switch if matches.get_flag(flag) => vec!["true".into()],
                Unit::Switch => Vec::new(),
                _ => matches.get_many::<String>(flag).into_iter().flatten().cloned().collect(),
            };
            if !typed.is_empty() {
                self.0.push(config::flag(&setting.name, flag, typed));
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
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_named_values() {
        let line = ["corecast", "serve", "--dev", "--listen", "127.0.0.1:1", "--listen", "[::1]:1", "--shards", "2"];
        let Task::Serve { flags, .. } = Cli::parse_from(line).command else { panic!("serve was asked for") };
        let names: Vec<&str> = flags.0.iter().map(|given| given.name.as_str()).collect();
        assert_eq!(names, ["dev", "listen", "shards"]);
        let config = config::assemble(&flags.0).unwrap();
        assert_eq!((config.listeners.len(), config.shards, config.dev), (2, Some(2), true));
    }
}
