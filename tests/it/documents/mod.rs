//! The documents are correct: commands run, snippets work, and the things that they name exist.
//!
//! - `markdown`  a document: headings, links, code blocks, inline code
//! - `commands`  which commands are run, which are only checked and why, and whether flags and files exist
//! - `script`    the runnable commands of a document, run in a folder of their own
//!
//! JavaScript runs in `tools/conformance/run documents`, the proxies' files in `tools/conformance/run proxies`: both
//! need programs that `cargo test` must not need.

mod commands;
mod markdown;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use markdown::{Document, documents};

/// Languages of blocks, and how each is tested.
const LANGUAGES: &[(&str, &str)] = &[
    ("sh", "run, or checked"),
    ("toml", "read by check-config"),
    ("json", "read by check-config"),
    ("js", "run by tools/conformance"),
    ("html", "run by tools/conformance"),
    ("rust", "part of an example, which is compiled"),
    ("text", "a drawing, or output"),
    ("console", "a recorded session: its commands are checked"),
];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn corecast(args: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_corecast")).args(args).env_clear().output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn documents_have_a_language_at_every_block() {
    let mut faults = Vec::new();
    for document in documents() {
        for block in &document.blocks {
            if !LANGUAGES.iter().any(|(language, _)| *language == block.language) {
                faults.push(format!("{}:{}: language {:?}", document.name, block.line, block.language));
            }
        }
    }
    none(&faults);
}

#[test]
fn links_have_existing_targets() {
    let documents = documents();
    let anchors = |name: &str| documents.iter().find(|one| one.name == name).map(Document::anchors);
    let mut faults = Vec::new();
    for document in &documents {
        for (line, target) in document.links() {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = Path::new(&document.name).parent().expect("a file has a folder");
            let path = if path.is_empty() { PathBuf::from(&document.name) } else { normal(&folder.join(path)) };
            let name = path.to_string_lossy().into_owned();
            let known = if anchor.is_empty() { true } else { anchors(&name).is_some_and(|all| all.contains(anchor)) };
            if !root().join(&path).exists() || !known {
                faults.push(format!("{}:{line}: {target} leads nowhere", document.name));
            }
        }
    }
    none(&faults);
}

/// Without `..`, so that names can be compared.
fn normal(path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => _ = parts.pop(),
            other => parts.push(other),
        }
    }
    parts.into_iter().collect()
}

#[test]
fn tables_have_as_many_cells_in_every_row() {
    let mut faults = Vec::new();
    for document in documents() {
        let mut columns = None;
        for (line, text) in document.prose() {
            // A `|` in a cell is escaped, also in code.
            let cells = text.starts_with('|').then(|| text.replace("\\|", "").matches('|').count());
            match (columns, cells) {
                (Some(columns), Some(cells)) if columns != cells => {
                    faults.push(format!("{}:{line}: {} cells, not {}", document.name, cells - 1, columns - 1));
                }
                (None, _) | (_, None) => columns = cells,
                _ => {}
            }
        }
    }
    none(&faults);
}

#[test]
fn settings_in_blocks_are_valid() {
    let folder = script::folder("settings");
    let mut faults = Vec::new();
    for document in documents() {
        for block in document.blocks.iter().filter(|block| ["toml", "json"].contains(&&*block.language)) {
            let path = folder.join(format!("block.{}", block.language));
            fs::write(&path, &block.text).expect("a folder of our own");
            let (code, _, errors) = corecast(&["check-config", "--skip-files", path.to_str().expect("text")]);
            if code != 0 {
                faults.push(format!("{}:{}: {}", document.name, block.line, errors.trim()));
            }
        }
    }
    for file in fs::read_dir(root().join("docs/examples")).expect("the folder of examples").flatten() {
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let (code, text, errors) = corecast(&["check-config", "--skip-files", path.to_str().expect("text")]);
            if code != 0 || text.contains("note:") {
                faults.push(format!("{}: {text}{errors}", path.display()));
            }
        }
    }
    none(&faults);
}

