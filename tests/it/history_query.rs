//! Queries over the past of durable channels: by user and by tag, by time, in pages, for the server API and for clients.

use crate::common::log_dir::LogDir;
use crate::common::{Client, Server, token};
use rustix::process::Signal;
use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-32-bytes-for-the-tests";

/// A server with so many logs below the directory.
fn start(dir: &LogDir, logs: usize) -> Server {
    let dirs: Vec<String> = (0..logs).map(|log| dir.0.join(log.to_string()).display().to_string()).collect();
    for one in &dirs {
        std::fs::create_dir_all(one).expect("a directory");
    }
    let namespaces = json!([
        {"name": "chat", "durability": "process", "history_size": 100, "history_ttl": "300s",
         "history_index_user": true, "allow_history_query_for_client": true, "allow_publish_for_client": true},
        {"name": "closed", "durability": "strict", "history_size": 100, "history_ttl": "300s",
         "history_index_user": true, "history_index_tag": "order", "allow_publish_for_client": true},
        {"name": "memory", "history_size": 100, "history_ttl": "300s", "allow_publish_for_client": true}
    ]);
    Server::with(&[
        ("durable.enabled", "true"),
        ("durable.data_dirs", &json!(dirs).to_string()),
        ("channel.namespaces", &namespaces.to_string()),
        ("client.insecure", "false"),
        ("client.token.hmac_secret_key", SECRET),
    ])
}

fn client(server: &Server, user: &str) -> Client {
    let token = token(SECRET, &json!({"sub": user}));
    let mut client = Client::fresh(server);
    let reply = client.ask(json!({"connect": {"token": token}}));
    assert!(reply["connect"].is_object(), "{reply}");
    client
}

fn publish(client: &mut Client, channel: &str, number: u64) {
    let reply = client.ask(json!({"publish": {"channel": channel, "data": {"n": number}}}));
    assert!(reply["publish"].is_object(), "{reply}");
}

/// All pages of a query: channels and numbers. `ask` returns a page.
fn pages(mut ask: impl FnMut(&str) -> Value) -> Vec<(String, u64)> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..100 {
        let page = ask(&cursor);
        for one in page["publications"].as_array().unwrap_or_else(|| panic!("{page}")) {
            assert!(one["time"].as_u64().is_some_and(|time| time > 0), "{one}");
            let channel = one["channel"].as_str().expect("a channel").to_owned();
            found.push((channel, one["data"]["n"].as_u64().expect("a number")));
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return found,
        }
    }
    panic!("more than 100 pages: {found:?}");
}

fn of_api(server: &Server, query: &Value) -> Vec<(String, u64)> {
    pages(|cursor| {
        let mut body = query.clone();
        body["cursor"] = json!(cursor);
        server.api("history_query", &body)["result"].take()
    })
}

fn of_client(client: &mut Client, query: &Value) -> Vec<(String, u64)> {
    pages(|cursor| {
        let mut data = query.clone();
        data["cursor"] = json!(cursor);
        client.ask(json!({"rpc": {"method": "corecast.history_query", "data": data}}))["rpc"]["data"].take()
    })
}

fn of(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|&(channel, number)| (channel.to_owned(), number)).collect()
}

#[test]
fn publications_of_a_user_are_found_across_channels_also_after_a_kill() {
    let dir = LogDir::new("user");
    let mut server = start(&dir, 1);
    let (mut ann, mut bob) = (client(&server, "ann"), client(&server, "bob"));
    for number in 0..4 {
        publish(&mut ann, ["chat:a", "chat:b", "closed:a", "memory:a"][number as usize], number);
        publish(&mut bob, "chat:a", 10 + number);
    }
    server.api("publish", &json!({"channel": "chat:a", "data": {"n": 99}}));
    for is_killed in [false, true] {
        if is_killed {
            server.signal(Signal::KILL);
            server.wait_for_exit();
            server = start(&dir, 1);
        }
        let ann = json!({"user": "ann", "limit": 1});
        assert_eq!(of_api(&server, &ann), of(&[("chat:a", 0), ("chat:b", 1), ("closed:a", 2)]));
        let newest = json!({"user": "ann", "reverse": true, "namespace": "chat"});
        assert_eq!(of_api(&server, &newest), of(&[("chat:b", 1), ("chat:a", 0)]));
        let one_channel = json!({"user": "bob", "channel": "chat:a", "limit": 3});
        assert_eq!(of_api(&server, &one_channel), (10..14).map(|n| ("chat:a".into(), n)).collect::<Vec<_>>());
        assert_eq!(of_api(&server, &json!({"user": "ann", "time_to": 5})), []);
        let channel = json!({"channel": "closed:a", "time_from": 5});
        assert_eq!(of_api(&server, &channel), of(&[("closed:a", 2)]));
    }
    let removed = server.api("history_remove", &json!({"channel": "chat:a"}));
    assert!(removed["result"].is_object(), "{removed}");
    assert_eq!(of_api(&server, &json!({"user": "ann"})), of(&[("chat:b", 1), ("closed:a", 2)]));
    let page = server.api("history_query", &json!({"user": "ann", "limit": 1}))["result"].take();
    for other in [json!({"user": "bob"}), json!({"user": "ann", "reverse": true})] {
        let mut query = other;
        query["cursor"] = page["cursor"].clone();
        assert_eq!(server.api("history_query", &query)["error"]["code"], json!(107), "the cursor of another query");
    }
}

#[test]
fn clients_find_their_own_publications_in_the_namespaces_that_allow_it() {
    let dir = LogDir::new("client");
    let server = start(&dir, 1);
    let (mut ann, mut bob) = (client(&server, "ann"), client(&server, "bob"));
    for (number, channel) in ["chat:a", "closed:a", "chat:b"].into_iter().enumerate() {
        publish(&mut ann, channel, number as u64);
    }
    publish(&mut bob, "chat:a", 9);
    assert_eq!(of_client(&mut ann, &json!({"limit": 1})), of(&[("chat:a", 0), ("chat:b", 2)]));
    assert_eq!(of_client(&mut bob, &json!({"namespace": "chat", "user": "ann"})), of(&[("chat:a", 9)]));
    let mut refused = |data: Value| ann.refused(json!({"rpc": {"method": "corecast.history_query", "data": data}}));
    assert_eq!(refused(json!({"namespace": "closed"})), 103);
    assert_eq!(refused(json!({"channel": "closed:a"})), 103);
    assert_eq!(refused(json!({"namespace": "none"})), 102);
    assert_eq!(refused(json!({"cursor": "made-up"})), 107);
}

#[test]
fn publications_with_a_tag_are_found_and_several_logs_are_asked_one_after_the_other() {
    for logs in [1, 3] {
        let dir = LogDir::new(&format!("tag{logs}"));
        let server = start(&dir, logs);
        let mut expected = Vec::new();
        for number in 0..12 {
            let (channel, order) = (format!("closed:{}", number % 6), ["7", "8"][number as usize % 2]);
            let body = json!({"channel": channel, "data": {"n": number}, "tags": {"order": order, "other": "7"}});
            assert!(server.api("publish", &body)["result"].is_object());
            if order == "7" {
                expected.push((channel, number));
            }
        }
        let mut found = of_api(&server, &json!({"tag": {"key": "order", "value": "7"}, "limit": 2}));
        if logs > 1 {
            found.sort_by_key(|(_, number)| *number);
        }
        assert_eq!(found, expected);
        let other = server.api("history_query", &json!({"tag": {"key": "other", "value": "7"}}));
        assert_eq!(other["error"]["code"], json!(108), "a tag without an index");
    }
}
