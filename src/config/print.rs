//! The settings in words: the annotated sample file and the table for the README, both from the table of settings.

use std::fmt::Write;

use super::settings::{SETTINGS, Setting};
use super::{Config, ENVIRONMENT_PREFIX};

/// Column at which a comment is broken.
const WIDTH: usize = 100;

/// The default configuration as a TOML file that explains itself. What is unset stands there as a comment.
pub fn sample() -> String {
    let (default, dev) = (Config::default(), Config::dev());
    let mut out = String::new();
    comment(
        &mut out,
        &format!(
            "Corecast's settings with their defaults: an empty file means the same. The environment overrides the \
             file (client.ping_interval is {ENVIRONMENT_PREFIX}CLIENT_PING_INTERVAL), flags override both."
        ),
    );
    let mut section = "";
    for setting in SETTINGS {
        let (its_section, key) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
        if its_section != section {
            section = its_section;
            let _ = write!(out, "\n[{section}]\n");
        } else {
            out.push('\n');
        }
        comment(&mut out, &about(setting, &default, &dev));
        let _ = match setting.show(&default) {
            Some(value) => writeln!(out, "{key} = {value}"),
            None => writeln!(out, "# {key} = {}", setting.example),
        };
    }
    out
}

/// The settings as a Markdown table.
pub fn markdown() -> String {
    let default = Config::default();
    let mut out = String::from("| Setting | Default | Flag | What it does |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let value = setting.show(&default).map_or("unset".into(), |value| format!("`{}`", value.replace('"', "")));
        let flag = setting.flag.map_or(String::new(), |flag| format!("`--{flag}`"));
        let reason = setting.reason.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {value} | {flag} | {reason} |", setting.name);
    }
    out
}

fn about(setting: &Setting, default: &Config, dev: &Config) -> String {
    let mut text = format!("{} ({})", setting.reason, setting.unit.form());
    let shown =
        setting.show(dev).filter(|shown| setting.name != "dev" && setting.show(default).as_ref() != Some(shown));
    if let Some(shown) = shown {
        let _ = write!(text, " With dev: {shown}.");
    }
    if let Some(flag) = setting.flag {
        let _ = write!(text, " Flag: --{flag}.");
    }
    text
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
