//! Who subscribes to what: everybody to one channel in turn, or a table of rooms as in a chat.
//!
//! A seat is one subscription. Invariant: the rooms of a member are sorted and different; the table's seats are numbered by
//! member and then by room.

/// Tries for a room that a member is not in yet, before it is content with those that it has.
const TRIES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Subscriber n has the channel n modulo their number.
    Dealt { channels: usize },
    /// Where each member's rooms begin (and, last, where all end), and the rooms.
    Table { starts: Vec<u32>, rooms: Vec<u32> },
}

impl Members {
    /// A chat: each member is in 1 to `most` rooms, and room r is chosen with a weight of 1 / (r + 1) ^ `exponent`.
    pub fn zipf(members: usize, rooms: usize, most: usize, exponent: f64, rng: &mut fastrand::Rng) -> Self {
        let mut sum = 0.0;
        let ladder: Vec<f64> = (0..rooms)
            .map(|room| {
                sum += ((room + 1) as f64).powf(-exponent);
                sum
            })
            .collect();
        let (mut starts, mut table) = (vec![0], Vec::new());
        for _ in 0..members {
            let (begin, wanted) = (table.len(), rng.usize(1..=most.min(rooms)));
            for _ in 0..wanted + TRIES {
                let at = rng.f64() * sum;
                let room = ladder.partition_point(|&upto| upto <= at).min(rooms - 1) as u32;
                if !table[begin..].contains(&room) {
                    table.push(room);
                }
                if table.len() - begin == wanted {
                    break;
                }
            }
            table[begin..].sort_unstable();
            starts.push(table.len() as u32);
        }
        Self::Table { starts, rooms: table }
    }

    /// The channels of subscriber `number`.
    pub fn channels(&self, number: usize) -> Vec<usize> {
        match self {
            Self::Dealt { channels } => vec![number % channels],
            Self::Table { .. } => self.rooms(number).iter().map(|&room| room as usize).collect(),
        }
    }

    fn rooms(&self, number: usize) -> &[u32] {
        match self {
            Self::Dealt { .. } => &[],
            Self::Table { starts, rooms } => &rooms[starts[number] as usize..starts[number + 1] as usize],
        }
    }

    /// The seat of subscriber `number` in a channel, counted from the first seat of subscriber `first`.
    #[inline]
    pub fn seat(&self, first: usize, number: usize, channel: usize) -> Option<usize> {
        match self {
            Self::Dealt { channels } => (number % channels == channel).then_some(number - first),
            Self::Table { starts, .. } => {
                let place = self.rooms(number).binary_search(&(channel as u32)).ok()?;
                Some((starts[number] - starts[first]) as usize + place)
            }
        }
    }

    /// The channels of the seats of subscribers `first..first + count`, in the order of the seats.
    pub fn seats(&self, first: usize, count: usize) -> Vec<usize> {
        (first..first + count).flat_map(|number| self.channels(number)).collect()
    }

    /// How many of the first `count` subscribers each of `channels` channels has.
    pub fn sizes(&self, count: usize, channels: usize) -> Vec<u32> {
        let mut sizes = vec![0; channels];
        match self {
            Self::Dealt { .. } => (0..count).for_each(|number| sizes[number % channels] += 1),
            Self::Table { .. } => self.seats(0, count).into_iter().for_each(|channel| sizes[channel] += 1),
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_has_a_few_large_rooms_and_each_member_is_where_it_should_be() {
        let members = Members::zipf(2000, 50, 4, 1.0, &mut fastrand::Rng::with_seed(3));
        let sizes = members.sizes(2000, 50);
        assert!(sizes[0] > 3 * sizes[9] && sizes[9] > sizes[49], "{sizes:?}");
        let mut counts = [0; 5];
        for number in 0..2000 {
            let rooms = members.channels(number);
            assert!(rooms.windows(2).all(|pair| pair[0] < pair[1]), "sorted and different");
            counts[rooms.len()] += 1;
        }
        assert!(counts[0] == 0 && counts[1..].iter().all(|&n| n > 300), "{counts:?}");
    }

    #[test]
    fn seats_are_numbered_by_member_and_room() {
        let table = Members::Table { starts: vec![0, 2, 3, 5], rooms: vec![1, 4, 0, 1, 2] };
        assert_eq!(table.seats(1, 2), [0, 1, 2]);
        assert_eq!((table.seat(1, 1, 0), table.seat(1, 2, 2), table.seat(1, 2, 4)), (Some(0), Some(2), None));
        assert_eq!(table.sizes(3, 5), [1, 2, 1, 0, 1]);
        let dealt = Members::Dealt { channels: 3 };
        assert_eq!((dealt.seat(2, 5, 2), dealt.seat(2, 5, 1)), (Some(3), None));
        assert_eq!(dealt.sizes(4, 3), [2, 1, 1]);
    }

    #[test]
    fn more_rooms_than_there_are_is_all_of_them_at_most() {
        let members = Members::zipf(50, 2, 10, 1.2, &mut fastrand::Rng::with_seed(3));
        assert!((0..50).all(|number| (1..=2).contains(&members.channels(number).len())));
    }
}
