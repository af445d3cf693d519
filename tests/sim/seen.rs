//! How often each rare thing happened to those who come and go.

macro_rules! counts {
    ($($name:ident,)*) => {
        #[derive(Default, Debug)]
        pub struct Seen { $(pub $name: u64,)* }

        impl Seen {
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    // What clients saw.
    texts, binaries, live, recovered, recovered_publications, nothing_missed, unrecovered, other_epochs, rejected,
    insufficient, closed_for_loss, closed_as_slow, deltas, withheld, passing, joins, leaves, with_connect, one_frames,
    already, by_server, unsubscribed, disconnected, presences,
    // What was done to them.
    resets, ends, expired, removed,
    // What shards counted.
    dropped, cut, overflows, repaired, lost, flushes_cut, writes_short, slots_reused, lives,
}
