//! The rules of the project's own code, checked by reading the source tree: layers, import circles, lengths, arguments,
//! `unsafe`, sleeping tests, ports, paths of one machine, and words that were replaced by terms of the field.

mod imports;
mod scanner;
mod words;

use scanner::{
    Source, all_rust_files, blanked, functions, layer_of, module_depth, names_a_port, names_of_the_crate, numbered,
    rust_files, shipped, sleeps, tests_within, text_files,
};

/// The allowed imports between layers. Left: a layer, which is a file or folder of `src/`. Right: the layers that its
/// code may name with `crate::`. A layer may always name itself; `*` allows all.
const LAYERS: &[(&str, &[&str])] = &[
    // Names and numbers: they import nothing.
    ("ids", &[]),
    ("slow_policy", &[]),
    // All code that the compiler cannot check.
    ("sys", &[]),
    // Pure layers: no sockets, clocks, logs or threads, and independent of each other.
    ("http", &[]),
    ("ws", &["ids", "sys", "http"]),
    ("protocol", &["ids"]),
    ("pubsub", &["ids", "slow_policy"]),
    ("auth", &["ids"]),
    // The durable log, without threads and clocks.
    ("durable", &["ids", "pubsub", "sys"]),
    // The engine: bytes, frames and mail; no protocol, no channels.
    ("engine", &["ids", "slow_policy", "sys", "ws", "http"]),
    // The settings, which build the configuration of the engine.
    ("config", &["ids", "slow_policy", "auth", "engine", "http"]),
    // Checks the host for the command line.
    ("doctor", &["config", "engine"]),
    // Calls to the application's backend.
    ("backend", &["ids", "ws", "auth", "config", "protocol"]),
    // Brokers that several servers share.
    ("broker", &["ids", "protocol", "pubsub", "durable", "config"]),
    // The only layer that joins engine, protocol and pubsub.
    (
        "messaging",
        &["ids", "slow_policy", "ws", "http", "protocol", "pubsub", "auth", "backend", "broker", "config", "engine"],
    ),
    // The servers of a cluster.
    ("cluster", &["*"]),
    // The processes around it.
    ("api", &["*"]),
    ("admin", &["*"]),
    ("handover", &["*"]),
    ("server", &["*"]),
    ("embed", &["*"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;
/// With `self`.
const FUNCTION_ARGUMENTS_MAX: usize = 6;
/// Tests may sleep only inside functions whose names begin with these words: they poll until a deadline.
const WAITING_HELPERS: &[&str] = &["wait", "until", "eventually"];

#[test]
fn layers_import_only_lower_layers() {
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
                faults.push(format!("{}:{line}: `{layer}` must not import `{seen}`", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn unsafe_code_is_in_sys_and_one_caller_with_arguments() {
    let (mut faults, opening) = (Vec::new(), concat!("uns", "afe {"));
    for file in rust_files() {
        // Its calls of `unsafe fn` of `sys` keep contracts that only the engine can argue for.
        let is_caller = file.name == "src/engine/net/fd_table.rs";
        let inside = file.name.starts_with("src/sys/") || is_caller;
        let allows = file.text.contains(concat!("allow(uns", "afe_code)"));
        if allows && file.name != "src/sys/mod.rs" && !is_caller {
            faults.push(format!("{}: only src/sys and its caller may allow unsafe code", file.name));
        }
        let argued = file.text.matches("// SAFETY: ").count();
        let code = blanked(&file.text);
        let used = code.matches(opening).count();
        if inside && argued != used {
            faults.push(format!("{}: {used} uses, {argued} arguments", file.name));
        }
        let contracts = file.text.matches(concat!("/// # Saf", "ety")).count();
        let declared = code.matches(concat!("uns", "afe fn ")).count();
        if contracts != declared {
            faults.push(format!("{}: {declared} functions with a contract, {contracts} `Safety` sections", file.name));
        }
    }
    none(&faults);
}

#[test]
fn files_are_within_the_bound_of_lines() {
    let long = |file: &&Source| file.text.lines().count() > FILE_LINES_MAX;
    let faults: Vec<_> = rust_files().iter().filter(long).map(|file| file.name.clone()).collect();
    none(&faults);
}

#[test]
fn functions_are_within_the_bound_of_lines() {
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
fn functions_are_within_the_bound_of_arguments() {
    let mut faults = Vec::new();
    for file in rust_files().iter().filter(|file| !file.is_test()) {
        let code = shipped(&file.text);
        for (line, name, arguments) in scanner::signatures(&code) {
            if arguments > FUNCTION_ARGUMENTS_MAX {
                faults.push(format!("{}:{line}: `{name}` takes {arguments} arguments", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn files_have_no_import_circles() {
    let circles = imports::circles(&imports::edges(&all_rust_files()));
    let faults: Vec<_> = circles.iter().map(|circle| circle.join(" <-> ")).collect();
    none(&faults);
}

#[test]
fn replaced_words_are_not_used() {
    none(&words::found(&text_files()));
}

#[test]
fn source_files_begin_with_their_purpose() {
    let without_purpose = |file: &&Source| file.name.starts_with("src/") && !file.text.starts_with("//! ");
    let faults: Vec<_> = rust_files().iter().filter(without_purpose).map(|file| file.name.clone()).collect();
    none(&faults);
}

#[test]
fn tree_has_no_open_marks() {
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
fn tests_wait_for_events_without_sleeping() {
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
fn tests_use_ports_of_the_kernel() {
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
fn files_name_no_folder_of_one_machine() {
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
fn scanner_finds_names_functions_and_tests() {
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
    assert!(faults.is_empty(), "{} violations:\n  {}", faults.len(), faults.join("\n  "));
}
