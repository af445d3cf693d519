//! RFC 6455 at `/echo`: every kind of message, split into frames and packets in every way.

use crate::common::{BINARY, CONTINUATION, Frame, PING, PONG, Raw, Server, TEXT, frame, frame_part, ws};
use tungstenite::{Bytes, Message, error::Error};

/// The default of `websocket.message_size_limit`.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn texts_and_binaries_of_every_length_form_are_echoed() {
    let server = Server::start();
    let mut ws = ws(&server, "/echo");
    for length in [0, 1, 125, 126, 127, 4095, 4096, 65_535, MESSAGE_BYTES_MAX] {
        for message in [Message::text("ä".repeat(length / 2)), Message::binary(bytes(length))] {
            ws.send(message.clone()).unwrap();
            assert_eq!(ws.read().unwrap(), message, "length {length}");
        }
    }
}

#[test]
fn message_past_the_limit_is_closed_with_1009() {
    let server = Server::start();
    let mut ws = ws(&server, "/echo");
    ws.send(Message::binary(bytes(MESSAGE_BYTES_MAX + 1))).unwrap();
    let Message::Close(Some(close)) = ws.read().unwrap() else { panic!("a close frame was due") };
    assert_eq!(u16::from(close.code), 1009);
}

#[test]
fn fragments_past_the_limit_together_are_closed_with_1009() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    raw.send(&frame_part(BINARY, false, &bytes(MESSAGE_BYTES_MAX), [1, 2, 3, 4]));
    raw.send(&frame_part(CONTINUATION, true, b"x", [0; 4]));
    assert!(raw.frame().is_close(1009));
    raw.expect_end();
}

#[test]
fn fragments_with_pings_between_them_are_one_message() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    // The second fragment ends inside a character.
    for (opcode, part) in [(TEXT, &b"one "[..]), (CONTINUATION, b"t\xc3"), (CONTINUATION, b""), (CONTINUATION, b"\xb6")]
    {
        raw.send(&frame_part(opcode, false, part, [9, 8, 7, 6]));
        raw.send(&frame(PING, part));
        assert_eq!(raw.frame(), Frame::new(PONG, part));
    }
    raw.send(&frame(CONTINUATION, b" end"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "one tö end"));
}

#[test]
fn ping_is_answered_in_order_with_its_own_payload() {
    let server = Server::start();
    let mut ws = ws(&server, "/echo");
    let payload = bytes(125);
    ws.send(Message::text("before")).unwrap();
    ws.send(Message::Ping(Bytes::from(payload.clone()))).unwrap();
    ws.send(Message::text("after")).unwrap();
    assert_eq!(ws.read().unwrap(), Message::text("before"));
    assert_eq!(ws.read().unwrap(), Message::Pong(Bytes::from(payload)));
    assert_eq!(ws.read().unwrap(), Message::text("after"));
}

#[test]
fn frame_that_arrives_byte_by_byte_is_one_message() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let long = bytes(300);
    raw.send_byte_by_byte(&frame(TEXT, "grüße".as_bytes()));
    raw.send_byte_by_byte(&frame(BINARY, &long));
    assert_eq!(raw.frame(), Frame::new(TEXT, "grüße"));
    assert_eq!(raw.frame(), Frame::new(BINARY, long));
}

#[test]
fn frames_may_be_split_and_joined_anywhere() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let lengths = [0, 1, 3, 5, 7, 126, 1001, 4099, 20_011];
    let stream: Vec<u8> = lengths.iter().flat_map(|&length| frame(BINARY, &bytes(length))).collect();
    // Seven bytes, then a prime: headers, masking keys and payloads are split at every offset, and no part is aligned.
    for piece in [7, 4093] {
        for part in stream.chunks(piece) {
            raw.send(part);
        }
        for length in lengths {
            assert_eq!(raw.frame(), Frame::new(BINARY, bytes(length)));
        }
    }
}

