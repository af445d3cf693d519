//! The keys and PUB/SUB channels of the layout.
//!
//! In a Redis Cluster the channel's name is the hash tag of its keys. With sharded PUB/SUB the tag is that of the channel's
//! partition, so that all channels of a partition are in one slot.

use super::hash::bucket_of;

/// What the braces of a key hold.
#[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tagging {
    /// Not a cluster: no braces.
    None,
    Channel,
    /// The tags of the partitions.
    Partition(Box<[Box<str>]>),
}

/// The names under one prefix, for one Redis shard.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Box<str>,
    message_prefix: Box<str>,
    tagging: Tagging,
    uses_lists: bool,
}

impl Names {
    pub(super) fn new(prefix: &str, tagging: Tagging, uses_lists: bool) -> Self {
        Self { prefix: prefix.into(), message_prefix: format!("{prefix}.client.").into(), tagging, uses_lists }
    }

    /// The PUB/SUB channel of a channel.
    pub(super) fn message(&self, channel: &str) -> String {
        self.of_partition("client.", channel, "")
    }

    /// The channel of such a name; `None` for other names.
    pub(super) fn channel_of<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        let name = std::str::from_utf8(name.strip_prefix(self.message_prefix.as_bytes())?).ok()?;
        match self.tagging {
            Tagging::None => Some(name),
            Tagging::Channel => name.strip_prefix('{')?.strip_suffix('}'),
            Tagging::Partition(_) => name.strip_prefix('{')?.split_once("}.").map(|(_, channel)| channel),
        }
    }

    /// Stream or list.
    pub(super) fn history(&self, channel: &str) -> String {
        let kind = if self.uses_lists { "list." } else { "stream." };
        self.of_partition(kind, channel, "")
    }

    pub(super) fn meta(&self, channel: &str) -> String {
        let kind = if self.uses_lists { "list.meta." } else { "stream.meta." };
        self.of_partition(kind, channel, "")
    }

    pub(super) fn result(&self, channel: &str, idempotency_key: &str) -> String {
        self.of_partition("result.", channel, idempotency_key)
    }

    pub(super) fn presence_data(&self, channel: &str) -> String {
        self.of_channel("presence.data.", channel)
    }

    pub(super) fn presence_expire(&self, channel: &str) -> String {
        self.of_channel("presence.expire.", channel)
    }

    pub(super) fn presence_user_clients(&self, channel: &str) -> String {
        self.of_channel("presence.user.clients.", channel)
    }

    pub(super) fn presence_user_expire(&self, channel: &str) -> String {
        self.of_channel("presence.user.expire.", channel)
    }

    pub(super) fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    pub(super) fn node(&self, uid: &str) -> String {
        format!("{}.node.{uid}", self.prefix)
    }

    /// A channel for the probes of one connection; with sharded PUB/SUB in the slot of a partition.
    pub(super) fn probe(&self, uid: &str, partition: usize) -> String {
        match &self.tagging {
            Tagging::Partition(tags) => format!("{}.node.{uid}.probe.{{{}}}", self.prefix, tags[partition]),
            _ => format!("{}.node.{uid}.probe", self.prefix),
        }
    }

    pub(super) fn is_sharded(&self) -> bool {
        matches!(self.tagging, Tagging::Partition(_))
    }

    pub(super) fn partitions(&self) -> usize {
        if let Tagging::Partition(tags) = &self.tagging { tags.len() } else { 1 }
    }

    pub(super) fn partition_of(&self, channel: &str) -> usize {
        bucket_of(channel, self.partitions())
    }

    fn of_partition(&self, kind: &str, channel: &str, key: &str) -> String {
        let dot = if key.is_empty() { "" } else { "." };
        match &self.tagging {
            Tagging::None => [&*self.prefix, ".", kind, channel, dot, key].concat(),
            Tagging::Channel => [&*self.prefix, ".", kind, "{", channel, "}", dot, key].concat(),
            Tagging::Partition(tags) => {
                let tag = &*tags[bucket_of(channel, tags.len())];
                [&*self.prefix, ".", kind, "{", tag, "}.", channel, dot, key].concat()
            }
        }
    }

    fn of_channel(&self, kind: &str, channel: &str) -> String {
        match self.tagging {
            Tagging::None => [&*self.prefix, ".", kind, channel].concat(),
            _ => [&*self.prefix, ".", kind, "{", channel, "}"].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::hash::slot_of;

    fn all(names: &Names, channel: &str) -> [String; 8] {
        [
            names.message(channel),
            names.history(channel),
            names.meta(channel),
            names.result(channel, "key"),
            names.presence_data(channel),
            names.presence_expire(channel),
            names.presence_user_clients(channel),
            names.presence_user_expire(channel),
        ]
    }

    #[test]
    fn names_are_those_of_the_original() {
        let names = Names::new("p", Tagging::None, false);
        let expected = ["p.client.a:b", "p.stream.a:b", "p.stream.meta.a:b", "p.result.a:b.key", "p.presence.data.a:b"];
        assert_eq!(all(&names, "a:b")[..5], expected);
        let users = ["p.presence.expire.a:b", "p.presence.user.clients.a:b", "p.presence.user.expire.a:b"];
        assert_eq!(all(&names, "a:b")[5..], users);
        assert_eq!([names.control(), names.node("u")], ["p.control", "p.node.u"]);
        let lists = Names::new("p", Tagging::None, true);
        assert_eq!([lists.history("a"), lists.meta("a")], ["p.list.a", "p.list.meta.a"]);
        let cluster = Names::new("p", Tagging::Channel, false);
        assert_eq!(all(&cluster, "a")[..4], ["p.client.{a}", "p.stream.{a}", "p.stream.meta.{a}", "p.result.{a}.key"]);
        let tags = (0..16).map(|n| n.to_string().into()).collect();
        let sharded = Names::new("p", Tagging::Partition(tags), false);
        // "a" is of partition 12 of 16.
        let expected = ["p.client.{12}.a", "p.stream.{12}.a", "p.stream.meta.{12}.a", "p.result.{12}.a.key"];
        assert_eq!(all(&sharded, "a")[..4], expected);
        assert_eq!(sharded.presence_data("a"), "p.presence.data.{a}");
    }

    #[test]
    fn keys_of_one_script_are_in_one_slot() {
        let tags: Box<[Box<str>]> = (0..16).map(|n| n.to_string().into()).collect();
        for tagging in [Tagging::Channel, Tagging::Partition(tags)] {
            let names = Names::new("p", tagging, false);
            for channel in ["a", "chat:42", "a}b", "a{b}c", "x.y"] {
                let slots = all(&names, channel).map(|name| slot_of(name.as_bytes()));
                assert!(slots[..4].iter().all(|slot| *slot == slots[0]), "{channel}");
                assert!(slots[4..].iter().all(|slot| *slot == slots[4]), "{channel}");
            }
        }
    }

    #[test]
    fn channel_comes_back_from_its_name() {
        let tags: Box<[Box<str>]> = ["x".into(), "y".into()].into();
        for tagging in [Tagging::None, Tagging::Channel, Tagging::Partition(tags)] {
            let names = Names::new("p", tagging, false);
            for channel in ["a", "chat:42", "a}b", "{", "}.", "a.b"] {
                assert_eq!(names.channel_of(names.message(channel).as_bytes()), Some(channel), "{names:?}");
            }
            for name in [&b"p.control"[..], b"q.client.a", b"p.client.\xff", b""] {
                assert_eq!(names.channel_of(name), None);
            }
        }
        let cluster = Names::new("p", Tagging::Channel, false);
        assert_eq!(cluster.channel_of(b"p.client.a"), None);
    }
}
