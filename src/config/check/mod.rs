//! Settings held against their ranges and against each other, once every value was read.

pub(crate) mod backends;
pub(crate) mod channels;
pub(crate) mod remarks;

use std::net::SocketAddr;
use std::time::Duration;

use super::value::{Wrong, show_duration};
use super::{Config, Handover, Place, Shutdown};
use crate::auth::Origins;
use crate::engine::admission::address_table::{ADDRESS_BURST_S_MAX, ADDRESS_CONNECTIONS_MAX, ADDRESS_HANDSHAKES_MAX};
use crate::engine::config::{EngineConfig, Machine, RECEIVE_BYTES};
use crate::engine::mailbox::SHARDS_MAX;
use crate::engine::timer_wheel::TICK;

pub use remarks::remarks;

/// Calls `fault` with the setting and what is wrong, for each thing that is.
pub fn check(config: &Config, mut fault: impl FnMut(&str, Wrong)) {
    let mut hold = |holds: bool, name: &str, what: String, mend: &str| {
        if !holds {
            fault(name, Wrong::new(what, mend));
        }
    };
    cores(config, &mut hold);
    sockets(config, &mut hold);
    tls(config, &mut hold);
    times(config, &mut hold);
    bounds(config, &mut hold);
    origins(config, &mut hold);
    channels::channels(config, &mut hold);
    backends::backends(config, &mut hold);
    backends::tokens(config, &mut hold);
}

fn origins(config: &Config, hold: &mut Hold<'_>) {
    if let Err(bad) = Origins::new(&config.client.allowed_origins) {
        hold(false, "client.allowed_origins", bad.to_string(), "close it, or write \\ before a sign that means itself");
    }
}

type Hold<'a> = dyn FnMut(bool, &str, String, &str) + 'a;

fn cores(config: &Config, hold: &mut Hold<'_>) {
    if let Some(shards) = config.shards {
        let what = format!("{shards} is not within 1 and {SHARDS_MAX}");
        hold((1..=SHARDS_MAX).contains(&shards), "shards", what, "choose about as many as there are cores");
        if let Some(cores) = &config.cores {
            let what = format!("{shards} shards do not fit on {} cores", cores.len());
            let mend = "name more cores, or set oversubscribe";
            hold(shards <= cores.len() || config.oversubscribe, "shards", what, mend);
        }
    }
    if let Some(cores) = &config.cores {
        let what = format!("{} cores are more than the {SHARDS_MAX} shards of one process", cores.len());
        hold(cores.len() <= SHARDS_MAX || config.shards.is_some(), "cores", what, "name fewer, or set shards");
    }
}

/// Who speaks TLS needs a certificate; whether the files are any good is seen when they are opened.
fn tls(config: &Config, hold: &mut Hold<'_>) {
    let tls = &config.tls;
    let mend = "set it to the file of your certificate, such as \"/etc/corecast/fullchain.pem\"";
    let speaks = config.listeners.iter().find(|listen| listen.tls);
    let what = speaks.map_or("tls.admin".into(), |listen| format!("the listener {listen}"));
    let needs = speaks.is_some() || tls.admin;
    hold(!needs || !tls.cert_pem_file.is_empty(), "tls.cert_pem_file", format!("{what} needs a certificate"), mend);
    for (name, set) in [
        ("tls.key_pem_file", !tls.key_pem_file.is_empty()),
        ("tls.more_certificates", !tls.more_certificates.is_empty()),
    ] {
        hold(!set || !tls.cert_pem_file.is_empty(), name, "there is no tls.cert_pem_file before it".into(), mend);
    }
    let what = "nobody is asked for a certificate where TLS is not spoken".into();
    let mend = "set tls.admin to true";
    hold(tls.admin || tls.admin_client_ca_pem_file.is_empty(), "tls.admin_client_ca_pem_file", what, mend);
    let what = "there is no admin.address that could speak TLS".into();
    hold(!tls.admin || config.admin.is_some(), "tls.admin", what, "set admin.address, such as \"127.0.0.1:9000\"");
    let (lifetime, week) = (tls.ticket_lifetime, Duration::from_secs(7 * 24 * 3600));
    let what = format!("{} is not between a minute and a week (RFC 8446, section 4.6.1)", show_duration(lifetime));
    let fits = lifetime >= Duration::from_secs(60) && lifetime <= week;
    hold(fits, "tls.ticket_lifetime", what, "write one such as \"12h\"");
}

