//! Sizes and counts: their bounds, and which must hold which.

use super::checks::Checks;
use crate::config::schema::config::Config;
use crate::config::schema::engine::{Engine, Limits};
use crate::config::schema::lifecycle::Handover;
use crate::engine::admission::address_table::{ADDRESS_BURST_S_MAX, ADDRESS_CONNECTIONS_MAX, ADDRESS_HANDSHAKES_MAX};
use crate::engine::config::{RECEIVE_BYTES, REQUEST_FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};

pub(crate) fn bounds(config: &Config, checks: &mut Checks) {
    let (engine, websocket, client) = (&config.engine, &config.websocket, &config.client);
    for (setting, number, least) in [
        ("client.channel_limit", client.channel_limit, 1),
        ("client.history_max_publication_limit", client.history_max_publication_limit as usize, 1),
        ("client.recovery_max_publication_limit", client.recovery_max_publication_limit as usize, 1),
        ("engine.history_bytes_max", engine.history_bytes_max, 64 * 1024),
        ("client.queue_max_size", client.queue_max_size, 4096),
        ("channel.max_length", config.channel.max_length, 1),
        ("websocket.message_size_limit", websocket.message_size_limit, 128),
        ("engine.connections_max", engine.connections_max as usize, 1),
        ("admin.connections_max", config.admin.connections_max as usize, 1),
        ("engine.accepts_per_turn", engine.accepts_per_turn as usize, 1),
        ("engine.handshakes_per_turn", engine.handshakes_per_turn as usize, 1),
        ("engine.read_bytes_per_turn", engine.read_bytes_per_turn, 4096),
        ("engine.mail_per_turn", engine.mail_per_turn as usize, 1),
        ("engine.deliveries_per_slice", engine.deliveries_per_slice as usize, 1),
        ("engine.mailbox_batches_max", engine.mailbox_batches_max, 1),
        ("engine.mail_bytes_max", engine.mail_bytes_max, 64 * 1024),
        ("engine.turn_bytes_max", engine.turn_bytes_max, 64 * 1024),
        ("limits.handshakes_per_address_burst", config.limits.handshakes_per_address_burst as usize, 1),
        ("engine.backlog_bytes_max", engine.backlog_bytes_max, 1024 * 1024),
        ("engine.request_target_bytes_max", engine.request_target_bytes_max, 256),
        ("engine.request_fields_max", engine.request_fields_max, 16),
        ("engine.pending_heads_bytes_max", engine.pending_heads_bytes_max, 1024 * 1024),
        ("handover.bytes_max", config.handover.bytes_max, 64 * 1024),
    ] {
        checks.require(number >= least, setting, format!("{number} is too small"), format!("write at least {least}"));
    }
    per_address(&config.limits, checks);
    request_head(engine, checks);
    let Handover { socket, take, .. } = &config.handover;
    let fix = "set handover.socket to the path that the other process uses";
    checks.require(!take || !socket.is_empty(), "handover.take", "handover.socket is not set", fix);
    // A message larger than the bytes that may wait for a shard could never be sent to it.
    let message = websocket.message_size_limit;
    for (setting, number) in
        [("engine.mail_bytes_max", engine.mail_bytes_max), ("engine.turn_bytes_max", engine.turn_bytes_max)]
    {
        let what = format!("{number} holds no message of websocket.message_size_limit, {message} bytes");
        checks.require(number >= message, setting, what, "write a larger size, or a smaller message limit");
    }
    for (setting, number, range) in [
        ("websocket.compression_level", websocket.compression_level, 1..=9),
        ("websocket.compression_window_bits", websocket.compression_window_bits, 9..=15),
    ] {
        let (least, most) = (range.start(), range.end());
        let what = format!("{number} is not within {least} and {most}");
        checks.require(range.contains(&number), setting, what, format!("write one of {least} to {most}"));
    }
    let length = config.channel.max_length;
    let what = format!("{length} is more than a message can hold together with its command");
    let fits = length <= 4096 && length < message;
    checks.require(fits, "channel.max_length", what, "write at most 4096, such as 255");
    let read = engine.read_bytes_per_turn;
    let what = format!(
        "{read} bytes are more than 64 receive buffers of {RECEIVE_BYTES}, and one socket would delay all others"
    );
    let fix = "write a smaller size, such as \"256KiB\"";
    checks.require(read <= 64 * RECEIVE_BYTES, "engine.read_bytes_per_turn", what, fix);
}

fn request_head(engine: &Engine, checks: &mut Checks) {
    let (head, target, fields) =
        (engine.request_head_bytes_max, engine.request_target_bytes_max, engine.request_fields_max);
    let setting = "engine.request_head_bytes_max";
    let what = format!("{head} is more than half of a receive buffer, {REQUEST_HEAD_BYTES_MAX}");
    checks.require(head <= REQUEST_HEAD_BYTES_MAX, setting, what, "write a smaller size, such as \"32KiB\"");
    let what =
        format!("{head} bytes hold no target of engine.request_target_bytes_max, {target} bytes, with its fields");
    checks.require(head >= target + 1024, setting, what, "write a larger size, or a smaller target");
    let what = format!("{fields} is more than {REQUEST_FIELDS_MAX}");
    checks.require(
        fields <= REQUEST_FIELDS_MAX,
        "engine.request_fields_max",
        what,
        "write a smaller number, such as 128",
    );
}

/// The address table counts in words of a few bits.
fn per_address(limits: &Limits, checks: &mut Checks) {
    let connections = limits.connections_per_address;
    let what = format!("{connections} is more than the server can count, {ADDRESS_CONNECTIONS_MAX}");
    let fits = connections <= ADDRESS_CONNECTIONS_MAX;
    checks.require(fits, "limits.connections_per_address", what, "write 0 for no limit");
    let (rate, burst) = (limits.handshakes_per_address, limits.handshakes_per_address_burst);
    let what = format!("{rate} is more than {ADDRESS_HANDSHAKES_MAX}");
    let fits = rate <= ADDRESS_HANDSHAKES_MAX;
    checks.require(fits, "limits.handshakes_per_address", what, "write 0 for no limit");
    let what = format!("after a burst of {burst} it takes more than {ADDRESS_BURST_S_MAX} s until the next is allowed");
    let fits = rate == 0 || u64::from(burst) <= u64::from(rate) * u64::from(ADDRESS_BURST_S_MAX);
    checks.require(fits, "limits.handshakes_per_address_burst", what, "write a smaller burst, or a higher rate");
}
