//! Reads the source tree as text: files, functions, and the code without comments, literals or tests.
//!
//! It is a scanner and not a parser. It blanks comments and literals, so that braces and paths are those of the code,
//! and it removes `#[cfg(test)]` items if a rule is about shipped code.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders without sources of the project.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", "out", ".git"];
/// Files that tools write. In a linked worktree `.git` is a file.
const NOT_OURS: &[&str] = &["Cargo.lock", "package-lock.json", ".git"];

pub struct Source {
    /// From the root of the tree, with `/`.
    pub name: String,
    pub text: String,
}

impl Source {
    /// Whole files of tests, known by their names.
    pub fn is_test(&self) -> bool {
        let stem = self.name.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
        self.name.split('/').any(|part| part == "tests" || part == "benches")
            || stem == "tests"
            || stem.ends_with("_tests")
    }

    /// Written by `tools/proto`, as its first line states.
    pub fn is_generated(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.contains("@generated: do not edit"))
    }
}

/// The Rust files that people write.
pub fn rust_files() -> Vec<Source> {
    all_rust_files().into_iter().filter(|file| !file.is_generated()).collect()
}

/// With the generated ones.
pub fn all_rust_files() -> Vec<Source> {
    text_files().into_iter().filter(|file| file.name.ends_with(".rs")).collect()
}

pub fn text_files() -> Vec<Source> {
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
        // A link may lead out of the tree, or back into it.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) => {
                collect(&path, into)
            }
            Ok(kind) if kind.is_file() && !NOT_OURS.iter().any(|other| name == *other) => into.push(path),
            _ => {}
        }
    }
}

pub fn layer_of(name: &str) -> &str {
    let first = name.trim_start_matches("src/").split('/').next().unwrap_or("");
    first.trim_end_matches(".rs")
}

/// How many `super::` lead from the file to the crate's root.
pub fn module_depth(name: &str) -> usize {
    let parts = name.trim_start_matches("src/").trim_end_matches(".rs").split('/');
    parts.filter(|part| !["mod", "lib", "main"].contains(part)).count()
}

pub fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// A call of the function, and not of a method with that name.
pub fn sleeps(code: &str) -> bool {
    code.match_indices("sleep(").any(|(at, _)| {
        let before = &code[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') && !before.ends_with("fn ")
    })
}

/// A port other than 0 after an address.
pub fn names_a_port(text: &str) -> bool {
    ["127.0.0.1:", "0.0.0.0:", "localhost:", "[::1]:", "[::]:"].iter().any(|host| {
        text.match_indices(host).any(|(at, _)| text[at + host.len()..].starts_with(|c: char| ('1'..='9').contains(&c)))
    })
}

/// The top-level names after `crate::`, and after as many `super::` as lead to the root, each with its line.
pub fn names_of_the_crate(code: &str, depth: usize) -> Vec<(usize, String)> {
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
pub fn first_names(path: &str) -> Vec<String> {
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

pub struct Function {
    pub name: String,
    pub first_line: usize,
    pub last_line: usize,
}

/// Every function with a body. The code must be blanked.
pub fn functions(code: &str) -> Vec<Function> {
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

/// Every function with its line and the number of its parameters, `self` among them. The code must be blanked.
pub fn signatures(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name = first_names(&code[at + 3..]).remove(0);
        let Some(open) = code[at..].find('(').map(|open| at + open) else { continue };
        if name.is_empty() {
            continue;
        }
        found.push((code[..at].matches('\n').count() + 1, name, parameters(&code[open + 1..])));
    }
    found
}

/// Counts the parameters of the list that begins here, after its parenthesis.
fn parameters(code: &str) -> usize {
    let (mut depth, mut count, mut text) = (0usize, 0, false);
    let mut before = ' ';
    for c in code.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' if depth == 0 => return count + usize::from(text),
            // The arrow of a function type is not a closing bracket.
            '>' if before == '-' || before == '=' => {}
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                count += usize::from(text);
                text = false;
            }
            _ if !c.is_whitespace() => text = true,
            _ => {}
        }
        text |= !c.is_whitespace() && c != ',';
        before = c;
    }
    count
}

/// Where the item that begins here ends: at its `;`, or at the closing brace of its body.
pub fn item_end(code: &str) -> Option<usize> {
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

/// The shipped code: blanked, and without its tests. Lines keep their numbers.
pub fn shipped(text: &str) -> String {
    let code = blanked(text);
    let items = test_items(&code);
    code.char_indices().map(|(at, c)| if items.iter().any(|item| item.contains(&at)) { blank(c) } else { c }).collect()
}

/// The other half: only the tests within a file.
pub fn tests_within(text: &str) -> String {
    let code = blanked(text);
    let items = test_items(&code);
    code.char_indices().map(|(at, c)| if items.iter().any(|item| item.contains(&at)) { c } else { blank(c) }).collect()
}

fn blank(c: char) -> char {
    if c == '\n' { c } else { ' ' }
}

/// The text with comments, strings and characters turned into spaces.
pub fn blanked(text: &str) -> String {
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

/// Bytes of the comment or literal that begins here; 0 if none begins.
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
    // A lifetime has no quote after its first character.
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
