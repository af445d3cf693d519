//! The imports between the files of `src/`. A re-export counts as the file that defines the item.

use std::collections::{BTreeMap, BTreeSet};

use crate::scanner::{Source, shipped};

/// The modules of the crate by their paths (`["engine", "flush"]`), each with its file's name and shipped code.
struct Modules {
    files: BTreeMap<Vec<String>, (String, String)>,
}

/// Every edge from a file to a file that it imports from, by file names.
pub fn edges(files: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let shipped_files = files.iter().filter(|file| file.name.starts_with("src/") && !file.is_test());
    // Generated files import nothing of the crate; `super` in them is one of their own modules.
    let code = |file: &Source| if file.is_generated() { String::new() } else { shipped(&file.text) };
    let entry = |file: &Source| (module_path(&file.name), (file.name.clone(), code(file)));
    let modules = Modules { files: shipped_files.map(entry).collect() };
    let mut edges = BTreeMap::new();
    for (path, (name, code)) in &modules.files {
        let seen = paths(code, path).into_iter().filter_map(|seen| modules.file_of(&seen, 0));
        let others: BTreeSet<String> = seen.filter(|other| other != name).collect();
        edges.insert(name.clone(), others);
    }
    edges
}

/// The groups of files that import each other, directly or through others.
pub fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = edges.keys().map(|file| (file, reachable(edges, file))).collect();
    let mut found = BTreeSet::new();
    for (file, others) in &reach {
        let circle: Vec<String> =
            others.iter().filter(|other| reach[*other].contains(file)).map(|o| (*o).clone()).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn reachable<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, from: &'a String) -> BTreeSet<&'a String> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for other in edges.get(file).into_iter().flatten() {
            if seen.insert(other) {
                next.push(other);
            }
        }
    }
    seen
}

impl Modules {
    /// The file that defines the item at the path; follows re-exports.
    fn file_of(&self, path: &[String], depth: usize) -> Option<String> {
        let module = (0..=path.len()).rev().find_map(|n| self.files.get_key_value(&path[..n]))?;
        let (module_path, (name, code)) = module;
        let rest = &path[module_path.len()..];
        if let (Some(item), true) = (rest.first(), depth < 8) {
            for target in uses(code, module_path).into_iter().filter(|(public, _)| *public).map(|(_, target)| target) {
                if target.last() == Some(item) && target != path {
                    return self.file_of(&target, depth + 1);
                }
            }
        }
        // The crate's root is not a dependency.
        let is_root = module_path.is_empty();
        (!is_root).then(|| name.clone())
    }
}

/// `src/engine/mod.rs` is `["engine"]`, `src/main.rs` `["main"]`.
fn module_path(name: &str) -> Vec<String> {
    let parts = name.trim_start_matches("src/").trim_end_matches(".rs").split('/');
    parts.filter(|part| *part != "mod" && *part != "lib").map(str::to_owned).collect()
}

/// The paths in the code of a module, from the crate's root.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found: Vec<_> = uses(code, module).into_iter().map(|(_, path)| path).collect();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let text: String =
                code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            // The braces of a `use` follow: `uses` reads what is in them.
            if !text.ends_with("::") {
                found.extend(absolute(&segments(&text), module));
            }
        }
    }
    found
}

/// The `use` declarations of a module: whether each is public, and its path.
fn uses(code: &str, module: &[String]) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap_or("");
        let public = line.trim_start().starts_with("pub");
        if !(line.trim().is_empty() || public) {
            continue;
        }
        let Some(end) = code[at..].find(';') else { continue };
        let leaves = leaves(&code[at + "use ".len()..at + end]);
        found.extend(leaves.into_iter().filter_map(|leaf| Some((public, absolute(&leaf, module)?))));
    }
    found
}

/// `a::{b, c::{d, e as f}}` is `a::b`, `a::c::d`, `a::c::e`.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    let Some((before, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or("");
        return vec![segments(path).into_iter().filter(|part| part != "self" || path.trim() == "self").collect()];
    };
    let before = segments(before);
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("the list begins with one part").push(c);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(part)).map(|leaf| before.iter().cloned().chain(leaf).collect()).collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// A path as a module writes it, from the crate's root. `None` for other crates, and for names that are in scope.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    match path.first().map(String::as_str) {
        Some("crate") => Some(path[1..].to_vec()),
        Some("self") => Some([module, &path[1..]].concat()),
        Some("super") => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let base = module.len().checked_sub(ups)?;
            Some([&module[..base], &path[ups..]].concat())
        }
        // A child of this module, without `self::`; if it is another crate, no file will be found under that name.
        Some(first) if first.starts_with(char::is_lowercase) => Some([module, path].concat()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    #[test]
    fn circles_through_re_exports_are_found() {
        let tree = [
            source("src/lib.rs", "pub mod a;\n"),
            source("src/a/mod.rs", "mod b;\nmod c;\npub use b::{B, Other};\n"),
            source("src/a/b.rs", "use super::c::C;\npub struct B(C);\n"),
            source("src/a/c.rs", "fn c(_: crate::a::B) {}\npub struct C;\n"),
        ];
        let edges = edges(&tree);
        assert_eq!(edges["src/a/c.rs"].iter().collect::<Vec<_>>(), ["src/a/b.rs"]);
        assert_eq!(circles(&edges), [["src/a/b.rs".to_string(), "src/a/c.rs".to_string()]]);
    }

    #[test]
    fn braces_after_super_name_siblings_and_not_the_parent() {
        let tree = [
            source("src/a/mod.rs", "mod b;\nmod c;\nfn a() { b::b() }\n"),
            source("src/a/b.rs", "use super::{c, c::C};\npub fn b() {}\n"),
            source("src/a/c.rs", "pub struct C;\n"),
        ];
        let edges = edges(&tree);
        assert_eq!(edges["src/a/b.rs"].iter().collect::<Vec<_>>(), ["src/a/c.rs"]);
        assert!(circles(&edges).is_empty());
    }

    #[test]
    fn test_code_and_other_crates_add_no_edge() {
        let tree = [
            source("src/lib.rs", "pub mod a;\npub mod b;\n"),
            source("src/a.rs", "use std::b::B;\nuse crate::b::B;\npub struct A;\n"),
            source("src/b.rs", "pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
        ];
        assert!(circles(&edges(&tree)).is_empty());
    }
}
