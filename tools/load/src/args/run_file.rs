//! A TOML file of runs: every table is turned into a command line, so that flags, defaults and checks are those of the
//! subcommands.
//!
//! `[defaults]` applies to every run that has such a flag; each `[[run]]` names its `scenario` and sets flags by their names.
//! Invariant: the parser of the command line accepted every run; an error names the line.

use crate::cli::Cli;
use clap::error::ContextKind;
use clap::{ArgAction, CommandFactory, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys of a run that are not flags.
const KEYS: [&str; 3] = ["name", "scenario", "alongside"];
/// Flags of the whole file, not of a run.
const FILE_FLAGS: [&str; 4] = ["json", "quiet", "live", "gate"];
/// The subcommands that a file may run. They wait at the start barrier, so that others can begin together with them.
const SCENARIOS: [&str; 9] = ["echo", "fanout", "chat", "notifications", "slow", "idle", "connect", "storm", "publish"];

/// One run of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRun {
    pub name: String,
    pub scenario: String,
    /// The subcommand and its flags.
    pub words: Vec<String>,
    /// It begins together with the run before.
    pub alongside: bool,
}

type Entry<'a> = (Spanned<std::borrow::Cow<'a, str>>, Spanned<DeValue<'a>>);

struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    /// An error message with the line of byte `at`.
    fn error(&self, at: usize, reason: impl std::fmt::Display) -> String {
        let line = self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|&&b| b == b'\n').count() + 1;
        format!("{}:{line}: {reason}", self.name)
    }
}

/// Reads `text`, the contents of the file `name`.
pub fn read(name: &str, text: &str) -> Result<Vec<PlannedRun>, String> {
    let file = File { name, text };
    let root = DeTable::parse(text).map_err(|e| file.error(e.span().map_or(0, |span| span.start), e.message()))?;
    let (mut defaults, mut runs) = (Vec::new(), Vec::new());
    for (key, value) in root.into_inner() {
        let at = key.span().start;
        match (key.get_ref().as_ref(), value.into_inner()) {
            ("defaults", DeValue::Table(table)) => defaults = table.into_iter().collect(),
            ("run", DeValue::Array(array)) => {
                for run in array {
                    let at = run.span().start;
                    let DeValue::Table(table) = run.into_inner() else {
                        return Err(file.error(at, "a run is a table: [[run]]"));
                    };
                    runs.push((at, table.into_iter().collect::<Vec<Entry>>()));
                }
            }
            ("run", _) => return Err(file.error(at, "runs are written as [[run]]")),
            (other, _) => return Err(file.error(at, format!("`{other}` is neither [defaults] nor [[run]]"))),
        }
    }
    let cli = Cli::command();
    let commands: Vec<_> = SCENARIOS.iter().filter_map(|name| cli.find_subcommand(name)).collect();
    let unknown =
        defaults.iter().find(|(key, _)| commands.iter().all(|command| flag(command, key.get_ref()).is_none()));
    if let Some((key, _)) = unknown {
        return Err(file.error(key.span().start, format!("no scenario has `{}`", key.get_ref())));
    }
    let planned = runs.iter().map(|(at, run)| plan(&file, *at, run, &defaults)).collect::<Result<Vec<_>, _>>()?;
    match planned.first() {
        None => Err(format!("{name}: the file has no [[run]]")),
        Some(first) if first.alongside => Err(format!("{name}: the first run has no run to be alongside of")),
        _ => Ok(planned),
    }
}

/// The flag of that name, written with - or _.
fn flag<'a>(command: &'a clap::Command, key: &str) -> Option<&'a clap::Arg> {
    let key = key.replace('_', "-");
    let is = |arg: &&clap::Arg| arg.get_long() == Some(&key) || (arg.is_positional() && arg.get_id() == key.as_str());
    command.get_arguments().find(is).filter(|_| !FILE_FLAGS.contains(&key.as_str()))
}

fn plan(file: &File, at: usize, run: &[Entry], defaults: &[Entry]) -> Result<PlannedRun, String> {
    let own = |key: &str| run.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value);
    let text = |key: &str| {
        let text = |value: &Spanned<DeValue>| {
            let text = value.get_ref().as_str().map(String::from);
            text.ok_or_else(|| file.error(value.span().start, format!("`{key}` is a string")))
        };
        own(key).map(text).transpose()
    };
    let scenario = text("scenario")?.ok_or_else(|| file.error(at, "this run has no `scenario`"))?;
    let cli = Cli::command();
    let Some(command) = cli.find_subcommand(&scenario).filter(|_| SCENARIOS.contains(&scenario.as_str())) else {
        let at = own("scenario").map_or(at, |value| value.span().start);
        return Err(file.error(at, format!("no scenario `{scenario}`; there are {}", SCENARIOS.join(", "))));
    };
    let mut words = vec![scenario.clone()];
    for (key, value) in run.iter().filter(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
        let Some(arg) = flag(command, key.get_ref()) else {
            let near = nearest(&scenario, key.get_ref());
            return Err(file.error(key.span().start, format!("{scenario} has no `{}`{near}", key.get_ref())));
        };
        push_flag(file, &mut words, arg, value)?;
    }
    for (key, value) in defaults {
        let is_set = |arg: &clap::Arg| run.iter().any(|(key, _)| flag(command, key.get_ref()) == Some(arg));
        if let Some(arg) = flag(command, key.get_ref()).filter(|arg| !is_set(arg)) {
            push_flag(file, &mut words, arg, value)?;
        }
    }
    let parsed = Cli::try_parse_from(std::iter::once("corecast-load").chain(words.iter().map(String::as_str)));
    parsed.map_err(|error| rejected(file, at, command, run.iter().chain(defaults), &error))?;
    let alongside = own("alongside").map(|value| {
        value.get_ref().as_bool().ok_or_else(|| file.error(value.span().start, "`alongside` is true or false"))
    });
    let alongside = alongside.transpose()?.unwrap_or(false);
    Ok(PlannedRun { name: text("name")?.unwrap_or_else(|| scenario.clone()), scenario, words, alongside })
}

