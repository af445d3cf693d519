//! From the sections `engine`, `broker` and `presence_manager` to the brokers that are used. What is not used is not checked.

use std::time::Duration;

use super::address::{RedisAddress, RedisKind, host_port, nats_url, redis_address};
use super::pem::{self, Content, Files};
use super::{BrokerKind, Brokers, ClientTls, Endpoint, Login, Nats, NatsRawMode, Redis, RedisShard, RedisTopology};
use crate::config::parse::value::Invalid;
use crate::config::schema::broker::{self, BrokerType, StoreType};
use crate::config::schema::config::Config;
use crate::config::schema::redis::{RedisPresence, RedisPublications, RedisServers};
use crate::config::schema::tls::BrokerTls;
use crate::config::validate::Checks;

const ADDRESS_FIX: &str = "write an address such as \"redis://127.0.0.1:6379\"; in names and passwords, write @ / ? # and % as \
                           %40 %2F %3F %23 and %25";
const ENDPOINTS_FIX: &str =
    "write \"host:port\", with commas between the servers, such as \"10.0.0.1:7000,10.0.0.2:7000\"";

/// The brokers of a checked configuration, with certificates and keys read from their files. Errors: what is wrong with the
/// files, one line for each.
pub fn open_brokers(config: &Config) -> Result<Brokers, String> {
    let mut checks = Checks::default();
    let brokers = resolve(config, Files::Read, &mut checks);
    let line = |(setting, invalid): (String, Invalid)| format!("{setting}: {}; {}", invalid.what, invalid.fix);
    let lines: Vec<String> = checks.failed.into_iter().map(line).collect();
    if lines.is_empty() { Ok(brokers) } else { Err(lines.join("\n")) }
}

/// What the settings mean. Anything that is wrong is added to `checks`, and the result is then incomplete.
pub(crate) fn resolve(config: &Config, files: Files, checks: &mut Checks) -> Brokers {
    let Config { engine, broker, presence_manager, .. } = config;
    let both = engine.kind == StoreType::Redis && !(broker.enabled && presence_manager.enabled);
    let of_engine = both.then(|| {
        let own = &engine.redis;
        redis("engine.redis", files, &own.servers, &own.publications, &own.presence, checks)
    });
    let probe = Some(broker.probe_interval).filter(|interval| !interval.is_zero());
    let of_engine = of_engine.map(|redis| Redis { probe_interval: probe, ..redis });
    let publications = match (broker.enabled, broker.kind) {
        (false, _) => of_engine.clone().map(BrokerKind::Redis),
        (true, BrokerType::Redis) => {
            let own = &broker.redis;
            let presence = RedisPresence::default();
            let redis = redis("broker.redis", files, &own.servers, &own.publications, &presence, checks);
            Some(BrokerKind::Redis(Redis { probe_interval: probe, ..redis }))
        }
        (true, BrokerType::Nats) => Some(BrokerKind::Nats(nats(&broker.nats, files, checks))),
        (true, BrokerType::Memory | BrokerType::Postgres | BrokerType::RedisNats) => None,
    };
    let presence = match (presence_manager.enabled, presence_manager.kind) {
        (false, _) => of_engine,
        (true, StoreType::Memory) => None,
        (true, StoreType::Redis) => {
            let own = &presence_manager.redis;
            let publications = RedisPublications::default();
            let redis = redis("presence_manager.redis", files, &own.servers, &publications, &own.presence, checks);
            Some(Redis { probe_interval: probe, ..redis })
        }
    };
    Brokers {
        publications,
        presence,
        threads: broker.threads,
        queue_bytes_max: broker.queue_bytes_max,
        events_bytes_max: broker.events_bytes_max,
        subscribe_timeout: broker.subscribe_timeout,
        publish_locally: broker.publish_locally,
    }
}

