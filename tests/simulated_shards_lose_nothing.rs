//! Several shards in one thread, over sockets of memory, in a schedule made of a seed: the very code that runs in
//! production, mailboxes and sleep included, under tiny bounds. Checked: per-channel order, no loss, no duplicate, every
//! command answered once, nobody asleep on work, nothing left behind. Then, with readers who are cut and come back to any
//! shard in any encoding: what is recovered is all that was missed, and what is refused is what home forgot; deltas make
//! the bytes that were published; presence, joins and leaves tell who is there.
//!
//! `CORECAST_SEED=n cargo test --test simulated_shards_lose_nothing` repeats one world, `CORECAST_WORLDS=n` runs more.

#[path = "sim/client.rs"]
mod client;
#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/dialect.rs"]
mod dialect;
#[path = "sim/end.rs"]
mod end;
#[path = "sim/lives.rs"]
mod lives;
/// The protocol's messages as another library knows them.
#[path = "../src/protocol/protobuf/peer_tests.rs"]
#[allow(dead_code)]
mod pb;
#[path = "sim/reader.rs"]
mod reader;
#[path = "sim/seen.rs"]
mod seen;
#[path = "sim/socket.rs"]
mod socket;
#[path = "sim/truth.rs"]
mod truth;
#[path = "sim/world.rs"]
mod world;

use cluster::Bounds;
use corecast::config::SlowConsumer;
use lives::{Lives, Story};
use truth::Keeps;
use world::{Seen, World};

const WORLDS: u64 = 150;
const STEPS: usize = 3_000;
/// How often a world with readers comes to rest and is looked at.
const RESTS: usize = 8;

/// Whoever lags waits or is cut.
const NEVER_DROP: (SlowConsumer, usize) = (SlowConsumer::Close, 0);
/// A bound of all backlogs that they reach.
const BACKLOGS_BYTES: usize = 6_000;
/// More than a world holds.
const PLENTY: usize = 1 << 30;

