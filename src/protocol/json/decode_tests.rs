//! Valid and malformed commands. If the description of the protocol is not precise, the fixtures follow what Centrifugo's
//! server library accepts and refuses.

use super::*;
use crate::protocol::{Commands, Encoding, Headers, HistoryRequest, RawFilter, StreamPosition, Subs, SubscribeRequest};

fn commands(frame: &[u8]) -> Commands<'_> {
    Encoding::Json.commands(frame, 0)
}

fn one(line: &str) -> Result<Command<'_>, Malformed> {
    let mut all = commands(line.as_bytes());
    let first = all.next().expect("a frame has a line").map(|(command, _)| command);
    assert_eq!(all.next(), None);
    first
}

fn body(line: &str) -> Body<'_> {
    one(line).unwrap_or_else(|_| panic!("malformed: {line}")).body
}

#[test]
fn commands_with_every_field_are_read() {
    let connect = ConnectRequest {
        token: "t".into(),
        data: br#"{"a": [1]}"#,
        name: "js".into(),
        version: "5.0".into(),
        subs: Subs::json(br#"{"c":{"recover":true}}"#),
        headers: Headers::json(br#"{"a":"b"}"#),
        flag: 1,
    };
    let line = r#"{"id":1,"connect":{"token":"t","data":{"a": [1]},"name":"js","version":"5.0","subs":{"c":{"recover":true}},"flag":1,"headers":{"a":"b"}}}"#;
    assert_eq!(one(line), Ok(Command { id: 1, body: Body::Connect(connect) }));

    let subscribe = SubscribeRequest {
        channel: "news".into(),
        token: "t".into(),
        recover: true,
        epoch: "xyz".into(),
        offset: u64::MAX,
        data: b"null",
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        tf: RawFilter::Json(br#"{"op":"and","nodes":[]}"#),
        flag: 3,
        kind: -1,
    };
    let line = r#"{"subscribe":{"channel":"news","token":"t","recover":true,"epoch":"xyz","offset":18446744073709551615,"data":null,"positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","tf":{"op":"and","nodes":[]},"flag":3,"type":-1,"phase":1},"id":4294967295}"#;
    assert_eq!(one(line), Ok(Command { id: u32::MAX, body: Body::Subscribe(subscribe) }));

    let line = r#"{"id":2,"history":{"channel":"c","limit":-1,"since":{"offset":5,"epoch":"e"},"reverse":true}}"#;
    let since = Some(StreamPosition { offset: 5, epoch: "e".into() });
    assert_eq!(body(line), Body::History(HistoryRequest { channel: "c".into(), limit: -1, since, reverse: true }));

    let c = Cow::Borrowed("c");
    let cases = [
        (r#"{"id":2,"unsubscribe":{"channel":"c"}}"#, Body::Unsubscribe { channel: c.clone() }),
        (
            r#"{"id":2,"publish":{"data":"x","channel":"c"}}"#,
            Body::Publish { channel: c.clone(), data: b"\"x\"", kind: 0 },
        ),
        (r#"{"id":2,"publish":{"channel":"c","type":1}}"#, Body::Publish { channel: c.clone(), data: b"", kind: 1 }),
        (
            r#"{"id":2,"publish":{"channel":"c","data":null}}"#,
            Body::Publish { channel: c.clone(), data: b"null", kind: 0 },
        ),
        (r#"{"id":2,"presence":{"channel":"c"}}"#, Body::Presence { channel: c.clone() }),
        (r#"{"id":2,"presence_stats":{"channel":"c"}}"#, Body::PresenceStats { channel: c.clone() }),
        (
            r#"{"id":2,"history":{"channel":"c"}}"#,
            Body::History(HistoryRequest { channel: c.clone(), ..Default::default() }),
        ),
        (r#"{"id":2,"rpc":{"method":"m","data":{}}}"#, Body::Rpc { method: "m".into(), data: b"{}" }),
        (r#"{"id":2,"send":{"data":1}}"#, Body::Send { data: b"1" }),
        (r#"{"send":{"data":1}}"#, Body::Send { data: b"1" }),
        (r#"{"id":2,"refresh":{"token":"t"}}"#, Body::Refresh { token: "t".into() }),
        (
            r#"{"id":2,"sub_refresh":{"channel":"c","token":"t","type":2}}"#,
            Body::SubRefresh { channel: c, token: "t".into(), kind: 2 },
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(body(line), expected, "{line}");
    }
}

#[test]
fn command_without_an_id_is_a_pong_and_one_with_an_id_alone_is_unknown() {
    for line in ["{}", " {} \r", r#"{"id":0}"#, r#"{"id":null}"#, r#"{"subscribe":{"channel":"x"}}"#, r#"{"foo":1}"#] {
        assert_eq!(one(line), Ok(Command { id: 0, body: Body::Pong }), "{line}");
    }
    for line in [r#"{"id":2}"#, r#"{"id":2,"foo":{}}"#, r#"{"id":2,"ping":{}}"#, r#"{"id":2,"subscribe":null}"#] {
        assert_eq!(one(line), Ok(Command { id: 2, body: Body::Unknown }), "{line}");
    }
    assert_eq!(body(r#"{"id":2,"SUBSCRIBE":{"channel":"x"}}"#), Body::Unknown, "names are case-sensitive");
}

#[test]
fn lines_that_are_malformed_are_refused() {
    let faults = [
        ("empty", ""),
        ("blank", "  "),
        ("not json", "{bad}"),
        ("an array", "[]"),
        ("an array of fields", r#"[1,{"channel":"x"}]"#),
        ("null", "null"),
        ("a number", "1"),
        ("a string", r#""x""#),
        ("a body that is an array", r#"{"id":2,"subscribe":["x"]}"#),
        ("a position that is an array", r#"{"id":2,"history":{"channel":"x","since":[1,"e"]}}"#),
        ("a body that is a string", r#"{"id":2,"subscribe":"x"}"#),
        ("trailing garbage", r#"{"id":2,"subscribe":{"channel":"x"}} trailing"#),
        ("a second object", r#"{"id":2}{"id":3}"#),
        ("a trailing comma", r#"{"id":2,"subscribe":{"channel":"x"},}"#),
        ("cut short", r#"{"id":2,"subscribe":{"channel":"x"}"#),
        ("id twice", r#"{"id":2,"id":3,"subscribe":{"channel":"x"}}"#),
        ("a body twice", r#"{"id":2,"subscribe":{"channel":"x"},"subscribe":{"channel":"y"}}"#),
        ("a null body twice", r#"{"id":2,"subscribe":null,"subscribe":{"channel":"y"}}"#),
        ("a field twice", r#"{"id":2,"subscribe":{"channel":"x","channel":"y"}}"#),
        ("data twice", r#"{"id":2,"publish":{"channel":"x","data":1,"data":2}}"#),
        ("a negative id", r#"{"id":-1,"subscribe":{"channel":"x"}}"#),
        ("an id past 32 bits", r#"{"id":4294967296,"subscribe":{"channel":"x"}}"#),
        ("an id with a fraction", r#"{"id":2.0,"subscribe":{"channel":"x"}}"#),
        ("an id with a leading zero", r#"{"id":02,"subscribe":{"channel":"x"}}"#),
        ("an id as a string", r#"{"id":"2","subscribe":{"channel":"x"}}"#),
        ("a channel as a number", r#"{"id":2,"subscribe":{"channel":1}}"#),
        ("a flag as a number", r#"{"id":2,"subscribe":{"channel":"x","recover":1}}"#),
        ("an offset as a string", r#"{"id":2,"subscribe":{"channel":"x","offset":"1"}}"#),
        ("a control character in a name", "{\"id\":2,\"subscribe\":{\"channel\":\"x\ty\"}}"),
        ("a control character in data", "{\"id\":2,\"publish\":{\"channel\":\"x\",\"data\":\"\u{1}\"}}"),
        ("data that is not json", r#"{"id":2,"publish":{"channel":"x","data":{bad}}}"#),
        ("data with a trailing comma", r#"{"id":2,"publish":{"channel":"x","data":[1,]}}"#),
        ("an unknown field that is not json", r#"{"id":2,"foo":[1,]}"#),
        ("half a surrogate pair in a name", r#"{"id":2,"subscribe":{"channel":"x\ud800"}}"#),
    ];
    for (fault, line) in faults {
        assert_eq!(one(line), Err(Malformed), "{fault}");
        if let Some(whole) = line.strip_suffix('}') {
            assert_eq!(one(whole), Err(Malformed), "{fault}, cut");
        }
    }
    assert_eq!(commands(b"{\"id\":2,\"publish\":{\"channel\":\"x\",\"data\":\"\xff\"}}").next(), Some(Err(Malformed)));
    assert_eq!(commands(b"{\"id\":2,\"publish\":{\"channel\":\"\xff\",\"data\":1}}").next(), Some(Err(Malformed)));
}

#[test]
fn command_cut_at_any_byte_is_malformed() {
    let line = r#"{"id":3,"publish":{"channel":"r\u00e9","data":{"a":[1,"é\n",null]}}}"#;
    assert!(one(line).is_ok());
    for end in 0..line.len() {
        assert_eq!(commands(&line.as_bytes()[..end]).next(), Some(Err(Malformed)), "{end}");
    }
}

#[test]
fn payload_with_deep_nesting_is_read_without_recursion() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let line = format!(r#"{{"id":2,"foo":{deep},"publish":{{"channel":"x","data":{deep}}}}}"#);
    assert!(matches!(body(&line), Body::Publish { data, .. } if data == deep.as_bytes()));
}

#[test]
fn bodies_count_in_the_order_of_the_protocol() {
    let subscribe = Body::Subscribe(SubscribeRequest { channel: "x".into(), ..Default::default() });
    assert_eq!(body(r#"{"id":2,"subscribe":{"channel":"x"},"publish":{"channel":"r","data":1}}"#), subscribe);
    assert_eq!(body(r#"{"id":2,"publish":{"channel":"r","data":1},"subscribe":{"channel":"x"}}"#), subscribe);
    let line = r#"{"id":2,"connect":null,"publish":{"channel":"r","data":1}}"#;
    assert_eq!(body(line), Body::Publish { channel: "r".into(), data: b"1", kind: 0 });
}

#[test]
fn text_is_borrowed_unless_it_has_escapes() {
    let Body::Subscribe(plain) = body(r#"{"id":2,"subscribe":{"channel":"é:#42","epoch":null}}"#) else { panic!() };
    assert!(matches!(plain.channel, Cow::Borrowed("é:#42")));
    assert_eq!(plain.epoch, "");
    let Body::Subscribe(escaped) = body(r#"{"id":2,"subscribe":{"channel":"\u0061\n\"\\\/"}}"#) else { panic!() };
    assert!(matches!(escaped.channel, Cow::Owned(_)));
    assert_eq!(escaped.channel, "a\n\"\\/");
}

#[test]
fn payloads_are_the_bytes_of_the_frame() {
    let line = r#"{"id":2,"publish":{"channel":"x","data": {"a": 1,	"b":"\u2028\ud800<é"} }}"#;
    let Body::Publish { data, .. } = body(line) else { panic!() };
    assert_eq!(data, r#"{"a": 1,	"b":"\u2028\ud800<é"}"#.as_bytes());
    assert!(line.as_bytes().as_ptr_range().contains(&data.as_ptr()));
}

fn ids(frame: &[u8], start: usize) -> Vec<Result<(u32, usize), Malformed>> {
    Encoding::Json.commands(frame, start).map(|item| item.map(|(command, end)| (command.id, end))).collect()
}

#[test]
fn frame_is_split_at_line_breaks_and_may_end_with_one() {
    assert_eq!(ids(b"{\"id\":1}\n{\"id\":2}", 0), [Ok((1, 9)), Ok((2, 17))]);
    assert_eq!(ids(b"{\"id\":1}\n{\"id\":2}\n", 0), [Ok((1, 9)), Ok((2, 18))]);
    assert_eq!(ids(b"{\"id\":1}\r\n{\"id\":2}\r\n", 0), [Ok((1, 10)), Ok((2, 20))]);
    assert_eq!(ids(b"{\"id\":1}\n\n", 0), [Ok((1, 9)), Err(Malformed)]);
    assert_eq!(ids(b"{\"id\":1}\n\n{\"id\":2}", 0), [Ok((1, 9)), Err(Malformed)]);
    assert_eq!(ids(b"\n{\"id\":1}", 0), [Err(Malformed)]);
    assert_eq!(ids(b"\n", 0), [Err(Malformed)]);
    assert_eq!(ids(b"", 0), [Err(Malformed)]);
    assert_eq!(ids(b"{\"id\":1}\n{bad}\n{\"id\":3}", 0), [Ok((1, 9)), Err(Malformed)]);
}

#[test]
fn frame_reading_resumes_after_any_command() {
    let frame = b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";
    let whole = ids(frame, 0);
    let mut start = 0;
    for (index, item) in whole.iter().enumerate() {
        assert_eq!(ids(frame, start), whole[index..]);
        let spilled = ids(&frame[start..], 0);
        assert_eq!(spilled.len(), whole.len() - index);
        start = item.expect("well formed").1;
    }
    assert_eq!((start, ids(frame, start).len()), (frame.len(), 0));
}

#[test]
fn maps_are_read_only_when_they_are_used() {
    fn connect(line: &str) -> ConnectRequest<'_> {
        let Body::Connect(request) = body(line) else { panic!("no connect: {line}") };
        request
    }
    let line = r#"{"id":1,"connect":{"subs":{ "a" : {"recover":true,"offset":7} , "\u0062":null,"{\"}":{"epoch":"}"}},"headers":{"X-A":"1","b":null,"c":"\n"}}}"#;
    let request = connect(line);
    let found: Vec<_> = request.subs.map(|sub| sub.expect("well formed")).collect();
    let sub = SubscribeRequest { recover: true, offset: 7, ..Default::default() };
    let third = SubscribeRequest { epoch: "}".into(), ..Default::default() };
    assert_eq!(found, [("a".into(), sub), ("b".into(), SubscribeRequest::default()), ("{\"}".into(), third)]);
    assert!(matches!(found[0].0, Cow::Borrowed(_)));
    let headers: Vec<_> = request.headers.map(|header| header.expect("well formed")).collect();
    assert_eq!(headers, [("X-A".into(), "1".into()), ("b".into(), "".into()), ("c".into(), Cow::from("\n"))]);

    for line in [r#"{"id":1,"connect":{"subs":null}}"#, r#"{"id":1,"connect":{"subs":{ },"headers":{}}}"#] {
        assert!(connect(line).subs.next().is_none() && connect(line).headers.next().is_none());
    }
    for fault in ["1", "[]", r#""x""#, r#"{"recover":1}"#] {
        let line = format!(r#"{{"id":1,"connect":{{"subs":{{"a":{{}},"b":{fault},"c":{{}}}}}}}}"#);
        let items: Vec<_> = connect(&line).subs.map(|item| item.is_ok()).collect();
        assert_eq!(items, [true, false], "{fault}");
    }
    for fault in ["1", "[]", "{}", "true"] {
        let line = format!(r#"{{"id":1,"connect":{{"headers":{{"a":{fault},"c":"d"}}}}}}"#);
        assert_eq!(connect(&line).headers.collect::<Vec<_>>(), [Err(Malformed)], "{fault}");
    }
    for fault in [r#""subs":[]"#, r#""subs":1"#, r#""headers":"x""#, r#""headers":[1]"#] {
        assert_eq!(one(&format!(r#"{{"id":1,"connect":{{{fault}}}}}"#)), Err(Malformed), "{fault}");
    }
    assert_eq!(one(r#"{"id":1,"subscribe":{"channel":"c","tf":[]}}"#), Err(Malformed));
}

#[test]
fn unidirectional_client_sends_the_connect_request_alone() {
    let request = connect_request(br#"{"token":"t","subs":{"a":{}},"name":"js"}"#).expect("well formed");
    assert_eq!((&*request.token, &*request.name, request.subs.count()), ("t", "js", 1));
    for bytes in [&b"{}"[..], b" {} ", b"null", br#"{"unknown":[1]}"#] {
        assert_eq!(connect_request(bytes), Ok(ConnectRequest::default()));
    }
    for bytes in
        [&b""[..], b"invalid", b"[]", b"{}{}", b"1", br#"{"token":1}"#, br#"{"connect":{}"#, b"{\"token\":\"\xff\"}"]
    {
        assert_eq!(connect_request(bytes), Err(Malformed));
    }
}

#[test]
fn lines_that_are_damaged_do_not_panic() {
    let line = r#"{"id":1,"connect":{"token":"t","data":{"a":[1,"\u00e9"]},"subs":{"a":{"recover":true,"offset":7},"b":null},"headers":{"c":"d"}},"subscribe":{"channel":"c","tf":{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["a"]}]}}}"#;
    assert!(one(line).is_ok());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let odd = b"{}[]\":,\\\n 0-e\xff\0ntu";
    for _ in 0..20_000 {
        let mut damaged = line.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            match random.u8(..3) {
                0 => damaged[at] = odd[random.usize(..odd.len())],
                1 => drop(damaged.remove(at)),
                _ => damaged.insert(at, odd[random.usize(..odd.len())]),
            }
        }
        for (command, _) in commands(&damaged).flatten() {
            match command.body {
                Body::Connect(request) => drop((request.subs.count(), request.headers.count())),
                Body::Subscribe(request) => drop(request.tf.filter()),
                _ => (),
            }
        }
    }
}
