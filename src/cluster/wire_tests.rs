//! Control messages as Centrifugo 6.9.1 encodes them, and any other bytes.

use super::*;
use crate::auth::grant::{Overrides, RefreshGrant, SubscribeGrant};
use crate::messaging::api_call::{ConnectionSelector, StreamPosition};

const CHANNEL_BYTES_MAX: usize = 255;

/// Made by the original's own code.
const NODE: &str = "0a083666316432633362225f0a0836663164326333621209686f73745f383030301a05362e392e312003280230ac0238f0a2044231090000000000004e4012260a1b63656e7472696675676f2e6e6f64652e6e756d5f636c69656e74731100000000000008404a01785005";
const SHUTDOWN: &str = "0a0836663164326333623a00";
const SUBSCRIBE: &str = "0a083666316432633362523e0a03616e6e12046e657773180120012880e6fe89073001380142077b2261223a317d4a02633152035b325d5a0908bc05120441624364620273316801700a";
const UNSUBSCRIBE: &str =
    "0a0836663164326333622a2a0a046e6577731203616e6e1a0263312202733128d00f321273657276657220756e737562736372696265";
const DISCONNECT: &str =
    "0a083666316432633362322a0a03616e6e120263311202633218b01b2210636f6e6e656374696f6e206c696d6974320263333a027331";
const REFRESH: &str = "0a083666316432633362621e0a03616e6e1202633118012080e6fe89072a077b2262223a327d32027331";
const REFRESH_BY_LABEL: &str = "0a08366631643263336262180a03616e6e3a110a03616e64320a12016b1a026571220176";
const SURVEY_REQUEST: &str = "0a0836663164326333624215080712086368616e6e656c731a070a056e6577732a";
const SURVEY_RESPONSE: &str = "0a0836663164326333624a07080710031a0164";
const NOTIFICATION: &str = "0a0836663164326333625a060a016f120164";

const ALL: [&str; 10] = [
    NODE,
    SHUTDOWN,
    SUBSCRIBE,
    UNSUBSCRIBE,
    DISCONNECT,
    REFRESH,
    REFRESH_BY_LABEL,
    SURVEY_REQUEST,
    SURVEY_RESPONSE,
    NOTIFICATION,
];

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn content_of(hex: &str) -> Content {
    let received = decode(&bytes(hex), "own", CHANNEL_BYTES_MAX).unwrap();
    assert_eq!(received.from, "6f1d2c3b");
    received.content
}

fn ann(client: &str) -> ConnectionSelector {
    ConnectionSelector { user: "ann".into(), client: client.into(), session: "s1".into() }
}

#[test]
fn announcement_of_the_original_has_its_numbers() {
    let metrics = NodeMetrics { interval_s: 60.0, items: [("centrifugo.node.num_clients".into(), 3.0)].into() };
    let expected = NodeInfo {
        uid: "6f1d2c3b".into(),
        name: "host_8000".into(),
        version: "6.9.1".into(),
        clients: 3,
        users: 2,
        channels: 300,
        subscriptions: 5,
        uptime_s: 70_000,
        metrics: Some(metrics),
    };
    assert_eq!(content_of(NODE), Content::Node(expected.clone()));
    // Back to the same bytes, apart from the data that this server does not have.
    let node = proto::Node { data: b"x".to_vec(), ..node(expected) };
    let command = proto::Command { uid: "6f1d2c3b".into(), node: Some(node), ..proto::Command::default() };
    assert_eq!(command.encode_to_vec(), bytes(NODE));
    assert_eq!(content_of(SHUTDOWN), Content::Shutdown);
}