fn sockets(config: &Config, hold: &mut Hold<'_>) {
    let listeners = &config.listeners;
    for (index, listen) in listeners.iter().enumerate() {
        let zero = matches!(listen.place, Place::Tcp(address) if address.port() == 0);
        let twice = !zero && listeners[..index].iter().any(|other| other.place == listen.place);
        hold(!twice, "listen", format!("{} is named twice", listen.place), "name it once");
        let Place::Tcp(client) = listen.place else { continue };
        for (name, other, port) in
            [("admin.address", config.admin, 9000), ("grpc_api.port", config.grpc_api.address, 10000)]
        {
            let Some(other) = other else { continue };
            let what = format!("{other} meets the clients' address {client}");
            hold(!meet(client, other), name, what, &format!("choose another port, such as {port}"));
        }
    }
    if let (Some(grpc), Some(admin)) = (config.grpc_api.address, config.admin) {
        let what = format!("{grpc} meets admin.address, {admin}");
        hold(!meet(grpc, admin), "grpc_api.port", what, "choose another port, such as 10000");
    }
}

/// Not both can be listened on.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn times(config: &Config, hold: &mut Hold<'_>) {
    let client = &config.client;
    let ping = client.ping_interval;
    let whole = ping >= Duration::from_secs(1) && ping.subsec_nanos() == 0;
    let what = format!("{} is not a number of whole seconds, in which clients are told it", show_duration(ping));
    hold(whole, "client.ping_interval", what, "write at least \"1s\", such as \"25s\"");
    let what = format!(
        "{} is not shorter than client.ping_interval, {}",
        show_duration(client.pong_timeout),
        show_duration(ping)
    );
    let mend = "make it shorter, such as \"8s\", or the interval longer: one ping is open at a time";
    hold(client.pong_timeout < ping, "client.pong_timeout", what, mend);
    let spans = [
        ("client.stale_close_delay", client.stale_close_delay),
        ("client.expired_close_delay", client.expired_close_delay),
        ("client.expired_sub_close_delay", client.expired_sub_close_delay),
        ("engine.upgrade_timeout", config.engine.upgrade_timeout),
        ("engine.close_timeout", config.engine.close_timeout),
        ("engine.linger_timeout", config.engine.linger_timeout),
        ("admin.request_timeout", config.admin_request_timeout),
    ];
    machine(&config.engine.machine, hold);
    for (name, span) in [("client.pong_timeout", client.pong_timeout)].into_iter().chain(spans) {
        let what = format!("{} is less than the step of the timers, {}", show_duration(span), show_duration(TICK));
        hold(span >= TICK, name, what, "write at least \"100ms\"");
    }
    let Shutdown { timeout, window, delay, .. } = config.shutdown;
    let what = format!("{} is not shorter than shutdown.timeout, {}", show_duration(window), show_duration(timeout));
    let mend = "leave time behind it for the last clients to answer their close, such as \"20s\" of \"30s\"";
    hold(window.is_zero() || window < timeout, "shutdown.window", what, mend);
    let ending = [("shutdown.timeout", timeout), ("shutdown.delay", delay)];
    for (name, span) in [("client.ping_interval", ping)].into_iter().chain(spans).chain(ending) {
        let what = format!("{} is more than an hour", show_duration(span));
        hold(span <= Duration::from_secs(3600), name, what, "write at most \"1h\"");
    }
}

/// What the kernel counts in microseconds, in seconds, or in a byte or two.
fn machine(machine: &Machine, hold: &mut Hold<'_>) {
    let spans = [("machine.spin", machine.spin), ("machine.busy_poll", machine.busy_poll)];
    for (name, span) in spans {
        let what = format!("{} is long for a core that does nothing else", show_duration(span));
        hold(span <= Duration::from_secs(1), name, what, "write at most \"1s\"");
    }
    let budget = machine.busy_poll_budget;
    let what = format!("{budget} is no number of packets that the kernel takes");
    hold(
        (1..=1024).contains(&budget),
        "machine.busy_poll_budget",
        what,
        "write 1 to 1024; above 64 takes CAP_NET_ADMIN",
    );
    let defer = machine.defer_accept;
    let what = format!("{} is no whole number of seconds up to a minute", show_duration(defer));
    let fits = defer.subsec_nanos() == 0 && defer <= Duration::from_secs(60);
    hold(fits, "machine.defer_accept", what, "write \"0s\" for off, or \"5s\"");
    let user = machine.user_timeout;
    let what = format!("{} is not between a second and an hour", show_duration(user));
    let fits = user.is_zero() || (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&user);
    hold(fits, "machine.user_timeout", what, "write \"0s\" for the kernel's own, or \"30s\"");
    let bytes = machine.notsent_bytes_max;
    let mend = "write at least \"4KiB\"";
    hold(bytes >= 4096, "machine.notsent_bytes_max", format!("{bytes} is too small"), mend);
}