fn redis(
    section: &str,
    files: Files,
    servers: &RedisServers,
    publications: &RedisPublications,
    presence: &RedisPresence,
    checks: &mut Checks,
) -> Redis {
    let redis = Redis {
        shards: shards(section, files, servers, checks),
        prefix: servers.prefix.clone(),
        history_use_lists: publications.history_use_lists,
        presence_ttl: or_default(presence.presence_ttl, 60),
        presence_hash_field_ttl: presence.presence_hash_field_ttl,
        presence_user_mapping: presence.presence_user_mapping,
        sharded_pub_sub_partitions: publications.sharded_pub_sub_partitions,
        use_precomputed_partition_tags: publications.use_precomputed_partition_tags,
        group_sharded_pub_sub_by_node: publications.group_sharded_pub_sub_by_node,
        subscribe_on_replica: publications.subscribe_on_replica,
        presence_read_from_replica: presence.presence_read_from_replica,
        probe_interval: None,
    };
    bounds(section, &redis, checks);
    redis
}

fn shards(section: &str, files: Files, servers: &RedisServers, checks: &mut Checks) -> Vec<RedisShard> {
    let common = Common {
        section,
        servers,
        tls: tls(&format!("{section}.tls"), files, &servers.tls, checks),
        sentinel_tls: tls(&format!("{section}.sentinel_tls"), files, &servers.sentinel_tls, checks),
    };
    let mut shards = Vec::new();
    if !servers.cluster_address.is_empty() {
        let setting = format!("{section}.cluster_address");
        for list in &servers.cluster_address {
            shards.extend(endpoints(&setting, list, checks).map(|all| common.shard(RedisTopology::Cluster(all))));
        }
    } else if !servers.sentinel_address.is_empty() {
        let setting = format!("{section}.sentinel_address");
        for list in &servers.sentinel_address {
            let sentinels = endpoints(&setting, list, checks);
            shards.extend(sentinels.map(|all| common.shard(common.sentinel(all, &RedisAddress::default(), checks))));
        }
    } else {
        let setting = format!("{section}.address");
        checks.require(!servers.address.is_empty(), &setting, "it contains no address", ADDRESS_FIX);
        for (index, text) in servers.address.iter().enumerate() {
            match redis_address(text) {
                Ok(address) => shards.push(common.shard_at(&address, checks)),
                Err(what) => {
                    let number = index + 1;
                    let what = if servers.address.len() == 1 { what } else { format!("address {number}: {what}") };
                    checks.require(false, &setting, what, ADDRESS_FIX);
                }
            }
        }
    }
    for (index, shard) in shards.iter().enumerate() {
        let is_repeated = shards[..index].iter().any(|other| other == shard);
        let what = format!("{} is listed twice, and both would get a part of the channels", shard.topology);
        checks.require(!is_repeated, &format!("{section}.{}", servers.used()), what, "list it once");
        let is_cluster = matches!(shard.topology, RedisTopology::Cluster(_));
        let what = format!("a Redis Cluster has only database 0, not {}", shard.db);
        let setting = if servers.db == 0 { "address" } else { "db" };
        let fix = "remove it, and give clusters that share a Redis different prefixes";
        checks.require(!is_cluster || shard.db == 0, &format!("{section}.{setting}"), what, fix);
    }
    shards
}

/// What all servers of a section have in common.
struct Common<'a> {
    section: &'a str,
    servers: &'a RedisServers,
    tls: Option<ClientTls>,
    sentinel_tls: Option<ClientTls>,
}

