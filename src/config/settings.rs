//! The table of settings: each declared once, with its name, unit and reason. The default is the one of
//! `Config::default()`, read through the same accessor that a value is written through.
//!
//! From this table come the reading of the file, the environment and the flags, `--help`, the sample file of
//! `corecast config`, and the README's table. Names follow Centrifugo where it has the same setting.

use super::value::{Field, Unit};
use super::{Config, ENVIRONMENT_PREFIX};

pub struct Setting {
    /// Sections and name, with dots: `client.ping_interval`.
    pub name: &'static str,
    pub unit: Unit,
    /// The flag of `serve`, where there is one, without the dashes.
    pub flag: Option<&'static str>,
    /// A value to show where nothing is set by default.
    pub example: &'static str,
    /// What it does, why one would move it, and what happens to whoever reaches it.
    pub reason: &'static str,
    pub at: fn(&mut Config) -> &mut dyn Field,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Its value in this configuration, as TOML; none where nothing is set.
    pub fn show(&self, config: &Config) -> Option<String> {
        (self.at)(&mut config.clone()).show(self.unit)
    }
}

pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

const fn setting(
    name: &'static str,
    unit: Unit,
    at: fn(&mut Config) -> &mut dyn Field,
    reason: &'static str,
) -> Setting {
    Setting { name, unit, flag: None, example: "", reason, at }
}

impl Setting {
    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}

