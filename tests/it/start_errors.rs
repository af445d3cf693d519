//! A server that cannot start prints the reason and the fix to stderr, and exits with 1, or with 2 if the settings are at
//! fault.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use crate::common::{Client, Raw, Server, TEXT, command, frame, wait_for_exit};

/// Exit code and stderr of a server that does not start.
fn start_fails(args: &[&str]) -> (Option<i32>, String) {
    let mut child = command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut stderr = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut stderr).expect("text");
    (wait_for_exit(&mut child).code(), stderr)
}

fn admin() -> [&'static str; 2] {
    ["--admin", "127.0.0.1:0"]
}

#[test]
fn error_names_a_port_of_another_program() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for join in [None, Some("--join")] {
        let mut args = vec!["--listen", &address];
        args.extend(admin());
        args.extend(join);
        let (code, stderr) = start_fails(&args);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(&address) && stderr.contains("ss -ltnp") && stderr.contains("--listen"), "{stderr}");
    }
}

#[test]
fn port_of_another_corecast_is_rejected_without_join() {
    let first = Server::start();
    let (code, stderr) = start_fails(&["--listen", &first.client.to_string(), "--admin", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("--join"), "{stderr}");
    // The check did not close a connection of the first server.
    for _ in 0..20 {
        let mut raw = Raw::open(&first, "/echo");
        raw.send(&frame(TEXT, b"x"));
        assert_eq!(raw.frame().payload, b"x");
    }
}

#[test]
fn join_lets_two_servers_share_a_port() {
    let first = Server::start();
    let at = first.client.to_string();
    let second = Server::spawn(command(&["--listen", &at, "--admin", "127.0.0.1:0", "--shards", "1", "--join"]), &[]);
    assert_eq!(second.client, first.client);
    let clients: Vec<Client> = (0..64).map(|_| Client::connect(&first)).collect();
    let counts = [&first, &second].map(|server| server.metric("corecast_connections", ""));
    assert_eq!(counts[0] + counts[1], 64);
    assert!(counts.iter().all(|&n| n > 0), "the kernel spreads clients over both: {counts:?}");
    drop(clients);
}

#[test]
fn every_used_port_is_named_with_its_own_setting_and_fix() {
    let taken = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [clients, admin, grpc] = taken.each_ref().map(|taken| taken.local_addr().unwrap());
    let mut command = command(&["--listen", &clients.to_string(), "--admin", &admin.to_string(), "--shards", "1"]);
    command.env("CORECAST_GRPC_API_ENABLED", "true").env("CORECAST_GRPC_API_ADDRESS", "127.0.0.1");
    command.env("CORECAST_GRPC_API_KEY", "the-key-of-the-tests");
    command.env("CORECAST_GRPC_API_PORT", grpc.port().to_string()).env("CORECAST_OVERSUBSCRIBE", "true");
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for (setting, address, fix) in
        [("listen", clients, "--listen, or give --join"), ("admin.address", admin, "another --admin.")]
    {
        assert!(stderr.contains(&format!("{setting}: cannot listen on {address}: ")), "{stderr}");
        assert!(stderr.contains(&format!("'sport = :{}'", address.port())) && stderr.contains(fix), "{stderr}");
    }
    if cfg!(feature = "grpc") {
        assert!(stderr.contains(&format!("grpc_api.port: cannot listen on {grpc}: ")), "{stderr}");
        assert!(stderr.contains("another grpc_api.port or grpc_api.address."), "{stderr}");
    }
}

#[test]
fn log_level_that_does_not_exist_is_refused_with_the_list() {
    for text in ["verbose", "json", "corecast::server", "info,corecast=loud", "=debug"] {
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        let output = command.env("CORECAST_LOG", text).output().expect("the program runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{text}: {stderr}");
        assert!(
            stderr.starts_with("CORECAST_LOG: ") && stderr.contains("off, error, warn, info, debug, trace"),
            "{stderr}"
        );
    }
}

#[test]
fn error_names_a_used_admin_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, stderr) = start_fails(&["--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("--admin"), "{stderr}");
}

#[test]
fn error_names_an_address_of_another_host() {
    let (code, stderr) = start_fails(&["--listen", "192.0.2.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("192.0.2.1") && stderr.contains("ip addr"), "{stderr}");
}

#[test]
fn error_names_cores_that_the_process_may_not_use() {
    let (code, stderr) = start_fails(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "4000"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("core 4000") && stderr.contains("--cores"), "{stderr}");
}

#[test]
fn more_shards_than_cores_need_oversubscribe() {
    let (code, stderr) = start_fails(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "256"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--shards") && stderr.contains("--oversubscribe"), "{stderr}");
}

#[test]
fn invalid_list_of_cores_is_a_usage_error() {
    let (code, stderr) = start_fails(&["--listen", "127.0.0.1:0", "--cores", "two"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("cores"), "{stderr}");
}
