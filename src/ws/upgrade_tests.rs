//! Requests are parsed whole, cut at every byte, and followed by a first frame.

use super::*;

fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Refusal> {
    super::parse(bytes, &RequestBounds::DEFAULT)
}

/// The example of RFC 6455, section 1.2. `lines` replace those with the same name or are added.
fn head(lines: &[&str]) -> String {
    let name = |line: &str| line.split(':').next().unwrap_or("").to_ascii_lowercase();
    let mut all = vec![
        "GET /chat?room=1 HTTP/1.1",
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: http://example.com",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Sec-WebSocket-Version: 13",
    ];
    all.retain(|old| !lines.iter().any(|new| name(new) == name(old)));
    all.extend(lines);
    all.join("\r\n") + "\r\n\r\n"
}

/// `head` without the lines of these names.
fn without(names: &[&str]) -> String {
    let kept = |line: &&str| !names.iter().any(|name| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    head(&[]).split_inclusive("\r\n").filter(kept).collect()
}

/// The result, which is the same however the request is cut: none before the last byte unless it is an error, which then
/// stays, and the same whatever follows.
fn verdict(request: &str) -> Result<Request<'_>, Refusal> {
    let bytes = request.as_bytes();
    let whole = parse(bytes);
    let first_error = (0..=bytes.len()).find_map(|end| match parse(&bytes[..end]) {
        Ok(request) => {
            assert_eq!(request.is_some(), end == bytes.len(), "at {end} of {bytes:?}");
            None
        }
        Err(refusal) => Some(refusal),
    });
    assert_eq!(whole.as_ref().err(), first_error.as_ref(), "{request:?}");
    let followed = [bytes, b"\x81\x85\0\0\0\0hello\n\r\n"].concat();
    match (&whole, parse(&followed)) {
        (Ok(_), Ok(Some(again))) => assert_eq!(again.head_bytes, bytes.len()),
        (Err(refusal), again) => assert_eq!(again.err().as_ref(), Some(refusal)),
        (whole, again) => panic!("{whole:?}, then {again:?}"),
    }
    whole.map(|request| request.expect("a verdict"))
}

fn refused(request: &str) -> Refusal {
    verdict(request).expect_err(request)
}

fn bad(request: &str) -> &'static str {
    match refused(request) {
        Refusal::BadRequest(words) => words,
        other => panic!("{other:?} for {request:?}"),
    }
}

/// With the first line replaced.
fn first_line(line: &str) -> String {
    head(&[]).replacen("GET /chat?room=1 HTTP/1.1", line, 1)
}

