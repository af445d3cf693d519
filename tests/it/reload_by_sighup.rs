//! SIGHUP: changed settings apply to new connections; open connections stay; a file with errors changes nothing.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::raw::upgrade_request;
use crate::common::tls::{Authority, handshake};
use crate::common::{Client, KEY, PATIENCE, Raw, Server, SocketPath, http, until};
use rustix::process::Signal;
use serde_json::json;

/// A file of settings, and the server that reloads it.
struct Reloaded {
    server: Server,
    path: PathBuf,
    reloads: u64,
}

impl Reloaded {
    fn start(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corecast-{}-{test}.toml", std::process::id()));
        std::fs::write(&path, text).expect("the folder takes files");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corecast"));
        command.args(["serve", "--config", path.to_str().expect("a path of text"), "--shards", "2"]).env_clear();
        command.env("CORECAST_OVERSUBSCRIBE", "true");
        Self { server: Server::spawn(command, &[]), path, reloads: 0 }
    }

    /// Writes this text to the file and reloads it; returns whether it was applied.
    fn reload(&mut self, text: &str, result: &str) {
        std::fs::write(&self.path, text).expect("the folder takes files");
        self.server.signal(Signal::HUP);
        self.reloads += 1;
        let all = self.reloads;
        self.server.wait_for_metric("corecast_config_reloads_total", "", |n| n == all);
        self.server
            .wait_for_metric("corecast_config_last_reload_successful", "", |n| (n == 1) == (result == "applied"));
    }
}

impl Drop for Reloaded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Settings with this key and more.
fn settings(secret: char, more: &str) -> String {
    let secret = secret.to_string().repeat(32);
    format!(
        "listen = [\"127.0.0.1:0\"]\nadmin.address = \"127.0.0.1:0\"\nhttp_api.key = \"{KEY}\"\n\
         client.token.hmac_secret_key = \"{secret}\"\nclient.allowed_origins = []\n{more}"
    )
}

/// A token of user 42, signed with a key that repeats this character.
fn token(secret: char) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["token", "connect", "--user", "42", "--secret-env", "SECRET"]).env_clear();
    command.env("SECRET", secret.to_string().repeat(32));
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Connects with a token, or gets this close code.
fn connect(server: &Server, token: &str) -> Result<Client, u16> {
    let mut client = Client::fresh(server);
    client.send(json!({"connect": {"token": token}}));
    match client.ws.read() {
        Ok(tungstenite::Message::Text(text)) if text.contains("\"connect\"") => Ok(client),
        Ok(tungstenite::Message::Close(Some(close))) => Err(close.code.into()),
        other => panic!("{other:?}"),
    }
}

const INVALID_TOKEN: u16 = 3500;
const NO_TOKEN: u16 = 3501;
const UNKNOWN_CHANNEL: u64 = 102;

#[test]
fn keys_namespaces_and_limits_are_reloaded_without_closing_connections() {
    let open =
        "[[channel.namespaces]]\nname = \"old\"\nallow_subscribe_for_client = true\nallow_publish_for_client = true\n";
    let mut running = Reloaded::start("live", &settings('a', open));
    let (of_a, of_b) = (token('a'), token('b'));
    let mut here = connect(&running.server, &of_a).expect("the key is a");
    here.subscribe("old:room");
    assert_eq!(connect(&running.server, &of_b).err(), Some(INVALID_TOKEN));
    assert_eq!(here.refused(json!({"subscribe": {"channel": "new:room"}})), UNKNOWN_CHANNEL);

    let new = open.replace("old", "new");
    running.reload(&settings('b', &format!("client.channel_limit = 1\nshutdown.window = \"1s\"\n{new}")), "applied");
    let notification = running.server.wait_for_log("SIGHUP: applied ");
    for name in ["client.token.hmac_secret_key", "channel.namespaces: new was added", "client.channel_limit"] {
        assert!(notification.contains(name), "{notification}");
    }
    assert!(!notification.contains("bbbb"), "{notification}");
    assert_eq!(connect(&running.server, &of_a).err(), Some(INVALID_TOKEN));
    let mut next = connect(&running.server, &of_b).expect("the key is b");
    next.subscribe("new:room");
    assert_eq!(next.refused(json!({"subscribe": {"channel": "new:other"}})), 106, "one channel for each");
    // An open connection is served where its permissions still allow it.
    assert_eq!(here.refused(json!({"publish": {"channel": "old:room", "data": 1}})), UNKNOWN_CHANNEL);
    here.ask(json!({"unsubscribe": {"channel": "old:room"}}));
    here.subscribe("new:room");
    next.send(json!({"publish": {"channel": "new:room", "data": {"n": 1}}}));
    assert_eq!(here.publication().1, json!({"n": 1}));
}

