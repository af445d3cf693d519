//! What streams send for a request, byte by byte: recorded from Centrifugo 6.9.1, with ids, the version and the secret of a
//! session replaced.

use std::io::{Read, Write};

use crate::common::stream::request;
use crate::common::{Server, connect};

const SECRET: &str = "a secret that is long enough for tests";
const CONNECT: &[u8] = br#"{"id":1,"connect":{}}"#;

/// A request, and the body of its response without chunk sizes. A body that ends is followed by `END`.
struct Golden {
    request: Vec<u8>,
    body: &'static str,
}

const END: &str = "0\r\n\r\n";

fn of(request: Vec<u8>, body: &'static str) -> Golden {
    Golden { request, body }
}

fn recorded() -> Vec<Golden> {
    let post = |path: &str, body: &[u8]| request("POST", path, &[], body);
    let get = |target: &str| request("GET", target, &[], b"");
    let connected = "{\"id\":1,\"connect\":{\"client\":\"ID\",\"version\":\"V\",\"ping\":25,\"pong\":true,\"session\":\"S\",\"node\":\"ID\"}}\n";
    let event = "\r\ndata: {\"id\":1,\"connect\":{\"client\":\"ID\",\"version\":\"V\",\"ping\":25,\"pong\":true,\"session\":\"S\",\"node\":\"ID\"}}\n\n";
    let bad = "{\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\nEND";
    let uni_event = "\r\ndata: {\"connect\":{\"client\":\"ID\",\"version\":\"V\",\"ping\":25,\"session\":\"S\"}}\n\n";
    vec![
        of(post("/connection/http_stream", CONNECT), connected),
        of(get("/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"), event),
        of(post("/connection/sse", CONNECT), event),
        of(post("/connection/http_stream", b""), bad),
        of(post("/connection/http_stream", b"{}"), bad),
        of(post("/connection/http_stream", b"no"), bad),
        of(
            post("/connection/http_stream", br#"{"id":1,"connect":{"token":"x"}}"#),
            "{\"push\":{\"disconnect\":{\"code\":3500,\"reason\":\"invalid token\"}}}\nEND",
        ),
        of(
            post("/connection/uni_http_stream", br#"{"subs":{"c":{}}}"#),
            "{\"connect\":{\"client\":\"ID\",\"version\":\"V\",\"subs\":{\"c\":{}},\"ping\":25,\"session\":\"S\"}}\n",
        ),
        of(
            post("/connection/uni_http_stream", b"null"),
            "{\"connect\":{\"client\":\"ID\",\"version\":\"V\",\"ping\":25,\"session\":\"S\"}}\n",
        ),
        of(
            post("/connection/uni_http_stream", br#"{"token":"x"}"#),
            "{\"disconnect\":{\"code\":3500,\"reason\":\"invalid token\"}}\nEND",
        ),
        of(get("/connection/uni_sse"), uni_event),
        of(post("/connection/uni_sse", b"{}"), uni_event),
    ]
}

/// Replaces what differs between two runs.
fn normalized(text: &str) -> String {
    // The development mode names the shard.
    let text = text.replace("\"data\":{\"shard\":0},", "").replace("\"data\":{\"shard\":1},", "");
    let mut out = String::new();
    let mut rest = text.as_str();
    for (field, word) in
        [("\"client\":\"", "ID"), ("\"version\":\"", "V"), ("\"session\":\"", "S"), ("\"node\":\"", "ID")]
    {
        if let Some(at) = rest.find(field) {
            let (before, after) = rest.split_at(at + field.len());
            out.push_str(before);
            out.push_str(word);
            rest = &after[after.find('"').expect("the end of a string")..];
        }
    }
    out + rest
}

#[test]
fn streams_begin_as_those_of_the_original() {
    let server = Server::with(&[
        ("client.insecure", "false"),
        ("client.allow_anonymous_connect_without_token", "true"),
        ("client.token.hmac_secret_key", SECRET),
        ("http_stream.enabled", "true"),
        ("sse.enabled", "true"),
        ("uni_http_stream.enabled", "true"),
        ("uni_sse.enabled", "true"),
        ("channel.without_namespace.history_size", "0"),
        ("channel.without_namespace.history_ttl", "0s"),
        ("channel.without_namespace.allow_positioning", "false"),
        ("channel.without_namespace.allow_recovery", "false"),
        ("channel.without_namespace.presence", "false"),
        ("channel.without_namespace.join_leave", "false"),
    ]);
    for Golden { request, body } in recorded() {
        let mut socket = connect(server.client);
        socket.write_all(&request).expect("the server accepts the bytes");
        let (mut got, mut buffer) = (String::new(), [0; 4096]);
        let (wanted, ends) = match body.strip_suffix("END") {
            Some(wanted) => (wanted, true),
            None => (body, false),
        };
        let done = |got: &str| match got.split_once("\r\n\r\n") {
            Some((_, body)) if ends => body.ends_with(END),
            Some((_, body)) => normalized(&unchunked(body)).len() >= wanted.len(),
            None => false,
        };
        while !done(&got) {
            let n = socket.read(&mut buffer).expect("more of the response");
            assert!(n > 0, "{got}");
            got.push_str(std::str::from_utf8(&buffer[..n]).expect("text"));
        }
        let (head, body) = got.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert_eq!(normalized(&unchunked(body)), wanted, "{}", request.escape_ascii());
    }
}

/// The data of the whole chunks.
fn unchunked(mut chunks: &str) -> String {
    let mut data = String::new();
    while let Some((digits, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(digits, 16).expect("a size");
        match rest.get(..size) {
            Some(chunk) if size > 0 && rest.len() >= size + 2 => data.push_str(chunk),
            _ => break,
        }
        chunks = &rest[size + 2..];
    }
    data
}
