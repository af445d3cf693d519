//! The hash tags of the partitions of sharded PUB/SUB.

/// For each number of partitions: the number, and the original's tags, whose slots are spread evenly over clusters of any size.
const PRECOMPUTED: &str = include_str!("partition_tags.txt");

/// The tags of `count` partitions: their numbers.
pub(super) fn numbers(count: u32) -> Box<[Box<str>]> {
    (0..count).map(|number| number.to_string().into()).collect()
}

/// The original's tags; numbers if it has none for so many partitions.
pub(super) fn precomputed(count: u32) -> Box<[Box<str>]> {
    let found = PRECOMPUTED.lines().find_map(|line| {
        let (number, tags) = line.split_once(' ')?;
        (number.parse() == Ok(count)).then(|| tags.split(' ').map(Into::into).collect())
    });
    found.unwrap_or_else(|| numbers(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::hash::{SLOTS, slot_of};
    use std::collections::HashSet;

    #[test]
    fn precomputed_tags_are_spread_evenly() {
        for count in (4..=12).map(|power| 1 << power) {
            let tags = precomputed(count);
            let slots: HashSet<u16> = tags.iter().map(|tag| slot_of(tag.as_bytes())).collect();
            assert_eq!((tags.len(), slots.len()), (count as usize, count as usize));
            let mut by_server = [0; 6];
            slots.iter().for_each(|&slot| by_server[usize::from(slot) * 6 / usize::from(SLOTS)] += 1);
            let (least, most) = (by_server.iter().min(), by_server.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{count}: {by_server:?}");
        }
        assert_eq!(&*precomputed(16)[0], "ms3");
        assert_eq!(precomputed(3), numbers(3));
        assert_eq!(numbers(2), ["0".into(), "1".into()].into());
    }
}
