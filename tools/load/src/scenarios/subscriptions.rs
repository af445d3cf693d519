//! Which subscriber subscribes to which channels: one channel each, in turn, or a table as for the rooms of a chat.
//!
//! Invariants: the channels of a subscriber are sorted and different; the subscriptions of a table are numbered by subscriber and
//! then by channel.

/// Attempts at a room that a user is not in yet, before the user keeps the rooms that it has.
const ATTEMPTS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscriptions {
    /// Subscriber n has the channel n modulo their number.
    InTurn { channels: usize },
    /// Where the channels of each subscriber begin (and, last, where all end), and the channels.
    Table { starts: Vec<u32>, channels: Vec<u32> },
}

impl Subscriptions {
    /// One channel for each of `users`. A table, because a stamp cannot distinguish so many channels.
    pub fn one_each(users: usize) -> Self {
        Self::Table { starts: (0..=users as u32).collect(), channels: (0..users as u32).collect() }
    }

    /// A chat: each user is in 1 to `most` rooms, and room r is chosen with a weight of 1 / (r + 1) ^ `exponent`.
    pub fn zipf(users: usize, rooms: usize, most: usize, exponent: f64, rng: &mut fastrand::Rng) -> Self {
        let mut sum = 0.0;
        let cumulative: Vec<f64> = (1..=rooms)
            .map(|room| {
                sum += (room as f64).powf(-exponent);
                sum
            })
            .collect();
        let (mut starts, mut channels) = (vec![0], Vec::new());
        for _ in 0..users {
            let (begin, wanted) = (channels.len(), rng.usize(1..=most.min(rooms)));
            for _ in 0..wanted + ATTEMPTS {
                let at = rng.f64() * sum;
                let room = cumulative.partition_point(|&upto| upto <= at).min(rooms - 1) as u32;
                if !channels[begin..].contains(&room) {
                    channels.push(room);
                }
                if channels.len() - begin == wanted {
                    break;
                }
            }
            channels[begin..].sort_unstable();
            starts.push(channels.len() as u32);
        }
        Self::Table { starts, channels }
    }

    /// The channels of subscriber `number`.
    pub fn of(&self, number: usize) -> Vec<usize> {
        self.of_range(number, 1)
    }

    /// The channels of the subscriptions of subscribers `first..first + count`, in the order of the subscriptions.
    pub fn of_range(&self, first: usize, count: usize) -> Vec<usize> {
        match self {
            Self::InTurn { channels } => (first..first + count).map(|number| number % channels).collect(),
            Self::Table { starts, channels } => {
                let range = starts[first] as usize..starts[first + count] as usize;
                channels[range].iter().map(|&channel| channel as usize).collect()
            }
        }
    }

    /// The number of the subscription of subscriber `number` to a channel, counted from the first one of subscriber `first`.
    #[inline]
    pub fn index(&self, first: usize, number: usize, channel: usize) -> Option<usize> {
        match self {
            Self::InTurn { channels } => (number % channels == channel).then_some(number - first),
            Self::Table { starts, channels } => {
                let own = &channels[starts[number] as usize..starts[number + 1] as usize];
                let at = own.binary_search(&(channel as u32)).ok()?;
                Some((starts[number] - starts[first]) as usize + at)
            }
        }
    }

    /// How many of the first `count` subscribers each of `channels` channels has.
    pub fn sizes(&self, count: usize, channels: usize) -> Vec<u32> {
        let mut sizes = vec![0; channels];
        self.of_range(0, count).into_iter().for_each(|channel| sizes[channel] += 1);
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_rooms_are_unequal_and_those_of_a_user_are_sorted_and_different() {
        let subscriptions = Subscriptions::zipf(2000, 50, 4, 1.0, &mut fastrand::Rng::with_seed(3));
        let sizes = subscriptions.sizes(2000, 50);
        assert!(sizes[0] > 3 * sizes[9] && sizes[9] > sizes[49], "{sizes:?}");
        let mut counts = [0; 5];
        for number in 0..2000 {
            let rooms = subscriptions.of(number);
            assert!(rooms.windows(2).all(|pair| pair[0] < pair[1]), "sorted and different");
            counts[rooms.len()] += 1;
        }
        assert!(counts[0] == 0 && counts[1..].iter().all(|&n| n > 300), "{counts:?}");
    }

    #[test]
    fn subscriptions_are_numbered_by_subscriber_and_channel() {
        let table = Subscriptions::Table { starts: vec![0, 2, 3, 5], channels: vec![1, 4, 0, 1, 2] };
        assert_eq!(table.of_range(1, 2), [0, 1, 2]);
        assert_eq!((table.index(1, 1, 0), table.index(1, 2, 2), table.index(1, 2, 4)), (Some(0), Some(2), None));
        assert_eq!(table.sizes(3, 5), [1, 2, 1, 0, 1]);
        let in_turn = Subscriptions::InTurn { channels: 3 };
        assert_eq!((in_turn.index(2, 5, 2), in_turn.index(2, 5, 1)), (Some(3), None));
        assert_eq!(in_turn.sizes(4, 3), [2, 1, 1]);
    }

    #[test]
    fn user_is_in_each_room_at_most_once() {
        let subscriptions = Subscriptions::zipf(50, 2, 10, 1.2, &mut fastrand::Rng::with_seed(3));
        assert!((0..50).all(|number| (1..=2).contains(&subscriptions.of(number).len())));
    }
}