fn bounds(config: &Config, hold: &mut Hold<'_>) {
    let engine = &config.engine;
    for (name, number, least) in [
        ("client.channel_limit", config.client.channel_limit, 1),
        ("client.history_max_publication_limit", config.client.history_max_publication_limit as usize, 1),
        ("client.recovery_max_publication_limit", config.client.recovery_max_publication_limit as usize, 1),
        ("engine.history_bytes_max", config.history_bytes_max, 64 * 1024),
        ("client.queue_max_size", engine.outbound_bytes_max, 4096),
        ("channel.max_length", config.channel.max_length, 1),
        ("websocket.message_size_limit", engine.message_bytes_max, 128),
        ("engine.connections_max", engine.connections_max as usize, 1),
        ("admin.connections_max", config.admin_connections_max as usize, 1),
        ("engine.accepts_per_turn", engine.accepts_per_turn as usize, 1),
        ("engine.handshakes_per_turn", engine.handshakes_per_turn as usize, 1),
        ("engine.read_bytes_per_turn", engine.read_bytes_per_turn, 4096),
        ("engine.mail_per_turn", engine.mail_per_turn as usize, 1),
        ("engine.deliveries_per_slice", engine.deliveries_per_slice as usize, 1),
        ("engine.mailbox_batches_max", engine.mailbox_batches_max, 1),
        ("engine.mail_bytes_max", engine.mail_bytes_max, 64 * 1024),
        ("engine.turn_bytes_max", engine.turn_bytes_max, 64 * 1024),
        ("limits.handshakes_per_address_burst", engine.handshakes_per_address_burst as usize, 1),
        ("engine.backlog_bytes_max", engine.backlog_bytes_max, 1024 * 1024),
    ] {
        hold(number >= least, name, format!("{number} is too small"), &format!("write at least {least}"));
    }
    per_address(engine, hold);
    let Handover { socket, take, bytes_max } = &config.handover;
    let what = "there is no handover.socket at which somebody could answer".to_owned();
    hold(
        !take || !socket.is_empty(),
        "handover.take",
        what,
        "set handover.socket to the path that the other process has",
    );
    let what = format!("{bytes_max} is too small");
    hold(*bytes_max >= 64 * 1024, "handover.bytes_max", what, "write at least \"64KiB\"");
    // One message from the bus must fit into what may wait for a shard, else it could never be sent.
    let message = engine.message_bytes_max;
    for (name, number) in
        [("engine.mail_bytes_max", engine.mail_bytes_max), ("engine.turn_bytes_max", engine.turn_bytes_max)]
    {
        let what = format!("{number} holds no message of websocket.message_size_limit, {message} bytes");
        hold(number >= message, name, what, "make it larger, or the message limit smaller");
    }
    let compression = &engine.compression;
    for (name, number, range) in [
        ("websocket.compression_level", compression.level, 1..=9),
        ("websocket.compression_window_bits", compression.window_bits, 9..=15),
    ] {
        let (least, most) = (range.start(), range.end());
        let what = format!("{number} is not within {least} and {most}");
        hold(range.contains(&number), name, what, &format!("write one of {least} to {most}"));
    }
    let length = config.channel.max_length;
    let what = format!("{length} is more than a message could carry beside its command");
    hold(length <= 4096 && length < message, "channel.max_length", what, "write at most 4096, such as 255");
    let read = engine.read_bytes_per_turn;
    let what = format!("{read} bytes is past 64 receive buffers of {RECEIVE_BYTES}: no other socket would be served");
    hold(read <= 64 * RECEIVE_BYTES, "engine.read_bytes_per_turn", what, "write a smaller size, such as \"256KiB\"");
}

/// The table of addresses counts in words of so many bits.
fn per_address(engine: &EngineConfig, hold: &mut Hold<'_>) {
    let connections = engine.connections_per_address;
    let what = format!("{connections} is more than is counted, {ADDRESS_CONNECTIONS_MAX}");
    hold(connections <= ADDRESS_CONNECTIONS_MAX, "limits.connections_per_address", what, "write 0 for no limit");
    let (rate, burst) = (engine.handshakes_per_address, engine.handshakes_per_address_burst);
    let most = ADDRESS_HANDSHAKES_MAX;
    hold(rate <= most, "limits.handshakes_per_address", format!("{rate} is more than {most}"), "write 0 for no limit");
    let what = format!("a burst of {burst} takes more than {ADDRESS_BURST_S_MAX} s to be allowed again");
    let fits = rate == 0 || u64::from(burst) <= u64::from(rate) * u64::from(ADDRESS_BURST_S_MAX);
    hold(fits, "limits.handshakes_per_address_burst", what, "write a smaller one, or a higher rate");
}

/// What is told to others, or compared with what they say, in whole seconds.
fn whole_seconds(name: &str, span: Duration, hold: &mut Hold<'_>) {
    let what = format!("{} is not a number of whole seconds", show_duration(span));
    hold(span.subsec_nanos() == 0, name, what, "write one such as \"300s\"");
}