#[test]
fn nginx_example_passes_on_every_path_of_clients() {
    let text = |name: &str| fs::read_to_string(root().join(name)).expect("a file of the repository");
    let (protocol, example) = (text("docs/protocol.md"), text("docs/examples/nginx.conf"));
    let transports = protocol.split("\n## ").find(|part| part.starts_with("Transports\n")).expect("the section");
    let cells = transports.lines().filter_map(|line| line.strip_prefix("| `/")?.split(" | ").next());
    let paths: Vec<String> = cells
        .flat_map(|cell| cell.split('`').step_by(2).map(|path| format!("/{}", path.trim_start_matches('/'))))
        .collect();
    assert!(paths.iter().any(|path| path == "/emulation") && paths.len() > 5, "{paths:?}");
    let locations: Vec<&str> = example.lines().filter_map(|line| line.trim().strip_prefix("location ")).collect();
    // What an operator enables to try a server is not for everyone.
    for path in paths.into_iter().filter(|path| path != "/echo") {
        let serves = |location: &&str| match location.strip_prefix("= ") {
            Some(exact) => exact.strip_suffix(" {") == Some(&path),
            None => location.strip_suffix(" {").is_some_and(|prefix| prefix != "/" && path.starts_with(prefix)),
        };
        assert!(locations.iter().any(serves), "{path}: {locations:?}");
    }
}

#[test]
fn commands_in_blocks_run_or_can_be_run() {
    let mut faults = Vec::new();
    for document in documents() {
        for (line, command) in document.commands() {
            faults.extend(
                commands::faults(&command).into_iter().map(|fault| format!("{}:{line}: {fault}", document.name)),
            );
        }
        faults.extend(script::run(&document));
    }
    none(&faults);
}

#[test]
fn inline_commands_can_be_run() {
    let mut faults = Vec::new();
    for document in documents() {
        for (line, code) in document.inline_code() {
            if commands::is_command(&code) {
                let found =
                    commands::faults(&code).into_iter().map(|fault| format!("{}:{line}: {fault}", document.name));
                faults.extend(found);
            }
        }
    }
    none(&faults);
}