impl Common<'_> {
    fn shard(&self, topology: RedisTopology) -> RedisShard {
        let servers = self.servers;
        let login = Login {
            user: servers.user.clone(),
            password: servers.password.clone(),
            client_name: servers.client_name.clone(),
        };
        RedisShard {
            topology,
            login,
            db: servers.db,
            tls: self.tls.clone(),
            force_resp2: servers.force_resp2,
            replica_client: servers.replica_client.enabled,
            connect_timeout: or_default(servers.connect_timeout, 1),
            io_timeout: or_default(servers.io_timeout, 4),
        }
    }

    /// What the address says overrides the settings.
    fn shard_at(&self, address: &RedisAddress, checks: &mut Checks) -> RedisShard {
        let topology = match address.kind {
            // An address has at least one endpoint.
            RedisKind::Single => RedisTopology::Single(address.endpoints[0].clone()),
            RedisKind::Cluster => RedisTopology::Cluster(address.endpoints.clone()),
            RedisKind::Sentinel => self.sentinel(address.endpoints.clone(), address, checks),
        };
        let mut shard = self.shard(topology);
        if let Some(user) = &address.user {
            shard.login.user.clone_from(user);
        }
        if let Some(password) = &address.password {
            shard.login.password.clone_from(password);
        }
        if address.tls {
            shard.tls.get_or_insert_default();
        }
        shard.db = address.db.unwrap_or(shard.db);
        shard.force_resp2 = address.force_resp2.unwrap_or(shard.force_resp2);
        shard.replica_client = address.replica_client.unwrap_or(shard.replica_client);
        shard.connect_timeout = address.connect_timeout.map_or(shard.connect_timeout, |span| or_default(span, 1));
        shard.io_timeout = address.io_timeout.map_or(shard.io_timeout, |span| or_default(span, 4));
        shard
    }

    fn sentinel(&self, sentinels: Vec<Endpoint>, address: &RedisAddress, checks: &mut Checks) -> RedisTopology {
        let servers = self.servers;
        let or = |own: &Option<String>, common: &String| own.clone().unwrap_or_else(|| common.clone());
        let master_name = or(&address.sentinel_master_name, &servers.sentinel_master_name);
        let setting = format!("{}.sentinel_master_name", self.section);
        let what = "it is not set, and sentinels can watch several masters";
        let fix = "write the name of the master as in the sentinels' configuration, such as \"mymaster\"";
        checks.require(!master_name.is_empty(), &setting, what, fix);
        let login = Login {
            user: or(&address.sentinel_user, &servers.sentinel_user),
            password: or(&address.sentinel_password, &servers.sentinel_password),
            client_name: servers.sentinel_client_name.clone(),
        };
        let mut tls = self.sentinel_tls.clone();
        if address.sentinel_tls {
            tls.get_or_insert_default();
        }
        RedisTopology::Sentinel { sentinels, master_name, login, tls }
    }
}

/// The setting, or so many seconds if it is 0.
fn or_default(span: Duration, seconds: u64) -> Duration {
    if span.is_zero() { Duration::from_secs(seconds) } else { span }
}

fn endpoints(setting: &str, list: &str, checks: &mut Checks) -> Option<Vec<Endpoint>> {
    let all: Option<Vec<Endpoint>> = list.split(',').map(|one| host_port(one.trim(), None)).collect();
    checks.require(all.is_some(), setting, "a server in it is not \"host:port\"", ENDPOINTS_FIX);
    all
}

fn tls(section: &str, files: Files, settings: &BrokerTls, checks: &mut Checks) -> Option<ClientTls> {
    if !settings.enabled {
        return None;
    }
    let mut load = |key: &str, value: &str, content: Content| {
        let loaded = if value.is_empty() { Ok(String::new()) } else { pem::load(value, content, files) };
        loaded.unwrap_or_else(|what| {
            let fix = "write PEM, PEM in base64, or the path of a file that this user can read";
            checks.require(false, &format!("{section}.{key}"), what, fix);
            String::new()
        })
    };
    let tls = ClientTls {
        server_ca_pem: load("server_ca_pem", &settings.server_ca_pem, Content::Certificates),
        cert_pem: load("cert_pem", &settings.cert_pem, Content::Certificates),
        key_pem: load("key_pem", &settings.key_pem, Content::Key),
        server_name: settings.server_name.clone(),
        insecure_skip_verify: settings.insecure_skip_verify,
    };
    for (key, other, is_alone) in [
        ("cert_pem", "key_pem", settings.key_pem.is_empty() && !settings.cert_pem.is_empty()),
        ("key_pem", "cert_pem", settings.cert_pem.is_empty() && !settings.key_pem.is_empty()),
    ] {
        let what = format!("it is set without {other}");
        checks.require(!is_alone, &format!("{section}.{key}"), what, format!("set {other} too, or neither"));
    }
    Some(tls)
}

/// The sizes of partition tables that spread evenly; all nodes of a cluster know the same ones.
const PARTITIONS_MIN: u32 = 16;
const PARTITIONS_MAX: u32 = 4096;

