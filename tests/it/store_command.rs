//! `corecast store` on the command line.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory that ends with its test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corecast-store-{name}-{}", std::process::id()));
        // Left behind by a test that failed.
        _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(&self.0).expect("it exists").map(|entry| entry.expect("readable").path());
        names.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in the temporary directory changes no test.
        _ = fs::remove_dir_all(&self.0);
    }
}

fn store(command: &str, directory: &Path, input: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_corecast"))
        .args(["store", command])
        .arg(directory)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = process.stdin.take().expect("piped");
    // A command that reads no input may have ended.
    _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    process.wait_with_output().expect("the program ends")
}

/// stdout of a call that must succeed.
fn done(command: &str, directory: &Path, input: &str) -> String {
    let output = store(command, directory, input);
    assert_eq!(output.status.code(), Some(0), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn lines(count: u64) -> String {
    let time = 4_000_000_000_000u64;
    let line = |n: u64| {
        let data =
            if n.is_multiple_of(7) { r#""b64data":"/wA=""#.to_string() } else { format!(r#""data":{{"n":{n}}}"#) };
        format!(
            r#"{{"channel":"news:{}","time":{},{data},"tags":{{"k":"v{n}"}},"user":"ann","version":{n},"history_size":1000,"history_ttl_ms":60000,"strict":{}}}"#,
            n % 3,
            time + n,
            n.is_multiple_of(2)
        ) + "\n"
    };
    (1..=count).map(line).collect()
}

/// The lines without what an import gives anew.
fn without_epochs(export: &str) -> Vec<serde_json::Value> {
    let parse = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let mut lines: Vec<_> = export.lines().map(parse).collect();
    lines.iter_mut().for_each(|line| line["epoch"] = serde_json::Value::Null);
    lines
}

#[test]
fn export_of_an_import_is_the_export_that_was_imported() {
    let (first, second) = (Directory::new("first"), Directory::new("second"));
    assert_eq!(done("import", &first.0, &lines(30)), "30 publications imported\n");
    let exported = done("export", &first.0, "");
    assert_eq!(exported.lines().count(), 30);
    assert!(exported.contains(r#""data":{"n":4},"tags":{"k":"v4"}"#) && exported.contains(r#""b64data":"/wA=""#));
    assert_eq!(done("import", &second.0, &exported), "30 publications imported\n");
    assert_eq!(without_epochs(&done("export", &second.0, "")), without_epochs(&exported));
    assert!(done("check", &first.0, "").contains("30 publications, 3 channels\n"));
    assert!(done("dump", &first.0, "").lines().count() > 30);
    assert_eq!(done("import", &first.0, &lines(3)), "0 publications imported\n", "their versions are old");
    // A second import appends.
    assert_eq!(done("import", &first.0, &lines(3).replace("version", "no_version")), "3 publications imported\n");
    let offsets: Vec<_> = without_epochs(&done("export", &first.0, ""));
    assert_eq!((offsets.len(), offsets[32]["offset"].as_u64()), (33, Some(11)));
}

#[test]
fn corrupt_log_is_listed_with_exit_code_1() {
    let log = Directory::new("corrupt");
    done("import", &log.0, &lines(30));
    done("import", &log.0, &lines(30));
    let segments = log.segments();
    assert!(!segments.is_empty());
    for segment in segments {
        let mut bytes = fs::read(&segment).expect("readable");
        let middle = (4096 + bytes.len()) / 2;
        bytes[middle] ^= 1;
        fs::write(&segment, bytes).expect("writable");
    }
    let output = store("check", &log.0, "");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(" after a bad batch are lost") && text.contains("torn: "), "{text}");
}

#[test]
fn bad_line_and_missing_directory_are_named() {
    let log = Directory::new("bad-line");
    let output = store("import", &log.0, &(lines(2) + "{\"channel\":\"a\"}\n"));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.code() == Some(1) && text.contains("line 3: missing field"), "{text}");
    assert!(text.contains("the lines before it are imported"), "{text}");
    assert_eq!(done("export", &log.0, "").lines().count(), 2);
    let output = store("check", Path::new("no-such-directory"), "");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.code() == Some(1) && text.contains("is not a directory"), "{text}");
}