/// In the order of the sample file: a section's settings stand together, those without a section first.
pub static SETTINGS: &[Setting] = &[
    setting(
        "dev",
        Unit::Switch,
        |c| &mut c.dev,
        "Development: nothing needs a token, anyone may subscribe and publish, everything listens on this machine \
         only. What is set by hand still holds. Not for a server that others reach.",
    )
    .flag("dev"),
    setting(
        "listen",
        Unit::Listeners,
        |c| &mut c.listeners,
        "Where clients connect. Each shard opens every one of them; a descriptor is one that a parent process bound \
         and passed on.",
    )
    .flag("listen"),
    setting(
        "join",
        Unit::Switch,
        |c| &mut c.join,
        "Share the port with a server that already listens there. Without it such a port is refused, since the two \
         would silently take half of the clients each.",
    )
    .flag("join"),
    setting(
        "cores",
        Unit::Cores,
        |c| &mut c.cores,
        "Cores to run shards on, one pinned thread each. Unset: every core that the process may use.",
    )
    .flag("cores")
    .example("\"0,2-5\""),
    setting("shards", Unit::Count, |c| &mut c.shards, "Number of shards. Unset: one per core.")
        .flag("shards")
        .example("4"),
    setting(
        "oversubscribe",
        Unit::Switch,
        |c| &mut c.oversubscribe,
        "Allow more shards than cores. They take turns then, and waits of one show in the other: for tests.",
    )
    .flag("oversubscribe"),
    setting(
        "control_cores",
        Unit::Cores,
        |c| &mut c.control_cores,
        "Cores for the control thread (API, metrics, page). Best one that carries no shard. Unset: not pinned.",
    )
    .flag("control-cores")
    .example("\"1\""),
    setting(
        "admin.address",
        Unit::Address,
        |c| &mut c.admin,
        "Where the server API, the metrics, /health, /stats and the page are served. Only the API asks for a key: \
         keep the address off the public network. Unset: none of them is served.",
    )
    .flag("admin")
    .example("\"127.0.0.1:9000\""),
    setting(
        "http_api.key",
        Unit::Secret,
        |c| &mut c.api_key,
        "The key that the server API asks for (X-API-Key). Unset: the API refuses every call; with --dev a random \
         one is made and printed at start.",
    )
    .example("\"a-long-random-text\""),
    setting(
        "echo.enabled",
        Unit::Switch,
        |c| &mut c.echo,
        "Answer at /echo with what was sent, for measuring and for trying a path through proxies.",
    ),
    setting(
        "client.insecure",
        Unit::Switch,
        |c| &mut c.client.insecure,
        "Let clients connect without a token, as the anonymous user. This version verifies no tokens yet: while this \
         is false every connect is refused with 3501.",
    ),
    setting(
        "client.allowed_origins",
        Unit::Origins,
        |c| &mut c.client.allowed_origins,
        "Web pages that may connect, by their Origin header. Empty: no page may, programs that send no Origin may. \
         \"*\" allows every page.",
    ),
    setting(
        "client.ping_interval",
        Unit::Time,
        |c| &mut c.client.ping_interval,
        "Time between two pings to a client, told to it in whole seconds. Shorter notices dead peers sooner and \
         costs more for idle ones.",
    ),
    setting(
        "client.pong_timeout",
        Unit::Time,
        |c| &mut c.client.pong_timeout,
        "Time for the answer to a ping; past it the connection closes with 3012. Shorter than the interval.",
    ),
    setting(
        "client.stale_close_delay",
        Unit::Time,
        |c| &mut c.client.stale_close_delay,
        "Time from the upgrade to a valid connect; past it the connection closes with 3502.",
    ),
    setting(
        "client.channel_limit",
        Unit::Count,
        |c| &mut c.client.channel_limit,
        "Channels that one connection may be subscribed to; past it a subscribe is answered with error 106.",
    ),
    setting(
        "client.queue_max_size",
        Unit::Bytes,
        |c| &mut c.engine.outbound_bytes_max,
        "Bytes that may wait for a client that does not read; past it the connection closes with 3008.",
    ),
    setting(
        "channel.max_length",
        Unit::Bytes,
        |c| &mut c.channel.max_length,
        "Bytes of a channel's name; a longer one is answered with error 107.",
    ),
    setting(
        "channel.without_namespace.allow_subscribe_for_client",
        Unit::Switch,
        |c| &mut c.channel.without_namespace.allow_subscribe_for_client,
        "Any client may subscribe to channels without a namespace; otherwise error 103.",
    ),
    setting(
        "channel.without_namespace.allow_publish_for_client",
        Unit::Switch,
        |c| &mut c.channel.without_namespace.allow_publish_for_client,
        "Any client may publish to channels without a namespace; otherwise error 103.",
    ),
    setting(
        "websocket.message_size_limit",
        Unit::Bytes,
        |c| &mut c.engine.message_bytes_max,
        "Bytes of one message from a client, its fragments together; past it the connection closes with 1009.",
    ),
    setting(
        "shutdown.timeout",
        Unit::Time,
        |c| &mut c.shutdown_timeout,
        "Time for closing every connection in order when the process is asked to end; past it the rest is cut.",
    ),
    setting(
        "engine.connections_max",
        Unit::Count,
        |c| &mut c.engine.connections_max,
        "Connections of one shard; past it new ones are refused with 503.",
    ),
    setting(
        "engine.upgrade_timeout",
        Unit::Time,
        |c| &mut c.engine.upgrade_timeout,
        "Time from accept to the whole request head; past it the request is answered with 408.",
    ),
    setting(
        "engine.close_timeout",
        Unit::Time,
        |c| &mut c.engine.close_timeout,
        "Time from our close frame to the client's; past it the socket is closed.",
    ),
    setting(
        "engine.linger_timeout",
        Unit::Time,
        |c| &mut c.engine.linger_timeout,
        "Time from our last byte to the end of the client's side; past it the socket is closed.",
    ),
    setting(
        "engine.accepts_per_turn",
        Unit::Count,
        |c| &mut c.engine.accepts_per_turn,
        "Connections taken from one listener in a loop turn: a storm of new ones waits behind those that are here.",
    ),
    setting(
        "engine.read_bytes_per_turn",
        Unit::Bytes,
        |c| &mut c.engine.read_bytes_per_turn,
        "Bytes taken from one socket in a loop turn: a flood from one client waits behind the others.",
    ),
    setting(
        "engine.mail_per_turn",
        Unit::Count,
        |c| &mut c.engine.mail_per_turn,
        "Messages of other shards handled in a loop turn.",
    ),
    setting(
        "engine.deliveries_per_slice",
        Unit::Count,
        |c| &mut c.engine.deliveries_per_slice,
        "Deliveries written before reads and mail are looked at again. Larger is quicker for huge channels, smaller \
         is calmer for everyone else.",
    ),
    setting(
        "engine.mailbox_batches_max",
        Unit::Count,
        |c| &mut c.engine.mailbox_batches_max,
        "Batches in a shard's mailbox; past it senders keep theirs in an overflow of their own, in order.",
    ),
    setting(
        "engine.mail_bytes_max",
        Unit::Bytes,
        |c| &mut c.engine.mail_bytes_max,
        "Bytes that may wait for one other shard; past it publications for it are held back or skipped and counted.",
    ),
    setting(
        "engine.turn_bytes_max",
        Unit::Bytes,
        |c| &mut c.engine.turn_bytes_max,
        "Bytes of publications being written in a turn; past it no more mail is taken until they are written.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_are_unique_and_sections_stand_together() {
        let mut sections: Vec<&str> = Vec::new();
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(
                SETTINGS[..index]
                    .iter()
                    .all(|other| other.name != setting.name && other.variable() != setting.variable())
            );
            assert!(setting.flag.is_none() || SETTINGS[..index].iter().all(|other| other.flag != setting.flag));
            let section = setting.name.rsplit_once('.').map_or("", |(section, _)| section);
            if sections.last() != Some(&section) {
                assert!(!sections.contains(&section), "{section} is torn");
                sections.push(section);
            }
            assert!(setting.reason.ends_with('.'), "{}", setting.name);
        }
        assert_eq!(sections.first(), Some(&""));
    }

    #[test]
    fn whatever_is_unset_has_an_example() {
        let config = Config::default();
        for setting in SETTINGS {
            assert_eq!(setting.show(&config).is_none(), !setting.example.is_empty(), "{}", setting.name);
        }
    }
}
