//! The table of settings: each declared once, with its name, unit and reason. The default is the one of
//! `Config::default()`, read through the same accessor that a value is written through.
//!
//! From this table come the reading of the file, the environment and the flags, `--help`, the sample file of
//! `corecast config`, and the README's table. Names follow Centrifugo where it has the same setting.
//!
//! A group of settings that stands in several places (a namespace's, a backend's, those of tokens) is one array of `Item`s.

pub(crate) mod channel;
pub(crate) mod client;
pub(crate) mod ending;
pub(crate) mod machine;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod tls;

use std::sync::LazyLock;

use super::value::{Field, Unit};
use super::{Config, ENVIRONMENT_PREFIX, Namespace};

pub use channel::NAMESPACE;
pub use proxy::{PROXY, RPC_NAMESPACE};

/// A setting of a section `T`, wherever that section stands.
pub struct Item<T: 'static> {
    /// Within the section.
    pub name: &'static str,
    pub unit: Unit,
    pub flag: Option<&'static str>,
    /// A value to show where nothing is set by default.
    pub example: &'static str,
    /// Takes its default from another setting, so that the sample leaves it out.
    pub inherits: bool,
    /// What it does, why one would move it, and what happens to whoever reaches it.
    pub reason: &'static str,
    pub at: fn(&mut T) -> &mut dyn Field,
}

const fn item<T>(name: &'static str, unit: Unit, at: fn(&mut T) -> &mut dyn Field, reason: &'static str) -> Item<T> {
    Item { name, unit, flag: None, example: "", inherits: false, reason, at }
}

impl<T> Item<T> {
    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn inherits(mut self) -> Self {
        self.inherits = true;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}

type At = dyn for<'a> Fn(&'a mut Config) -> &'a mut (dyn Field + 'a) + Send + Sync;

/// A closure of its own would not be taken for one of every lifetime.
fn boxed<F>(at: F) -> Box<At>
where
    F: for<'a> Fn(&'a mut Config) -> &'a mut (dyn Field + 'a) + Send + Sync + 'static,
{
    Box::new(at)
}

pub struct Setting {
    /// Sections and name, with dots: `client.ping_interval`.
    pub name: String,
    pub unit: Unit,
    /// The flag of `serve`, where there is one, without the dashes.
    pub flag: Option<&'static str>,
    /// A value to show where nothing is set by default.
    pub example: &'static str,
    pub inherits: bool,
    pub reason: &'static str,
    /// One of a group that the sample and the table show once, in another place.
    pub repeats: bool,
    at: Box<At>,
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

/// In the order of the sample file: a section's settings stand together, those without a section first.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut all = Table(Vec::with_capacity(256));
    all.add("", server::SERVER, |c| c);
    all.add("client.", client::CLIENT, |c| c);
    all.add("client.token.", client::TOKEN, |c| &mut c.client.token);
    all.add("client.subscription_token.", client::SUBSCRIPTION_TOKEN, |c| &mut c.client.subscription_token);
    all.repeat("client.subscription_token.", client::TOKEN, |c| &mut c.client.subscription_token.token);
    all.add("client.subscribe_to_user_personal_channel.", client::PERSONAL, |c| {
        &mut c.client.subscribe_to_user_personal_channel
    });
    all.add("client.connect_code_to_unidirectional_disconnect.", client::CONNECT_CODES, |c| {
        &mut c.client.connect_code_to_unidirectional_disconnect
    });
    all.add("client.proxy.connect.", proxy::CONNECT, |c| &mut c.typed.connect);
    all.repeat("client.proxy.connect.", PROXY, |c| &mut c.typed.connect.proxy);
    all.add("client.proxy.refresh.", proxy::REFRESH, |c| &mut c.typed.refresh);
    all.repeat("client.proxy.refresh.", PROXY, |c| &mut c.typed.refresh.proxy);
    all.add("channel.", channel::CHANNEL, |c| &mut c.channel);
    all.repeat("channel.proxy.subscribe.", PROXY, |c| &mut c.typed.subscribe);
    all.repeat("channel.proxy.publish.", PROXY, |c| &mut c.typed.publish);
    all.repeat("channel.proxy.sub_refresh.", PROXY, |c| &mut c.typed.sub_refresh);
    all.add("channel.without_namespace.", NAMESPACE, |c| &mut c.channel.without_namespace);
    all.add("rpc.", proxy::RPC, |c| &mut c.rpc);
    all.add("rpc.without_namespace.", RPC_NAMESPACE, |c| &mut c.rpc.without_namespace);
    all.repeat("rpc.proxy.", PROXY, |c| &mut c.typed.rpc);
    all.add("tls.", tls::TLS, |c| &mut c.tls);
    all.add("limits.", server::LIMITS, |c| c);
    all.add("shutdown.", ending::SHUTDOWN, |c| &mut c.shutdown);
    all.add("handover.", ending::HANDOVER, |c| &mut c.handover);
    all.add("", server::ENGINE, |c| c);
    all.add("machine.", machine::MACHINE, |c| &mut c.engine.machine);
    all.repeat("http_server.", server::HTTP_SERVER, |c| &mut c.typed.http);
    all.repeat("http_server.tls.", tls::HTTP_TLS, |c| &mut c.typed.http.tls);
    all.0
});

