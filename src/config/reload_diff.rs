//! What differs between two configurations, and what of it a running server can apply.

use super::schema::config::Config;
use super::schema::registry::{SETTINGS, Setting};
use super::schema::section::Section;

/// Names of settings, each once.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Changes {
    /// A running server applies them.
    pub live: Vec<String>,
    /// Only the next start applies them. With both values, unless they are secrets.
    pub at_start: Vec<String>,
}

/// The differences from the running configuration to the new one.
pub fn changes(running: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    for setting in SETTINGS.iter() {
        let values = (setting.show(running), setting.show(new));
        match values.0 == values.1 {
            true => {}
            false if setting.restart => changes.at_start.push(describe(setting, values)),
            false => changes.live.push(setting.name.clone()),
        }
    }
    let (before, after) = (&running.channel.namespaces, &new.channel.namespaces);
    list_changes("channel.namespaces", by_name(before, |one| &one.name), by_name(after, |one| &one.name), &mut changes);
    let (before, after) = (&running.rpc.namespaces, &new.rpc.namespaces);
    list_changes("rpc.namespaces", by_name(before, |one| &one.name), by_name(after, |one| &one.name), &mut changes);
    // The backends of sections, such as `rpc.proxy`, are among the settings.
    let listed = |(name, _): &(&str, _)| !name.contains(".proxy");
    let before = by_name(&running.proxies, |one| &one.name).into_iter().filter(listed).collect();
    let after = by_name(&new.proxies, |one| &one.name).into_iter().filter(listed).collect();
    list_changes("proxies", before, after, &mut changes);
    changes
}

fn describe(setting: &Setting, (old, new): (Option<String>, Option<String>)) -> String {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "unset".into());
    match setting.secret {
        true => setting.name.clone(),
        false => format!("{} ({} -> {})", setting.name, shown(old), shown(new)),
    }
}

type Named<'a, T> = Vec<(&'a str, &'a T)>;

fn by_name<T>(list: &[T], name: fn(&T) -> &str) -> Named<'_, T> {
    list.iter().map(|element| (name(element), element)).collect()
}

/// Elements that were added or removed, and settings that differ in elements of both.
fn list_changes<T: Section>(list: &str, before: Named<'_, T>, after: Named<'_, T>, changes: &mut Changes) {
    for (name, old) in &before {
        let Some((_, new)) = after.iter().find(|(other, _)| other == name) else {
            changes.live.push(format!("{list}: {name} was removed"));
            continue;
        };
        for item in T::SETTINGS.iter().filter(|item| (item.show)(old) != (item.show)(new)) {
            let kind = if item.restart { &mut changes.at_start } else { &mut changes.live };
            kind.push(format!("{list}[{name}].{}", item.name));
        }
    }
    let added = after.iter().filter(|(name, _)| before.iter().all(|(other, _)| other != name));
    changes.live.extend(added.map(|(name, _)| format!("{list}: {name} was added")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{assemble, file};

    fn config(text: &str) -> Config {
        assemble(&file("corecast.toml", text).unwrap()).unwrap()
    }

    #[test]
    fn difference_is_named_without_its_secret() {
        let running = config(
            "shards = 2\n[client.token]\nhmac_secret_key = \"old-secret-old-secret-old-secret\"\n\
             [[channel.namespaces]]\nname = \"chat\"\npresence = true\n[[channel.namespaces]]\nname = \"gone\"\n\
             [[proxies]]\nname = \"main\"\nendpoint = \"http://127.0.0.1:1/\"\n",
        );
        let wanted = config(
            "shards = 4\n[client.token]\nhmac_secret_key = \"new-secret-new-secret-new-secret\"\n\
             [[channel.namespaces]]\nname = \"chat\"\nhistory_size = 3\nhistory_ttl = \"1s\"\n[[channel.namespaces]]\nname = \"came\"\n\
             [[proxies]]\nname = \"main\"\nendpoint = \"http://user:secret@127.0.0.1:2/\"\n",
        );
        let changes = changes(&running, &wanted);
        let live = [
            "client.token.hmac_secret_key",
            "channel.namespaces[chat].presence",
            "channel.namespaces[chat].history_size",
            "channel.namespaces[chat].history_ttl",
            "channel.namespaces: gone was removed",
            "channel.namespaces: came was added",
            "proxies[main].endpoint",
        ];
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(changes.live), sorted(live.map(str::to_owned).to_vec()));
        assert_eq!(changes.at_start, ["shards (2 -> 4)"]);
        assert_eq!(super::changes(&wanted, &wanted), Changes::default());
    }
}