#[test]
fn upgrade_request_of_the_rfc_is_read_in_place() {
    let text = head(&["Cookie: a=1", "Cookie: b=2"]);
    let request = verdict(&text).unwrap();
    assert_eq!((request.target, request.path, request.query), ("/chat?room=1", "/chat", "room=1"));
    assert_eq!((request.host, request.origin), ("server.example.com", Some("http://example.com")));
    assert_eq!(request.head_bytes, text.len());
    assert_eq!(request.values("COOKIE").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
    assert_eq!(request.values("absent").next(), None);
    let upgrade = request.upgrade.unwrap();
    assert_eq!(upgrade.key, b"dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
}

#[test]
fn upgrade_fields_ignore_case_and_may_be_lists() {
    let text = head(&["CONNECTION: keep-alive ,\tuPGRADE", "upgrade: h2c, WebSocket", "hOST: a:8000", "origin: null"]);
    let request = verdict(&text).unwrap();
    assert!(request.upgrade.is_some());
    assert_eq!((request.host, request.origin), ("a:8000", Some("null")));
    let two = head(&["Connection: keep-alive", "Connection: upgrade", "Upgrade: foo", "Upgrade: websocket"]);
    assert!(verdict(&two).unwrap().upgrade.is_some());
    let offers = head(&["Sec-WebSocket-Protocol: a,, b ", "Sec-WebSocket-Protocol: c d, e"]);
    let request = verdict(&offers).unwrap();
    assert_eq!(request.upgrade.unwrap().protocols().collect::<Vec<_>>(), ["a", "b", "e"]);
    let none = without(&["sec-websocket-protocol"]);
    assert_eq!(verdict(&none).unwrap().upgrade.unwrap().protocols().next(), None);
}

#[test]
fn request_targets_have_two_forms() {
    let parts = |target: &str| {
        let text = first_line(&format!("GET {target} HTTP/1.1"));
        let request = verdict(&text).unwrap();
        (request.path.to_owned(), request.query.to_owned(), request.host.to_owned())
    };
    let own = |path: &str, query: &str| (path.to_owned(), query.to_owned(), "server.example.com".to_owned());
    assert_eq!(parts("/"), own("/", ""));
    assert_eq!(parts("/a/b?"), own("/a/b", ""));
    assert_eq!(parts("/a?b=c?d&e=http://x/"), own("/a", "b=c?d&e=http://x/"));
    assert_eq!(parts("http://other:80/a?b"), ("/a".into(), "b".into(), "other:80".into()));
    assert_eq!(parts("HTTPS://other"), ("/".into(), "".into(), "other".into()));
    assert_eq!(parts("http://other?b"), ("/".into(), "b".into(), "other".into()));
    assert_eq!(parts("ws://other/a"), ("/a".into(), "".into(), "other".into()));
    assert_eq!(parts("WSS://other:443/a?b"), ("/a".into(), "b".into(), "other:443".into()));
    for target in ["*", "chat", "http://", "http:///chat", "ftp://x/", "/a#b", "http://u@h/"] {
        let words = bad(&first_line(&format!("GET {target} HTTP/1.1")));
        assert_eq!(words, "malformed request target", "{target}");
    }
}

#[test]
fn request_without_an_upgrade_is_plain() {
    assert!(verdict(&without(&["upgrade"])).unwrap().upgrade.is_none());
    assert!(verdict(&head(&["Upgrade: h2c"])).unwrap().upgrade.is_none());
    let health = verdict("GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!((health.path, health.upgrade.is_none()), ("/health", true));
    let probe = verdict("GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((probe.path, probe.host), ("/health", ""));
    let blank_line_first = verdict("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(blank_line_first.path, "/");
}

#[test]
fn upgrade_faults_are_named() {
    assert_eq!(bad(&head(&["Connection: keep-alive"])), "Connection does not list Upgrade");
    assert_eq!(bad(&without(&["sec-websocket-key"])), "Sec-WebSocket-Key is missing");
    for version in ["12", "8", "8, 12", "013", ""] {
        assert_eq!(refused(&head(&[&format!("Sec-WebSocket-Version: {version}")])), Refusal::UpgradeRequired);
    }
    assert_eq!(refused(&without(&["sec-websocket-version"])), Refusal::UpgradeRequired);
    const TOO_SHORT: &str = "dGhlIHNhbXBsZSBub25jZQ=";
    const TOO_LONG: &str = "dGhlIHNhbXBsZSBub25jZQ===";
    const SEVENTEEN_BYTES: &str = "dGhlIHNhbXBsZSBub25jZQE=";
    const URL_ALPHABET: &str = "dGhlIHNhbXBsZSBub25jZ-==";
    const PADDING_INSIDE: &str = "dGhlIHNhbXBsZSBub25=ZQ==";
    for key in [TOO_SHORT, TOO_LONG, SEVENTEEN_BYTES, URL_ALPHABET, PADDING_INSIDE, ""] {
        let words = bad(&head(&[&format!("Sec-WebSocket-Key: {key}")]));
        assert_eq!(words, "Sec-WebSocket-Key is not 16 bytes in base64", "{key}");
    }
}

#[test]
fn upgrade_requests_that_centrifugo_accepts_are_accepted() {
    for text in [
        first_line("GET / HTTP/1.0"),
        first_line("GET / HTTP/1.0").replace("Host: server.example.com\r\n", ""),
        head(&["Host:"]),
        head(&["Sec-WebSocket-Version: 13, 8"]),
        head(&["Sec-WebSocket-Version: 8,13"]),
        head(&["Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13"]),
    ] {
        assert!(verdict(&text).unwrap().upgrade.is_some(), "{text}");
    }
}

#[test]
fn head_request_is_a_plain_one_and_other_methods_are_for_the_app() {
    let text = first_line("HEAD /chat HTTP/1.1");
    let request = verdict(&text).unwrap();
    assert_eq!((request.method, request.path, request.upgrade.is_none()), (Method::Head, "/chat", true));
    for (line, method, path) in [
        ("POST /api/publish?a HTTP/1.1", Method::Post, "/api/publish"),
        ("GETS / HTTP/1.1", Method::Other, "/"),
        ("get / HTTP/1.0", Method::Other, "/"),
        ("OPTIONS * HTTP/1.1", Method::Options, ""),
        ("CONNECT a:80 HTTP/1.1", Method::Other, ""),
    ] {
        let text = first_line(line);
        let request = verdict(&text).unwrap();
        assert_eq!((request.method, request.path, request.upgrade.is_none()), (method, path, true), "{line}");
    }
    let post = verdict("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!((post.method, post.body, post.expects_continue), (Method::Post, BodyLength::Bytes(4), true));
}

#[test]
fn upgrade_fields_must_not_repeat() {
    let twice = |line: &str| bad(&head(&[line, line]));
    assert_eq!(twice("Host: a"), "more than one Host");
    assert_eq!(twice("Origin: http://a"), "more than one Origin");
    assert_eq!(twice("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), "more than one Sec-WebSocket-Key");
    assert_eq!(bad(&without(&["host"])), "Host is missing");
    for host in ["a b", "a/b", "u@h", "a,b\u{7f}"] {
        let words = bad(&head(&[&format!("Host: {host}")]));
        assert!(words == "malformed Host" || words == "malformed header field", "{host:?}: {words}");
    }
}

#[test]
fn request_bodies_are_refused() {
    for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        assert_eq!(bad(&head(&[line])), "a body is not taken here", "{line}");
    }
    for value in ["00", "", "+5", "5,5", "0x5", "9999999999999999999"] {
        assert_eq!(bad(&head(&[&format!("Content-Length: {value}")])), "malformed Content-Length", "{value}");
    }
    for lines in [["Content-Length: 0", "content-length: 7"], ["Content-Length: 7", "Transfer-Encoding: chunked"]] {
        assert_eq!(bad(&head(&lines)), "more than one length of the body", "{lines:?}");
    }
    assert_eq!(bad(&head(&["Transfer-Encoding: gzip, chunked"])), "the only transfer coding here is chunked");
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(bad(old), "HTTP/1.0 has no Transfer-Encoding");
}

#[test]
fn request_heads_that_are_malformed_are_refused() {
    const FOLDED: &str = "X-A: 1\r\n 2";
    const BLANK_BEFORE_COLON: &str = "X-A : 1";
    const NO_COLON: &str = "X-A";
    const NO_NAME: &str = ": 1";
    const NUL: &str = "X-A: \0";
    const BARE_CR: &str = "X-A: a\rb";
    for line in [FOLDED, BLANK_BEFORE_COLON, NO_COLON, NO_NAME, NUL, BARE_CR] {
        assert_eq!(bad(&head(&[line])), "malformed header field", "{line:?}");
    }
    assert_eq!(bad(&head(&["X-A: 1\nX-B: 2"])), "line does not end in CRLF");
    assert_eq!(bad(&head(&[]).replace("\r\n", "\n")), "line does not end in CRLF");
    assert_eq!(bad("\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), "line does not end in CRLF");
    assert_eq!(bad("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), "not an HTTP request");
    assert_eq!(bad(&first_line("GET / HTTP/2.0")), "HTTP version is not 1.1");
    assert_eq!(bad(&first_line("GET / HTTP/1.2")), "HTTP version is not 1.1");
    for line in ["GET  / HTTP/1.1", "GET /", "GET / ", "GET / a HTTP/1.1", "GET / HTTP/1.1 "] {
        assert_eq!(refused(&first_line(line)).status(), 400, "{line:?}");
    }
}

#[test]
fn bytes_that_are_not_http_1_are_refused() {
    const NOT_HTTP: &str = "not an HTTP request";
    for (bytes, words) in [
        (&[b'A'; 33][..], NOT_HTTP),
        (b"\x16\x03\x01", NOT_HTTP),
        (b" GET", NOT_HTTP),
        (b"G\0", NOT_HTTP),
        (b"Gaht\r\n", NOT_HTTP),
        (b"GET\r\n", NOT_HTTP),
        (b"SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
        (b"EHLO example.org\r\n", "malformed request line"),
        (b"SSH a b\r\n", "malformed request line"),
        (b"POST / http/1.1\r\n", "malformed request line"),
        (b"PRI * HTTP/2.0\r\n", "HTTP version is not 1.1"),
        (b"POST / HTTP/1.2\r\n", "HTTP version is not 1.1"),
    ] {
        let got = parse(bytes).map(|request| assert!(request.is_none()));
        assert_eq!(got, Err(Refusal::BadRequest(words)), "{:?}", bytes.escape_ascii().to_string());
    }
    // These beginnings may still become valid, however they are cut.
    for bytes in [&b"POST"[..], b"POST /", b"Gaht\r", b"GET\r", b"GET /\r", b"PRI * HTTP/2.0\r"] {
        assert!(matches!(parse(bytes), Ok(None)), "{bytes:?}");
    }
}

#[test]
fn request_bounds_hold_for_incomplete_heads() {
    let RequestBounds { head_bytes_max, fields_max, target_bytes_max } = RequestBounds::DEFAULT;
    let target = format!("/{}", "a".repeat(target_bytes_max - 1));
    assert_eq!(verdict(&first_line(&format!("GET {target} HTTP/1.1"))).unwrap().path, target);
    assert_eq!(refused(&first_line(&format!("GET {target}a HTTP/1.1"))), Refusal::TargetTooLong);
    assert_eq!(parse(format!("GET {target}a").as_bytes()).err(), Some(Refusal::TargetTooLong));

    let fill = head_bytes_max - head(&["X-Fill: "]).len();
    let largest = head(&[&format!("X-Fill: {}", "a".repeat(fill))]);
    assert_eq!(largest.len(), head_bytes_max);
    assert!(parse(largest.as_bytes()).unwrap().is_some());
    let larger = largest.replacen("X-Fill: ", "X-Fill: a", 1);
    assert_eq!(parse(larger.as_bytes()).err(), Some(Refusal::HeadTooLarge));
    assert_eq!(parse(&larger.as_bytes()[..head_bytes_max]).err(), Some(Refusal::HeadTooLarge));
    assert!(parse(&larger.as_bytes()[..head_bytes_max - 1]).unwrap().is_none());

    let own = head(&[]).lines().count() - 2;
    let fields = |count: usize| head(&["X-A: 1"].repeat(count));
    assert!(parse(fields(fields_max - own).as_bytes()).unwrap().is_some());
    assert_eq!(parse(fields(fields_max - own + 1).as_bytes()).err(), Some(Refusal::HeadTooLarge));
}

#[test]
fn request_heads_of_single_sign_on_and_meshes_are_accepted() {
    let cookie = format!("Cookie: session={}", "a".repeat(12_000));
    let fields: Vec<String> = (0..100).map(|n| format!("X-Mesh-{n}: {}", "b".repeat(100))).collect();
    let lines: Vec<&str> = fields.iter().map(String::as_str).chain([cookie.as_str()]).collect();
    assert!(parse(head(&lines).as_bytes()).unwrap().unwrap().upgrade.is_some());
    assert_eq!(parse(head(&["X-A: 1"].repeat(250)).as_bytes()).err(), Some(Refusal::HeadTooLarge));
}

#[test]
fn request_heads_that_are_damaged_do_not_panic_and_stay_refused() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..2000 {
        let mut bytes = head(&["Cookie: a=1"]).into_bytes();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..4) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] = rng.choice(*b"\r\n\0 :,;/?#\t").expect("not empty"),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, rng.choice(*b"\r\n \tA:").expect("not empty")),
            }
        }
        let verdicts = (0..=bytes.len()).map(|end| parse(&bytes[..end]).map(|request| request.map(|r| r.head_bytes)));
        let decided: Vec<_> = verdicts.skip_while(|verdict| *verdict == Ok(None)).collect();
        match decided.first() {
            Some(Ok(head_bytes)) => assert!(decided.iter().all(|verdict| *verdict == Ok(*head_bytes))),
            Some(Err(_)) => assert!(decided.iter().all(Result::is_err), "{}", bytes.escape_ascii()),
            None => {}
        }
    }
}
