//! The server inside another program: its hooks deny subscriptions, and deny and rewrite publications.
//!
//! The other program is this test binary: a child process of it runs `server_process`.

use crate::common::{Client, KEY, Server};
use corecast::embed::{Denied, HookClient, Hooks, MessageServer, PublishDecision, load_text};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;

/// The example as it is in the documents.
#[path = "../../examples/embedded.rs"]
mod example;

/// Says which program a child process is.
const PROGRAM: &str = "EMBEDDED_PROGRAM";
const SECRET: &str = "a secret of the tests, 32 bytes long";

/// A test in name only: the server of the child processes. It ends with them.
#[test]
fn server_process() {
    match std::env::var(PROGRAM).as_deref() {
        Ok("example") => example::main().expect("the server starts"),
        Ok("rules") => {
            env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
            let settings = || load_text("dev = true", std::env::vars());
            let server = MessageServer::new(settings).expect("settings without faults");
            server.hooks(Rules).run().expect("the server starts");
        }
        _ => {}
    }
}

fn start(program: &str) -> Server {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["embedded_hooks::server_process", "--exact", "--nocapture"]).env_clear().env(PROGRAM, program);
    Server::spawn(
        command,
        &[
            ("listen", "127.0.0.1:0"),
            ("admin.address", "127.0.0.1:0"),
            ("shards", "2"),
            ("oversubscribe", "true"),
            ("http_api.key", KEY),
            ("client.token.hmac_secret_key", SECRET),
            ("channel.without_namespace.publication_data_format", "json_object"),
        ],
    )
}

/// Hooks whose decision is in the publication.
struct Rules;

impl Hooks for Rules {
    fn authorize_subscribe(&self, _: &HookClient<'_>, channel: &str) -> Result<(), Denied> {
        if channel == "closed" { Err(Denied) } else { Ok(()) }
    }

    fn on_publish(&self, client: &HookClient<'_>, channel: &str, data: &[u8]) -> PublishDecision {
        let data: Value = serde_json::from_slice(data).expect("data of a JSON client is JSON");
        PublishDecision::Replace(match data["replace"].as_str() {
            Some("by no JSON") => b"{".to_vec(),
            Some("by no object") => b"[1]".to_vec(),
            Some("by too much") => json!({"text": "x".repeat(64 * 1024)}).to_string().into_bytes(),
            Some("by nothing") => Vec::new(),
            _ => json!({"id": client.id, "user": client.user, "channel": channel}).to_string().into_bytes(),
        })
    }
}

fn publish(channel: &str, data: Value) -> Value {
    json!({"publish": {"channel": channel, "data": data}})
}

fn subscribe(channel: &str) -> Value {
    json!({"subscribe": {"channel": channel}})
}

/// A client with a token of this user, and its connect reply.
fn connect_as(server: &Server, user: &str) -> (Client, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["token", "connect", "--user", user, "--secret-env", "SECRET"]).env_clear().env("SECRET", SECRET);
    let output = command.output().expect("the program runs");
    let token = String::from_utf8(output.stdout).expect("text");
    let mut client = Client::fresh(server);
    let reply = client.ask(json!({"connect": {"token": token.trim()}}));
    assert!(reply["connect"].is_object(), "{reply}");
    (client, reply)
}

#[test]
fn example_keeps_a_channel_for_the_staff_also_after_a_reload() {
    let server = start("example");
    let mut client = Client::connect(&server);
    assert_eq!(client.refused(subscribe("staff")), 103);
    client.subscribe("lobby");
    let (mut staff, _) = connect_as(&server, "staff-ann");
    staff.subscribe("staff");
    server.signal(Signal::HUP);
    server.wait_for_metric("corecast_config_reloads_total", "", |n| n == 1);
    assert_eq!(client.refused(subscribe("staff")), 103);
}

#[test]
fn example_rewrites_and_denies_publications() {
    let server = start("example");
    for [mut reader, mut writer] in [Client::pair(&server), Client::pair(&server)] {
        reader.subscribe("lobby");
        let reply = writer.ask(publish("lobby", json!({"text": "darn it"})));
        assert!(reply["publish"].is_object(), "{reply}");
        assert_eq!(reader.publication(), ("lobby".into(), json!({"text": "**** it"})));
        assert_eq!(writer.refused(publish("lobby", json!({"text": "see https://example.com"}))), 103);
        writer.ask(publish("lobby", json!({"text": "hello"})));
        assert_eq!(reader.publication(), ("lobby".into(), json!({"text": "hello"})));
    }
}

#[test]
fn publication_of_the_server_api_does_not_go_to_the_hooks() {
    let server = start("rules");
    let mut reader = Client::connect(&server);
    reader.subscribe("lobby");
    server.api("publish", &json!({"channel": "lobby", "data": {"text": "as it is"}}));
    assert_eq!(reader.publication(), ("lobby".into(), json!({"text": "as it is"})));
}

#[test]
fn replacement_that_the_client_could_not_publish_is_error_100() {
    let server = start("rules");
    let mut reader = Client::connect(&server);
    reader.subscribe("lobby");
    let (mut writer, reply) = connect_as(&server, "ann");
    for replace in ["by no JSON", "by no object", "by too much", "by nothing"] {
        assert_eq!(writer.refused(publish("lobby", json!({"replace": replace}))), 100, "{replace}");
    }
    writer.ask(publish("lobby", json!({})));
    let expected = json!({"id": reply["connect"]["client"], "user": "ann", "channel": "lobby"});
    assert_eq!(reader.publication(), ("lobby".into(), expected));
}

#[test]
fn channel_of_a_connect_command_that_a_hook_denies_is_left_out() {
    let server = start("rules");
    let mut client = Client::fresh(&server);
    let reply = client.ask(json!({"connect": {"subs": {"open": {}, "closed": {}}}}));
    let subs = reply["connect"]["subs"].as_object().unwrap_or_else(|| panic!("{reply}"));
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["open"]);
}
