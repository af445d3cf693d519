//! Several shards in one thread, over sockets of memory, in a schedule made of a seed: the very code that runs in
//! production, mailboxes and sleep included, under tiny bounds. Checked: per-channel order, no loss, no duplicate, every
//! command answered once, nobody asleep on work, nothing left behind.
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
use lives::{Lives, Story};
use truth::Keeps;
use world::{Seen, World};

const WORLDS: u64 = 150;
const STEPS: usize = 3_000;

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
    });
    eprintln!("{seen:?}");
    assert_eq!(seen.lost, 0);
    assert_eq!(seen.gaps, 0);
    for (what, times) in [
        ("overflow", seen.overflows),
        ("skip and repair", seen.repaired),
        ("cut flush", seen.flushes_cut),
        ("slot reuse", seen.slots_reused),
        ("late answer", seen.late_answers),
        ("close during a flush", seen.closes_in_flush),
        ("blocked socket", seen.writes_short),
        ("drain", seen.drained),
    ] {
        assert!(times > 0, "{what} never happened");
    }
}

#[test]
fn a_backlog_of_one_byte_cuts_the_slow_and_only_them() {
    let seen = run(2, 1 << 20, |random| Bounds {
        shards: random.usize(1..4),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: 1,
    });
    eprintln!("{seen:?}");
    assert_eq!((seen.lost, seen.gaps), (0, 0), "who was cut missed nothing before");
    assert!(seen.cut_as_slow > 0, "nobody was slow");
}

#[test]
fn what_history_no_longer_has_is_counted_and_nothing_is_missing_silently() {
    let seen = run(3, 1, |random| Bounds {
        shards: random.usize(2..4),
        mailbox_batches: 1,
        mail_bytes: random.usize(150..300),
        slice: 3,
        backlog_bytes: 1 << 20,
    });
    eprintln!("{seen:?}");
    assert!(seen.lost > 0, "nothing was lost");
    assert!(seen.gaps <= seen.lost, "{} missing, {} counted", seen.gaps, seen.lost);
}

/// As `run`, with readers who come back.
fn run_lives(kind: u64, worlds: u64, story: impl Fn(&mut fastrand::Rng) -> (Bounds, Story)) -> seen::Seen {
    let mut seen = seen::Seen::default();
    for seed in seeds(kind, worlds) {
        eprintln!("CORECAST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (bounds, story) = story(&mut random);
        let mut world = Lives::new(&bounds, story, random);
        for _ in 0..2 {
            (0..STEPS / 2).for_each(|_| world.step());
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
    let seen = run_lives(4, 80, |random| {
        let bounds = Bounds {
            shards: random.usize(2..5),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: 1 << 20,
        };
        let keeps = Keeps { size: 1 << 20, ttl: HOUR, meta_ttl: HOUR, recovered_max: 1 << 20, exact: true };
        (bounds, Story { keeps, leap: 50, forced: random.bool(), deltas: random.bool(), roomy: false })
    });
    eprintln!("{seen:?}");
    assert_eq!((seen.unrecovered, seen.insufficient, seen.closed_for_loss), (0, 0, 0));
}

#[test]
fn what_home_forgot_is_not_recovered_and_nothing_else_is_refused() {
    let seen = run_lives(5, 80, |random| {
        let bounds = Bounds {
            shards: random.usize(1..5),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: random.usize(500..3_000),
        };
        let keeps = Keeps {
            size: random.u64(1..8),
            ttl: random.u64(50..1_000),
            meta_ttl: HOUR,
            recovered_max: random.u64(3..10),
            exact: true,
        };
        (bounds, Story { keeps, leap: 100, forced: random.bool(), deltas: random.bool(), roomy: false })
    });
    eprintln!("{seen:?}");
}

#[test]
fn who_is_there_is_known_and_told_to_the_others_once() {
    let seen = run_lives(6, 80, |random| {
        let bounds = Bounds {
            shards: random.usize(1..5),
            mailbox_batches: 2,
            mail_bytes: 1 << 20,
            slice: 3,
            backlog_bytes: 1 << 20,
        };
        let ttl = random.u64(50..500);
        let keeps = Keeps { size: random.u64(1..20), ttl, meta_ttl: ttl, recovered_max: 300, exact: false };
        (bounds, Story { keeps, leap: 300, forced: random.bool(), deltas: random.bool(), roomy: true })
    });
    eprintln!("{seen:?}");
}
