//! How connections are shared by the workers of a process and by the processes of a run.

/// Splits `total` over the workers: the first one and the count, for each.
pub fn shares(total: usize, workers: usize) -> Vec<(usize, usize)> {
    let upto = |worker| total * worker / workers;
    (0..workers).map(|worker| (upto(worker), upto(worker + 1) - upto(worker))).collect()
}

/// The part of a run that a process carries.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub part: usize,
    pub of: usize,
    /// Nanoseconds by which the clock of this machine is ahead of the publishers' clock.
    pub ahead: i64,
    /// The moment from which seconds are counted; `None`: when the workers start.
    pub origin: Option<u64>,
}

impl Default for Share {
    fn default() -> Self {
        Self { part: 0, of: 1, ahead: 0, origin: None }
    }
}

impl Share {
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Splits this part of `total` over the workers: the number of the first one in the whole run, and the count, for each.
    pub fn split(self, total: usize, workers: usize) -> Vec<(usize, usize)> {
        let (first, count) = shares(total, self.of)[self.part];
        shares(count, workers).into_iter().map(|(at, count)| (first + at, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (total, workers) in [(10, 3), (2, 4), (1000, 1)] {
            let shares = shares(total, workers);
            assert_eq!(shares.len(), workers);
            let mut next = 0;
            for (first, count) in shares {
                assert_eq!(first, next);
                next += count;
            }
            assert_eq!(next, total);
        }
    }

    #[test]
    fn parts_and_their_workers_cover_all_connections_once() {
        let mut next = 0;
        for part in 0..7 {
            for (first, count) in (Share { part, of: 7, ..Share::default() }).split(1000, 3) {
                assert_eq!(first, next);
                next += count;
            }
        }
        assert_eq!(next, 1000);
        assert_eq!(Share::default().split(10, 2), shares(10, 2));
    }
}
