//! The rules of the house, held by reading the source tree: who may see whom, how long a file and a function may be,
//! what every file begins with, what no file contains.
//!
//! The reader is a scanner and not a parser. It blanks comments and literals, so that braces and paths are those of the
//! code, and it takes `#[cfg(test)]` items out where a rule is about the code that ships.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may see whom. Left: a layer, which is a file or folder of `src/`. Right: what its code may name with `crate::`.
/// A layer may always name itself; `*` sees everything.
const LAYERS: &[(&str, &[&str])] = &[
    // Names and numbers: they see nothing but each other.
    ("limits", &[]),
    ("ids", &["limits"]),
    // Everything that the compiler cannot check.
    ("sys", &[]),
    // Pure layers: no sockets, clocks, logs or threads, and independent of one another.
    ("ws", &["limits", "ids", "sys"]),
    ("protocol", &["limits", "ids"]),
    ("pubsub", &["limits", "ids"]),
    ("auth", &["limits", "ids"]),
    // The engine: knows bytes, frames and mail; no protocol, no channels.
    ("engine", &["limits", "ids", "sys", "ws"]),
    // The settings, which become the engine's own configuration.
    ("config", &["limits", "ids", "auth", "engine"]),
    // Examines the host for the command line.
    ("doctor", &["config", "engine"]),
    ("echo", &["limits", "ids", "ws", "engine"]),
    // Calls to the application's backend.
    ("backend", &["limits", "ids", "auth", "config", "protocol"]),
    // The one joint of engine, protocol and pubsub.
    ("messaging", &["limits", "ids", "ws", "protocol", "pubsub", "auth", "backend", "config", "engine"]),
    (
        "site",
        &["limits", "ids", "ws", "protocol", "pubsub", "auth", "backend", "config", "engine", "echo", "messaging"],
    ),
    // Around it.
    ("api", &["*"]),
    ("admin", &["*"]),
    ("handover", &["*"]),
    ("server", &["*"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;
/// Tests may sleep only inside functions whose names begin so: they ask again until a deadline.
const WAITING_HELPERS: &[&str] = &["wait", "until", "eventually"];
/// Folders that hold no source of ours.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", "out", ".git"];
/// Files that tools write. In a linked worktree `.git` is a file.
const NOT_OURS: &[&str] = &["Cargo.lock", "package-lock.json", ".git"];

#[test]
fn arrows_between_layers_point_one_way() {
    let mut faults = Vec::new();
    for file in rust_files().iter().filter(|file| file.name.starts_with("src/") && !file.is_test()) {
        let layer = layer_of(&file.name);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            faults.push(format!("{}: the layer `{layer}` is missing in the table of this test", file.name));
            continue;
        };
        for (line, seen) in names_of_the_crate(&shipped(&file.text), module_depth(&file.name)) {
            let known = LAYERS.iter().any(|(name, _)| *name == seen);
            if known && seen != layer && !allowed.contains(&"*") && !allowed.contains(&seen.as_str()) {
                faults.push(format!("{}:{line}: `{layer}` must not see `{seen}`", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn unsafe_stands_in_one_module_and_every_use_is_argued() {
    let (mut faults, opening) = (Vec::new(), concat!("uns", "afe {"));
    for file in rust_files() {
        let inside = file.name.starts_with("src/sys/");
        let allows = file.text.contains(concat!("allow(uns", "afe_code)"));
        if allows && file.name != "src/sys/mod.rs" {
            faults.push(format!("{}: only src/sys may", file.name));
        }
        let argued = file.text.matches("// SAFETY: ").count();
        let used = blanked(&file.text).matches(opening).count();
        if inside && argued != used {
            faults.push(format!("{}: {used} uses, {argued} arguments", file.name));
        }
    }
    none(&faults);
}

#[test]
fn no_file_is_longer_than_its_bound() {
    let long = |file: &&Source| file.text.lines().count() > FILE_LINES_MAX;
    let faults: Vec<_> = rust_files().iter().filter(long).map(|file| file.name.clone()).collect();
    none(&faults);
}

#[test]
fn no_function_is_longer_than_its_bound() {
    let mut faults = Vec::new();
    for file in rust_files().iter().filter(|file| !file.is_test()) {
        for function in functions(&shipped(&file.text)) {
            let lines = function.last_line + 1 - function.first_line;
            if lines > FUNCTION_LINES_MAX {
                faults.push(format!("{}:{}: `{}` has {lines} lines", file.name, function.first_line, function.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    let mute = |file: &&Source| file.name.starts_with("src/") && !file.text.starts_with("//! ");
    let faults: Vec<_> = rust_files().iter().filter(mute).map(|file| file.name.clone()).collect();
    none(&faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not break its own rule.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let macros = [concat!("unimplemented", "!"), concat!("todo", "!")];
    let mut faults = Vec::new();
    for file in text_files() {
        for (line, text) in numbered(&file.text) {
            let word = words.iter().any(|word| text.split(|c: char| !c.is_alphanumeric()).any(|part| part == *word));
            if word || macros.iter().any(|name| text.contains(name)) {
                faults.push(format!("{}:{line}: {}", file.name, text.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn tests_wait_for_events_and_do_not_sleep_and_hope() {
    let mut faults = Vec::new();
    for file in rust_files() {
        let code = if file.is_test() { blanked(&file.text) } else { tests_within(&file.text) };
        let functions = functions(&code);
        for (line, _) in numbered(&code).filter(|(_, text)| sleeps(text)) {
            let inside =
                functions.iter().filter(|f| f.first_line <= line && line <= f.last_line).max_by_key(|f| f.first_line);
            if !inside.is_some_and(|f| WAITING_HELPERS.iter().any(|prefix| f.name.starts_with(prefix))) {
                faults.push(format!("{}:{line}: sleeps outside a waiting helper", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn tests_let_the_kernel_choose_their_ports() {
    let mut faults = Vec::new();
    for file in rust_files() {
        let code = if file.is_test() { blanked(&file.text) } else { tests_within(&file.text) };
        for ((line, code), (_, text)) in numbered(&code).zip(numbered(&file.text)) {
            let opens = ["bind(", "connect("].iter().any(|call| code.contains(call));
            let flags =
                ["\"--listen", "\"--admin"].iter().any(|flag| file.name.starts_with("tests/") && text.contains(flag));
            if (opens || flags) && names_a_port(text) {
                faults.push(format!("{}:{line}: {}", file.name, text.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_names_a_folder_of_the_machine_it_was_written_on() {
    let folders = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    let mut faults = Vec::new();
    for file in text_files() {
        for (line, text) in numbered(&file.text) {
            let named = folders.iter().flat_map(|folder| text.match_indices(folder)).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !"-_./}".contains(c))
            });
            if named {
                faults.push(format!("{}:{line}: {}", file.name, text.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_scanner_reads_what_it_should() {
    let code = "use crate::{ids::A, limits};\nfn long(x: [u8; 2]) -> char {\n    '{' // }\n}\n#[cfg(test)]\nmod tests {\n    \
                use super::super::bus::B;\n    fn f() { sleep(1) }\n}\nuse super::ws;\n/* crate::hub */ const S: &str = \"crate::hub {\";\n";
    let kept = shipped(code);
    let seen: Vec<_> = names_of_the_crate(&kept, 1).into_iter().map(|(line, name)| (line, name.to_string())).collect();
    assert_eq!(seen, [(1, "ids".into()), (1, "limits".into()), (10, "ws".into())]);
    let found: Vec<_> = functions(&kept).into_iter().map(|f| (f.name, f.first_line, f.last_line)).collect();
    assert_eq!(found, [("long".to_string(), 2, 4)]);
    assert!(tests_within(code).contains("sleep(1)") && !tests_within(code).contains("long"));
    assert_eq!(blanked("r#\"a \" b\"# 'x' '\\'' &'a str b'\"'").trim(), "&'a str b");
    assert!(sleeps("thread::sleep(x)") && !sleeps("self.sleep()") && !sleeps("fn sleep()"));
    assert!(names_a_port("bind(\"127.0.0.1:80\")") && !names_a_port("bind(\"127.0.0.1:0\")"));
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} against the rule:\n  {}", faults.len(), faults.join("\n  "));
}

struct Source {
    /// From the root of the tree, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// Whole files of tests, known by their names.
    fn is_test(&self) -> bool {
        let stem = self.name.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        self.name.split('/').any(|part| part == "tests" || part == "benches")
            || stem == "tests"
            || stem.ends_with("_tests")
    }
}

fn rust_files() -> Vec<Source> {
    text_files().into_iter().filter(|file| file.name.ends_with(".rs")).collect()
}

fn text_files() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(root, &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let read = |path: &PathBuf| Some(Source { name: name(path), text: fs::read_to_string(path).ok()? });
    let files: Vec<_> = paths.iter().filter_map(read).collect();
    assert!(files.iter().any(|file| file.name == "src/lib.rs"), "the tree is not where the test looks for it");
    files
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree can be read").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        // A link may lead out of the tree, or in circles.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) => {
                collect(&path, into)
            }
            Ok(kind) if kind.is_file() && !NOT_OURS.iter().any(|other| name == *other) => into.push(path),
            _ => {}
        }
    }
}

fn layer_of(name: &str) -> &str {
    let first = name.trim_start_matches("src/").split('/').next().unwrap_or("");
    first.trim_end_matches(".rs")
}

/// How many `super::` lead from the file to the crate's root.
fn module_depth(name: &str) -> usize {
    let parts = name.trim_start_matches("src/").trim_end_matches(".rs").split('/');
    parts.filter(|part| !["mod", "lib", "main"].contains(part)).count()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// A call of the function, and not of some type's own method of that name.
fn sleeps(code: &str) -> bool {
    code.match_indices("sleep(").any(|(at, _)| {
        let before = &code[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') && !before.ends_with("fn ")
    })
}

/// A port that is not 0 behind an address.
fn names_a_port(text: &str) -> bool {
    ["127.0.0.1:", "0.0.0.0:", "localhost:", "[::1]:", "[::]:"].iter().any(|host| {
        text.match_indices(host).any(|(at, _)| text[at + host.len()..].starts_with(|c: char| ('1'..='9').contains(&c)))
    })
}

/// The top-level names behind `crate::`, and behind as many `super::` as lead to the root, each with its line.
fn names_of_the_crate(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let root = "super::".repeat(depth);
    let starts = ["crate::", root.as_str()];
    for start in starts.into_iter().filter(|start| !start.is_empty()) {
        for (at, _) in code.match_indices(start) {
            let before = &code[..at];
            let word_before = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if word_before || before.ends_with("super::") || before.ends_with('$') {
                continue;
            }
            let line = before.matches('\n').count() + 1;
            names.extend(first_names(&code[at + start.len()..]).into_iter().map(|name| (line, name)));
        }
    }
    names.sort();
    names
}

/// `ids::A` gives `ids`; `{ids::{A, B}, limits}` gives `ids` and `limits`.
fn first_names(path: &str) -> Vec<String> {
    let word =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let mut names = vec![word(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(word(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

struct Function {
    name: String,
    first_line: usize,
    last_line: usize,
}

/// Every function with a body. The code must be blanked.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name = first_names(&code[at + 3..]).remove(0);
        let Some(end) = item_end(&code[at..]) else { continue };
        if name.is_empty() || !code[at..=at + end].ends_with('}') {
            continue;
        }
        let first_line = code[..at].matches('\n').count() + 1;
        found.push(Function { name, first_line, last_line: first_line + code[at..at + end].matches('\n').count() });
    }
    found
}

/// Where the item that begins here ends: at its `;`, or at the brace that closes its body.
fn item_end(code: &str) -> Option<usize> {
    let (mut braces, mut others) = (0usize, 0usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && others == 0 {
                    return Some(at);
                }
            }
            ';' if braces == 0 && others == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// The places of `#[cfg(test)]` items in blanked code.
fn test_items(code: &str) -> Vec<std::ops::Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let places = code.match_indices(MARK);
    places
        .map(|(at, _)| at..item_end(&code[at + MARK.len()..]).map_or(code.len(), |end| at + MARK.len() + end + 1))
        .collect()
}

/// The code that ships: blanked, and without its tests. Lines stay where they are.
fn shipped(text: &str) -> String {
    let code = blanked(text);
    let items = test_items(&code);
    code.char_indices().map(|(at, c)| if items.iter().any(|item| item.contains(&at)) { blank(c) } else { c }).collect()
}

/// The other half: only the tests within a file.
fn tests_within(text: &str) -> String {
    let code = blanked(text);
    let items = test_items(&code);
    code.char_indices().map(|(at, c)| if items.iter().any(|item| item.contains(&at)) { c } else { blank(c) }).collect()
}

fn blank(c: char) -> char {
    if c == '\n' { c } else { ' ' }
}

/// The text with comments, strings and characters turned into spaces.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let in_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = literal_or_comment(rest, in_word);
        match length {
            0 => out.push(c),
            _ => out.extend(rest[..length].chars().map(blank)),
        }
        rest = &rest[length.max(c.len_utf8())..];
    }
    out
}

/// Bytes of the comment or literal that begins here; 0 where none does.
fn literal_or_comment(text: &str, in_word: bool) -> usize {
    let after = |start: usize, close: &str| text[start..].find(close).map_or(text.len(), |at| start + at + close.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return after(2, "*/");
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r')).unwrap_or("");
    let hashes = raw.chars().take_while(|c| *c == '#').count();
    if !in_word && raw[hashes..].starts_with('"') {
        return after(text.len() - raw.len() + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
    }
    // A lifetime has no quote behind its first character.
    let mut chars = text.chars();
    if chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\'')) {
        return quoted(text, '\'');
    }
    0
}

/// Bytes of a literal with its quotes, escapes skipped.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
