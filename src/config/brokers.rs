//! Brokers as the settings describe them, with addresses resolved into topologies: what `broker` is started with.
//!
//! - `address`: the text of one address → its parts
//! - `pem`: PEM, PEM in base64, or a file → PEM
//! - `resolve`: the sections `engine`, `broker` and `presence_manager` → `Brokers`
//!
//! `Display` and `Debug` show no password and no key.

pub(crate) mod address;
pub(crate) mod pem;
pub(crate) mod resolve;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Which brokers this server uses. Without any it is a server of its own, which keeps everything in its memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Brokers {
    pub publications: Option<BrokerKind>,
    /// `None`: this server's memory.
    pub presence: Option<Redis>,
    /// Broker threads; channels are spread over them.
    pub threads: usize,
    /// Bytes of requests that may wait for one broker thread; past it publications are rejected.
    pub queue_bytes_max: usize,
    /// Bytes of events that may wait for one shard; past it publications are dropped, and read from the history later.
    pub events_bytes_max: usize,
    /// How long a subscribe of a positioned channel waits for the broker.
    pub subscribe_timeout: Duration,
    /// While the broker is away, publications without history go to the subscribers of this server only, and are not rejected.
    pub publish_locally: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerKind {
    Redis(Redis),
    Nats(Nats),
}

/// Redis or Valkey.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redis {
    /// More than one: channels are spread over them by this server (client-side sharding).
    pub shards: Vec<RedisShard>,
    pub prefix: String,
    pub history_use_lists: bool,
    pub presence_ttl: Duration,
    pub presence_hash_field_ttl: bool,
    pub presence_user_mapping: bool,
    /// Partitions of sharded PUB/SUB in a cluster; 0 for ordinary PUB/SUB.
    pub sharded_pub_sub_partitions: u32,
    pub use_precomputed_partition_tags: bool,
    pub group_sharded_pub_sub_by_node: bool,
    pub subscribe_on_replica: bool,
    pub presence_read_from_replica: bool,
    /// PUB/SUB without a message for this long is probed; `None` for never.
    pub probe_interval: Option<Duration>,
}

/// One server, one group of servers with sentinels, or one cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisShard {
    pub topology: RedisTopology,
    pub login: Login,
    pub db: u32,
    pub tls: Option<ClientTls>,
    pub force_resp2: bool,
    pub replica_client: bool,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedisTopology {
    Single(Endpoint),
    Sentinel { sentinels: Vec<Endpoint>, master_name: String, login: Login, tls: Option<ClientTls> },
    Cluster(Vec<Endpoint>),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// Host name or address, and port.
    Tcp(String, u16),
    Unix(PathBuf),
}

/// How a connection to a server logs in; empty fields are not sent.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Login {
    pub user: String,
    pub password: String,
    pub client_name: String,
}

/// TLS towards a broker. Without `open_brokers` a PEM text may still be the path of a file.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// PEM texts; empty for the root certificates of this machine, and for no certificate of this server.
    pub server_ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    /// Empty: the host of the address.
    pub server_name: String,
    pub insecure_skip_verify: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Nats {
    /// Addresses with scheme, comma-separated.
    pub url: String,
    pub prefix: String,
    pub dial_timeout: Duration,
    pub write_timeout: Duration,
    pub tls: Option<ClientTls>,
    pub allow_wildcards: bool,
    pub raw_mode: Option<NatsRawMode>,
}

/// Subjects and payloads as other programs on NATS expect them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NatsRawMode {
    pub channel_replacements: BTreeMap<String, String>,
    pub prefix: String,
}

impl Default for Brokers {
    fn default() -> Self {
        Self {
            publications: None,
            presence: None,
            threads: 1,
            queue_bytes_max: 64 * 1024 * 1024,
            events_bytes_max: 64 * 1024 * 1024,
            subscribe_timeout: Duration::from_secs(5),
            publish_locally: false,
        }
    }
}

impl Redis {
    /// One server at this address, with the defaults.
    pub fn at(endpoint: Endpoint) -> Self {
        Self {
            shards: vec![RedisShard::at(endpoint)],
            prefix: "centrifugo".into(),
            history_use_lists: false,
            presence_ttl: Duration::from_secs(60),
            presence_hash_field_ttl: false,
            presence_user_mapping: false,
            sharded_pub_sub_partitions: 0,
            use_precomputed_partition_tags: false,
            group_sharded_pub_sub_by_node: false,
            subscribe_on_replica: false,
            presence_read_from_replica: false,
            probe_interval: Some(Duration::from_secs(30)),
        }
    }
}

impl RedisShard {
    /// One server at this address, with the defaults.
    pub fn at(endpoint: Endpoint) -> Self {
        Self {
            topology: RedisTopology::Single(endpoint),
            login: Login::default(),
            db: 0,
            tls: None,
            force_resp2: false,
            replica_client: false,
            connect_timeout: Duration::from_secs(1),
            io_timeout: Duration::from_secs(4),
        }
    }
}

/// The servers, such as `Redis at 10.0.0.1:6379`.
impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis ")?;
        for (index, shard) in self.shards.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " and " }, shard.topology)?;
        }
        Ok(())
    }
}

impl fmt::Display for RedisTopology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(endpoint) => write!(f, "at {endpoint}"),
            Self::Sentinel { sentinels, master_name, .. } => {
                write!(f, "\"{master_name}\" of the sentinels at {}", Listed(sentinels))
            }
            Self::Cluster(endpoints) => write!(f, "Cluster at {}", Listed(endpoints)),
        }
    }
}

struct Listed<'a>(&'a [Endpoint]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, endpoint) in self.0.iter().enumerate() {
            write!(f, "{}{endpoint}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The servers, such as `NATS at 10.0.0.1:4222`.
impl fmt::Display for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &str| url.rsplit(['@', '/']).next().unwrap_or_default().to_owned();
        write!(f, "NATS at {}", self.url.split(',').map(host).collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password.is_empty() { "unset" } else { "hidden" };
        let mut shown = f.debug_struct("Login");
        shown.field("user", &self.user).field("password", &password).field("client_name", &self.client_name).finish()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClientTls");
        shown.field("server_name", &self.server_name).field("insecure_skip_verify", &self.insecure_skip_verify);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nats({self}, prefix {:?})", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_shown_without_passwords() {
        let mut redis = Redis::at(Endpoint::Tcp("::1".into(), 6379));
        redis.shards[0].login.password = "secret".into();
        let sentinels = vec![Endpoint::Tcp("a".into(), 1), Endpoint::Tcp("b".into(), 2)];
        let login = Login { password: "secret".into(), ..Login::default() };
        let topology = RedisTopology::Sentinel { sentinels, master_name: "main".into(), login, tls: None };
        redis.shards.push(RedisShard { topology, ..RedisShard::at(Endpoint::Unix("/x".into())) });
        assert_eq!(redis.to_string(), "Redis at [::1]:6379 and \"main\" of the sentinels at a:1, b:2");
        let tls = ClientTls { key_pem: "secret".into(), ..ClientTls::default() };
        redis.shards[0].tls = Some(tls.clone());
        let nats = Nats {
            url: "nats://user:secret@a:4222,tls://b:4222".into(),
            prefix: "p".into(),
            dial_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            tls: Some(tls),
            allow_wildcards: false,
            raw_mode: None,
        };
        assert_eq!(nats.to_string(), "NATS at a:4222, b:4222");
        let shown = format!("{redis:?} {nats:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
