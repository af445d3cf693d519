//! Several shards in one thread, over sockets of memory, in a schedule made of a seed: the very code that runs in
//! production, mailboxes and sleep included, under tiny bounds. Checked: per-channel order, no loss, no duplicate, every
//! command answered once, nobody asleep on work, nothing left behind.
//!
//! `CORECAST_SEED=n cargo test --test simulated_shards_lose_nothing` repeats one world, `CORECAST_WORLDS=n` runs more.

#[path = "sim/client.rs"]
mod client;
#[path = "sim/socket.rs"]
mod socket;
#[path = "sim/world.rs"]
mod world;

use world::{Bounds, Seen, World};

const WORLDS: u64 = 150;
const STEPS: usize = 3_000;

/// Runs worlds of one kind and adds up what happened in them.
fn run(kind: u64, bounds: impl Fn(&mut fastrand::Rng) -> Bounds) -> Seen {
    let given = std::env::var("CORECAST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let worlds = std::env::var("CORECAST_WORLDS").map_or(WORLDS, |worlds| worlds.parse().expect("a number"));
    let seeds = given.map_or(kind * 1_000_000..kind * 1_000_000 + worlds, |seed: u64| seed..seed + 1);
    let mut seen = Seen::default();
    for seed in seeds {
        eprintln!("CORECAST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let bounds = bounds(&mut random);
        let mut world = World::new(bounds, random);
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
    let seen = run(1, |random| Bounds {
        shards: random.usize(2..5),
        mailbox_batches: 2,
        mail_bytes: random.usize(200..900),
        slice: 3,
        backlog_bytes: 1 << 20,
        history: 1 << 20,
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
    let seen = run(2, |random| Bounds {
        shards: random.usize(1..4),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: 1,
        history: 1 << 20,
    });
    eprintln!("{seen:?}");
    assert_eq!((seen.lost, seen.gaps), (0, 0), "who was cut missed nothing before");
    assert!(seen.cut_as_slow > 0, "nobody was slow");
}

#[test]
fn what_history_no_longer_has_is_counted_and_nothing_is_missing_silently() {
    let seen = run(3, |random| Bounds {
        shards: random.usize(2..4),
        mailbox_batches: 1,
        mail_bytes: random.usize(150..300),
        slice: 3,
        backlog_bytes: 1 << 20,
        history: 1,
    });
    eprintln!("{seen:?}");
    assert!(seen.lost > 0, "nothing was lost");
    assert!(seen.gaps <= seen.lost, "{} missing, {} counted", seen.gaps, seen.lost);
}