fn bounds(section: &str, redis: &Redis, checks: &mut Checks) {
    let at = |key: &str| format!("{section}.{key}");
    let partitions = redis.sharded_pub_sub_partitions;
    let what = format!("{partitions} is more than {PARTITIONS_MAX}");
    let fix = "write a number such as 64, or 0 for off";
    checks.require(partitions <= PARTITIONS_MAX, &at("sharded_pub_sub_partitions"), what, fix);
    let is_even = partitions.is_power_of_two() && (PARTITIONS_MIN..=PARTITIONS_MAX).contains(&partitions);
    let what = format!("it needs a number of partitions that is a power of two from 16 to 4096, not {partitions}");
    let fix = "set sharded_pub_sub_partitions to such a number, the same on all nodes, or remove this setting";
    let fits = !redis.use_precomputed_partition_tags || is_even;
    checks.require(fits, &at("use_precomputed_partition_tags"), what, fix);
    let ttl = redis.presence_ttl;
    let what = "it is not a whole number of seconds from 1 up";
    let fits = ttl.subsec_nanos() == 0 && !ttl.is_zero();
    checks.require(fits, &at("presence_ttl"), what, "write a time such as \"60s\"");
    let reads = redis.presence_read_from_replica;
    let what = "it needs presence_hash_field_ttl, since reading the other form removes expired entries";
    let fits = !reads || redis.presence_hash_field_ttl;
    checks.require(fits, &at("presence_read_from_replica"), what, "set presence_hash_field_ttl (Redis 7.4 or later)");
    let has_replicas = redis.shards.iter().all(|shard| shard.replica_client);
    for (key, is_set) in [("presence_read_from_replica", reads), ("subscribe_on_replica", redis.subscribe_on_replica)] {
        let what = "replica_client.enabled is not set";
        let fits = !is_set || has_replicas;
        checks.require(fits, &at(key), what, format!("set {section}.replica_client.enabled, or remove it"));
    }
    for shard in &redis.shards {
        for (key, span) in [("connect_timeout", shard.connect_timeout), ("io_timeout", shard.io_timeout)] {
            time_fits(&at(key), span, checks);
        }
        // Only what is between braces decides about the slot of a key.
        let is_cluster = matches!(shard.topology, RedisTopology::Cluster(_));
        let what = "it contains a brace, which would put all keys into one slot of the Redis Cluster";
        let fits = !is_cluster || !redis.prefix.contains(['{', '}']);
        checks.require(fits, &at("prefix"), what, "write a prefix without braces");
    }
    let what = "it contains a blank";
    let fits = !redis.prefix.contains(|c: char| c.is_whitespace() || c.is_control());
    checks.require(fits, &at("prefix"), what, "write a prefix such as \"centrifugo\"");
}

fn time_fits(setting: &str, span: Duration, checks: &mut Checks) {
    let fits = (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&span);
    checks.require(fits, setting, "it is not within 10ms and 1m", "write a time such as \"1s\"");
}

fn nats(settings: &broker::Nats, files: Files, checks: &mut Checks) -> Nats {
    let (url, uses_tls) = nats_url(&settings.url).unwrap_or_else(|what| {
        let fix = "write addresses such as \"nats://10.0.0.1:4222,nats://10.0.0.2:4222\"";
        checks.require(false, "broker.nats.url", what, fix);
        (String::new(), false)
    });
    let mut tls = tls("broker.nats.tls", files, &settings.tls, checks);
    if uses_tls {
        tls.get_or_insert_default();
    }
    let (dial_timeout, write_timeout) = (or_default(settings.dial_timeout, 1), or_default(settings.write_timeout, 1));
    time_fits("broker.nats.dial_timeout", dial_timeout, checks);
    time_fits("broker.nats.write_timeout", write_timeout, checks);
    let raw = &settings.raw_mode;
    for (setting, prefix, is_used) in
        [("broker.nats.prefix", &settings.prefix, true), ("broker.nats.raw_mode.prefix", &raw.prefix, raw.enabled)]
    {
        let is_subject = |c: char| !c.is_whitespace() && !c.is_control() && !['*', '>'].contains(&c);
        let fits = !is_used || prefix.chars().all(is_subject);
        let what = "it contains a blank, * or >, which a subject of NATS cannot contain";
        checks.require(fits, setting, what, "write a prefix such as \"centrifugo\"");
    }
    let raw_mode = raw
        .enabled
        .then(|| NatsRawMode { channel_replacements: raw.channel_replacements.clone(), prefix: raw.prefix.clone() });
    let (prefix, allow_wildcards) = (settings.prefix.clone(), settings.allow_wildcards);
    Nats { url, prefix, dial_timeout, write_timeout, tls, allow_wildcards, raw_mode }
}
