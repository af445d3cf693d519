//! Which subject a channel has, and which channels have one.

use crate::config::{Nats, NatsRawMode};

/// The server takes 4,096 bytes a line: a subject leaves room for the numbers beside it.
const SUBJECT_BYTES_MAX: usize = 3900;

/// What a channel is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChannelUse {
    Subscribe,
    Publish,
}

/// The subjects of a NATS broker.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    /// Of all other subjects than those of channels.
    prefix: Box<str>,
    channel_prefix: Box<str>,
    /// Longest first. Empty outside raw mode.
    replacements: Box<[(Box<str>, Box<str>)]>,
    pub(super) is_raw: bool,
    pub(super) allow_wildcards: bool,
}

impl Subjects {
    pub(crate) fn new(config: &Nats) -> Self {
        let (channel_prefix, replacements) = match &config.raw_mode {
            Some(NatsRawMode { prefix, channel_replacements }) => {
                (prefix.clone(), channel_replacements.iter().collect())
            }
            None => (format!("{}.client.", config.prefix), Vec::new()),
        };
        let mut replacements: Vec<(Box<str>, Box<str>)> = replacements
            .into_iter()
            .filter(|(from, _)| !from.is_empty())
            .map(|(from, to)| (from.as_str().into(), to.as_str().into()))
            .collect();
        replacements.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Self {
            prefix: config.prefix.as_str().into(),
            channel_prefix: channel_prefix.into(),
            replacements: replacements.into(),
            is_raw: config.raw_mode.is_some(),
            allow_wildcards: config.allow_wildcards,
        }
    }

    /// Whether a channel has a subject. One that has none would be a protocol error, which costs all channels the
    /// connection; a pattern is only for subscribing, and only by setting.
    pub(crate) fn accepts(&self, channel: &str, channel_use: ChannelUse) -> bool {
        let is_pattern = channel.contains(['*', '>']);
        let may_be_pattern = self.allow_wildcards && channel_use == ChannelUse::Subscribe;
        (!is_pattern || may_be_pattern) && is_valid(&self.of_channel(channel))
    }

    pub(super) fn of_channel(&self, channel: &str) -> String {
        let mut subject = String::with_capacity(self.channel_prefix.len() + channel.len());
        subject.push_str(&self.channel_prefix);
        let mut rest = channel;
        while let Some(next) = rest.chars().next() {
            let replaced = self.replacements.iter().find_map(|(from, to)| Some((to, rest.strip_prefix(&**from)?)));
            if let Some((to, after)) = replaced {
                subject.push_str(to);
                rest = after;
            } else {
                subject.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        subject
    }

    /// The channel that a subject of raw mode names. Replacements are not undone.
    pub(super) fn channel_of<'a>(&self, subject: &'a str) -> &'a str {
        subject.strip_prefix(&*self.channel_prefix).unwrap_or(subject)
    }

    pub(super) fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    pub(super) fn node(&self, uid: &str) -> String {
        format!("{}.node.{uid}", self.prefix)
    }

    /// Of one connection's probes.
    pub(super) fn probe(&self, connection: &str) -> String {
        format!("{}.node.{connection}.probe", self.prefix)
    }
}

/// As the clients of NATS check it before they send it.
pub(super) fn is_valid(subject: &str) -> bool {
    let is_printable = |byte: u8| byte > b' ' && byte != 0x7f;
    (1..=SUBJECT_BYTES_MAX).contains(&subject.len())
        && subject.bytes().all(is_printable)
        && subject.split('.').all(|token| !token.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::broker::nats) fn config() -> Nats {
        Nats {
            url: "nats://localhost".into(),
            prefix: "centrifugo".into(),
            dial_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_secs(1),
            tls: None,
            allow_wildcards: false,
            raw_mode: None,
        }
    }

    #[test]
    fn subjects_have_the_prefix_of_the_settings() {
        let subjects = Subjects::new(&config());
        assert_eq!(subjects.of_channel("news:a.b"), "centrifugo.client.news:a.b");
        assert_eq!((subjects.control(), subjects.node("7")), ("centrifugo.control".into(), "centrifugo.node.7".into()));
    }

    #[test]
    fn raw_mode_replaces_parts_of_channels() {
        let replacements = [(":", "."), ("::", "-"), ("", "x"), ("ä", "a")];
        let channel_replacements = replacements.map(|(from, to)| (from.into(), to.into())).into();
        let raw_mode = Some(NatsRawMode { channel_replacements, prefix: "app.".into() });
        let subjects = Subjects::new(&Nats { raw_mode, ..config() });
        assert_eq!(subjects.of_channel("news:ä::b:c"), "app.news.a-b.c");
        assert_eq!((subjects.channel_of("app.news.a"), subjects.channel_of("other")), ("news.a", "other"));
        assert_eq!(subjects.control(), "centrifugo.control");
        assert!(!subjects.accepts("news:", ChannelUse::Publish), "the replacement would end the subject");
    }

    #[test]
    fn patterns_are_accepted_only_for_subscribing_and_by_setting() {
        let (without, with) = (Subjects::new(&config()), Subjects::new(&Nats { allow_wildcards: true, ..config() }));
        for pattern in ["*", "a.*", "a.>", "a*b"] {
            for channel_use in [ChannelUse::Subscribe, ChannelUse::Publish] {
                assert!(!without.accepts(pattern, channel_use), "{pattern}");
                assert_eq!(with.accepts(pattern, channel_use), channel_use == ChannelUse::Subscribe, "{pattern}");
            }
        }
    }

    #[test]
    fn channels_that_would_break_the_protocol_have_no_subject() {
        let subjects = Subjects::new(&config());
        let long = "x".repeat(SUBJECT_BYTES_MAX);
        for channel in ["", "a b", "a\r\nPUB x 0", "a\tb", "a\0", ".a", "a.", "a..b", "a\x7f", &long] {
            assert!(!subjects.accepts(channel, ChannelUse::Publish), "{channel:?}");
            assert!(!subjects.accepts(channel, ChannelUse::Subscribe), "{channel:?}");
        }
        for channel in ["a", "новости", "$private:a#1,2", "a:b.c-d_e"] {
            assert!(subjects.accepts(channel, ChannelUse::Publish), "{channel:?}");
        }
    }
}
