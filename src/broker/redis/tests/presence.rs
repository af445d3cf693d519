//! Presence, in the original's layout.

use std::collections::BTreeMap;

use super::harness::{Driver, client_info};
use super::servers::{PROGRAMS, Server};
use crate::broker::message::RequestKind;
use crate::config::Redis;

fn set(driver: &Driver, client: u8, user: &str) {
    driver.send("a", RequestKind::PresenceSet { client: [client; 16], client_info: client_info(client, user) });
}

fn remove(driver: &Driver, client: u8, user: &str) {
    driver.send("a", RequestKind::PresenceRemove { client: [client; 16], user: user.into() });
}

fn follow(config: Redis) {
    let driver = Driver::ready(config);
    assert_eq!(driver.presence_stats("a"), (0, 0));
    set(&driver, 1, "ann");
    set(&driver, 1, "ann");
    set(&driver, 2, "ann");
    set(&driver, 3, "ben");
    assert_eq!(driver.presence_stats("a"), (3, 2));
    let mut members = driver.presence("a");
    members.sort();
    assert_eq!(members, [client_info(1, "ann"), client_info(2, "ann"), client_info(3, "ben")]);
    remove(&driver, 1, "ann");
    remove(&driver, 1, "ann");
    assert_eq!(driver.presence_stats("a"), (2, 2));
    remove(&driver, 2, "ann");
    assert_eq!(driver.presence_stats("a"), (1, 1));
    remove(&driver, 3, "ben");
    assert_eq!((driver.presence_stats("a"), driver.presence("a").len()), ((0, 0), 0));
}

#[test]
fn presence_follows_clients_with_and_without_users() {
    for program in PROGRAMS {
        let server = Server::start(program);
        for presence_user_mapping in [false, true] {
            follow(Redis { presence_user_mapping, prefix: format!("p{presence_user_mapping}"), ..server.config() });
        }
    }
}

#[test]
fn presence_expires_by_fields_where_the_server_can() {
    // Valkey 9 has them, as Redis from 7.4 on.
    let server = Server::start("valkey-server");
    for presence_user_mapping in [false, true] {
        let prefix = format!("p{presence_user_mapping}");
        let config = Redis { presence_user_mapping, presence_hash_field_ttl: true, prefix, ..server.config() };
        follow(config);
    }
    let config = Redis { presence_hash_field_ttl: true, ..server.config() };
    let driver = Driver::ready(config);
    set(&driver, 1, "ann");
    assert_eq!(driver.presence_stats("a"), (1, 1));
    let keys: Vec<String> = server.ask(&["KEYS", "centrifugo.*"]);
    assert_eq!(keys, ["centrifugo.presence.data.a"], "no set of expiry times");
}

#[test]
fn expired_members_are_not_read() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(Redis { presence_user_mapping: true, ..server.config() });
    set(&driver, 1, "ann");
    set(&driver, 2, "ben");
    assert_eq!(driver.presence_stats("a"), (2, 2));
    let scores: BTreeMap<String, u64> =
        server.ask(&["ZRANGE", "centrifugo.presence.expire.a", "0", "-1", "WITHSCORES"]);
    let client = "01010101-0101-0101-0101-010101010101";
    assert!(scores.contains_key(client), "{scores:?}");
    // As if another server had written it a minute ago.
    let () = server.ask(&["ZADD", "centrifugo.presence.expire.a", "1", client]);
    let () = server.ask(&["ZADD", "centrifugo.presence.user.expire.a", "1", "ann"]);
    assert_eq!(driver.presence("a"), [client_info(2, "ben")]);
    assert_eq!(driver.presence_stats("a"), (1, 1));
    let left: Vec<String> = server.ask(&["HKEYS", "centrifugo.presence.user.clients.a"]);
    assert_eq!(left, ["ben"]);
}