/// The worlds of one kind.
fn seeds(kind: u64, worlds: u64) -> std::ops::Range<u64> {
    let given = std::env::var("CORECAST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let worlds = std::env::var("CORECAST_WORLDS").map_or(worlds, |worlds| worlds.parse().expect("a number"));
    given.map_or(kind * 1_000_000..kind * 1_000_000 + worlds, |seed: u64| seed..seed + 1)
}

/// Runs worlds of one kind and adds up what happened in them.
fn run(kind: u64, history: usize, bounds: impl Fn(&mut fastrand::Rng) -> Bounds) -> Seen {
    let mut seen = Seen::default();
    for seed in seeds(kind, WORLDS) {
        eprintln!("CORECAST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let bounds = bounds(&mut random);
        let mut world = World::new(&bounds, history, random);
        (0..STEPS).for_each(|_| world.step());
        world.settle();
        world.check();
        world.end();
        seen.add(&world.seen());
    }
    seen
}

#[test]
fn tiny_bounds_cost_time_but_no_publication() {
    let seen = run(1, 1 << 20, |random| Bounds {
        shards: random.usize(2..5),
        mailbox_batches: 2,
        mail_bytes: random.usize(200..900),
        slice: 3,
        backlog_bytes: 1 << 20,
        backlogs_bytes: PLENTY,
        slow: NEVER_DROP,
    });
    eprintln!("{seen:?}");
    assert_eq!(seen.lost, 0);
    assert_eq!(seen.gaps, 0);
    happened(&[
        ("overflow", seen.overflows),
        ("skip and repair", seen.repaired),
        ("cut flush", seen.flushes_cut),
        ("slot reuse", seen.slots_reused),
        ("late answer", seen.late_answers),
        ("close during a flush", seen.closes_in_flush),
        ("blocked socket", seen.writes_short),
        ("drain", seen.drained),
    ]);
}

#[test]
fn a_backlog_of_one_byte_cuts_the_slow_and_only_them() {
    let seen = run(2, 1 << 20, |random| Bounds {
        shards: random.usize(1..4),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: 1,
        backlogs_bytes: PLENTY,
        slow: NEVER_DROP,
    });
    eprintln!("{seen:?}");
    assert_eq!((seen.lost, seen.gaps), (0, 0), "who was cut missed nothing before");
    assert!(seen.cut_as_slow > 0, "nobody was slow");
}

#[test]
fn all_backlogs_together_are_bounded_by_cutting_the_longest() {
    let seen = run(11, 1 << 20, |random| Bounds {
        shards: random.usize(1..4),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: 1 << 20,
        backlogs_bytes: BACKLOGS_BYTES,
        slow: [NEVER_DROP, (SlowConsumer::DropOldest, 0), (SlowConsumer::KeepLatest, 0)][random.usize(..3)],
    });
    eprintln!("{seen:?}");
    assert!(seen.cut_as_slow > 0, "nobody was slow");
    assert!(seen.kept_max > BACKLOGS_BYTES as u64 / 2, "they never had much: {}", seen.kept_max);
    // Of those who were cut the close frames remain, and of a frame that is half on the wire the rest.
    assert!(seen.kept_max < BACKLOGS_BYTES as u64 + 4_000, "{} bytes are too many", seen.kept_max);
}

#[test]
fn what_history_no_longer_has_is_counted_and_nothing_is_missing_silently() {
    let seen = run(3, 1, |random| Bounds {
        shards: random.usize(2..4),
        mailbox_batches: 1,
        mail_bytes: random.usize(150..300),
        slice: 3,
        backlog_bytes: 1 << 20,
        backlogs_bytes: PLENTY,
        slow: NEVER_DROP,
    });
    eprintln!("{seen:?}");
    assert!(seen.lost > 0, "nothing was lost");
    assert!(seen.gaps <= seen.lost, "{} missing, {} counted", seen.gaps, seen.lost);
}

/// What a kind of world is made for must be seen in it.
fn happened(what: &[(&str, u64)]) {
    // One world alone need not have it all.
    for (what, times) in what.iter().filter(|_| std::env::var("CORECAST_SEED").is_err()) {
        assert!(*times > 0, "{what} never happened");
    }
}

/// As `run`, with readers who come back.
fn run_lives(kind: u64, worlds: u64, story: impl Fn(&mut fastrand::Rng) -> (Bounds, Story)) -> seen::Seen {
    let mut seen = seen::Seen::default();
    for seed in seeds(kind, worlds) {
        eprintln!("CORECAST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (bounds, story) = story(&mut random);
        let mut world = Lives::new(&bounds, story, random);
        for _ in 0..RESTS {
            (0..STEPS / RESTS).for_each(|_| world.step());
            world.settle();
            world.check();
        }
        world.gather();
        world.check();
        seen.add(&world.end());
    }
    seen
}

const HOUR: u64 = 3_600_000;

#[test]
fn who_comes_back_gets_each_publication_once() {
    let seen = run_lives(4, 100, |random| {
        let bounds = Bounds {
            shards: random.usize(2..5),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: 1 << 20,
            backlogs_bytes: PLENTY,
            slow: NEVER_DROP,
        };
        let keeps = Keeps { size: 1 << 20, ttl: HOUR, meta_ttl: HOUR, recovered_max: 1 << 20, exact: true };
        let (forced, deltas) = (random.bool(), random.bool());
        (bounds, Story { readers: 16, keeps, leap: 50, forced, deltas, roomy: false })
    });
    eprintln!("{seen:?}");
    assert_eq!((seen.unrecovered, seen.rejected, seen.insufficient, seen.closed_for_loss), (0, 0, 0, 0));
    happened(&[
        ("JSON", seen.texts),
        ("Protobuf", seen.binaries),
        ("recovery", seen.recovered),
        ("recovery of nothing", seen.nothing_missed),
        ("connect with subscriptions", seen.with_connect),
        ("connect and subscribe in one frame", seen.one_frames),
        ("subscribe by the server", seen.by_server),
        ("unsubscribe by the server", seen.unsubscribed),
        ("subscribe that crosses the server's", seen.already),
        ("disconnect by the server", seen.disconnected),
        ("delta", seen.deltas),
        ("filter", seen.withheld),
        ("publication without an offset", seen.passing),
        ("reset", seen.resets),
        ("end of a stream", seen.ends),
        ("overflow", seen.overflows),
        ("skip and repair", seen.repaired),
        ("cut flush", seen.flushes_cut),
        ("blocked socket", seen.writes_short),
        ("slot reuse", seen.slots_reused),
    ]);
}

#[test]
fn what_home_forgot_is_not_recovered_and_nothing_else_is_refused() {
    let seen = run_lives(5, 150, |random| {
        let bounds = Bounds {
            shards: random.usize(1..5),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: random.usize(500..3_000),
            backlogs_bytes: PLENTY,
            slow: NEVER_DROP,
        };
        let (size, ttl, recovered_max) = (random.u64(1..20), random.u64(50..1_000), random.u64(3..20));
        let keeps = Keeps { size, ttl, meta_ttl: HOUR, recovered_max, exact: true };
        let (forced, deltas) = (random.bool(), random.bool());
        (bounds, Story { readers: 16, keeps, leap: 100, forced, deltas, roomy: false })
    });
    eprintln!("{seen:?}");
    happened(&[
        ("recovery", seen.recovered),
        ("recovery of nothing", seen.nothing_missed),
        ("failed recovery", seen.unrecovered),
        ("error 112", seen.rejected),
        ("unsubscribe 2500", seen.insufficient),
        ("close 3010", seen.closed_for_loss),
        ("close 3008", seen.closed_as_slow),
        ("history that had its time", seen.expired),
        ("history that was removed", seen.removed),
        ("skip and repair", seen.repaired),
        ("loss", seen.lost),
        ("delta", seen.deltas),
        ("filter", seen.withheld),
    ]);
}

#[test]
fn who_is_there_is_known_and_told_to_the_others_once() {
    let seen = run_lives(6, 100, |random| {
        let bounds = Bounds {
            shards: random.usize(1..5),
            mailbox_batches: 2,
            mail_bytes: 1 << 20,
            slice: 3,
            backlog_bytes: 1 << 20,
            backlogs_bytes: PLENTY,
            slow: NEVER_DROP,
        };
        let (size, ttl) = (random.u64(1..20), random.u64(50..500));
        let keeps = Keeps { size, ttl, meta_ttl: ttl, recovered_max: 300, exact: false };
        let (readers, forced, deltas) = (random.usize(2..16), random.bool(), random.bool());
        (bounds, Story { readers, keeps, leap: 500, forced, deltas, roomy: true })
    });
    eprintln!("{seen:?}");
    assert_eq!((seen.lost, seen.insufficient, seen.closed_for_loss), (0, 0, 0));
    happened(&[
        ("join", seen.joins),
        ("leave", seen.leaves),
        ("presence", seen.presences),
        ("second life of a channel", seen.other_epochs),
        ("failed recovery", seen.unrecovered),
        ("recovery", seen.recovered),
        ("error 112", seen.rejected),
        ("unsubscribe by the server", seen.unsubscribed),
        ("overflow", seen.overflows),
    ]);
}

/// A cluster in which channels drop for readers who lag.
fn dropping(random: &mut fastrand::Rng, policy: SlowConsumer) -> Bounds {
    Bounds {
        shards: random.usize(1..5),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: random.usize(600..3_000),
        backlogs_bytes: PLENTY,
        slow: (policy, [0, random.usize(100..600)][random.usize(..2)]),
    }
}

#[test]
fn the_oldest_are_dropped_for_who_lags_and_counted_and_the_newest_arrives() {
    let seen = run(7, 1 << 20, |random| dropping(random, SlowConsumer::DropOldest));
    eprintln!("{seen:?}");
    assert_eq!(seen.lost, 0);
    assert!(seen.gaps > 0 && seen.gaps <= seen.dropped, "{} missing, {} counted", seen.gaps, seen.dropped);
    happened(&[
        ("cut flush", seen.flushes_cut),
        ("blocked socket", seen.writes_short),
        ("slot reuse", seen.slots_reused),
    ]);
}

#[test]
fn only_the_newest_waits_for_who_lags_and_it_arrives() {
    let seen = run(8, 1 << 20, |random| dropping(random, SlowConsumer::KeepLatest));
    eprintln!("{seen:?}");
    assert_eq!(seen.lost, 0);
    assert!(seen.gaps > 0 && seen.gaps <= seen.dropped, "{} missing, {} counted", seen.gaps, seen.dropped);
}

/// Readers with positions, in channels that drop: a reader's judge lets no gap pass that is not told.
fn positions_under(kind: u64, policy: SlowConsumer) -> seen::Seen {
    run_lives(kind, 360, |random| {
        let bounds = dropping(random, policy);
        let keeps = Keeps { size: 1 << 20, ttl: HOUR, meta_ttl: HOUR, recovered_max: 1 << 20, exact: true };
        let (forced, deltas) = (random.bool(), random.bool());
        (bounds, Story { readers: 16, keeps, leap: 50, forced, deltas, roomy: false })
    })
}

#[test]
fn who_has_a_position_and_lags_is_told_to_come_again_and_misses_nothing() {
    let seen = positions_under(9, SlowConsumer::DropOldest);
    eprintln!("{seen:?}");
    assert_eq!((seen.unrecovered, seen.rejected), (0, 0));
    happened(&[
        ("drop", seen.dropped),
        ("unsubscribe 2500", seen.insufficient),
        ("close 3010", seen.closed_for_loss),
        ("recovery", seen.recovered),
        ("delta", seen.deltas),
        ("filter", seen.withheld),
        ("cut flush", seen.flushes_cut),
    ]);
    let seen = positions_under(10, SlowConsumer::KeepLatest);
    eprintln!("{seen:?}");
    assert_eq!((seen.unrecovered, seen.rejected, seen.deltas), (0, 0, 0));
    happened(&[
        ("drop", seen.dropped),
        ("unsubscribe 2500", seen.insufficient),
        ("close 3010", seen.closed_for_loss),
        ("recovery", seen.recovered),
    ]);
}
