//! Every setting by its full name. A new setting of a section needs no line here; a new section needs one.
//!
//! From this list come the reading of the file, the environment and the flags, `--help`, the sample file of `corecast config`
//! and the reference table. Names follow Centrifugo where it has the same setting.

use std::sync::LazyLock;

use super::config::Config;
use super::namespace::Namespace;
use super::proxy::{Proxy, RpcNamespace};
use super::section::Section;
use crate::config::parse::value::{Argument, Invalid, Raw};

/// The prefix of the environment variables that set settings.
pub(crate) const ENVIRONMENT_PREFIX: &str = "CORECAST_";

type Read = dyn Fn(&mut Config, &Raw) -> Result<(), Invalid> + Send + Sync;
type Show = dyn Fn(&Config) -> Option<String> + Send + Sync;

/// A setting with its place in the configuration.
pub struct Setting {
    /// Sections and name, with dots: `client.ping_interval`.
    pub name: String,
    /// What it does, its unit, and what happens past it.
    pub reason: &'static str,
    /// How a value is written.
    pub form: &'static str,
    /// Messages must not show the value.
    pub secret: bool,
    /// Blanks and quotes at the ends of a text are part of the value.
    pub verbatim: bool,
    /// The flag of `serve`, if there is one, without the dashes.
    pub flag: Option<&'static str>,
    pub argument: Argument,
    /// A value to show if nothing is set by default.
    pub example: &'static str,
    /// Another setting gives the default.
    pub inherits: bool,
    /// A reload does not apply it.
    pub restart: bool,
    /// One of a group that the sample and the table show once, in another place.
    pub repeats: bool,
    read: Box<Read>,
    show: Box<Show>,
}

impl Setting {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        variable_of(&self.name)
    }

    /// Reads a value into the configuration.
    pub fn read_into(&self, config: &mut Config, raw: &Raw) -> Result<(), Invalid> {
        (self.read)(config, raw)
    }

    /// Its value in this configuration, as TOML; none if nothing is set.
    pub fn show(&self, config: &Config) -> Option<String> {
        (self.show)(config)
    }
}

/// The environment variable that sets the setting or the list `name`.
pub(crate) fn variable_of(name: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", name.replace('.', "_").to_uppercase())
}

/// Where a section is in the configuration.
struct Place<T> {
    get: fn(&Config) -> &T,
    get_mut: fn(&mut Config) -> &mut T,
}

macro_rules! place {
    ($($field:ident).*) => { Place { get: |config| &config$(.$field)*, get_mut: |config| &mut config$(.$field)* } };
}

