//! The rules of the project's own code, checked by reading the source tree: layers, circles, lengths, arguments, `unsafe`,
//! tests that sleep, ports, paths of one machine, and words that were replaced by the field's terms.

mod imports;
mod scanner;
mod words;

use scanner::{
    Source, blanked, functions, layer_of, module_depth, names_a_port, names_of_the_crate, numbered, rust_files,
    shipped, sleeps, tests_within, text_files,
};

/// Who may see whom. Left: a layer, which is a file or folder of `src/`. Right: what its code may name with `crate::`.
/// A layer may always name itself; `*` sees everything.
const LAYERS: &[(&str, &[&str])] = &[
    // Names and numbers: they see nothing but each other.
    ("ids", &[]),
    ("slow_policy", &[]),
    // Everything that the compiler cannot check.
    ("sys", &[]),
    // Pure layers: no sockets, clocks, logs or threads, and independent of one another.
    ("ws", &["ids", "sys"]),
    ("protocol", &["ids"]),
    ("pubsub", &["ids", "slow_policy"]),
    ("auth", &["ids"]),
    // The engine: knows bytes, frames and mail; no protocol, no channels.
    ("engine", &["ids", "slow_policy", "sys", "ws"]),
    // The settings, which become the engine's own configuration.
    ("config", &["ids", "slow_policy", "auth", "engine"]),
    // Examines the host for the command line.
    ("doctor", &["config", "engine"]),
    // Calls to the application's backend.
    ("backend", &["ids", "ws", "auth", "config", "protocol"]),
    // The one joint of engine, protocol and pubsub.
    ("messaging", &["ids", "slow_policy", "ws", "protocol", "pubsub", "auth", "backend", "config", "engine"]),
    // Around it.
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
/// What is still against a rule; these numbers may only fall.
const LONG_SIGNATURES_LEFT: usize = 18;
const CIRCLES_LEFT: usize = 18;
const OLD_WORDS_LEFT: usize = 1294;
/// Tests may sleep only inside functions whose names begin so: they ask again until a deadline.
const WAITING_HELPERS: &[&str] = &["wait", "until", "eventually"];

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
fn unsafe_is_in_sys_and_its_one_caller_and_every_use_is_argued() {
    let (mut faults, opening) = (Vec::new(), concat!("uns", "afe {"));
    for file in rust_files() {
        // Its calls of `unsafe fn` of `sys` keep contracts that only the engine can argue for.
        let is_caller = file.name == "src/engine/net/fd_table.rs";
        let inside = file.name.starts_with("src/sys/") || is_caller;
        let allows = file.text.contains(concat!("allow(uns", "afe_code)"));
        if allows && file.name != "src/sys/mod.rs" && !is_caller {
            faults.push(format!("{}: only src/sys and its caller may", file.name));
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
            faults
                .push(format!("{}: {declared} functions with a contract, {contracts} sections that say it", file.name));
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
fn no_function_takes_more_arguments_than_its_bound() {
    let mut faults = Vec::new();
    for file in rust_files().iter().filter(|file| !file.is_test()) {
        let code = shipped(&file.text);
        for (line, name, arguments) in scanner::signatures(&code) {
            if arguments > FUNCTION_ARGUMENTS_MAX {
                faults.push(format!("{}:{line}: `{name}` takes {arguments} arguments", file.name));
            }
        }
    }
    at_most(LONG_SIGNATURES_LEFT, &faults);
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let circles = imports::circles(&imports::edges(&rust_files()));
    let faults: Vec<_> = circles.iter().map(|circle| circle.join(" <-> ")).collect();
    at_most(CIRCLES_LEFT, &faults);
}

#[test]
fn old_words_do_not_return() {
    at_most(OLD_WORDS_LEFT, &words::found(&text_files()));
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

fn at_most(left: usize, faults: &[String]) {
    assert!(faults.len() <= left, "{} against the rule:\n  {}", faults.len(), faults.join("\n  "));
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} against the rule:\n  {}", faults.len(), faults.join("\n  "));
}