#[test]
fn calls_of_the_original_are_calls_of_the_server_api() {
    let on = Some(true);
    let overrides = Overrides {
        presence: on,
        join_leave: on,
        force_recovery: on,
        force_positioning: on,
        force_push_join_leave: on,
    };
    let grant = SubscribeGrant {
        info: b"{\"a\":1}".to_vec(),
        data: b"[2]".to_vec(),
        expire_at: Some(1_900_000_000),
        overrides,
    };
    let since = Some(StreamPosition { offset: 700, epoch: "AbCd".into() });
    let subscribe = ApiCall::Subscribe { connections: ann("c1"), channel: "news".into(), grant, since };
    assert_eq!(content_of(SUBSCRIBE), Content::Call(subscribe));
    let unsubscribe = ApiCall::Unsubscribe { connections: ann("c1"), channel: "news".into() };
    assert_eq!(content_of(UNSUBSCRIBE), Content::Call(unsubscribe));
    let disconnect = ApiCall::Disconnect {
        connections: ann("c3"),
        except_clients: vec!["c1".into(), "c2".into()],
        code: 3504,
        reason: "connection limit".into(),
    };
    assert_eq!(content_of(DISCONNECT), Content::Call(disconnect));
    let renewal =
        RefreshGrant { expired: true, expire_at: Some(1_900_000_000), info: b"{\"b\":2}".to_vec(), meta: Vec::new() };
    assert_eq!(content_of(REFRESH), Content::Call(ApiCall::Refresh { connections: ann("c1"), renewal }));
    assert_eq!(decode(&bytes(REFRESH_BY_LABEL), "own", CHANNEL_BYTES_MAX), Err(Dropped::Unsupported));
}

#[test]
fn calls_of_this_server_are_those_of_the_original() {
    let channels = crate::config::Channel::default();
    for hex in [SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, REFRESH] {
        let Content::Call(call) = content_of(hex) else { panic!("{hex}") };
        let command = commands::message(&call, &channels).expect("it selects connections");
        let command = proto::Command { uid: "6f1d2c3b".into(), ..command };
        assert_eq!(command.encode_to_vec(), bytes(hex), "{call:?}");
    }
}

#[test]
fn surveys_of_the_original_are_read() {
    let Content::SurveyRequest(request) = content_of(SURVEY_REQUEST) else { panic!("it is a survey") };
    let pattern = proto::ChannelsRequest::decode(&*request.data).unwrap().pattern;
    assert_eq!((request.id, &*request.op, &*pattern), (7, "channels", "news*"));
    let response = proto::SurveyResponse { id: 7, code: 3, data: b"d".to_vec() };
    assert_eq!(content_of(SURVEY_RESPONSE), Content::SurveyResponse(response));
    assert_eq!(content_of(NOTIFICATION), Content::Nothing);
}

#[test]
fn own_messages_and_unknown_ones_are_ignored() {
    let own = |hex| decode(&bytes(hex), "6f1d2c3b", CHANNEL_BYTES_MAX).unwrap().content;
    assert_eq!((own(DISCONNECT), own(SURVEY_REQUEST)), (Content::Own(None), Content::Own(Some(7))));
    // A command of a later version: field 15 with an empty message, and field 16 with a number.
    let later = [&bytes("0a083666316432633362")[..], &[0x7a, 0x00, 0x80, 0x01, 0x05]].concat();
    let received = decode(&later, "own", CHANNEL_BYTES_MAX).unwrap();
    assert_eq!(received.content, Content::Nothing);
    // A field of a later version inside a command that is known.
    let mut refresh = proto::Command::decode(&*bytes(REFRESH)).unwrap().refresh.unwrap().encode_to_vec();
    refresh.extend([0xf8, 0x06, 0x01]);
    let with_more = [&bytes("0a083666316432633362")[..], &[0x62, refresh.len() as u8], &refresh].concat();
    assert_eq!(decode(&with_more, "own", CHANNEL_BYTES_MAX).unwrap().content, content_of(REFRESH));
}