#[test]
fn api_key_is_replaced() {
    let mut running = Reloaded::start("key", &settings('a', ""));
    let info = |server: &Server, key: &str| http(server.admin, "POST", "/api/info", &[("X-API-Key", key)], "{}").0;
    assert_eq!(info(&running.server, KEY), 200);
    running.reload(&settings('a', "").replace(KEY, "another-key-of-the-api"), "applied");
    assert_eq!((info(&running.server, KEY), info(&running.server, "another-key-of-the-api")), (401, 200));
    running.server.wait_for_log("http_api.key");
}

#[test]
fn invalid_file_changes_nothing_and_is_logged() {
    let mut running = Reloaded::start("bad", &settings('a', ""));
    let of_a = token('a');
    running.reload("client.ping_intervall = \"1s\"\nengine.accepts_per_turn = 0\n", "refused");
    running.server.wait_for_log("did you mean client.ping_interval?");
    running.server.wait_for_log("SIGHUP: reload rejected");
    connect(&running.server, &of_a).expect("the key is as it was");
    std::fs::remove_file(&running.path).expect("the file exists");
    running.server.signal(Signal::HUP);
    running.server.wait_for_metric("corecast_config_reloads_total", "refused", |n| n == 2);
    running.reloads += 1;
    // The same file again is valid, and the log reports no differences.
    running.reload(&settings('a', ""), "applied");
    running.server.wait_for_log("no setting that a reload can change has changed");
    connect(&running.server, &of_a).expect("the key is as it was");
}

#[test]
fn empty_or_truncated_file_changes_nothing() {
    let namespace = "[[channel.namespaces]]\nname = \"chat\"\nallow_subscribe_for_client = true\n";
    let whole = settings('a', namespace);
    let mut running = Reloaded::start("truncated", &whole);
    let of_a = token('a');
    let up_to = |words: &str| whole[..whole.find(words).expect("the file has them")].to_owned();
    for (text, why) in [
        (String::new(), "the file is empty"),
        (" \n\n".into(), "the file is empty"),
        ("# client.token.hmac_secret_key = \"a\"\n[client]\n".into(), "the file contains no setting"),
        (up_to("client.token"), "client.token has no key any more"),
        (up_to("http_api"), "client.token has no key any more"),
        (up_to("[[channel"), "channel.namespaces has no namespace any more"),
    ] {
        running.reload(&text, "refused");
        running.server.wait_for_log(why);
        connect(&running.server, &of_a).expect("the key is as it was").subscribe("chat:room");
    }
    running.reload(&whole, "applied");
}

#[test]
fn settings_that_need_a_restart_are_logged_with_both_values() {
    let mut running = Reloaded::start("restart", &settings('a', ""));
    running.reload(&settings('a', "engine.mail_bytes_max = \"9MiB\"\necho.enabled = true\n"), "applied");
    let notification = running.server.wait_for_log("these need a restart");
    assert!(
        notification.contains("echo.enabled (false -> true)") && notification.contains("engine.mail_bytes_max ("),
        "{notification}"
    );
}