#[test]
fn masking_key_of_zero_is_valid() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    for length in [5, 200, 5000] {
        raw.send(&frame_part(BINARY, true, &bytes(length), [0; 4]));
        assert_eq!(raw.frame(), Frame::new(BINARY, bytes(length)));
    }
}

#[test]
fn hundred_small_messages_in_one_packet_are_echoed_in_order() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let packet: Vec<u8> = (0..100).flat_map(|i| frame(TEXT, format!("message {i}").as_bytes())).collect();
    raw.send(&packet);
    for i in 0..100 {
        assert_eq!(raw.frame(), Frame::new(TEXT, format!("message {i}")));
    }
}

#[test]
fn messages_and_pings_of_every_length_in_one_packet_are_echoed_in_order() {
    let server = Server::start();
    let lengths = [0, 1, 7, 125, 126, 600, 4095, 4096, 9000, 65_536, 3, 127];
    // No ping, or a ping before one of the messages: frames that are echoed in place then meet frames that are not.
    for pinged in 0..=lengths.len() {
        let mut raw = Raw::open(&server, "/echo");
        let (mut packet, mut expected) = (Vec::new(), Vec::new());
        for (at, &length) in lengths.iter().enumerate() {
            if at == pinged {
                packet.extend(frame(PING, b"now?"));
                expected.push(Frame::new(PONG, b"now?"));
            }
            let (opcode, payload) = if at % 2 == 0 { (BINARY, bytes(length)) } else { (TEXT, vec![b'x'; length]) };
            packet.extend(frame(opcode, &payload));
            expected.push(Frame::new(opcode, payload));
        }
        raw.send(&packet);
        for frame in expected {
            assert_eq!(raw.frame(), frame, "ping before message {pinged}");
        }
    }
}

#[test]
fn unread_echoes_are_all_delivered_later() {
    let server = Server::with(&[("client.queue_max_size", "64MiB")]);
    let mut raw = Raw::open(&server, "/echo");
    let payload = bytes(50_000);
    let mut reader = Raw(raw.0.try_clone().unwrap());
    let count = 400;
    let sender = {
        let payload = payload.clone();
        std::thread::spawn(move || (0..count).for_each(|_| raw.send(&frame(BINARY, &payload))))
    };
    sender.join().unwrap();
    for _ in 0..count {
        assert_eq!(reader.frame(), Frame::new(BINARY, payload.clone()));
    }
}

#[test]
fn text_that_is_not_utf_8_is_closed_with_1007_before_it_is_whole() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    raw.send(&frame_part(TEXT, false, b"good \xff bad", [4, 3, 2, 1]));
    assert!(raw.frame().is_close(1007));
    raw.expect_end();
}

#[test]
fn violations_are_closed_with_1002() {
    let server = Server::start();
    let unmasked = [0x81, 1, b'x'];
    let reserved_bit = {
        let mut bytes = frame(TEXT, b"x");
        bytes[0] |= 0x40;
        bytes
    };
    let long_form = [0x82, 0x80 | 126, 0, 1, 0, 0, 0, 0, b'x'];
    for (what, bytes) in [
        ("a frame without a masking key", &unmasked[..]),
        ("a reserved bit", &reserved_bit),
        ("an unknown opcode", &frame(3, b"")),
        ("a continuation of nothing", &frame(CONTINUATION, b"x")),
        ("a length not in its shortest form", &long_form),
        ("a ping in fragments", &frame_part(PING, false, b"x", [1; 4])),
        ("a ping that is too long", &frame(PING, &[0; 126])),
    ] {
        let mut raw = Raw::open(&server, "/echo");
        raw.send(bytes);
        assert!(raw.frame().is_close(1002), "{what}");
        raw.expect_end();
    }
    let mut ws = ws(&server, "/echo");
    ws.send(Message::text("still here")).unwrap();
    assert!(!matches!(ws.read(), Err(Error::ConnectionClosed)));
}
