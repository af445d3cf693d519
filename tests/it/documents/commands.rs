//! The commands in the documents: which are run, which are only checked and why, and whether the things that they name
//! exist.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use super::root;

/// How a command in a block is tested.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// It must end with one of these codes.
    Run(&'static [i32]),
    /// A server: it runs until the other commands of the document have ended.
    Serve,
    /// Not run, for this reason. Its program, flags and files are still checked.
    Check(&'static str),
}

const DONE: &[i32] = &[0];
/// No findings, findings, unreadable values: this depends on the host.
const JUDGED: &[i32] = &[0, 1, 2];

/// By the beginning of a command; the first match decides.
const RULES: &[(&str, Plan)] = &[
    ("corecast serve", Plan::Serve),
    ("corecast doctor", Plan::Run(JUDGED)),
    ("corecast ", Plan::Run(DONE)),
    ("curl ", Plan::Run(DONE)),
    ("KEY=$(", Plan::Run(DONE)),
    ("KEY=... ", Plan::Check("values for the reader to fill in, and other hosts")),
    ("tuning/tune undo", Plan::Check("changes the host")),
    ("tuning/tune apply --profile throughput --cores", Plan::Check("names cores that this host may not have")),
    ("tuning/tune", Plan::Run(JUDGED)),
    ("tuning/check", Plan::Run(JUDGED)),
    ("cargo ", Plan::Check("compiles for minutes")),
    ("target/release/", Plan::Check("needs a release build, and a core for each program")),
    ("corecast-load ", Plan::Check("loads a server for longer than a test may take")),
    ("benches/", Plan::Check("takes minutes to an hour, on a quiet machine")),
    ("tools/", Plan::Check("takes minutes, and programs of other projects")),
    (".ci/run", Plan::Check("runs this test")),
    ("systemctl ", Plan::Check("needs root and a service manager")),
    ("apt-get ", Plan::Check("needs root")),
    ("export ", Plan::Check("values for the reader to fill in")),
];

/// Programs of others that documents may call.
const FOREIGN: &[&str] = &["curl", "systemctl", "apt-get", "export", "sed"];

pub fn plan(command: &str) -> Option<Plan> {
    RULES.iter().find(|(begins, _)| command.starts_with(begins)).map(|(_, plan)| *plan)
}

/// Whether inline code is a call of a program of this repository.
pub fn is_command(code: &str) -> bool {
    let words = words(code);
    let words = without_assignments(&words);
    let Some(program) = words.first() else { return false };
    let is_own = ["corecast", "corecast-load", "cargo"].contains(&program.as_str()) && words.len() > 1;
    is_own
        || ["tools/", "benches/", "tuning/", ".ci/"].iter().any(|top| program.starts_with(top))
            && is_executable(program)
}

fn is_executable(path: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = root().join(path);
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// The errors of a command: an unknown program, subcommand, flag or file.
pub fn faults(command: &str) -> Vec<String> {
    let words = words(command);
    let mut faults = Vec::new();
    for words in words.split(|word| ["|", "&&", ";"].contains(&word.as_str())) {
        let words = without_assignments(words);
        let end = words.iter().position(|word| word.starts_with('>') || word == "<").unwrap_or(words.len());
        if let Some((program, words)) = words[..end].split_first() {
            faults.extend(call_faults(program, words));
        }
    }
    faults
}

fn without_assignments(words: &[String]) -> &[String] {
    let is_assignment = |word: &&String| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    &words[words.iter().take_while(is_assignment).count()..]
}

fn call_faults(program: &str, words: &[String]) -> Vec<String> {
    let name = program.strip_prefix("target/release/").unwrap_or(program);
    match name {
        "corecast" | "corecast-load" => program_faults(name, words),
        "cargo" => cargo_faults(words),
        _ if name.contains('/') => script_faults(name, words),
        _ if FOREIGN.contains(&name) => Vec::new(),
        _ => vec![format!("no rule for the program {name}")],
    }
}

/// A program of this repository: its help lists its subcommands and flags.
fn program_faults(program: &str, words: &[String]) -> Vec<String> {
    // `corecast-load SUBCOMMAND --help`: a placeholder for any subcommand.
    let is_placeholder = |word: &String| word.chars().all(|c| c.is_ascii_uppercase());
    if words.first().is_some_and(is_placeholder) {
        return Vec::new();
    }
    let mut path: Vec<&str> = Vec::new();
    for word in words {
        let deeper: Vec<&str> = path.iter().copied().chain([word.as_str()]).collect();
        if word.starts_with('-') || help(program, &deeper).is_none() {
            break;
        }
        path = deeper;
    }
    if path.is_empty() && words.first().is_some_and(|word| !word.starts_with('-')) {
        return vec![format!("{program} has no subcommand {}", words[0])];
    }
    let Some(help) = help(program, &path) else { return vec![format!("{program} {path:?} has no help")] };
    let missing = flags(words).filter(|flag| !names(&help, flag));
    missing.map(|flag| format!("{program} {} has no flag {flag}", path.join(" "))).collect()
}

fn flags(words: &[String]) -> impl Iterator<Item = String> {
    let flag = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
    words.iter().filter(|word| word.starts_with('-') && word.len() > 1).map(flag).filter(|flag| flag != "--")
}

/// As a whole word, not as the beginning of a longer one.
fn names(text: &str, flag: &str) -> bool {
    text.match_indices(flag).any(|(at, _)| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + flag.len()..].chars().next())
    })
}

