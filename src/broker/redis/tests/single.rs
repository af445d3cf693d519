//! Logins, protocols, TLS, and several servers side by side.

use super::harness::{Driver, data, kept};
use super::servers::{PROGRAMS, Server, free_port};
use crate::broker::message::{RequestKind, SubscribeSerial};
use crate::config::{ClientTls, Endpoint, Login, Redis};

#[test]
fn login_protocol_and_database_are_those_of_the_settings() {
    for program in PROGRAMS {
        for force_resp2 in [false, true] {
            let server = Server::start_with(program, &["--requirepass", "secret"]);
            let mut config = server.config();
            let shard = &mut config.shards[0];
            let client_name = "corecast-1".to_owned();
            shard.login = Login { user: String::new(), password: "secret".into(), client_name };
            (shard.force_resp2, shard.db) = (force_resp2, 3);
            let driver = Driver::ready(config);
            driver.subscribe("a", 1);
            driver.publish("a", kept("x")).expect("it is published");
            assert_eq!(driver.wait_publication("a").0, "x", "{program} {force_resp2}");
            assert_eq!(driver.offsets("a", None, -1, false), [1]);
            driver.send("a", RequestKind::Unsubscribe);
            driver.subscribe("b", 2);
        }
    }
}

#[test]
fn user_of_an_access_list_needs_no_more_than_the_original() {
    let rules = "user app on >secret ~centrifugo.* &centrifugo.* +@all -@admin -script";
    let words: Vec<&str> = rules.split(' ').collect();
    let mut arguments = vec!["--user"];
    arguments.extend(&words[1..]);
    let server = Server::start_with("redis-server", &arguments);
    let mut config = server.config();
    config.shards[0].login = Login { user: "app".into(), password: "secret".into(), client_name: String::new() };
    let driver = Driver::ready(config);
    driver.subscribe("a", 1);
    driver.publish("a", kept("x")).expect("scripts need no right to load them");
    assert_eq!(driver.wait_publication("a").0, "x");
}

#[test]
fn wrong_password_is_named_in_the_health() {
    let server = Server::start_with("redis-server", &["--requirepass", "secret"]);
    let mut config = server.config();
    config.shards[0].login.password = "wrong".into();
    let driver = Driver::start(config);
    super::failures::wait_until("the cause is known", || {
        driver.stats.health().is_err_and(|fault| fault.contains("WRONGPASS"))
    });
    assert!(driver.publish("a", data("x")).is_err());
}

#[test]
fn connections_use_tls() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let folder = std::env::temp_dir().join(format!("corecast-redis-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, &certificate).expect("it takes files");
    std::fs::write(&key_file, key.serialize_pem()).expect("it takes files");
    let path = |file: &std::path::Path| file.to_str().expect("a path of text").to_owned();
    let port = free_port().to_string();
    let (cert_file, key_file) = (path(&cert_file), path(&key_file));
    let files = ["--tls-cert-file", &cert_file, "--tls-key-file", &key_file, "--tls-ca-cert-file", &cert_file];
    let mut arguments = vec!["--tls-port", &port, "--tls-auth-clients", "no"];
    arguments.extend(files);
    let server = Server::start_with("redis-server", &arguments);
    let mut config = Redis::at(Endpoint::Tcp("localhost".into(), port.parse().expect("a port")));
    config.shards[0].tls = Some(ClientTls { server_ca_pem: certificate, ..ClientTls::default() });
    let driver = Driver::ready(config.clone());
    driver.subscribe("a", 1);
    driver.publish("a", kept("x")).expect("it is published");
    assert_eq!(driver.wait_publication("a").0, "x");
    config.shards[0].tls = Some(ClientTls::default());
    let stranger = Driver::start(config);
    super::failures::wait_until("the certificate is rejected", || {
        stranger.stats.health().is_err_and(|fault| fault.contains("certificate"))
    });
    drop(server);
    _ = std::fs::remove_dir_all(folder);
}

#[test]
fn channels_are_spread_over_several_servers() {
    let servers = [Server::start("redis-server"), Server::start("valkey-server"), Server::start("redis-server-6.2")];
    let mut config = servers[0].config();
    config.shards.extend(servers[1..].iter().map(|server| server.config().shards.remove(0)));
    let driver = Driver::ready(config);
    // "news" is of shard 2 of 3, "chat:42" of 1, "$private#7" of 0, as with the original.
    for (channel, shard) in [("news", 2), ("chat:42", 1), ("$private#7", 0)] {
        driver.send(channel, RequestKind::Subscribe(SubscribeSerial(1)));
        driver.wait_subscribed(channel, 1);
        driver.publish(channel, kept("x")).expect("it is published");
        assert_eq!(driver.wait_publication(channel).0, "x");
        let key = format!("centrifugo.stream.{channel}");
        for (index, server) in servers.iter().enumerate() {
            assert_eq!(server.ask::<bool>(&["EXISTS", &key]), index == shard, "{channel} {index}");
        }
    }
}
