//! Presence of a channel that takes several turns to copy: complete, each member once, for clients and for the backend.

use std::collections::BTreeSet;

use crate::common::{Client, Server};
use serde_json::json;

/// More than two slices of a presence copy.
const MEMBERS: usize = 2_500;

#[test]
fn presence_of_thousands_is_complete_for_clients_and_backends() {
    // Clients that wait answer no ping, for longer than its timeout if the machine is busy.
    let server = Server::with(&[("client.ping_interval", "1h")]);
    let mut clients: Vec<Client> = (0..MEMBERS).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        client.subscribe("hall");
    }
    let reply = clients[0].ask(json!({"presence": {"channel": "hall"}}));
    let seen: BTreeSet<&String> = reply["presence"]["presence"].as_object().expect("clients by id").keys().collect();
    assert_eq!(seen.len(), MEMBERS);
    let answer = server.api("presence", &json!({"channel": "hall"}));
    let members: BTreeSet<&String> = answer["result"]["presence"].as_object().expect("clients by id").keys().collect();
    assert_eq!(members, seen);
    let stats = server.api("presence_stats", &json!({"channel": "hall"}));
    assert_eq!(stats["result"], json!({"num_clients": MEMBERS, "num_users": 1}));
}