/// A backend that gives this response to every call.
fn backend(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A call is small and arrives in one read.
            let _ = stream.read(&mut [0; 8192]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let body = format!("{{\"result\":{{\"data\":\"{answer}\"}}}}");
            let _ = stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    url
}

#[test]
fn backends_are_added_changed_and_removed() {
    let (first, second) = (backend("first"), backend("second"));
    let one = |url: &str| format!("[rpc.proxy]\nendpoint = \"{url}\"\n[rpc.without_namespace]\nproxy_enabled = true\n");
    let named = |url: &str| {
        format!(
            "[[proxies]]\nname = \"main\"\nendpoint = \"{url}\"\n[[rpc.namespaces]]\nname = \"users\"\n\
             proxy_enabled = true\nproxy_name = \"main\"\n"
        )
    };
    let mut running = Reloaded::start("backends", &settings('a', &one(&first)));
    let mut here = connect(&running.server, &token('a')).expect("the key is a");
    let call = |method: &str| json!({"rpc": {"method": method, "data": {}}});
    assert_eq!(here.ask(call("x"))["rpc"]["data"], "first");
    assert_eq!(here.refused(call("users:get")), 104);
    running.reload(&settings('a', &format!("{}{}", named(&first), one(&second))), "applied");
    assert_eq!(here.ask(call("x"))["rpc"]["data"], "second");
    assert_eq!(here.ask(call("users:get"))["rpc"]["data"], "first");
    running.reload(&settings('a', &named(&first)), "applied");
    assert_eq!(here.refused(call("x")), 108);
    assert_eq!(here.ask(call("users:get"))["rpc"]["data"], "first");
    // A proxy with unchanged settings keeps its counters.
    assert_eq!(running.server.metric("corecast_backend_calls_total", "proxy=\"main\""), 2);
}

/// The status of an upgrade request, and its connection.
fn upgrade(server: &Server) -> (String, Raw) {
    let mut raw = Raw::connect(server);
    raw.send(upgrade_request("/connection/websocket").as_bytes());
    let status = raw.head().split(' ').nth(1).expect("a status").to_owned();
    (status, raw)
}

#[test]
fn address_and_memory_limits_apply_after_reload() {
    let mut running = Reloaded::start("door", &settings('a', ""));
    // Connections from before the first such limit are not counted.
    let before: Vec<_> = (0..4).map(|_| upgrade(&running.server)).collect();
    running.reload(&settings('a', "limits.exempt = []\nlimits.connections_per_address = 2\n"), "applied");
    let after: Vec<_> = (0..3).map(|_| upgrade(&running.server)).collect();
    assert_eq!(after.iter().map(|(status, _)| status.as_str()).collect::<Vec<_>>(), ["101", "101", "429"]);
    running.reload(&settings('a', ""), "applied");
    assert_eq!(upgrade(&running.server).0, "101");
    running.reload(&settings('a', "limits.memory_bytes_max = \"1MiB\"\n"), "applied");
    until(|| "new connections are still accepted".into(), || (upgrade(&running.server).0 == "503").then_some(()));
    running.reload(&settings('a', ""), "applied");
    until(|| "new connections are still rejected".into(), || (upgrade(&running.server).0 == "101").then_some(()));
    drop((before, after));
}

#[test]
fn values_sent_to_clients_stay_after_reload() {
    let mut running = Reloaded::start("sent", &settings('a', ""));
    running.reload(&settings('a', "client.ping_interval = \"60s\"\n"), "applied");
    let mut client = Client::fresh(&running.server);
    assert_eq!(client.ask(json!({"connect": {"token": token('a')}}))["connect"]["ping"], 25);
    // The log repeats it while the values differ.
    running.reload(&settings('a', "client.ping_interval = \"60s\"\nclient.channel_limit = 9\n"), "applied");
    running.reload(&settings('a', "dev = true\n"), "refused");
    running.server.wait_for_log("dev (false -> true) needs a restart");
    let notification = running.server.log();
    let notification = notification.iter().filter(|line| line.contains("client.ping_interval (\"25s\" -> \"60s\")"));
    assert_eq!(notification.count(), 2);
    assert_eq!(connect(&running.server, "").err(), Some(NO_TOKEN), "dev stays off");
}

#[test]
fn generated_api_key_stays_after_reload() {
    let mut command = crate::common::command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    let path = std::env::temp_dir().join(format!("corecast-{}-stdout", std::process::id()));
    command.env_remove("CORECAST_HTTP_API_KEY");
    let server = Server::spawn_with_stdout(command, &[], std::fs::File::create(&path).expect("a file").into());
    let key = until(
        || "no key was printed".into(),
        || {
            let text = std::fs::read_to_string(&path).expect("the file exists");
            Some(text.split_once("X-API-Key: ")?.1.split_once('\'')?.0.to_owned())
        },
    );
    std::fs::remove_file(&path).expect("the file exists");
    (0..3).for_each(|_| server.signal(Signal::HUP));
    server.wait_for_metric("corecast_config_reloads_total", "applied", |n| n > 0);
    assert_eq!(http(server.admin, "POST", "/api/info", &[("X-API-Key", &key)], "{}").0, 200);
}

#[test]
fn certificates_are_replaced_under_open_connections_and_invalid_ones_are_rejected() {
    let authority = Authority::new("renewed");
    let bundle = |name: &str| authority.bundle("server.pem", &[name]);
    let file = bundle("old.test");
    let server = crate::common::tls::serve(&[("tls.cert_pem_file", &file)]);
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS));
    let old = handshake(server.client, &config, "old.test").expect("the name is old");
    let mut here = crate::common::tls::upgrade(old, "/echo");
    let reload = |n: u64| {
        server.signal(Signal::HUP);
        server.wait_for_metric("corecast_config_reloads_total", "", |all| all == n);
    };
    bundle("new.test");
    reload(1);
    handshake(server.client, &config, "new.test").expect("the name is new");
    // A client without a session: the others resume theirs, which needs no certificate.
    let new_client = Arc::new(authority.client(rustls::ALL_VERSIONS));
    handshake(server.client, &new_client, "old.test").expect_err("the name is new");
    here.send(tungstenite::Message::text("still here")).expect("the write succeeds");
    assert_eq!(here.read().expect("an echo").into_text().unwrap(), "still here");
    // Half a file, as seen while it is being written, and files that were truncated to be written.
    let text = std::fs::read_to_string(&file).expect("the file exists");
    for (refused, part) in (1..).zip([&text[..text.len() / 2], "", "\n"]) {
        std::fs::write(&file, part).expect("the folder takes files");
        reload(1 + refused);
        assert_eq!(server.metric("corecast_config_reloads_total", "refused"), refused);
        handshake(server.client, &config, "new.test").expect("it is as it was");
    }
}