#[test]
fn named_files_exist() {
    let tops = ["src/", "docs/", "tests/", "tools/", "tuning/", "benches/", "examples/", ".ci/", ".github/"];
    let mut faults = Vec::new();
    for document in documents() {
        for (line, code) in document.inline_code() {
            let path = code.split_whitespace().next().unwrap_or_default();
            // Files that runs create, and patterns.
            let is_made = path.contains("/out") || path.contains('*');
            if tops.iter().any(|top| path.starts_with(top)) && !is_made && !root().join(path).exists() {
                faults.push(format!("{}:{line}: there is no {path}", document.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn named_settings_and_metrics_exist() {
    let settings = known_settings();
    let sections: BTreeSet<&str> =
        settings.iter().filter_map(|name| name.split_once('.').map(|(first, _)| first)).collect();
    let metrics = metrics_in_the_source();
    let mut faults = Vec::new();
    for document in documents() {
        for (line, code) in document.inline_code() {
            let name = code.split([' ', '=']).next().unwrap_or_default();
            let first = name.split('.').next().unwrap_or_default();
            let is_setting = name.contains('.')
                && sections.contains(first)
                && name.chars().all(|c| c.is_ascii_lowercase() || "._[]0123456789".contains(c));
            let is_section = || settings.iter().any(|one| one.starts_with(&format!("{name}.")));
            if is_setting && !settings.contains(name) && !is_section() && !is_foreign(&document.name, name) {
                faults.push(format!("{}:{line}: no setting is called {name}", document.name));
            }
            let metric = name.strip_prefix("corecast_").map(|name| name.trim_end_matches("_total"));
            if let Some(metric) = metric
                && !metrics.contains(metric)
            {
                faults.push(format!("{}:{line}: no metric is called {name}", document.name));
            }
        }
    }
    none(&faults);
}

/// Keys that only Centrifugo has, and names of files, which look like settings.
fn is_foreign(document: &str, name: &str) -> bool {
    document == "docs/centrifugo.md" && (name.starts_with("http_server.") || name.starts_with("client."))
        || name == "client.concurrency"
        || [".rs", ".toml", ".md", ".service", ".json"].iter().any(|end| name.ends_with(end))
}

fn known_settings() -> BTreeSet<String> {
    let (code, table, errors) = corecast(&["config", "--markdown"]);
    assert_eq!(code, 0, "{errors}");
    let names =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned()));
    let mut names: BTreeSet<String> = names.collect();
    // The table omits sections that repeat another one.
    for section in ["client.subscription_token", "channel.proxy", "client.proxy", "rpc.proxy"] {
        names.insert(format!("{section}.enabled"));
        names.insert(format!("{section}.endpoint"));
    }
    names.extend(["broker.redis.address", "presence_manager.redis.address"].map(str::to_owned));
    names
}

/// Names as in the tables of metrics: string literals of the source.
fn metrics_in_the_source() -> BTreeSet<String> {
    let mut literals = BTreeSet::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the source can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                literals.extend(
                    text.split('"').skip(1).step_by(2).map(|text| text.trim_start_matches("corecast_").to_owned()),
                );
            }
        }
    }
    literals
}

#[test]
fn settings_reference_equals_the_output_of_the_program() {
    let text = fs::read_to_string(root().join("docs/configuration.md")).expect("the reference");
    let (_, written) = text.split_once("\n\n| Setting |").expect("a table");
    let (_, printed, _) = corecast(&["config", "--markdown"]);
    let printed = printed.strip_prefix("| Setting |").expect("a table");
    let differs = written.lines().zip(printed.lines()).find(|(one, other)| one != other);
    assert!(
        written == printed,
        "docs/configuration.md is not what `corecast config --markdown` prints; the first difference: {differs:?}"
    );
}

#[test]
fn rust_in_the_documents_is_compiled_as_part_of_an_example() {
    let mut sources = String::new();
    for folder in ["examples", "src/engine", "src"] {
        for entry in fs::read_dir(root().join(folder)).into_iter().flatten().flatten() {
            sources.push_str(&without_blanks(&fs::read_to_string(entry.path()).unwrap_or_default()));
        }
    }
    let mut faults = Vec::new();
    for document in documents() {
        for block in document.blocks.iter().filter(|block| block.language == "rust") {
            if !sources.contains(&without_blanks(&block.text)) {
                faults.push(format!("{}:{}: no example has these lines", document.name, block.line));
            }
        }
    }
    none(&faults);
}

/// Without indentation and comment marks, so that the lines of a doctest are found too.
fn without_blanks(text: &str) -> String {
    let line = |line: &str| line.trim().trim_start_matches("//!").trim_start_matches("///").trim().to_owned();
    text.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The rows of the table with this title in its first cell: each a map from column to cell.
fn table(name: &str, title: &str) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(root().join(name)).expect("a document");
    let cells =
        |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {title} |")));
    let head = cells(lines.next().unwrap_or_default());
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|line| head.iter().cloned().zip(cells(line)).collect()).collect()
}

#[test]
fn figures_of_the_readme_equal_those_of_the_benchmarks() {
    let title = "how many times the work of";
    let measured = table("docs/benchmarks.md", title);
    let shown = table("README.md", title);
    assert!(!shown.is_empty(), "the README compares");
    for row in shown {
        let name = &row[title];
        let source = measured.iter().find(|one| one[title] == *name).unwrap_or_else(|| panic!("no figures of {name}"));
        for (column, cell) in &row {
            assert_eq!(source.get(column), Some(cell), "{name}, {column}");
        }
    }
}

#[test]
fn readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).expect("the README").lines().count();
    assert!(lines <= 150, "{lines} lines");
}

#[test]
fn decisions_are_short_and_have_three_parts() {
    let mut faults = Vec::new();
    for document in documents().iter().filter(|one| one.name.starts_with("docs/adr/0")) {
        let anchors = document.anchors();
        let lines = document.lines();
        if lines > 60 || !["context", "decision", "consequences"].iter().all(|part| anchors.contains(*part)) {
            faults.push(format!("{}: {lines} lines, {anchors:?}", document.name));
        }
    }
    none(&faults);
}
