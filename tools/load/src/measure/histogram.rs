//! The latency histogram of the tool: HdrHistogram with fixed bounds, which can be added up and sent to other processes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Deref, DerefMut};

/// Nanoseconds, 100 ns to 100 s, three significant digits. Values outside saturate.
#[derive(Clone, Debug)]
pub struct LatencyHistogram(Histogram<u64>);

/// A histogram over 100 ns to 100 s with that many significant digits.
pub fn with_digits(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(100, 100_000_000_000, digits)
        .expect("the bounds are ordered and 1 to 5 digits are allowed")
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self(with_digits(3))
    }
}

impl LatencyHistogram {
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms of this type have the same bounds");
    }

    /// The latency at a quantile, in microseconds.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The highest latency in microseconds; 0 if nothing was recorded.
    pub fn max_micros(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.max() as f64 / 1e3 }
    }
}

impl Deref for LatencyHistogram {
    type Target = Histogram<u64>;

    fn deref(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl DerefMut for LatencyHistogram {
    fn deref_mut(&mut self) -> &mut Histogram<u64> {
        &mut self.0
    }
}

/// Pairs of a value and its count. The highest value of a bucket represents all in it, so nothing is lost between equal bounds.
impl Serialize for LatencyHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter_recorded().map(|bar| (bar.value_iterated_to(), bar.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for LatencyHistogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut histogram = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            histogram.0.saturating_record_n(value, count);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_survives_serialization() {
        let mut histogram = LatencyHistogram::default();
        [1, 100, 12_345, 99_999_999, 1 << 50].into_iter().for_each(|ns| histogram.saturating_record_n(ns, 3));
        let text = serde_json::to_string(&histogram).unwrap();
        let copy: LatencyHistogram = serde_json::from_str(&text).unwrap();
        assert_eq!(*copy, *histogram);
    }
}