/// In the order of the sample file: the settings of a section together, those without a section first.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut all = Vec::with_capacity(512);
    add(&mut all, "", Place::<Config> { get: |config| config, get_mut: |config| config });
    add(&mut all, "admin.", place!(admin));
    add(&mut all, "http_api.", place!(http_api));
    add(&mut all, "grpc_api.", place!(grpc_api));
    add(&mut all, "node.", place!(node));
    add(&mut all, "echo.", place!(echo));
    add(&mut all, "client.", place!(client));
    add(&mut all, "client.token.", place!(client.token));
    add(&mut all, "client.subscription_token.", place!(client.subscription_token));
    repeat(&mut all, "client.subscription_token.", place!(client.subscription_token.token));
    let personal_channel = place!(client.subscribe_to_user_personal_channel);
    add(&mut all, "client.subscribe_to_user_personal_channel.", personal_channel);
    let connect_codes = place!(client.connect_code_to_unidirectional_disconnect);
    add(&mut all, "client.connect_code_to_unidirectional_disconnect.", connect_codes);
    add(&mut all, "client.proxy.connect.", place!(client.proxy.connect));
    repeat(&mut all, "client.proxy.connect.", place!(client.proxy.connect.proxy));
    add(&mut all, "client.proxy.refresh.", place!(client.proxy.refresh));
    repeat(&mut all, "client.proxy.refresh.", place!(client.proxy.refresh.proxy));
    add(&mut all, "channel.", place!(channel));
    repeat(&mut all, "channel.proxy.subscribe.", place!(channel.proxy.subscribe));
    repeat(&mut all, "channel.proxy.publish.", place!(channel.proxy.publish));
    repeat(&mut all, "channel.proxy.sub_refresh.", place!(channel.proxy.sub_refresh));
    add(&mut all, "channel.without_namespace.", place!(channel.without_namespace));
    add(&mut all, "rpc.", place!(rpc));
    add(&mut all, "rpc.without_namespace.", place!(rpc.without_namespace));
    repeat(&mut all, "rpc.proxy.", place!(rpc.proxy));
    add(&mut all, "tls.", place!(tls));
    add(&mut all, "limits.", place!(limits));
    add(&mut all, "shutdown.", place!(shutdown));
    add(&mut all, "handover.", place!(handover));
    add(&mut all, "websocket.", place!(websocket));
    add(&mut all, "uni_websocket.", place!(uni_websocket));
    add(&mut all, "http_stream.", place!(http_stream));
    add(&mut all, "sse.", place!(sse));
    add(&mut all, "emulation.", place!(emulation));
    add(&mut all, "uni_http_stream.", place!(uni_http_stream));
    let response_codes = place!(uni_http_stream.connect_code_to_http_response);
    add(&mut all, "uni_http_stream.connect_code_to_http_response.", response_codes);
    add(&mut all, "uni_sse.", place!(uni_sse));
    let response_codes = place!(uni_sse.connect_code_to_http_response);
    add(&mut all, "uni_sse.connect_code_to_http_response.", response_codes);
    add(&mut all, "init.", place!(init));
    add(&mut all, "engine.", place!(engine));
    add(&mut all, "engine.redis.", place!(engine.redis.servers));
    add(&mut all, "engine.redis.", place!(engine.redis.publications));
    add(&mut all, "engine.redis.", place!(engine.redis.presence));
    add(&mut all, "engine.redis.tls.", place!(engine.redis.servers.tls));
    add(&mut all, "engine.redis.sentinel_tls.", place!(engine.redis.servers.sentinel_tls));
    add(&mut all, "engine.redis.replica_client.", place!(engine.redis.servers.replica_client));
    add(&mut all, "durable.", place!(durable));
    add_brokers(&mut all);
    add(&mut all, "machine.", place!(machine));
    repeat(&mut all, "http_server.", place!(http_server));
    repeat(&mut all, "http_server.tls.", place!(http_server.tls));
    all
});

/// `broker` and `presence_manager`. Their settings of Redis are shown once, at `engine.redis`.
fn add_brokers(all: &mut Vec<Setting>) {
    add(all, "broker.", place!(broker));
    repeat(all, "broker.redis.", place!(broker.redis.servers));
    repeat(all, "broker.redis.", place!(broker.redis.publications));
    repeat(all, "broker.redis.tls.", place!(broker.redis.servers.tls));
    repeat(all, "broker.redis.sentinel_tls.", place!(broker.redis.servers.sentinel_tls));
    repeat(all, "broker.redis.replica_client.", place!(broker.redis.servers.replica_client));
    add(all, "broker.nats.", place!(broker.nats));
    add(all, "broker.nats.tls.", place!(broker.nats.tls));
    add(all, "broker.nats.raw_mode.", place!(broker.nats.raw_mode));
    add(all, "presence_manager.", place!(presence_manager));
    repeat(all, "presence_manager.redis.", place!(presence_manager.redis.servers));
    repeat(all, "presence_manager.redis.", place!(presence_manager.redis.presence));
    repeat(all, "presence_manager.redis.tls.", place!(presence_manager.redis.servers.tls));
    repeat(all, "presence_manager.redis.sentinel_tls.", place!(presence_manager.redis.servers.sentinel_tls));
    repeat(all, "presence_manager.redis.replica_client.", place!(presence_manager.redis.servers.replica_client));
}

