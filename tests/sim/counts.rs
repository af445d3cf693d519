//! How often each event happened in a simulation of reconnecting clients.

macro_rules! counts {
    ($($name:ident,)*) => {
        #[derive(Default, Debug)]
        pub struct Counts { $(pub $name: u64,)* }

        impl Counts {
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    // What clients received.
    texts, binaries, live, recovered, recovered_publications, nothing_missed, unrecovered, other_epochs, rejected,
    insufficient, closed_for_loss, closed_as_slow, deltas, withheld, not_stored, joins, leaves, with_connect, one_frames,
    already, by_server, unsubscribed, unsubscribed_pending, disconnected, presences,
    // What the simulation did: actions of clients and of the server API, and some of them by kind.
    actions, resets, ends, expired, removed,
    // What shards counted.
    dropped, cut, overflows, repaired, lost, flushes_cut, writes_short, slots_reused, epochs,
}