#[test]
fn truncated_file_of_ticket_keys_changes_nothing() {
    let authority = Authority::new("tickets");
    let certificate = authority.bundle("server.pem", &["t.test"]);
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let file = authority.file("tickets", &key);
    let server = crate::common::tls::serve(&[("tls.cert_pem_file", &certificate), ("tls.ticket_keys_file", &file)]);
    for (refused, part) in (1..).zip(["", "\n# keys\n", &key[..40], &key[..42]]) {
        authority.file("tickets", part);
        server.signal(Signal::HUP);
        server.wait_for_metric("corecast_config_reloads_total", "refused", |n| n == refused);
    }
    authority.file("tickets", &key);
    server.signal(Signal::HUP);
    server.wait_for_metric("corecast_config_reloads_total", "applied", |n| n == 1);
}

#[test]
fn service_manager_is_notified_of_start_reload_and_stop() {
    let path = SocketPath::new("notify");
    notifies(UnixDatagram::bind(&path.0).expect("the path is free"), path.text());
    // An abstract socket has a name and no file.
    let name = format!("corecast-it-notify-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    notifies(UnixDatagram::bind_addr(&address).expect("the name is free"), &format!("@{name}"));
}

fn notifies(manager: UnixDatagram, socket: &str) {
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let receive = || {
        let mut text = [0; 512];
        let n = manager.recv(&mut text).expect("a notification");
        String::from_utf8(text[..n].to_vec()).expect("text")
    };
    let mut command = crate::common::command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    command.env("NOTIFY_SOCKET", socket);
    let mut server = Server::spawn(command, &[]);
    let notification = receive();
    assert!(notification.contains("READY=1") && notification.contains("MAINPID="), "{notification}");
    server.signal(Signal::HUP);
    let notification = receive();
    assert!(notification.contains("RELOADING=1") && notification.contains("MONOTONIC_USEC="), "{notification}");
    assert!(receive().contains("READY=1"));
    server.signal(Signal::TERM);
    assert!(receive().contains("STOPPING=1"));
    assert!(server.wait_for_exit().success());
}
