//! Sets of cores in the two notations of the kernel: `0-3,8` and `ff,0000000f`.

use std::collections::BTreeSet;
use std::fmt;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Cpus(BTreeSet<usize>);

/// More than any machine has: a wider range is a reading error.
const CPU_MAX: usize = 1 << 16;

impl Cpus {
    /// `0-3,8`; an empty text is the empty set.
    pub(crate) fn list(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if last >= CPU_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// Groups of 32 bits in hexadecimal, the highest first.
    pub(crate) fn mask(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for (place, group) in text.trim().rsplit(',').enumerate().take(CPU_MAX / 32) {
            let bits = u32::from_str_radix(group, 16).ok()?;
            cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| place * 32 + bit));
        }
        Some(Self(cpus))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    pub(crate) fn meets(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<usize> for Cpus {
    fn from_iter<T: IntoIterator<Item = usize>>(cpus: T) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|&next| next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        if self.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read_and_one_is_written() {
        let shown = |cpus: Option<Cpus>| cpus.map(|cpus| cpus.to_string());
        assert_eq!(shown(Cpus::list("0-3,8,10-11")).as_deref(), Some("0-3,8,10,11"));
        assert_eq!(shown(Cpus::mask("3,8000000f")).as_deref(), Some("0-3,31-33"));
        assert_eq!(shown(Cpus::mask("00000000")).as_deref(), Some("none"));
        assert_eq!(shown(Cpus::list("")).as_deref(), Some("none"));
        for bad in ["x", "1-", "0-99999999"] {
            assert_eq!(Cpus::list(bad), None, "{bad}");
        }
        assert_eq!(Cpus::mask("zz"), None);
    }
}
