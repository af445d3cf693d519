//! The settings as text: the annotated sample file and the reference table, both from the registry of settings.

use std::fmt::Write;

use super::schema::config::Config;
use super::schema::proxy::Proxy;
use super::schema::registry::{ENVIRONMENT_PREFIX, SETTINGS, Setting};
use super::schema::section::{Item, Section};

/// The widest line of a comment.
const WIDTH: usize = 100;

/// The default configuration as a TOML file with a comment for each setting. Unset settings are comments.
pub fn sample() -> String {
    let (default, dev) = (Config::default(), Config::dev());
    let mut out = String::new();
    comment(
        &mut out,
        &format!(
            "The settings of Corecast with their defaults; an empty file means the same. The environment overrides the file \
             (client.ping_interval is {ENVIRONMENT_PREFIX}CLIENT_PING_INTERVAL), and flags override both. After SIGHUP the \
             server reads the file again and applies what changed, except settings with the note \"A change needs a restart\"."
        ),
    );
    let mut section = "";
    for setting in SETTINGS.iter().filter(|setting| !setting.repeats) {
        let (its_section, key) = setting.name.rsplit_once('.').unwrap_or(("", &setting.name));
        if its_section != section {
            section = its_section;
            let _ = write!(out, "\n[{section}]\n");
        } else {
            out.push('\n');
        }
        comment(&mut out, &about(setting, &default, &dev));
        let _ = match setting.show(&default) {
            Some(value) if setting.inherits => writeln!(out, "# {key} = {value}"),
            Some(value) => writeln!(out, "{key} = {value}"),
            None => writeln!(out, "# {key} = {}", setting.example),
        };
    }
    lists(&mut out);
    out
}

/// One namespace and one backend, as comments that are valid TOML without the comment signs.
fn lists(out: &mut String) {
    out.push('\n');
    comment(
        out,
        "A namespace contains the channels whose names begin with its name, such as chat:lobby. Each namespace is one table \
         with the settings of channel.without_namespace; it does not inherit their values.",
    );
    out.push_str(
        "\n# [[channel.namespaces]]\n# name = \"chat\"\n# presence = true\n# join_leave = true\n# history_size = 100\n\
         # history_ttl = \"300s\"\n# allow_recovery = true\n# allow_subscribe_for_client = true\n\
         # allow_presence_for_subscriber = true\n# allow_history_for_subscriber = true\n\
         # publish_proxy_enabled = true\n# publish_proxy_name = \"main\"\n\n",
    );
    comment(
        out,
        "A backend that namespaces can use by its name. Each backend is one table. The sections client.proxy.connect, \
         client.proxy.refresh, channel.proxy.subscribe, channel.proxy.publish, channel.proxy.sub_refresh and rpc.proxy \
         have the same settings, without the name.",
    );
    out.push_str("\n# [[proxies]]\n# name = \"main\"\n");
    let proxy = Proxy::default();
    for item in backend_settings() {
        let value = (item.show)(&proxy).unwrap_or_else(|| item.example.to_owned());
        out.push('\n');
        comment(out, &format!("{} ({})", item.reason, item.form));
        let _ = writeln!(out, "# {} = {value}", item.name);
    }
    out.push('\n');
    comment(out, "RPC methods that begin with a name, such as users:get.");
    out.push_str("\n# [[rpc.namespaces]]\n# name = \"users\"\n# proxy_enabled = true\n# proxy_name = \"main\"\n");
}

/// The settings as a Markdown table.
pub fn markdown() -> String {
    let default = Config::default();
    let mut out = String::from("| Setting | Default | Flag | What it does |\n|---|---|---|---|\n");
    let mut row = |name: &str, value: Option<String>, flag: Option<&str>, reason: &str| {
        let shown = |value: String| match value.replace('"', "") {
            empty if empty.is_empty() => "empty".into(),
            value => format!("`{value}`"),
        };
        let value = value.map_or("unset".into(), shown);
        let flag = flag.map_or(String::new(), |flag| format!("`--{flag}`"));
        let _ = writeln!(out, "| `{name}` | {value} | {flag} | {} |", reason.replace('|', "\\|"));
    };
    for setting in SETTINGS.iter().filter(|setting| !setting.repeats) {
        row(&setting.name, setting.show(&default), setting.flag, setting.reason);
    }
    let every = "A list of tables, each with a name and the settings of channel.without_namespace.";
    row("channel.namespaces", Some("[]".into()), None, every);
    let every =
        "A list of tables, each with a name, and proxy_enabled and proxy_name for the methods that begin with it.";
    row("rpc.namespaces", Some("[]".into()), None, every);
    let every = "A list of tables, each with a name and the settings that follow. The sections client.proxy.connect, \
                 client.proxy.refresh, channel.proxy.subscribe, channel.proxy.publish, channel.proxy.sub_refresh and \
                 rpc.proxy have these settings too.";
    row("proxies", Some("[]".into()), None, every);
    let proxy = Proxy::default();
    for item in backend_settings() {
        let value = (item.show)(&proxy);
        row(&format!("proxies[].{}", item.name), value, None, item.reason);
    }
    out
}

/// The settings that every backend has, with a name or without.
fn backend_settings() -> impl Iterator<Item = &'static Item<Proxy>> {
    Proxy::SETTINGS.iter().filter(|item| !item.in_list)
}

fn about(setting: &Setting, default: &Config, dev: &Config) -> String {
    let mut text = format!("{} ({})", setting.reason, setting.form);
    let shown =
        setting.show(dev).filter(|shown| setting.name != "dev" && setting.show(default).as_ref() != Some(shown));
    if let Some(shown) = shown {
        let _ = write!(text, " With dev: {shown}.");
    }
    if let Some(flag) = setting.flag {
        let _ = write!(text, " Flag: --{flag}.");
    }
    if setting.restart {
        text.push_str(" A change needs a restart.");
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
