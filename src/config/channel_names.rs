//! What the name of a channel means: its namespace, its users, whether it needs a token.

use super::schema::channel::Channel;
use super::schema::namespace::Namespace;

impl Channel {
    /// The namespace that the channel belongs to, and its number: 0 without a namespace, `i + 1` for `namespaces[i]`.
    /// None: there is no such namespace (error 102). Does not allocate: one search for the boundary and a binary search.
    pub fn find(&self, channel: &str) -> Option<(usize, &Namespace)> {
        let name = self.split(channel).0;
        if name.is_empty() {
            return Some((0, &self.without_namespace));
        }
        match self.namespaces.binary_search_by(|namespace| namespace.name.as_str().cmp(name)) {
            Ok(index) => Some((index + 1, &self.namespaces[index])),
            Err(_) if self.any_namespace => Some((0, &self.without_namespace)),
            Err(_) => None,
        }
    }

    /// The namespace of a number from `find`.
    pub fn namespace(&self, number: usize) -> &Namespace {
        number.checked_sub(1).map_or(&self.without_namespace, |index| &self.namespaces[index])
    }

    /// The namespace's name, empty for none, and the part that `channel_regex` must match: the text after the boundary, or the
    /// whole name without one.
    fn split<'a>(&self, channel: &'a str) -> (&'a str, &'a str) {
        let bare = channel.strip_prefix(self.private_prefix.as_str()).unwrap_or(channel);
        if self.namespace_boundary.is_empty() {
            return ("", channel);
        }
        bare.split_once(self.namespace_boundary.as_str()).unwrap_or(("", channel))
    }

    /// The namespace allows the name; otherwise error 107. The length is checked elsewhere.
    pub fn name_fits(&self, channel: &str, namespace: &Namespace) -> bool {
        match &namespace.channel_regex {
            Some(regex) => regex.is_match(self.split(channel).1),
            None => channel.is_ascii(),
        }
    }

    /// The personal channel of a user in a namespace.
    pub fn personal(&self, namespace: &str, user: &str) -> String {
        let Self { namespace_boundary, user_boundary, .. } = self;
        match namespace {
            "" => format!("{user_boundary}{user}"),
            namespace => format!("{namespace}{namespace_boundary}{user_boundary}{user}"),
        }
    }

    /// A subscription to it needs a token.
    pub fn is_private(&self, channel: &str) -> bool {
        !self.private_prefix.is_empty() && channel.starts_with(self.private_prefix.as_str())
    }

    /// Whether the list of users in the name contains `user`. None: the name has no list. The namespace's
    /// `allow_user_limited_channels` decides whether lists have an effect. No list contains the anonymous user, whose id is
    /// empty: an empty entry (`dialog#42,`) names no user.
    pub fn user_allowed(&self, channel: &str, user: &str) -> Option<bool> {
        if self.user_boundary.is_empty() {
            return None;
        }
        let (_, users) = channel.rsplit_once(self.user_boundary.as_str())?;
        let is_named = match self.user_separator.as_str() {
            "" => users == user,
            separator => users.split(separator).any(|one| one == user),
        };
        Some(is_named && !user.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn channels() -> Channel {
        let namespace = |name: &str| Namespace { name: name.into(), ..Namespace::default() };
        Channel { namespaces: vec![namespace("chat"), namespace("news")], ..Channel::default() }
    }

    #[test]
    fn namespace_is_before_the_first_boundary_and_after_the_private_prefix() {
        let channels = channels();
        let number = |channel| channels.find(channel).map(|(number, _)| number);
        for (channel, found) in [
            ("lobby", Some(0)),
            ("chat:one", Some(1)),
            ("$chat:one", Some(1)),
            ("news:a:b", Some(2)),
            (":odd", Some(0)),
            ("", Some(0)),
            ("$lobby", Some(0)),
            ("none:x", None),
            ("cha", Some(0)),
        ] {
            assert_eq!(number(channel), found, "{channel}");
        }
        assert_eq!(channels.namespace(2).name, "news");
        let dev = Channel { any_namespace: true, ..channels };
        assert_eq!(dev.find("none:x").map(|(number, _)| number), Some(0));
    }

    #[test]
    fn without_a_boundary_there_are_no_namespaces() {
        let channels = Channel { namespace_boundary: String::new(), ..channels() };
        assert_eq!(channels.find("chat:one").map(|(number, _)| number), Some(0));
    }

    #[test]
    fn users_are_after_the_last_boundary() {
        let mut channels = channels();
        assert_eq!(channels.user_allowed("dialog#42,43", "43"), Some(true));
        assert_eq!(channels.user_allowed("dialog#42,43", "4"), Some(false));
        assert_eq!(channels.user_allowed("a#42#7", "42"), Some(false));
        assert_eq!(channels.user_allowed("dialog", "42"), None);
        channels.user_separator = String::new();
        assert_eq!(channels.user_allowed("dialog#42,43", "42,43"), Some(true));
        channels.user_boundary = String::new();
        assert_eq!(channels.user_allowed("dialog#42", "1"), None);
    }

    #[test]
    fn anonymous_user_is_in_no_list() {
        let mut channels = channels();
        for name in ["dialog#", "dialog#42,", "dialog#,42", "dialog#42,,43", "#", "#,", "a#42#"] {
            assert_eq!(channels.user_allowed(name, ""), Some(false), "{name}");
        }
        channels.user_separator = String::new();
        assert_eq!(channels.user_allowed("dialog#", ""), Some(false));
    }

    #[test]
    fn pattern_matches_the_part_after_the_boundary_and_replaces_the_ascii_rule() {
        let mut channels = channels();
        channels.namespaces[0].channel_regex = Some(Regex::new("^[a-z]+$").unwrap());
        let fits = |channel: &str| channels.name_fits(channel, channels.find(channel).unwrap().1);
        assert!(fits("chat:room") && fits("$chat:room") && !fits("chat:room1") && !fits("chat:"));
        assert!(fits("news:Room 1") && !fits("news:Räume") && !fits("Räume"));
    }

    #[test]
    fn private_prefix_can_be_empty() {
        assert!(channels().is_private("$x") && !channels().is_private("x"));
        let none = Channel { private_prefix: String::new(), ..channels() };
        assert!(!none.is_private("$x") && none.find("$chat:x").is_none());
    }
}
