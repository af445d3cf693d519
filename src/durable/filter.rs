//! A Bloom filter of hashes: about ten bits and seven probes for each, so that one in a hundred absent hashes passes.

const BITS_PER_HASH: usize = 10;
const PROBES: u64 = 7;

pub(super) struct Filter(Box<[u8]>);

impl Filter {
    pub(super) fn new(hashes: &[u64]) -> Self {
        let mut filter = Self(vec![0; (hashes.len() * BITS_PER_HASH).div_ceil(8)].into());
        for &hash in hashes {
            for bit in filter.bits(hash) {
                filter.0[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// False: the hash is not in it. True: it may be.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        !self.0.is_empty() && self.bits(hash).all(|bit| self.0[bit / 8] & 1 << (bit % 8) != 0)
    }

    /// The bits of a hash. The hashes are those of SipHash: their halves are independent.
    fn bits(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let count = self.0.len() as u64 * 8;
        let step = hash >> 32 | 1;
        (0..PROBES).map(move |probe| {
            let spread = (hash & 0xffff_ffff).wrapping_add(probe.wrapping_mul(step)) & 0xffff_ffff;
            (spread * count >> 32) as usize
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::codec::hash_name;

    #[test]
    fn filter_has_every_hash_and_few_others() {
        let hashes: Vec<u64> = (0..10_000).map(|n| hash_name(&format!("channel {n}"))).collect();
        let filter = Filter::new(&hashes);
        assert!(hashes.iter().all(|&hash| filter.may_have(hash)));
        let others = (0..10_000).filter(|n| filter.may_have(hash_name(&format!("other {n}")))).count();
        assert!(others < 300, "{others} of 10,000 absent hashes pass");
        assert_eq!(filter.as_bytes().len(), 12_500);
        assert!(!Filter::new(&[]).may_have(1));
    }
}
