//! `channel`: how a channel's name is read.
//!
//! Invariants of a checked configuration: namespaces are sorted by name, and each name occurs once.

use std::time::Duration;

use super::namespace::{DataFormat, Namespace};
use super::proxy::Proxy;
use super::section::section;
use crate::config::parse::enums::Word;
use crate::config::parse::scalar::{Bytes, Text, Time};

section! {
    /// The section `channel`.
    #[derive(Clone, Debug)]
    pub struct Channel {
        /// Channels of unknown namespaces count as channels without a namespace: `--dev`.
        pub any_namespace: bool = false,
        /// `channel.proxy`: the backends that "default" means to a namespace.
        pub proxy: ChannelProxies = ChannelProxies::default(),
        pub without_namespace: Namespace =
            Namespace { history_meta_ttl: HISTORY_META_TTL, ..Namespace::default() },
        /// Sorted by name.
        pub namespaces: Vec<Namespace> = Vec::new(),
    }

    /// Bytes of a channel name; a longer name gets error 107.
    max_length: usize as Bytes = 255, restart;

    /// The text that ends the namespace in a channel name: news:sport is in the namespace news. Empty: there are no namespaces.
    namespace_boundary: String as Text = ":".into();

    /// The text before the list of users in a channel name: dialog#42,43 is for the users 42 and 43. Empty: channels cannot be
    /// limited to users.
    user_boundary: String as Text = "#".into();

    /// The text between two users of such a list. Empty: a channel name has one user.
    user_separator: String as Text = ",".into();

    /// The prefix of channel names that need a subscription token. Empty: no prefix requires one.
    private_prefix: String as Text = "$".into();

    /// Time that the offset and the epoch of a channel are kept after its last publication, unless its namespace sets its own.
    /// Whole seconds, at least any history_ttl.
    history_meta_ttl: Duration as Time = HISTORY_META_TTL;

    /// The format of publications, unless the namespace sets its own: "" any data but empty, "json", "json_object", or "binary"
    /// for any data.
    publication_data_format: DataFormat as Word = DataFormat::Any;
}

const HISTORY_META_TTL: Duration = Duration::from_secs(720 * 3600);

/// `channel.proxy`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ChannelProxies {
    pub subscribe: Proxy,
    pub publish: Proxy,
    pub sub_refresh: Proxy,
}

impl Channel {
    /// Every namespace with the name of its section: `channel.without_namespace`, `channel.namespaces[0]` and so on.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (String, &Namespace)> {
        let numbered = self.namespaces.iter().enumerate();
        let named = numbered.map(|(number, one)| (format!("channel.namespaces[{number}]"), one));
        std::iter::once(("channel.without_namespace".to_owned(), &self.without_namespace)).chain(named)
    }
}
