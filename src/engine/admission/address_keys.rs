//! The addresses of connections as numbers, for what is to be fair between clients and not between connections.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::address_table::prefix;

/// By slot; grown only while an app wants them. The hash has a random key, so that no client can choose its number.
#[derive(Default)]
pub(crate) struct AddressKeys {
    hash_key: RandomState,
    by_slot: Vec<u32>,
}

impl AddressKeys {
    /// 0 if it is not known.
    pub(crate) fn of(&self, slot: u32) -> u32 {
        self.by_slot.get(slot as usize).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, slot: u32, address: Option<IpAddr>) {
        if self.by_slot.len() <= slot as usize {
            self.by_slot.resize(slot as usize + 1, 0);
        }
        self.by_slot[slot as usize] = address.map_or(0, |address| self.hash_key.hash_one(prefix(address)) as u32 | 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_site_have_one_key() {
        let mut keys = AddressKeys::default();
        for (slot, address) in
            ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2"].iter().enumerate()
        {
            keys.set(slot as u32, address.parse().ok());
        }
        let of: Vec<_> = (0..5).map(|slot| keys.of(slot)).collect();
        assert!(of[0] == of[2] && of[3] == of[4] && of[0] != of[1] && of[0] != of[3], "{of:?}");
        keys.set(0, None);
        assert_eq!((keys.of(0), keys.of(99)), (0, 0));
    }
}
