//! Commands and replies in one form for both encodings: JSON is converted to and from the Protobuf messages.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Value, json};

use super::pb;

/// The bytes of one frame.
pub fn encode(commands: &[pb::Command], text: bool) -> Vec<u8> {
    if text {
        let lines: Vec<String> = commands.iter().map(|command| command_json(command).to_string()).collect();
        return lines.join("\n").into_bytes();
    }
    commands.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

/// The messages of one frame; pings are not among them.
pub fn decode(mut frame: &[u8], text: bool) -> Vec<pb::Reply> {
    let mut replies = Vec::new();
    if text {
        for line in frame.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            replies.push(reply_of(&serde_json::from_slice(line).expect("JSON")));
        }
    } else {
        while !frame.is_empty() {
            replies.push(pb::Reply::decode_length_delimited(&mut frame).expect("Protobuf"));
        }
    }
    replies
}

fn command_json(command: &pb::Command) -> Value {
    let mut value = json!({"id": command.id});
    if let Some(connect) = &command.connect {
        let subs = connect.subs.iter().map(|(channel, sub)| (channel.clone(), subscribe_json(sub)));
        value["connect"] = json!({"subs": subs.collect::<serde_json::Map<_, _>>()});
    }
    if let Some(subscribe) = &command.subscribe {
        value["subscribe"] = subscribe_json(subscribe);
    }
    if let Some(publish) = &command.publish {
        let data: Value = serde_json::from_slice(&publish.data).expect("JSON");
        value["publish"] = json!({"channel": publish.channel, "data": data});
    }
    if let Some(history) = &command.history {
        value["history"] = json!({"channel": history.channel, "limit": history.limit});
    }
    for (name, named) in [("unsubscribe", &command.unsubscribe), ("presence", &command.presence)] {
        if let Some(named) = named {
            value[name] = json!({"channel": named.name});
        }
    }
    value
}

fn subscribe_json(sub: &pb::SubscribeRequest) -> Value {
    let mut value = json!({
        "channel": sub.channel, "recover": sub.recover, "epoch": sub.epoch, "offset": sub.offset,
        "positioned": sub.positioned, "recoverable": sub.recoverable, "join_leave": sub.join_leave,
        "delta": sub.delta, "flag": sub.flag,
    });
    if let Some(tf) = &sub.tf {
        value["tf"] = json!({"key": tf.key, "cmp": tf.cmp, "val": tf.val});
    }
    value
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn boolean(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

fn optional<T>(value: &Value, of: impl FnOnce(&Value) -> T) -> Option<T> {
    (!value.is_null()).then(|| of(value))
}

fn map<T>(value: &Value, of: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), of(value))).collect()
}

fn reply_of(value: &Value) -> pb::Reply {
    pb::Reply {
        id: number(&value["id"]) as u32,
        error: optional(&value["error"], |error| pb::Error {
            code: number(&error["code"]) as u32,
            message: text(&error["message"]),
            temporary: boolean(&error["temporary"]),
        }),
        push: optional(&value["push"], push_of),
        connect: optional(&value["connect"], |connect| pb::ConnectResult {
            client: text(&connect["client"]),
            subs: map(&connect["subs"], subscribed),
            ..Default::default()
        }),
        subscribe: optional(&value["subscribe"], subscribed),
        unsubscribe: optional(&value["unsubscribe"], |_| pb::Nothing {}),
        publish: optional(&value["publish"], |_| pb::Nothing {}),
        presence: optional(&value["presence"], |presence| pb::PresenceResult {
            presence: map(&presence["presence"], info),
        }),
        history: optional(&value["history"], |history| pb::HistoryResult {
            publications: publications(&history["publications"]),
            epoch: text(&history["epoch"]),
            offset: number(&history["offset"]),
        }),
        ..Default::default()
    }
}

fn push_of(push: &Value) -> pb::Push {
    let client = |value: &Value| pb::Who { info: optional(&value["info"], info) };
    pb::Push {
        channel: text(&push["channel"]),
        publication: optional(&push["pub"], publication),
        join: optional(&push["join"], client),
        leave: optional(&push["leave"], client),
        unsubscribe: optional(&push["unsubscribe"], |end| pb::Unsubscribe {
            code: number(&end["code"]) as u32,
            reason: text(&end["reason"]),
        }),
        subscribe: optional(&push["subscribe"], |sub| pb::Subscribe {
            recoverable: boolean(&sub["recoverable"]),
            epoch: text(&sub["epoch"]),
            offset: number(&sub["offset"]),
            positioned: boolean(&sub["positioned"]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn subscribed(result: &Value) -> pb::SubscribeResult {
    pb::SubscribeResult {
        recoverable: boolean(&result["recoverable"]),
        epoch: text(&result["epoch"]),
        publications: publications(&result["publications"]),
        recovered: boolean(&result["recovered"]),
        offset: number(&result["offset"]),
        positioned: boolean(&result["positioned"]),
        was_recovering: boolean(&result["was_recovering"]),
        delta: boolean(&result["delta"]),
        ..Default::default()
    }
}

fn publications(value: &Value) -> Vec<pb::Publication> {
    value.as_array().into_iter().flatten().map(publication).collect()
}

/// Payloads are objects: a string is for a subscriber with deltas, and holds the payload or a delta as text.
fn publication(value: &Value) -> pb::Publication {
    let data = match &value["data"] {
        Value::String(text) => text.clone(),
        object => object.to_string(),
    };
    pb::Publication {
        data: data.into_bytes(),
        info: optional(&value["info"], info),
        offset: number(&value["offset"]),
        tags: map(&value["tags"], text),
        delta: boolean(&value["delta"]),
        epoch: text(&value["epoch"]),
        ..Default::default()
    }
}

fn info(value: &Value) -> pb::ClientInfo {
    pb::ClientInfo { user: text(&value["user"]), client: text(&value["client"]), ..Default::default() }
}