#[test]
fn messages_out_of_their_bounds_are_dropped() {
    let command = |uid: &str| proto::Command { uid: uid.into(), ..proto::Command::default() };
    let of = |command: proto::Command| decode(&command.encode_to_vec(), "own", CHANNEL_BYTES_MAX);
    assert_eq!(of(command("")), Err(Dropped::Malformed));
    assert_eq!(of(command(&"u".repeat(UID_BYTES_MAX + 1))), Err(Dropped::Malformed));
    let node = |uid: &str, name: String| proto::Node { uid: uid.into(), name, ..proto::Node::default() };
    let announced = |node| of(proto::Command { node: Some(node), ..command("a") });
    assert!(announced(node("a", "n".repeat(NAME_BYTES_MAX))).is_ok());
    assert_eq!(announced(node("a", "n".repeat(NAME_BYTES_MAX + 1))), Err(Dropped::Malformed));
    assert_eq!(announced(node("b", "n".into())), Err(Dropped::Malformed), "it speaks for another server");
    let items = [("nan".to_owned(), f64::NAN), ("one".to_owned(), 1.0)].into();
    let metrics = Some(proto::Metrics { interval: f64::INFINITY, items });
    let read = announced(proto::Node { metrics, ..node("a", "n".into()) }).unwrap();
    let Content::Node(NodeInfo { metrics: Some(metrics), .. }) = read.content else { panic!("it has metrics") };
    assert_eq!((metrics.interval_s, metrics.items), (0.0, [("one".to_owned(), 1.0)].into()));
    let items = (0..4_000).map(|number| (format!("item number {number}"), 1.0)).collect();
    let metrics = Some(proto::Metrics { interval: 60.0, items });
    let read = announced(proto::Node { metrics, ..node("a", "n".into()) }).unwrap();
    assert!(matches!(read.content, Content::Node(NodeInfo { metrics: None, .. })), "too many metrics");
    let refresh = proto::Refresh { user: "ann".into(), info: vec![b'1'; MESSAGE_BYTES_MAX], ..Default::default() };
    assert_eq!(of(proto::Command { refresh: Some(refresh), ..command("a") }), Err(Dropped::TooLarge));
    let data = vec![b'1'; MESSAGE_BYTES_MAX];
    let response = proto::SurveyResponse { id: 1, code: 0, data };
    assert!(of(proto::Command { survey_response: Some(response), ..command("a") }).is_ok(), "answers may be large");
    assert_eq!(decode(&vec![0; ANSWER_BYTES_MAX + 1], "own", CHANNEL_BYTES_MAX), Err(Dropped::TooLarge));
}

#[test]
fn any_bytes_are_read_or_rejected() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for hex in ALL {
        let whole = bytes(hex);
        for end in 0..whole.len() {
            // Cut off within a field it is malformed, between two it is a shorter message.
            drop(decode(&whole[..end], "own", CHANNEL_BYTES_MAX));
        }
        for round in 0..2_000 {
            let mut changed = whole.clone();
            for _ in 0..random.usize(1..6) {
                match random.u8(0..4) {
                    0 => changed.insert(random.usize(0..=changed.len()), random.u8(..)),
                    1 if !changed.is_empty() => _ = changed.remove(random.usize(0..changed.len())),
                    2 if !changed.is_empty() => changed.truncate(random.usize(1..=changed.len())),
                    _ => {
                        let at = random.usize(0..changed.len().max(1));
                        changed.get_mut(at).into_iter().for_each(|byte| *byte = random.u8(..));
                    }
                }
            }
            if let Ok(received) = decode(&changed, "own", CHANNEL_BYTES_MAX) {
                assert!(!received.from.is_empty(), "seed {seed}, round {round}");
            }
        }
    }
    for _ in 0..5_000 {
        let length = random.usize(0..64);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        drop(decode(&noise, "own", CHANNEL_BYTES_MAX));
    }
    // Messages within messages, deeper than any message is.
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        let mut outer = vec![0x22];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    drop(decode(&nested, "own", CHANNEL_BYTES_MAX));
}
