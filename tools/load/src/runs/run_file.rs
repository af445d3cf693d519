//! A TOML file of runs, read: every table is turned into the words of a command line, so that flags, defaults and checks are those
//! of the subcommands and nothing else.
//!
//! Plan: `[defaults]` holds for every run that has such a flag; each `[[run]]` names its `scenario` and sets flags by their names.
//! Invariant: what comes out was accepted by the parser of the command line; what is refused names its line.

use crate::args::Cli;
use clap::error::ContextKind;
use clap::{ArgAction, CommandFactory, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys of a run that are no flags.
const NAME: &str = "name";
const SCENARIO: &str = "scenario";
const ALONGSIDE: &str = "alongside";
/// Subcommands that are no scenarios.
const OTHERS: [&str; 7] = ["run", "scenarios", "certificate", "help", "mixed", "report", "compare"];
/// Flags that belong to the run of a file as a whole.
const OURS: [&str; 6] = ["json", "quiet", "live", "gate", "help", "version"];
/// Scenarios that wait at the gate, so that others can begin together with them.
const GATED: [&str; 11] =
    ["echo", "fanout", "chat", "notifications", "slow", "idle", "connect", "storm", "publish", "drain", "restart"];
/// From this likeness on, a name is offered for one that is unknown.
const LIKENESS_MIN: f64 = 0.7;

/// One run of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: String,
    pub scenario: String,
    /// The scenario and its flags.
    pub words: Vec<String>,
    /// It begins together with the one before.
    pub alongside: bool,
}

type Entry<'a> = (Spanned<std::borrow::Cow<'a, str>>, Spanned<DeValue<'a>>);

/// A file under reading.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|&&b| b == b'\n').count() + 1
    }

    fn fault(&self, at: usize, why: impl std::fmt::Display) -> String {
        format!("{}:{}: {why}", self.name, self.line(at))
    }
}

/// Reads `text`, which stands in the file `name`.
pub fn read(name: &str, text: &str) -> Result<Vec<Planned>, String> {
    let file = File { name, text };
    let root =
        DeTable::parse(text).map_err(|e| file.fault(e.span().map_or(0, |span| span.start), e.message()))?.into_inner();
    let (mut defaults, mut runs) = (Vec::new(), Vec::new());
    for (key, value) in root {
        let at = key.span().start;
        match (key.get_ref().as_ref(), value.into_inner()) {
            ("defaults", DeValue::Table(table)) => defaults = table.into_iter().collect(),
            ("run", DeValue::Array(array)) => {
                for run in array {
                    let span = run.span();
                    match run.into_inner() {
                        DeValue::Table(table) => runs.push((span.start, table.into_iter().collect::<Vec<Entry>>())),
                        _ => return Err(file.fault(span.start, "a run is a table: [[run]]")),
                    }
                }
            }
            ("run", _) => return Err(file.fault(at, "runs are written as [[run]]")),
            (other, _) => return Err(file.fault(at, format!("`{other}` is neither [defaults] nor [[run]]"))),
        }
    }
    if runs.is_empty() {
        return Err(format!("{name}: there is no [[run]] in it"));
    }
    check_defaults(&file, &defaults)?;
    let planned = runs.iter().map(|(at, run)| plan(&file, *at, run, &defaults)).collect::<Result<Vec<_>, _>>()?;
    match planned.first() {
        Some(first) if first.alongside => Err(format!("{name}: the first run has none to be {ALONGSIDE} of")),
        _ => Ok(planned),
    }
}

/// The scenarios that a file may name.
fn scenarios() -> Vec<clap::Command> {
    let all = Cli::command();
    all.get_subcommands().filter(|one| !OTHERS.contains(&one.get_name())).cloned().collect()
}

/// The flag of that name, written with - or _.
fn flag<'a>(scenario: &'a clap::Command, key: &str) -> Option<&'a clap::Arg> {
    let key = key.replace('_', "-");
    let is = |arg: &&clap::Arg| arg.get_long() == Some(&key) || (arg.is_positional() && arg.get_id() == key.as_str());
    scenario.get_arguments().find(is).filter(|_| !OURS.contains(&key.as_str()))
}

