//! Several shards in one thread over sockets in memory, in a schedule made from a seed: the code that runs in production,
//! mailboxes and sleep included, under small limits. Checked: order per channel, no loss, no duplicate, one reply per
//! command, no shard asleep with work left, no state left behind. Then, with clients that are cut and reconnect to any shard
//! in any encoding: a recovery brings all that was missed, and fails only if the history has expired; deltas make the
//! published bytes; presence, joins and leaves agree with the subscriptions.
//!
//! `CORECAST_SEED=n cargo test --test simulated_shards_lose_nothing` repeats one simulation, `CORECAST_WORLDS=n` runs more.
//! `-- --ignored million --nocapture` runs a million actions of clients, or `CORECAST_ACTIONS=n`.

mod sim;

use corecast::config::SlowConsumer;
use sim::broker_simulation::BrokerSimulation;
use sim::cluster::Bounds;
use sim::counts::Counts;
use sim::model::HistoryLimits;
use sim::publish_simulation::{PublishCounts, PublishSimulation};
use sim::reconnect_simulation::ReconnectSimulation;
use sim::scenario::Scenario;

/// Simulations of one kind.
const SIMULATIONS: u64 = 150;
const STEPS: usize = 3_000;
/// How often a simulation of reconnecting clients becomes idle and is checked.
const CHECKS: usize = 8;

/// Frames for a slow client wait, or it is closed.
const NEVER_DROP: (SlowConsumer, usize) = (SlowConsumer::Close, 0);
/// A bound of all backlogs together that they reach.
const BACKLOGS_BYTES: usize = 6_000;
/// More than a simulation needs.
const PLENTY: usize = 1 << 30;