/// The help of a subcommand; `None` if it does not exist.
fn help(program: &str, path: &[&str]) -> Option<String> {
    type Known = Mutex<HashMap<String, Option<String>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let key = format!("{program} {}", path.join(" "));
    let known = KNOWN.get_or_init(Known::default);
    if let Some(help) = known.lock().expect("no test panics while holding it").get(&key) {
        return help.clone();
    }
    let output = Command::new(binary(program)).args(path).arg("--help").output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The program prints its own help for a word that is not a subcommand: then the word is an argument.
    let usage = text.lines().find(|line| line.starts_with("Usage:")).unwrap_or_default();
    let is_own = output.status.success() && path.iter().all(|word| names(usage, word));
    let help = is_own.then_some(text);
    known.lock().expect("no test panics while holding it").insert(key, help.clone());
    help
}

/// The load tool is another package: it is built first if the workspace was not.
fn binary(program: &str) -> PathBuf {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_corecast"));
    let path = server.with_file_name(program);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", program]).current_dir(root());
        if path.parent().is_some_and(|folder| folder.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "{program} cannot be built");
    }
    path
}

fn cargo_faults(words: &[String]) -> Vec<String> {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (words, behind) = (&words[..end], words.get(end + 1..).unwrap_or_default());
    let mut faults = Vec::new();
    let verbs = ["build", "check", "test", "run", "bench", "install", "doc", "clippy", "fmt", "deny"];
    if !words.first().is_some_and(|verb| verbs.contains(&verb.as_str())) {
        faults.push(format!("cargo {words:?} is not among {verbs:?}"));
    }
    for pair in words.windows(2) {
        let name = &pair[1];
        let there = |places: &[String]| places.iter().any(|place| root().join(place).exists());
        let found = match pair[0].as_str() {
            "--bench" => there(&[format!("benches/{name}.rs"), format!("benches/parts/{name}.rs")]),
            "--test" => there(&[format!("tests/{name}.rs"), format!("tests/{name}/main.rs")]),
            "--example" => there(&[format!("examples/{name}.rs")]),
            "--bin" => name == "corecast" || name == "corecast-load",
            "-p" | "--package" => is_package(name),
            _ => true,
        };
        if !found {
            faults.push(format!("cargo: there is no {} {name}", pair[0]));
        }
    }
    let is_ours = words.first().is_some_and(|verb| verb == "run") && !words.iter().any(|word| word == "--example");
    if is_ours && !behind.is_empty() {
        faults.extend(program_faults("corecast", behind));
    }
    faults
}

/// A package of the workspace: the root, or in a folder of `tools` or `benches`.
fn is_package(name: &str) -> bool {
    let mut manifests = vec![root().join("Cargo.toml")];
    for folder in ["tools", "benches"] {
        let members = fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
        manifests.extend(members.map(|member| member.path().join("Cargo.toml")));
    }
    let wanted = format!("name = \"{name}\"");
    manifests.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == wanted)))
}

/// A script of the tree: it exists, and its text contains the flags and plain words of the call.
fn script_faults(program: &str, words: &[String]) -> Vec<String> {
    if !is_executable(program) {
        return vec![format!("{program} is not an executable file")];
    }
    let mut text = fs::read_to_string(root().join(program)).unwrap_or_default();
    // Scripts share the code that parses their arguments.
    let script = root().join(program);
    for entry in fs::read_dir(script.parent().unwrap_or(Path::new("."))).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "py" || extension == "sh") {
            text.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    let generated = |flag: &str| text.contains(&format!("\"{}\": (", flag.trim_start_matches('-')));
    let missing = flags(words).filter(|flag| !names(&text, flag) && !generated(flag));
    missing.map(|flag| format!("{program} has no flag {flag}")).collect()
}

/// Splits words like a shell, without expansions. A redirection is a word of its own.
pub fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut depth = 0;
    for c in command.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, ' ') if depth == 0 => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[test]
fn commands_are_split_and_judged() {
    assert_eq!(words("a 'b c' \"d\"e > f"), ["a", "b c", "de", ">", "f"]);
    assert!(names("  --takeover  take over", "--takeover") && !names("--takeover-now", "--takeover"));
    assert!(is_command("corecast config") && !is_command("corecast::engine") && !is_command("tools/load"));
    assert!(faults("corecast serve --dev").is_empty() && faults("X=1 corecast token secret > file").is_empty());
    assert!(
        faults("cargo test --test house_rules").is_empty() && faults("cargo run --release -- serve --dev").is_empty()
    );
    for wrong in [
        "corecast serve --nothing",
        "corecast sing",
        "cargo test --test nothing",
        "cargo run -- serve --nothing",
        "tuning/tune check --nothing",
        "tuning/nothing",
        "nothing --at all",
    ] {
        assert!(!faults(wrong).is_empty(), "{wrong}");
    }
}
