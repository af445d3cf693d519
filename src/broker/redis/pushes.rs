//! What a PUB/SUB connection receives, in RESP2 and in RESP3.

use bytes::Bytes;
use redis::{PushKind, Value};

use super::answers::bytes_of;
use super::dial::error_text;

#[derive(PartialEq, Eq, Debug)]
pub(super) enum Push {
    Message {
        name: Vec<u8>,
        payload: Bytes,
    },
    Subscribed {
        name: Vec<u8>,
    },
    Unsubscribed {
        name: Vec<u8>,
    },
    Pong,
    /// A command ended with this error.
    Refused(String),
}

/// `None`: something else.
pub(super) fn push_of(value: Value) -> Option<Push> {
    match value {
        Value::Push { kind, data } => {
            let kind = match kind {
                PushKind::Message | PushKind::SMessage => Kind::Message,
                PushKind::Subscribe | PushKind::SSubscribe => Kind::Subscribed,
                PushKind::Unsubscribe | PushKind::SUnsubscribe => Kind::Unsubscribed,
                _ => return None,
            };
            kind.push(data)
        }
        Value::Array(mut parts) if !parts.is_empty() => {
            let kind = match bytes_of(&parts[0])? {
                b"message" | b"smessage" => Kind::Message,
                b"subscribe" | b"ssubscribe" => Kind::Subscribed,
                b"unsubscribe" | b"sunsubscribe" => Kind::Unsubscribed,
                b"pong" => return Some(Push::Pong),
                _ => return None,
            };
            parts.remove(0);
            kind.push(parts)
        }
        Value::SimpleString(text) if text == "PONG" => Some(Push::Pong),
        Value::ServerError(error) => Some(Push::Refused(error_text(&error))),
        _ => None,
    }
}

enum Kind {
    Message,
    Subscribed,
    Unsubscribed,
}

impl Kind {
    fn push(self, data: Vec<Value>) -> Option<Push> {
        let mut data = data.into_iter();
        let Value::BulkString(name) = data.next()? else { return None };
        Some(match self {
            Self::Message => {
                let Value::BulkString(payload) = data.next()? else { return None };
                Push::Message { name, payload: payload.into() }
            }
            Self::Subscribed => Push::Subscribed { name },
            Self::Unsubscribed => Push::Unsubscribed { name },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn pushes_of_both_protocols_are_the_same() {
        let message = || Some(Push::Message { name: b"a".to_vec(), payload: Bytes::from_static(b"b") });
        assert_eq!(push_of(Value::Array(vec![bulk("message"), bulk("a"), bulk("b")])), message());
        assert_eq!(push_of(Value::Push { kind: PushKind::SMessage, data: vec![bulk("a"), bulk("b")] }), message());
        let subscribed = || Some(Push::Subscribed { name: b"a".to_vec() });
        assert_eq!(push_of(Value::Array(vec![bulk("ssubscribe"), bulk("a"), Value::Int(1)])), subscribed());
        let push = Value::Push { kind: PushKind::Subscribe, data: vec![bulk("a"), Value::Int(1)] };
        assert_eq!(push_of(push), subscribed());
        assert_eq!(push_of(Value::Array(vec![bulk("pong"), bulk("")])), Some(Push::Pong));
        assert_eq!(push_of(Value::SimpleString("PONG".into())), Some(Push::Pong));
    }

    #[test]
    fn other_values_are_no_pushes() {
        for value in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![bulk("message")]),
            Value::Array(vec![bulk("message"), Value::Int(1), bulk("b")]),
            Value::Array(vec![bulk("message"), bulk("a"), Value::Nil]),
            Value::Array(vec![Value::Nil]),
            Value::Push { kind: PushKind::Message, data: vec![] },
            Value::Push { kind: PushKind::Invalidate, data: vec![bulk("a")] },
        ] {
            assert_eq!(push_of(value), None);
        }
    }
}