/// The suggestion of the command-line parser for an unknown flag.
fn nearest(scenario: &str, key: &str) -> String {
    let flag = format!("--{}", key.replace('_', "-"));
    let error = Cli::try_parse_from(["corecast-load", scenario, &flag]).err();
    let near = error.and_then(|error| error.get(ContextKind::SuggestedArg).map(ToString::to_string));
    near.map_or(String::new(), |near| format!("; did you mean `{}`?", near.trim_start_matches("--")))
}

/// Appends the words that set a flag.
fn push_flag(file: &File, words: &mut Vec<String>, arg: &clap::Arg, value: &Spanned<DeValue>) -> Result<(), String> {
    let error = |reason: &str| Err(file.error(value.span().start, format!("`{}` {reason}", arg.get_id())));
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let text = match (value.get_ref(), switch) {
        (DeValue::Boolean(true), true) => {
            words.push(format!("--{}", arg.get_long().unwrap_or_default()));
            return Ok(());
        }
        (DeValue::Boolean(false), true) => return Ok(()),
        (_, true) => return error("is true or false"),
        (DeValue::Array(items), false) => {
            match items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>() {
                Some(items) => items.join(","),
                None => return error("is a list of strings or numbers"),
            }
        }
        (other, false) => match scalar(other) {
            Some(text) => text,
            None => return error("is a string or a number"),
        },
    };
    words.push(arg.get_long().map_or(text.clone(), |long| format!("--{long}={text}")));
    Ok(())
}

fn scalar(value: &DeValue) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n.to_string()),
        DeValue::Float(x) => Some(x.as_str().into()),
        _ => None,
    }
}

/// The message of the command-line parser, with the line of the key that it is about.
fn rejected<'a>(
    file: &File,
    at: usize,
    command: &clap::Command,
    mut entries: impl Iterator<Item = &'a Entry<'a>>,
    error: &clap::Error,
) -> String {
    let about = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let is_about = |key: &str| {
        let long = flag(command, key).and_then(clap::Arg::get_long);
        long.is_some_and(|long| about.split([' ', '=']).any(|word| word.strip_prefix("--") == Some(long)))
    };
    let at = entries.find(|(key, _)| is_about(key.get_ref())).map_or(at, |(key, _)| key.span().start);
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
    let message = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect::<Vec<_>>().join(" ");
    file.error(at, message.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read("f.toml", text).unwrap_err()
    }

    #[test]
    fn table_becomes_a_command_line() {
        let text = "[defaults]\nurl = \"ws://h/\"\nserver_pid = 7\ndepth = 4\n[[run]]\nscenario = \"echo\"\nsize = 1_000\nrate = 2.5\ntext = true\n\
                    spin = false\n[[run]]\nname = \"held\"\nscenario = \"idle\"\nalongside = true\nsteps = [10, 20]\n";
        let planned = read("f.toml", text).unwrap();
        let sorted = |planned: &PlannedRun| {
            let mut words = planned.words.clone();
            words[1..].sort();
            words.join(" ")
        };
        assert_eq!(sorted(&planned[0]), "echo --depth=4 --rate=2.5 --server-pid=7 --size=1000 --text ws://h/");
        assert_eq!(sorted(&planned[1]), "idle --server-pid=7 --steps=10,20 ws://h/");
        assert_eq!((planned[0].alongside, planned[1].alongside, planned[1].name.as_str()), (false, true, "held"));
    }

    #[test]
    fn error_names_its_line_and_the_nearest_flag() {
        let run = "[[run]]\nscenario = \"echo\"\nurl = \"ws://h/\"\n";
        assert_eq!(
            error(&format!("{run}conections = 3\n")),
            "f.toml:4: echo has no `conections`; did you mean `connections`?"
        );
        assert!(
            error("[[run]]\nscenario = \"ecco\"\n").starts_with("f.toml:2: no scenario `ecco`; there are echo, fanout")
        );
        assert_eq!(error("[[run]]\nurl = \"ws://h/\"\n"), "f.toml:1: this run has no `scenario`");
        assert_eq!(error(&format!("[defaults]\nthread = 1\n{run}")), "f.toml:2: no scenario has `thread`");
        assert!(error(&format!("{run}depth = 9999\n")).starts_with("f.toml:4: invalid value '9999' for '--depth"));
        assert_eq!(error(&format!("{run}spin = 1\n")), "f.toml:4: `spin` is true or false");
        assert!(error("[[run]]\nscenario = \"echo\"\n").starts_with("f.toml:1: the following required arguments"));
        assert_eq!(error(&format!("{run}json = true\n")), "f.toml:4: echo has no `json`");
        assert_eq!(error("[run]\n"), "f.toml:1: runs are written as [[run]]");
        assert!(error("[[run]\n").starts_with("f.toml:1: "));
        assert_eq!(error(""), "f.toml: the file has no [[run]]");
        assert!(error(&format!("{run}alongside = true\n")).contains("the first run"));
    }
}
