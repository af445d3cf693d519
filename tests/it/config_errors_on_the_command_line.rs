//! The command line: exit codes, results on stdout, errors on stderr.

use std::process::{Command, Output};

fn corecast(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(args).env_clear();
    command.output().expect("the program runs")
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A file of settings that is removed when the test ends.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("corecast-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("the temporary directory can be written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn printed_configuration_passes_its_own_check() {
    let printed = corecast(&["config"]);
    assert_eq!(printed.status.code(), Some(0));
    let file = File::new("sample", &printed.stdout);
    let checked = corecast(&["check-config", file.path()]);
    assert_eq!(checked.status.code(), Some(0), "{}", text_of(&checked.stderr));
    assert!(text_of(&checked.stdout).contains("no errors"));
}

#[test]
fn invalid_file_lists_each_error_on_stderr() {
    let file = File::new("bad", b"[client]\nping_intervall = \"1s\"\npong_timeout = 8\n");
    let checked = corecast(&["check-config", file.path()]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(checked.stdout.is_empty());
    let lines: Vec<&str> = text_of(&checked.stderr).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains(":2: client.ping_intervall: ") && lines[0].contains("did you mean client.ping_interval?")
    );
    assert!(lines[1].contains(":3: client.pong_timeout: ") && lines[1].contains("\"8s\""));
}

#[test]
fn top_level_key_below_a_table_is_told_where_it_belongs() {
    let text = b"[client]\ninsecure = true\nlisten = [\"127.0.0.1:1\"]\nadmin.address = \"127.0.0.1:2\"\n\
                 [[channel.namespaces]]\nname = \"news\"\nshards = 2\n";
    let file = File::new("below", text);
    let checked = corecast(&["check-config", file.path()]);
    assert_eq!(checked.status.code(), Some(2));
    let lines: Vec<&str> = text_of(&checked.stderr).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains(":3: client.listen: listen stands below [client]"), "{lines:#?}");
    assert!(lines[0].ends_with("move the line to the top of the file, above the first table"), "{lines:#?}");
    assert!(lines[1].ends_with("move the line above the first table, or write address below [admin]"), "{lines:#?}");
    assert!(lines[2].contains("shards stands below [[channel.namespaces]]"), "{lines:#?}");
}

#[test]
fn bad_flags_and_bad_arguments_exit_with_2() {
    for (args, part) in [
        (&["serve", "--cores", "5-2"][..], "--cores: cores: the range 5-2 runs backwards"),
        (&["serve", "--config", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["check-config"], "FILE"),
        (&[], "Usage"),
    ] {
        let output = corecast(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text_of(&output.stderr).contains(part), "{args:?}: {}", text_of(&output.stderr));
    }
}

#[test]
fn help_names_each_flag_with_the_reason_of_its_setting() {
    let help = corecast(&["serve", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = text_of(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in corecast::config::SETTINGS.iter().filter(|setting| setting.flag.is_some()) {
        assert!(help.contains(setting.reason), "{}", setting.name);
    }
}