struct Table(Vec<Setting>);

impl Table {
    fn add<T>(&mut self, section: &str, items: &'static [Item<T>], at: fn(&mut Config) -> &mut T) {
        self.all(section, items, at, false);
    }

    fn repeat<T>(&mut self, section: &str, items: &'static [Item<T>], at: fn(&mut Config) -> &mut T) {
        self.all(section, items, at, true);
    }

    fn all<T>(&mut self, section: &str, items: &'static [Item<T>], at: fn(&mut Config) -> &mut T, repeats: bool) {
        self.0.extend(items.iter().map(|item| Setting {
            name: format!("{section}{}", item.name),
            unit: item.unit,
            flag: item.flag,
            example: item.example,
            inherits: item.inherits,
            reason: item.reason,
            repeats,
            at: boxed(move |config| (item.at)(at(config))),
        }));
    }
}

/// The lists of sections: their items' settings are `channel.namespaces[2].presence` and the like.
pub const LISTS: [&str; 3] = ["channel.namespaces", "proxies", "rpc.namespaces"];

/// Where the value of this name goes. None: no setting has it. The section of a list that does not reach so far is made.
pub fn place<'a>(config: &'a mut Config, name: &str) -> Option<(&'a mut dyn Field, Unit)> {
    let Some((list, number, key)) = listed(name) else {
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        return Some(((setting.at)(config), setting.unit));
    };
    match list {
        "channel.namespaces" => {
            let namespace = nth(&mut config.channel.namespaces, number);
            within(namespace, &[channel::NAMED, NAMESPACE], key)
        }
        "proxies" => within(nth(&mut config.proxies, number), &[proxy::NAMED, PROXY], key),
        _ => within(nth(&mut config.rpc.namespaces, number), &[proxy::RPC_NAMED, RPC_NAMESPACE], key),
    }
}

/// `channel.namespaces[2].presence` taken apart.
pub fn listed(name: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = name.split_once('[')?;
    let (number, key) = rest.split_once("].")?;
    LISTS.contains(&list).then_some((list, number.parse().ok()?, key))
}

fn nth<T: Default>(list: &mut Vec<T>, number: usize) -> &mut T {
    while list.len() <= number {
        list.push(T::default());
    }
    &mut list[number]
}

fn within<'a, T>(section: &'a mut T, tables: &[&'static [Item<T>]], key: &str) -> Option<(&'a mut dyn Field, Unit)> {
    let item = tables.iter().copied().flatten().find(|item| item.name == key)?;
    Some(((item.at)(section), item.unit))
}

/// The names that a value with this one could have been meant for.
pub fn names_near(name: &str) -> Vec<String> {
    let items = |items: &mut dyn Iterator<Item = &'static str>, section: String| {
        items.map(|item| format!("{section}{item}")).collect::<Vec<_>>()
    };
    match listed(name) {
        Some((list @ "channel.namespaces", number, _)) => {
            let mut names = channel::NAMED.iter().chain(NAMESPACE).map(|item: &Item<Namespace>| item.name);
            items(&mut names, format!("{list}[{number}]."))
        }
        Some((list @ "proxies", number, _)) => {
            items(&mut proxy::NAMED.iter().chain(PROXY).map(|item| item.name), format!("{list}[{number}]."))
        }
        Some((list, number, _)) => {
            let mut names = proxy::RPC_NAMED.iter().chain(RPC_NAMESPACE).map(|item| item.name);
            items(&mut names, format!("{list}[{number}]."))
        }
        None => SETTINGS.iter().map(|setting| setting.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_are_unique_and_shown_sections_stand_together() {
        let mut sections: Vec<&str> = Vec::new();
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(
                SETTINGS[..index]
                    .iter()
                    .all(|other| other.name != setting.name && other.variable() != setting.variable()),
                "{}",
                setting.name
            );
            assert!(setting.flag.is_none() || SETTINGS[..index].iter().all(|other| other.flag != setting.flag));
            assert!(setting.reason.ends_with('.'), "{}", setting.name);
            if setting.repeats {
                continue;
            }
            let section = setting.name.rsplit_once('.').map_or("", |(section, _)| section);
            if sections.last() != Some(&section) {
                assert!(!sections.contains(&section), "{section} is torn");
                sections.push(section);
            }
        }
        assert_eq!(sections.first(), Some(&""));
    }

    #[test]
    fn whatever_is_unset_has_an_example() {
        let config = Config::default();
        for setting in SETTINGS.iter() {
            assert!(setting.show(&config).is_some() || !setting.example.is_empty(), "{}", setting.name);
        }
    }

    #[test]
    fn a_value_of_a_list_finds_its_section() {
        assert_eq!(listed("channel.namespaces[12].map.mode"), Some(("channel.namespaces", 12, "map.mode")));
        assert_eq!(listed("consumers[0].type"), None);
        assert_eq!(listed("client.token.audience"), None);
        let mut config = Config::default();
        assert!(place(&mut config, "channel.namespaces[1].presence").is_some());
        assert!(place(&mut config, "proxies[0].presence").is_none());
        assert_eq!(config.channel.namespaces.len(), 2);
    }
}