/// Adds the settings of a section.
fn add<T: Section>(all: &mut Vec<Setting>, section: &str, place: Place<T>) {
    let Place { get, get_mut } = place;
    all.extend(T::SETTINGS.iter().filter(|item| !item.in_list).map(|item| Setting {
        name: format!("{section}{}", item.name),
        reason: item.reason,
        form: item.form,
        secret: item.secret,
        verbatim: item.verbatim,
        flag: item.flag,
        argument: item.argument,
        example: item.example,
        inherits: item.inherits,
        restart: item.restart,
        repeats: false,
        read: Box::new(move |config, raw| (item.read)(get_mut(config), raw)),
        show: Box::new(move |config| (item.show)(get(config))),
    }));
}

/// Adds the settings of a section that the sample and the table show in another place.
fn repeat<T: Section>(all: &mut Vec<Setting>, section: &str, place: Place<T>) {
    let first = all.len();
    add(all, section, place);
    all[first..].iter_mut().for_each(|setting| setting.repeats = true);
}

/// The lists of sections: `channel.namespaces[2].presence` is a setting of an element.
pub(crate) const LISTS: [&str; 3] = ["channel.namespaces", "proxies", "rpc.namespaces"];

/// Sets the setting `name`. None: there is no such setting. An element of a list is made if the list is shorter.
pub(crate) fn set(config: &mut Config, name: &str, raw: &Raw) -> Option<Result<(), Invalid>> {
    match split_list_name(name) {
        None => SETTINGS.iter().find(|setting| setting.name == name).map(|setting| (setting.read)(config, raw)),
        Some(("channel.namespaces", number, key)) => set_element(&mut config.channel.namespaces, number, key, raw),
        Some(("proxies", number, key)) => set_element(&mut config.proxies, number, key, raw),
        Some((_, number, key)) => set_element(&mut config.rpc.namespaces, number, key, raw),
    }
}

fn set_element<T: Section + Default>(
    list: &mut Vec<T>,
    number: usize,
    key: &str,
    raw: &Raw,
) -> Option<Result<(), Invalid>> {
    while list.len() <= number {
        list.push(T::default());
    }
    let item = T::SETTINGS.iter().find(|item| item.name == key)?;
    Some((item.read)(&mut list[number], raw))
}

/// `channel.namespaces[2].presence` in its parts: list, number and key.
pub(crate) fn split_list_name(name: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = name.split_once('[')?;
    let (number, key) = rest.split_once("].")?;
    LISTS.contains(&list).then_some((list, number.parse().ok()?, key))
}

/// The keys of an element of the list.
pub(crate) fn element_keys(list: &str) -> Vec<&'static str> {
    fn keys<T: Section>() -> Vec<&'static str> {
        T::SETTINGS.iter().map(|item| item.name).collect()
    }
    match list {
        "channel.namespaces" => keys::<Namespace>(),
        "proxies" => keys::<Proxy>(),
        _ => keys::<RpcNamespace>(),
    }
}

/// The names that could be meant by `name`, which is unknown.
pub(crate) fn candidates(name: &str) -> Vec<String> {
    match split_list_name(name) {
        Some((list, number, _)) => {
            element_keys(list).into_iter().map(|key| format!("{list}[{number}].{key}")).collect()
        }
        None => SETTINGS.iter().map(|setting| setting.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_are_unique_and_the_settings_of_a_section_are_together() {
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
                assert!(!sections.contains(&section), "{section} is split");
                sections.push(section);
            }
        }
        assert_eq!(sections.first(), Some(&""));
    }

    #[test]
    fn unset_setting_has_an_example() {
        let config = Config::default();
        for setting in SETTINGS.iter() {
            assert!(setting.show(&config).is_some() || !setting.example.is_empty(), "{}", setting.name);
        }
    }

    #[test]
    fn value_of_a_list_finds_its_section() {
        let element = split_list_name("channel.namespaces[12].map.mode");
        assert_eq!(element, Some(("channel.namespaces", 12, "map.mode")));
        assert_eq!(split_list_name("consumers[0].type"), None);
        assert_eq!(split_list_name("client.token.audience"), None);
        let mut config = Config::default();
        assert!(set(&mut config, "channel.namespaces[1].presence", &Raw::Bool(true)).is_some());
        assert!(set(&mut config, "proxies[0].presence", &Raw::Bool(true)).is_none());
        assert_eq!(config.channel.namespaces.len(), 2);
        assert!(config.channel.namespaces[1].presence);
    }
}
