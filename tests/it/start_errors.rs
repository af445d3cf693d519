//! A server that cannot start says why and what to do, on stderr, and exits with 1 (2 where the command line itself is
//! wrong).

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use crate::common::{Client, Raw, Server, TEXT, command, frame, wait_for_exit};

/// Exit code and stderr of a server that does not start.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let mut child = command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
    (wait_for_exit(&mut child).code(), said)
}

fn admin() -> [&'static str; 2] {
    ["--admin", "127.0.0.1:0"]
}

#[test]
fn port_of_another_program_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for join in [None, Some("--join")] {
        let mut args = vec!["--listen", &address];
        args.extend(admin());
        args.extend(join);
        let (code, said) = refused(&args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&address) && said.contains("ss -ltnp") && said.contains("--listen"), "{said}");
    }
}

#[test]
fn port_of_another_corecast_is_rejected_without_join() {
    let first = Server::start();
    let (code, said) = refused(&["--listen", &first.client.to_string(), "--admin", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--join"), "{said}");
    // The probe cost the first server no connection.
    for _ in 0..20 {
        let mut raw = Raw::open(&first, "/echo");
        raw.send(&frame(TEXT, b"x"));
        assert_eq!(raw.frame().payload, b"x");
    }
}

#[test]
fn with_join_two_servers_share_a_port() {
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
fn an_admin_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = refused(&["--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--admin"), "{said}");
}

#[test]
fn an_address_of_another_host_is_named() {
    let (code, said) = refused(&["--listen", "192.0.2.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("192.0.2.1") && said.contains("ip addr"), "{said}");
}

#[test]
fn cores_that_this_process_may_not_use_are_named() {
    let (code, said) = refused(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "4000"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("core 4000") && said.contains("--cores"), "{said}");
}

#[test]
fn more_shards_than_cores_need_oversubscribe() {
    let (code, said) = refused(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "256"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--shards") && said.contains("--oversubscribe"), "{said}");
}

#[test]
fn invalid_list_of_cores_is_a_usage_error() {
    let (code, said) = refused(&["--listen", "127.0.0.1:0", "--cores", "two"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cores"), "{said}");
}