/// The seeds of one kind of simulation.
fn seeds(kind: u64, simulations: u64) -> std::ops::Range<u64> {
    let given = std::env::var("CORECAST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let count = std::env::var("CORECAST_WORLDS").map_or(simulations, |count| count.parse().expect("a number"));
    given.map_or(kind * 1_000_000..kind * 1_000_000 + count, |seed: u64| seed..seed + 1)
}

/// Runs simulations of one kind and adds up what happened in them.
fn run(kind: u64, history: usize, bounds: impl Fn(&mut fastrand::Rng) -> Bounds) -> PublishCounts {
    let mut counts = PublishCounts::default();
    for seed in seeds(kind, SIMULATIONS) {
        eprintln!("CORECAST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let bounds = bounds(&mut random);
        let mut simulation = PublishSimulation::new(&bounds, history, random);
        (0..STEPS).for_each(|_| simulation.step());
        simulation.run_until_idle();
        simulation.check();
        simulation.end();
        counts.add(&simulation.take_counts());
    }
    counts
}

#[test]
fn tiny_mailboxes_lose_no_publication() {
    let counts = run(1, 1 << 20, |random| Bounds {
        shards: random.usize(2..5),
        mailbox_batches: 2,
        mail_bytes: random.usize(200..900),
        slice: 3,
        backlog_bytes: 1 << 20,
        backlogs_bytes: PLENTY,
        slow_consumer: NEVER_DROP,
    });
    eprintln!("{counts:?}");
    assert_eq!(counts.lost, 0);
    assert_eq!(counts.gaps, 0);
    happened(&[
        ("overflow", counts.overflows),
        ("skip and repair", counts.repaired),
        ("cut flush", counts.flushes_cut),
        ("used-up share of a turn", counts.shares_spent),
        ("slot reuse", counts.slots_reused),
        ("late answer", counts.late_answers),
        ("close during a flush", counts.closes_in_flush),
        ("blocked socket", counts.writes_short),
        ("drain", counts.drained),
    ]);
}

#[test]
fn backlog_of_one_byte_closes_only_slow_clients() {
    let counts = run(2, 1 << 20, |random| Bounds {
        shards: random.usize(1..4),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: 1,
        backlogs_bytes: PLENTY,
        slow_consumer: NEVER_DROP,
    });
    eprintln!("{counts:?}");
    assert_eq!((counts.lost, counts.gaps), (0, 0), "closed clients missed nothing before");
    assert!(counts.cut_as_slow > 0, "no client was slow");
}

#[test]
fn longest_backlogs_are_closed_at_the_bound_of_all_backlogs() {
    let counts = run(11, 1 << 20, |random| Bounds {
        shards: random.usize(1..4),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: 1 << 20,
        backlogs_bytes: BACKLOGS_BYTES,
        slow_consumer: [NEVER_DROP, (SlowConsumer::DropOldest, 0), (SlowConsumer::KeepLatest, 0)][random.usize(..3)],
    });
    eprintln!("{counts:?}");
    assert!(counts.cut_as_slow > 0, "no client was slow");
    assert!(counts.kept_max > BACKLOGS_BYTES as u64 / 2, "the backlogs stayed small: {}", counts.kept_max);
    // Clients that were cut keep their close frame, and the rest of a frame that is partly sent.
    assert!(counts.kept_max < BACKLOGS_BYTES as u64 + 4_000, "{} bytes are too many", counts.kept_max);
}

#[test]
fn publications_that_the_history_has_dropped_are_counted_as_lost() {
    let counts = run(3, 1, |random| Bounds {
        shards: random.usize(2..4),
        mailbox_batches: 1,
        mail_bytes: random.usize(150..300),
        slice: 3,
        backlog_bytes: 1 << 20,
        backlogs_bytes: PLENTY,
        slow_consumer: NEVER_DROP,
    });
    eprintln!("{counts:?}");
    assert!(counts.lost > 0, "nothing was lost");
    assert!(counts.gaps <= counts.lost, "{} missing, {} counted", counts.gaps, counts.lost);
}

/// A kind of simulation must contain the events that it is made for.
fn happened(what: &[(&str, u64)]) {
    // A single simulation need not have them all.
    for (what, times) in what.iter().filter(|_| std::env::var("CORECAST_SEED").is_err()) {
        assert!(*times > 0, "{what} never happened");
    }
}

/// As `run`, with clients that reconnect.
fn run_reconnects(kind: u64, simulations: u64, scenario: impl Fn(&mut fastrand::Rng) -> (Bounds, Scenario)) -> Counts {
    let mut counts = Counts::default();
    seeds(kind, simulations).for_each(|seed| counts.add(&run_reconnect(seed, &scenario)));
    counts
}

fn run_reconnect(seed: u64, scenario: impl Fn(&mut fastrand::Rng) -> (Bounds, Scenario)) -> Counts {
    eprintln!("CORECAST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (bounds, scenario) = scenario(&mut random);
    let mut simulation = ReconnectSimulation::new(&bounds, scenario, random);
    for _ in 0..CHECKS {
        (0..STEPS / CHECKS).for_each(|_| simulation.step());
        simulation.run_until_idle();
        simulation.check();
    }
    simulation.reconnect_all();
    simulation.check();
    simulation.end()
}

const HOUR: u64 = 3_600_000;

#[test]
fn reconnecting_client_gets_each_publication_once() {
    let counts = run_reconnects(4, 100, |random| {
        let bounds = Bounds {
            shards: random.usize(2..5),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: 1 << 20,
            backlogs_bytes: PLENTY,
            slow_consumer: NEVER_DROP,
        };
        let history = HistoryLimits { size: 1 << 20, ttl: HOUR, meta_ttl: HOUR, recovered_max: 1 << 20, exact: true };
        let (force_recovery, deltas) = (random.bool(), random.bool());
        (bounds, Scenario { clients: 16, history, clock_step_max: 50, force_recovery, deltas, has_room: false })
    });
    eprintln!("{counts:?}");
    assert_eq!((counts.unrecovered, counts.rejected, counts.insufficient, counts.closed_for_loss), (0, 0, 0, 0));
    happened(&[
        ("JSON", counts.texts),
        ("Protobuf", counts.binaries),
        ("recovery", counts.recovered),
        ("recovery of nothing", counts.nothing_missed),
        ("connect with subscriptions", counts.with_connect),
        ("connect and subscribe in one frame", counts.one_frames),
        ("subscribe by the server", counts.by_server),
        ("unsubscribe by the server", counts.unsubscribed),
        ("unsubscribe by the server while the subscribe waits", counts.unsubscribed_pending),
        ("subscribe that crosses the server's", counts.already),
        ("disconnect by the server", counts.disconnected),
        ("delta", counts.deltas),
        ("filter", counts.withheld),
        ("publication without an offset", counts.not_stored),
        ("reset", counts.resets),
        ("end of a socket", counts.ends),
        ("overflow", counts.overflows),
        ("skip and repair", counts.repaired),
        ("cut flush", counts.flushes_cut),
        ("blocked socket", counts.writes_short),
        ("slot reuse", counts.slots_reused),
    ]);
}

#[test]
fn recovery_fails_only_if_the_history_has_expired() {
    let counts = run_reconnects(5, 150, |random| {
        let bounds = Bounds {
            shards: random.usize(1..5),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: random.usize(500..3_000),
            backlogs_bytes: PLENTY,
            slow_consumer: NEVER_DROP,
        };
        let (size, ttl, recovered_max) = (random.u64(1..20), random.u64(50..1_000), random.u64(3..20));
        let history = HistoryLimits { size, ttl, meta_ttl: HOUR, recovered_max, exact: true };
        let (force_recovery, deltas) = (random.bool(), random.bool());
        (bounds, Scenario { clients: 16, history, clock_step_max: 100, force_recovery, deltas, has_room: false })
    });
    eprintln!("{counts:?}");
    happened(&[
        ("recovery", counts.recovered),
        ("recovery of nothing", counts.nothing_missed),
        ("failed recovery", counts.unrecovered),
        ("error 112", counts.rejected),
        ("unsubscribe 2500", counts.insufficient),
        ("close 3010", counts.closed_for_loss),
        ("close 3008", counts.closed_as_slow),
        ("history that expired", counts.expired),
        ("history that was removed", counts.removed),
        ("skip and repair", counts.repaired),
        ("loss", counts.lost),
        ("delta", counts.deltas),
        ("filter", counts.withheld),
    ]);
}

#[test]
fn presence_and_join_pushes_agree_with_the_subscriptions() {
    let counts = run_reconnects(6, 100, |random| {
        let bounds = Bounds {
            shards: random.usize(1..5),
            mailbox_batches: 2,
            mail_bytes: 1 << 20,
            slice: 3,
            backlog_bytes: 1 << 20,
            backlogs_bytes: PLENTY,
            slow_consumer: NEVER_DROP,
        };
        let (size, ttl) = (random.u64(1..20), random.u64(50..500));
        let history = HistoryLimits { size, ttl, meta_ttl: ttl, recovered_max: 300, exact: false };
        let (clients, force_recovery, deltas) = (random.usize(2..16), random.bool(), random.bool());
        (bounds, Scenario { clients, history, clock_step_max: 500, force_recovery, deltas, has_room: true })
    });
    eprintln!("{counts:?}");
    assert_eq!((counts.lost, counts.insufficient, counts.closed_for_loss), (0, 0, 0));
    happened(&[
        ("join", counts.joins),
        ("leave", counts.leaves),
        ("presence", counts.presences),
        ("second epoch of a channel", counts.other_epochs),
        ("failed recovery", counts.unrecovered),
        ("recovery", counts.recovered),
        ("error 112", counts.rejected),
        ("unsubscribe by the server", counts.unsubscribed),
        ("unsubscribe by the server while the subscribe waits", counts.unsubscribed_pending),
        ("overflow", counts.overflows),
    ]);
}

/// A cluster whose channels drop frames for slow clients.
fn dropping(random: &mut fastrand::Rng, policy: SlowConsumer) -> Bounds {
    Bounds {
        shards: random.usize(1..5),
        mailbox_batches: 2,
        mail_bytes: 1 << 20,
        slice: 3,
        backlog_bytes: random.usize(600..3_000),
        backlogs_bytes: PLENTY,
        slow_consumer: (policy, [0, random.usize(100..600)][random.usize(..2)]),
    }
}

#[test]
fn drop_oldest_counts_what_a_slow_client_misses() {
    let counts = run(7, 1 << 20, |random| dropping(random, SlowConsumer::DropOldest));
    eprintln!("{counts:?}");
    assert_eq!(counts.lost, 0);
    assert!(counts.gaps > 0 && counts.gaps <= counts.dropped, "{} missing, {} counted", counts.gaps, counts.dropped);
    happened(&[
        ("cut flush", counts.flushes_cut),
        ("blocked socket", counts.writes_short),
        ("slot reuse", counts.slots_reused),
    ]);
}

#[test]
fn keep_latest_delivers_the_newest_to_a_slow_client() {
    let counts = run(8, 1 << 20, |random| dropping(random, SlowConsumer::KeepLatest));
    eprintln!("{counts:?}");
    assert_eq!(counts.lost, 0);
    assert!(counts.gaps > 0 && counts.gaps <= counts.dropped, "{} missing, {} counted", counts.gaps, counts.dropped);
}

/// Simulations of every kind of the above, one after another, until clients and the server API have acted so often.
#[test]
#[ignore = "it takes an hour: CORECAST_ACTIONS (a million) actions"]
fn million_actions_of_stateful_clients_keep_every_promise() {
    const KIND: u64 = 13;
    let wanted = std::env::var("CORECAST_ACTIONS").map_or(1_000_000, |count| count.parse().expect("a number"));
    const { assert!(cfg!(debug_assertions), "a build with overflow checks and assertions") };
    let (mut counts, mut seed) = (Counts::default(), KIND * 1_000_000);
    while counts.actions < wanted {
        counts.add(&run_reconnect(seed, |random| {
            let policy = [SlowConsumer::Close, SlowConsumer::DropOldest, SlowConsumer::KeepLatest][random.usize(..3)];
            let mut bounds = dropping(random, policy);
            if policy == SlowConsumer::Close && random.bool() {
                bounds.mail_bytes = random.usize(400..2_000);
            }
            let (size, ttl, recovered_max) = (random.u64(1..20), random.u64(50..1_000), random.u64(3..20));
            let history = HistoryLimits { size, ttl, meta_ttl: HOUR, recovered_max, exact: true };
            let (clients, force_recovery, deltas) = (random.usize(2..24), random.bool(), random.bool());
            (bounds, Scenario { clients, history, clock_step_max: 100, force_recovery, deltas, has_room: false })
        }));
        seed += 1;
        eprintln!("{} of {wanted} actions", counts.actions);
    }
    eprintln!("{} seeds: {counts:?}", seed - KIND * 1_000_000);
}

/// Clients with positions in channels that drop frames: a client accepts no gap without an unsubscribe or close.
fn positions_under(kind: u64, policy: SlowConsumer) -> Counts {
    run_reconnects(kind, 360, |random| {
        let bounds = dropping(random, policy);
        let history = HistoryLimits { size: 1 << 20, ttl: HOUR, meta_ttl: HOUR, recovered_max: 1 << 20, exact: true };
        let (force_recovery, deltas) = (random.bool(), random.bool());
        (bounds, Scenario { clients: 16, history, clock_step_max: 50, force_recovery, deltas, has_room: false })
    })
}

#[test]
fn slow_client_with_a_position_resubscribes_and_misses_nothing() {
    let counts = positions_under(9, SlowConsumer::DropOldest);
    eprintln!("{counts:?}");
    assert_eq!((counts.unrecovered, counts.rejected), (0, 0));
    happened(&[
        ("drop", counts.dropped),
        ("unsubscribe 2500", counts.insufficient),
        ("close 3010", counts.closed_for_loss),
        ("recovery", counts.recovered),
        ("delta", counts.deltas),
        ("filter", counts.withheld),
        ("cut flush", counts.flushes_cut),
    ]);
    let counts = positions_under(10, SlowConsumer::KeepLatest);
    eprintln!("{counts:?}");
    assert_eq!((counts.unrecovered, counts.rejected, counts.deltas), (0, 0, 0));
    happened(&[
        ("drop", counts.dropped),
        ("unsubscribe 2500", counts.insufficient),
        ("close 3010", counts.closed_for_loss),
        ("recovery", counts.recovered),
    ]);
}

#[test]
fn servers_with_a_failing_broker_lose_nothing_without_telling() {
    let mut sum = [0; 12];
    for seed in seeds(12, SIMULATIONS) {
        eprintln!("CORECAST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let bounds = Bounds {
            shards: random.usize(1..4),
            mailbox_batches: 2,
            mail_bytes: random.usize(400..2_000),
            slice: 3,
            backlog_bytes: 1 << 20,
            backlogs_bytes: PLENTY,
            slow_consumer: NEVER_DROP,
        };
        let kept_max = random.usize(1..40);
        let mut simulation = BrokerSimulation::new(&bounds, kept_max, random);
        for _ in 0..3 {
            (0..STEPS).for_each(|_| simulation.step());
            simulation.come_to_rest();
            simulation.check();
        }
        let counts = simulation.take_counts();
        let faults = &counts.faults;
        let all = [
            counts.delivered,
            counts.recovered,
            counts.unrecovered,
            counts.insufficient,
            counts.refused_publications,
            counts.repaired,
            faults.lost,
            faults.repeated,
            faults.cuts,
            faults.flushes,
            faults.failovers,
            faults.unanswered,
        ];
        sum.iter_mut().zip(all).for_each(|(sum, count)| *sum += count);
    }
    let names = [
        "delivery",
        "recovery",
        "failed recovery",
        "unsubscribe 2500",
        "refused publication",
        "repair",
        "loss",
        "repetition",
        "cut",
        "flush",
        "failover",
        "lost answer",
    ];
    let all: Vec<_> = names.into_iter().zip(sum).collect();
    eprintln!("{all:?}");
    happened(&all);
}
