//! Histories by time, and the time of a publication as clients and the server API get it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::{Client, Server};
use serde_json::{Value, json};

const HISTORY: [(&str, &str); 2] =
    [("channel.without_namespace.history_size", "100"), ("channel.without_namespace.history_ttl", "300s")];

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn publish(server: &Server, channel: &str, data: &Value) {
    let reply = server.api("publish", &json!({"channel": channel, "data": data}));
    assert!(reply["result"].is_object(), "{reply}");
}

/// Publishes three and returns their times, of which the second and the third differ from the first.
fn three_at_different_times(server: &Server, channel: &str) -> [u64; 3] {
    let all = || {
        let reply = server.api("history", &json!({"channel": channel, "limit": -1, "time_from": 1}));
        let publications = reply["result"]["publications"].as_array().expect("a list").clone();
        publications.iter().map(|one| one["time"].as_u64().expect("a time")).collect::<Vec<_>>()
    };
    let mut count = 0;
    loop {
        publish(server, channel, &json!(count));
        count += 1;
        let times = all();
        // Until the clock has gone on twice.
        let mut distinct = times.clone();
        distinct.dedup();
        if let [first, second, third] = distinct[..] {
            return [first, second, third];
        }
    }
}

fn offsets(publications: &Value) -> Vec<u64> {
    publications.as_array().expect("a list").iter().map(|one| one["offset"].as_u64().expect("an offset")).collect()
}

#[test]
fn publications_of_a_namespace_carry_their_time_if_it_says_so() {
    for sends_time in ["false", "true"] {
        let mut settings = HISTORY.to_vec();
        settings.push(("channel.without_namespace.publication_time", sends_time));
        settings.push(("channel.without_namespace.force_recovery", "true"));
        let server = Server::with(&settings);
        let mut client = Client::connect(&server);
        client.subscribe("a");
        let before = now_ms();
        publish(&server, "a", &json!({"n": 1}));
        let push = client.next();
        let after = now_ms();
        let time = &push["push"]["pub"]["time"];
        let history = client.ask(json!({"history": {"channel": "a", "limit": 1}}));
        let recovered = Client::connect(&server).ask(
            json!({"subscribe": {"channel": "a", "recover": true, "offset": 0, "epoch": history["history"]["epoch"]}}),
        );
        let of_api = server.api("history", &json!({"channel": "a", "limit": 1}));
        let others = [
            &history["history"]["publications"][0]["time"],
            &recovered["subscribe"]["publications"][0]["time"],
            &of_api["result"]["publications"][0]["time"],
        ];
        assert_eq!(recovered["subscribe"]["recovered"], json!(true), "{recovered}");
        assert!(others.iter().all(|other| *other == time), "{time} {others:?}");
        match sends_time {
            // The shards' clock has its zero at the start, so that it may differ from this one by a millisecond.
            "true" => assert!((before - 2..=after + 2).contains(&time.as_u64().expect("a number")), "{time}"),
            _ => assert!(time.is_null(), "{push}"),
        }
    }
}

#[test]
fn history_of_a_time_is_read_by_the_api_and_by_clients() {
    let server = Server::with(&HISTORY);
    let [first, second, third] = three_at_different_times(&server, "a");
    let mut client = Client::connect(&server);
    let mut both = |request: Value| {
        let of_api = server.api("history", &request);
        let of_client = client.ask(json!({"rpc": {"method": "corecast.history", "data": request}}));
        let data = &of_client["rpc"]["data"];
        assert_eq!(*data, of_api["result"], "{of_client}");
        for publication in data["publications"].as_array().expect("a list") {
            assert!(publication["time"].as_u64().is_some_and(|time| time >= first), "{publication}");
        }
        data.clone()
    };
    let whole = both(json!({"channel": "a", "limit": 100, "time_from": first, "time_to": third + 1}));
    let [all, times] = [offsets(&whole["publications"]), times(&whole)];
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    let of = |range: std::ops::Range<u64>| {
        all.iter().zip(&times).filter(|(_, time)| range.contains(time)).map(|(&offset, _)| offset).collect::<Vec<_>>()
    };
    let middle = both(json!({"channel": "a", "limit": 100, "time_from": second, "time_to": third}));
    assert_eq!(offsets(&middle["publications"]), of(second..third));
    assert_eq!(middle["offset"], json!(all.len()));
    let mut reversed = of(first..third);
    reversed.reverse();
    let request = json!({"channel": "a", "limit": 100, "time_to": third, "reverse": true});
    assert_eq!(offsets(&both(request)["publications"]), reversed);
    let since = json!({"offset": of(second..third)[0], "epoch": whole["epoch"]});
    let request = json!({"channel": "a", "limit": 1, "time_from": second, "since": since});
    assert_eq!(offsets(&both(request)["publications"]), [of(second..third)[0] + 1]);
    assert_eq!(both(json!({"channel": "a", "limit": 100, "time_from": third + 60_000}))["publications"], json!([]));
    assert_eq!(both(json!({"channel": "a", "limit": 0, "time_from": 1}))["publications"], json!([]));
}