/// The name that is most like `key`, if one is like it at all.
fn nearest(key: &str, names: impl Iterator<Item = String>) -> String {
    let like = names.map(|name| (strsim::jaro_winkler(&key.replace('_', "-"), &name), name));
    let best = like.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(String::new(), |(_, name)| format!("; is `{name}` meant?"))
}

fn flags_of(scenario: &clap::Command) -> Vec<String> {
    let name = |arg: &clap::Arg| arg.get_long().map_or_else(|| arg.get_id().to_string(), String::from);
    scenario.get_arguments().map(name).filter(|name| !OURS.contains(&name.as_str())).collect()
}

/// A default must be a flag of some scenario.
fn check_defaults(file: &File, defaults: &[Entry]) -> Result<(), String> {
    let all = scenarios();
    for (key, _) in defaults {
        let name = key.get_ref();
        if !all.iter().any(|scenario| flag(scenario, name).is_some()) {
            let near = nearest(name, all.iter().flat_map(flags_of));
            return Err(file.fault(key.span().start, format!("no scenario has `{name}`{near}")));
        }
    }
    Ok(())
}

fn plan(file: &File, at: usize, run: &[Entry], defaults: &[Entry]) -> Result<Planned, String> {
    let own = |key: &str| run.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value);
    let scenario = own(SCENARIO).ok_or_else(|| file.fault(at, format!("this run names no `{SCENARIO}`")))?;
    let text = |value: &Spanned<DeValue>, key: &str| {
        let text = value.get_ref().as_str().map(String::from);
        text.ok_or_else(|| file.fault(value.span().start, format!("`{key}` is a string")))
    };
    let name = text(scenario, SCENARIO)?;
    let all = scenarios();
    let Some(command) = all.iter().find(|one| one.get_name() == name) else {
        let near = nearest(&name, all.iter().map(|one| one.get_name().to_string()));
        return Err(file.fault(scenario.span().start, format!("there is no scenario `{name}`{near}")));
    };
    let mut words = vec![name.clone()];
    for (key, value) in run.iter().filter(|(key, _)| ![NAME, SCENARIO, ALONGSIDE].contains(&key.get_ref().as_ref())) {
        let Some(arg) = flag(command, key.get_ref()) else {
            let near = nearest(key.get_ref(), flags_of(command).into_iter());
            return Err(file.fault(key.span().start, format!("{name} has no `{}`{near}", key.get_ref())));
        };
        put(file, &mut words, arg, value)?;
    }
    let is_set = |arg: &clap::Arg| {
        run.iter().any(|(key, _)| flag(command, key.get_ref()).is_some_and(|set| set.get_id() == arg.get_id()))
    };
    for (key, value) in defaults {
        if let Some(arg) = flag(command, key.get_ref()).filter(|arg| !is_set(arg)) {
            put(file, &mut words, arg, value)?;
        }
    }
    let parsed = Cli::try_parse_from(std::iter::once("corecast-load").chain(words.iter().map(String::as_str)));
    parsed.map_err(|error| refused(file, at, command, run.iter().chain(defaults), &error))?;
    let alongside = match own(ALONGSIDE).map(|value| (value.get_ref().as_bool(), value.span())) {
        None => false,
        Some((Some(yes), _)) => yes,
        Some((None, span)) => return Err(file.fault(span.start, format!("`{ALONGSIDE}` is true or false"))),
    };
    if alongside && !GATED.contains(&name.as_str()) {
        return Err(file.fault(at, format!("{name} cannot begin {ALONGSIDE} of another")));
    }
    let label = own(NAME).map(|value| text(value, NAME)).transpose()?;
    Ok(Planned { name: label.unwrap_or_else(|| name.clone()), scenario: name, words, alongside })
}

