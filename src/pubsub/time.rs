//! When publications were made: the time that a record keeps, and a range of times that a reader asks for.

/// Milliseconds since 1970 in six bytes, which is enough for 8,900 years; 0 if the time is not known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RecordTime([u8; 6]);

impl RecordTime {
    const MAX_MS: u64 = (1 << 48) - 1;

    pub(crate) fn of_ms(ms: u64) -> Self {
        let [a, b, c, d, e, f, ..] = ms.min(Self::MAX_MS).to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    pub(crate) fn ms(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// Publications of a time: from `from_ms` on and before `to_ms`, in milliseconds since 1970. The default is all times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimeRange {
    pub from_ms: u64,
    pub to_ms: u64,
}

impl Default for TimeRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl TimeRange {
    pub const ALL: Self = Self { from_ms: 0, to_ms: u64::MAX };

    /// With bounds of a request, where 0 means no bound.
    pub fn of_request(from_ms: u64, to_ms: u64) -> Self {
        Self { from_ms, to_ms: if to_ms == 0 { u64::MAX } else { to_ms } }
    }

    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// True if it holds no time.
    pub fn is_empty(&self) -> bool {
        self.from_ms >= self.to_ms
    }

    pub fn contains(&self, time_ms: u64) -> bool {
        (self.from_ms..self.to_ms).contains(&time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_record_is_kept_to_the_millisecond_and_cut_at_its_largest() {
        for ms in [0, 1, 1_764_400_000_123, RecordTime::MAX_MS] {
            assert_eq!(RecordTime::of_ms(ms).ms(), ms);
        }
        assert_eq!(RecordTime::of_ms(u64::MAX).ms(), RecordTime::MAX_MS);
    }

    #[test]
    fn range_holds_its_first_millisecond_and_not_its_last() {
        let range = TimeRange::of_request(10, 20);
        assert_eq!([9, 10, 19, 20].map(|ms| range.contains(ms)), [false, true, true, false]);
        assert!(TimeRange::of_request(0, 0).is_all() && TimeRange::of_request(5, 5).is_empty());
    }
}
