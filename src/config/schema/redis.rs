//! The settings of Redis or Valkey, as `engine.redis`, `broker.redis` and `presence_manager.redis` have them.

use std::fmt;
use std::time::Duration;

use super::section::section;
use super::tls::BrokerTls;
use crate::config::parse::broker::{AddressLists, Addresses};
use crate::config::parse::scalar::{Bool, Count, Secret, Text, Time};

/// `engine.redis`: publications and presence.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct EngineRedis {
    pub servers: RedisServers,
    pub publications: RedisPublications,
    pub presence: RedisPresence,
}

/// `broker.redis`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct BrokerRedis {
    pub servers: RedisServers,
    pub publications: RedisPublications,
}

/// `presence_manager.redis`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PresenceRedis {
    pub servers: RedisServers,
    pub presence: RedisPresence,
}

section! {
    /// Where the servers are, and how connections to them are made.
    #[derive(Clone, PartialEq, Eq)]
    pub struct RedisServers {
        pub tls: BrokerTls = BrokerTls::default(),
        pub sentinel_tls: BrokerTls = BrokerTls::default(),
        pub replica_client: ReplicaClient = ReplicaClient::default(),
    }

    /// Addresses: "host:port", redis://[[user]:password@]host:port[/db], rediss:// (TLS), redis+cluster://, redis+sentinel://,
    /// rediss+sentinel://, or unix://[[user]:password@]/path. After "?": addr (a further server; repeat it for more),
    /// connect_timeout, io_timeout, tls_enabled, force_resp2, replica_client_enabled, sentinel_master_name, sentinel_user,
    /// sentinel_password, sentinel_tls_enabled. With several addresses the servers share the channels (client-side sharding):
    /// all nodes must list the same ones in the same order.
    address: Vec<String> as Addresses = vec!["redis://127.0.0.1:6379".into()], restart;

    /// What the names of all keys and channels in Redis begin with. All nodes of a cluster have the same prefix; clusters that
    /// share a Redis have different ones.
    prefix: String as Text = "centrifugo".into(), restart;

    /// Time to connect to a server; past it the server tries again later. 0s: 1s.
    connect_timeout: Duration as Time = Duration::from_secs(1), restart;

    /// Time for a command; past it the connection counts as dead, and is made again. 0s: 4s.
    io_timeout: Duration as Time = Duration::from_secs(4), restart;

    /// The number of the database, which a number in the path of an address overrides. PUB/SUB is common to all databases of a
    /// server: clusters that share it need different prefixes. A Redis Cluster only has database 0.
    db: u32 as Count = 0, restart;

    /// The user (ACL). Empty: the default user.
    user: String as Text = String::new(), restart;

    /// The password.
    password: String as Secret = String::new(), restart, example("\"a-long-random-text\"");

    /// The name of the connections in CLIENT LIST. Empty: no name.
    client_name: String as Text = String::new(), restart;

    /// Use version 2 of the protocol, for proxies that do not know version 3.
    force_resp2: bool as Bool = false, restart;

    /// Servers of a Redis Cluster, from which the others are found: "host:port,host:port". Each element of the list is a cluster
    /// of its own, and the clusters share the channels. With it, address and sentinel_address have no effect.
    cluster_address: Vec<String> as AddressLists = Vec::new(), restart;

    /// Sentinels of one master: "host:port,host:port". Each element of the list is a group of its own, and the groups share the
    /// channels. With it, address has no effect.
    sentinel_address: Vec<String> as AddressLists = Vec::new(), restart;

    /// The user of the sentinels (ACL).
    sentinel_user: String as Text = String::new(), restart;

    /// The password of the sentinels.
    sentinel_password: String as Secret = String::new(), restart, example("\"a-long-random-text\"");

    /// The name of the master that the sentinels watch. They need it.
    sentinel_master_name: String as Text = String::new(), restart;

    /// The name of the connections to sentinels in CLIENT LIST. Empty: no name.
    sentinel_client_name: String as Text = String::new(), restart;
}

/// Only the prefix: addresses and passwords are secrets.
impl fmt::Debug for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServers").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisServers {
    /// The setting that says where the servers are: the strongest that is set.
    pub(crate) fn used(&self) -> &'static str {
        match (self.cluster_address.is_empty(), self.sentinel_address.is_empty()) {
            (false, _) => "cluster_address",
            (true, false) => "sentinel_address",
            (true, true) => "address",
        }
    }
}

section! {
    /// The section `replica_client`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ReplicaClient {}

    /// Connect to replicas too, for presence_read_from_replica and subscribe_on_replica. Only with sentinels or a Redis Cluster.
    enabled: bool as Bool = false, restart;
}

section! {
    /// How publications are kept and sent.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct RedisPublications {}

    /// Keep histories in lists instead of streams, as a cluster does that began with an old Redis. Lists have no versions.
    /// All nodes of a cluster must agree.
    history_use_lists: bool as Bool = false, restart;

    /// Partitions of sharded PUB/SUB in a Redis Cluster of version 7 or later: channels are spread over so many, each of which
    /// belongs to one server, so that a publication does not go to every server of the cluster. All nodes must agree: another
    /// number means other keys. 0: off.
    sharded_pub_sub_partitions: u32 as Count = 0, restart;

    /// Name the partitions so that the servers of a cluster get equal shares. The number of partitions must then be a power of two
    /// from 16 to 4096. All nodes must agree: it changes the names of keys.
    use_precomputed_partition_tags: bool as Bool = false, restart;

    /// Share one PUB/SUB connection between all partitions of a Redis server, instead of one for each partition.
    group_sharded_pub_sub_by_node: bool as Bool = false, restart;

    /// Receive publications from replicas instead of masters. Needs replica_client.enabled.
    subscribe_on_replica: bool as Bool = false, restart;
}

section! {
    /// How presence is kept.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct RedisPresence {}

    /// Time after which the entries of a node that died expire, in whole seconds. A living node renews its entries within it. 0s:
    /// 60s.
    presence_ttl: Duration as Time = Duration::from_secs(60), restart;

    /// Let Redis expire the fields of a hash (version 7.4 or later, Valkey 9 or later) instead of keeping times in a sorted set: less
    /// memory. All nodes of a cluster must agree.
    presence_hash_field_ttl: bool as Bool = false, restart;

    /// Keep a hash of the users of a channel beside the clients: presence_stats then costs the same for every size of a channel,
    /// and presence takes more memory. All nodes of a cluster must agree.
    presence_user_mapping: bool as Bool = false, restart;

    /// Read presence from replicas. Needs replica_client.enabled and presence_hash_field_ttl.
    presence_read_from_replica: bool as Bool = false, restart;
}