/// The words that set a flag.
fn put(file: &File, words: &mut Vec<String>, arg: &clap::Arg, value: &Spanned<DeValue>) -> Result<(), String> {
    let fault = |why: &str| Err(file.fault(value.span().start, format!("`{}` {why}", arg.get_id())));
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let mut one = |text: String| match arg.get_long() {
        Some(long) => words.push(format!("--{long}={text}")),
        None => words.push(text),
    };
    match (value.get_ref(), switch) {
        (DeValue::Boolean(true), true) => words.push(format!("--{}", arg.get_long().unwrap_or_default())),
        (DeValue::Boolean(false), true) => {}
        (_, true) => return fault("is true or false"),
        (DeValue::Array(items), false) => {
            let items = items.iter().map(|item| scalar(item.get_ref())).collect::<Option<Vec<_>>>();
            match (items, arg.get_action()) {
                (None, _) => return fault("is a list of strings or numbers"),
                (Some(items), ArgAction::Append) => items.into_iter().for_each(one),
                (Some(items), _) => one(items.join(",")),
            }
        }
        (other, false) => match scalar(other) {
            Some(text) => one(text),
            None => return fault("is a string or a number"),
        },
    }
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

/// What the command line's parser says, with the line of the key that it is about.
fn refused<'a>(
    file: &File,
    at: usize,
    command: &clap::Command,
    mut entries: impl Iterator<Item = &'a Entry<'a>>,
    error: &clap::Error,
) -> String {
    let about = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let named = |key: &str| {
        let arg = flag(command, key)?;
        let shown = arg
            .get_long()
            .map_or_else(|| format!("<{}>", arg.get_id().as_str().to_uppercase()), |long| format!("--{long}"));
        about.split([' ', '=']).any(|word| word == shown).then_some(())
    };
    let at = entries.find(|(key, _)| named(key.get_ref()).is_some()).map_or(at, |(key, _)| key.span().start);
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
    let told = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect::<Vec<_>>().join(" ");
    file.fault(at, told.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        read("f.toml", text).unwrap_err()
    }

    #[test]
    fn a_table_becomes_the_words_of_a_command_line() {
        let text = "[defaults]\nurl = \"ws://h/\"\nserver_pid = 7\ndepth = 4\n[[run]]\nscenario = \"echo\"\nsize = 1_000\nrate = 2.5\ntext = true\n\
                    spin = false\n[[run]]\nname = \"restarts\"\nscenario = \"restart\"\nalongside = true\napi = [\"http://a\", \"http://b\"]\n";
        let planned = read("f.toml", text).unwrap();
        let sorted = |planned: &Planned| {
            let mut words = planned.words.clone();
            words[1..].sort();
            words.join(" ")
        };
        assert_eq!(sorted(&planned[0]), "echo --depth=4 --rate=2.5 --server-pid=7 --size=1000 --text ws://h/");
        assert_eq!(sorted(&planned[1]), "restart --api=http://a --api=http://b --server-pid=7 ws://h/");
        assert_eq!((planned[0].alongside, planned[1].alongside, planned[1].name.as_str()), (false, true, "restarts"));
    }

    #[test]
    fn what_is_refused_names_its_line_and_the_nearest_name() {
        let run = "[[run]]\nscenario = \"echo\"\nurl = \"ws://h/\"\n";
        assert_eq!(
            fault(&format!("{run}conections = 3\n")),
            "f.toml:4: echo has no `conections`; is `connections` meant?"
        );
        assert_eq!(fault("[[run]]\nscenario = \"ecco\"\n"), "f.toml:2: there is no scenario `ecco`; is `echo` meant?");
        assert_eq!(fault("[[run]]\nurl = \"ws://h/\"\n"), "f.toml:1: this run names no `scenario`");
        assert_eq!(
            fault(&format!("[defaults]\nthread = 1\n{run}")),
            "f.toml:2: no scenario has `thread`; is `threads` meant?"
        );
        assert!(fault(&format!("{run}depth = 9999\n")).starts_with("f.toml:4: invalid value '9999' for '--depth"));
        assert_eq!(fault(&format!("{run}spin = 1\n")), "f.toml:4: `spin` is true or false");
        assert!(fault("[[run]]\nscenario = \"echo\"\n").starts_with("f.toml:1: the following required arguments"));
        assert_eq!(fault(&format!("{run}json = true\n")), "f.toml:4: echo has no `json`");
        assert_eq!(fault("[run]\n"), "f.toml:1: runs are written as [[run]]");
        assert!(fault("[[run]\n").starts_with("f.toml:1: "));
        assert_eq!(fault(""), "f.toml: there is no [[run]] in it");
        assert!(fault(&format!("{run}alongside = true\n")).contains("the first run"));
    }
}
