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
fn file_without_a_setting_is_an_error_for_the_check_and_at_the_start() {
    for (content, why) in
        [("", "the file is empty"), ("\n \n", "the file is empty"), ("# dev = true\n[client]\n", "no setting")]
    {
        let file = File::new("empty", content.as_bytes());
        for args in [&["check-config", file.path()][..], &["serve", "--config", file.path()]] {
            let output = corecast(args);
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            assert!(text_of(&output.stderr).contains(why), "{}", text_of(&output.stderr));
        }
    }
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
fn check_evaluates_the_environment_as_the_start_does() {
    let file = File::new("environment", b"client.ping_interval = \"30s\"\n");
    for (value, code, part) in [("9s", 0, "no errors"), ("9", 2, "environment CORECAST_CLIENT_PING_INTERVAL: ")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
        command.args(["check-config", file.path()]).env_clear().env("CORECAST_CLIENT_PING_INTERVAL", value);
        let checked = command.output().expect("the program runs");
        assert_eq!(checked.status.code(), Some(code), "{checked:?}");
        let all = [text_of(&checked.stdout), text_of(&checked.stderr)].concat();
        assert!(all.contains(part), "{all}");
    }
}

#[test]
fn check_opens_the_certificates_and_keys_of_the_settings() {
    let text = b"listen = [\"tls:127.0.0.1:1\"]\ntls.cert_pem_file = \"/nowhere/chain.pem\"\n";
    let file = File::new("certificates", text);
    let checked = corecast(&["check-config", file.path()]);
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let errors = text_of(&checked.stderr);
    assert!(errors.contains("tls.cert_pem_file: /nowhere/chain.pem: No such file"), "{errors}");
    let served = corecast(&["serve", "--config", file.path()]);
    assert_eq!(served.status.code(), Some(2), "as for every fault of the settings: {served:?}");
    assert!(text_of(&served.stderr).contains("/nowhere/chain.pem: No such file"), "{served:?}");
    let skipped = corecast(&["check-config", "--skip-files", file.path()]);
    assert_eq!(skipped.status.code(), Some(0), "{skipped:?}");
}

#[test]
fn check_warns_of_secrets_that_everyone_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new("exposed", b"http_api.key = \"0123456789abcdef0123456789abcdef\"\n");
    for (mode, warns) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(mode)).unwrap();
        let checked = corecast(&["check-config", file.path()]);
        let text = text_of(&checked.stdout);
        assert_eq!(text.contains("it sets http_api.key, and every user of this host can read it"), warns, "{text}");
        assert!(checked.status.code() == Some(0) && !text.contains("0123"), "{text}");
    }
    let file = File::new("exposed-address", b"engine.redis.address = [\"a:1\", \"redis://:hush@a:1\"]\n");
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o644)).unwrap();
    let checked = corecast(&["check-config", file.path()]);
    let text = text_of(&checked.stdout);
    assert!(text.contains("it sets engine.redis.address, and every user") && !text.contains("hush"), "{text}");
}

#[test]
fn file_of_secrets_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("corecast-{}-secrets.toml", std::process::id()));
    let file = File(path.clone());
    let made = corecast(&["token", "secret", "--file", file.path()]);
    assert!(made.status.code() == Some(0) && !text_of(&made.stdout).contains("hmac"), "{made:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().contains("hmac_secret_key = \""));
    let again = corecast(&["token", "secret", "--file", file.path()]);
    assert!(again.status.code() == Some(2) && text_of(&again.stderr).contains("exists"), "{again:?}");
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