fn times(history: &Value) -> Vec<u64> {
    history["publications"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["time"].as_u64().expect("a time"))
        .collect()
}

#[test]
fn reserved_methods_are_bounded_and_permitted_as_the_history_is() {
    let mut settings = HISTORY.to_vec();
    settings.extend([
        ("client.insecure", "false"),
        ("client.allow_anonymous_connect_without_token", "true"),
        ("channel.without_namespace.allow_history_for_client", "false"),
        ("channel.without_namespace.allow_history_for_subscriber", "false"),
        ("channel.without_namespace.allow_history_for_anonymous", "false"),
    ]);
    let server = Server::with(&settings);
    publish(&server, "a", &json!("x".repeat(60_000)));
    let mut client = Client::connect(&server);
    let mut refused = |method: &str, data: Value| client.refused(json!({"rpc": {"method": method, "data": data}}));
    assert_eq!(refused("corecast.history", json!({"channel": "a", "limit": 1})), 103);
    assert_eq!(refused("corecast.history", json!({"channel": 5})), 107);
    assert_eq!(refused("corecast.history", json!("text")), 107);
    assert_eq!(refused("corecast.history_query", json!({})), 103, "the anonymous user");
    assert_eq!(refused("corecast.history_query", json!({"limit": 101})), 107);
    assert_eq!(refused("corecast.other", json!({})), 108, "no backend");

    let server = Server::with(&HISTORY);
    for _ in 0..6 {
        publish(&server, "a", &json!("x".repeat(60_000)));
    }
    let mut client = Client::connect(&server);
    let mut from = 0;
    let mut found = Vec::new();
    while from < 6 {
        let since = json!({"offset": from, "epoch": ""});
        let data = json!({"channel": "a", "limit": -1, "since": since});
        let reply = client.ask(json!({"rpc": {"method": "corecast.history", "data": data}}));
        let page = offsets(&reply["rpc"]["data"]["publications"]);
        assert!((1..=3).contains(&page.len()), "128 KiB and the publication that passes them: {page:?}");
        from = page[page.len() - 1];
        found.extend(page);
    }
    assert_eq!(found, [1, 2, 3, 4, 5, 6]);
    let lost = json!({"channel": "a", "limit": 1, "since": {"offset": 1, "epoch": "other"}});
    assert_eq!(client.refused(json!({"rpc": {"method": "corecast.history", "data": lost}})), 112);
    assert_eq!(server.metric("corecast_backlog_reserved_bytes", ""), 0);
}

#[test]
fn query_across_channels_is_not_available_without_an_index() {
    let server = Server::with(&HISTORY);
    publish(&server, "a", &json!(1));
    for body in [json!({"user": "ann"}), json!({"tag": {"key": "k", "value": "v"}})] {
        assert_eq!(server.api("history_query", &body)["error"]["code"], json!(108), "{body}");
    }
    assert_eq!(server.api("history_query", &json!({"user": "ann", "namespace": "none"}))["error"]["code"], json!(102));
    let empty = json!({"user": "ann", "time_from": 5, "time_to": 5});
    assert_eq!(server.api("history_query", &empty)["error"]["code"], json!(107));
}

#[test]
fn query_of_one_channel_pages_through_its_history() {
    let server = Server::with(&HISTORY);
    let [first, second, third] = three_at_different_times(&server, "a");
    let all = |reverse: bool, from: u64, to: u64| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let body = json!({
                "channel": "a", "time_from": from, "time_to": to, "limit": 2, "reverse": reverse, "cursor": cursor
            });
            let reply = server.api("history_query", &body);
            let page = &reply["result"];
            for publication in page["publications"].as_array().unwrap_or_else(|| panic!("{reply}")) {
                assert_eq!(publication["channel"], json!("a"));
                let time = publication["time"].as_u64().expect("a time");
                assert!((from..to).contains(&time), "{publication}");
                found.push((publication["offset"].as_u64().expect("an offset"), time));
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return found,
            }
        }
    };
    let forwards = all(false, first, third + 1);
    let offsets: Vec<u64> = forwards.iter().map(|&(offset, _)| offset).collect();
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
    let mut backwards = all(true, first, third + 1);
    backwards.reverse();
    assert_eq!(backwards, forwards);
    let middle: Vec<_> = forwards.into_iter().filter(|&(_, time)| time >= second && time < third).collect();
    assert_eq!(all(false, second, third), middle);
    for cursor in ["x", "5", ".", "-1.a", "99999999999999999999.a"] {
        let reply = server.api("history_query", &json!({"channel": "a", "cursor": cursor}));
        assert_eq!(reply["error"]["code"], json!(107), "{cursor}");
    }
    let reply = server.api("history_query", &json!({"channel": "a", "cursor": "1.other"}));
    assert_eq!(reply["error"]["code"], json!(112), "another epoch");
}
