//! When a key set is fetched again, as a table of decisions: no I/O and no clock. One of these per endpoint.
//!
//! | the set at hand             | fetched lately            | else                                     |
//! |-----------------------------|---------------------------|------------------------------------------|
//! | has the key, fresh          | use it                    | use it                                   |
//! | has the key, stale          | use it                    | use it, and fetch                        |
//! | lacks the key               | the key does not exist    | fetch, and wait for it                   |
//! | missing, or too old         | not available for now     | fetch, and wait for it                   |
//!
//! So a flood of tokens with made-up key ids costs one fetch in `FETCH_GAP_S`, and nothing is kept per id.

use std::sync::Arc;

use super::jwks::KeySet;

/// Seconds after which a set that is in use is fetched again.
pub const FRESH_S: u64 = 3600;
/// Seconds that a set is used where it cannot be fetched again. A key that its owner took back holds no longer than this.
pub const KEEP_S: u64 = 24 * 3600;
/// Seconds between two fetches, at least.
pub const FETCH_GAP_S: u64 = 10;
/// Seconds between two fetches while they fail, at most: the gap starts at one and doubles.
pub const RETRY_GAP_S_MAX: u64 = 30;

/// What the caller does with a token.
#[derive(Clone, Debug)]
pub enum Look {
    /// Verify it with these.
    Use(Arc<KeySet>),
    /// Ask again when the fetch under way has ended.
    Wait,
    /// Refuse it for good: its key does not exist.
    Absent,
    /// Refuse it for now: the keys are not to be had.
    Unavailable,
}

/// The key set of one endpoint.
#[derive(Default, Debug)]
pub struct KeyCache {
    /// And when it was fetched.
    set: Option<(Arc<KeySet>, u64)>,
    under_way: bool,
    /// No fetch begins before.
    next_fetch_s: u64,
    /// Since the last one that did not fail.
    failures: u32,
}

impl KeyCache {
    /// What to do with a token signed by the key `kid`. Where the second is true the caller starts a fetch, once, and tells
    /// how it ended by `fetched` or `failed`.
    pub fn look(&mut self, kid: &str, now_s: u64) -> (Look, bool) {
        let kept = self.set.as_ref().filter(|(_, at)| now_s < at.saturating_add(KEEP_S));
        if let Some((set, at)) = kept.filter(|(set, _)| set.has(kid)) {
            let (set, stale) = (Arc::clone(set), now_s >= at.saturating_add(FRESH_S));
            return (Look::Use(set), stale && self.begins(now_s));
        }
        let known = kept.is_some() && self.failures == 0;
        if self.under_way {
            return (Look::Wait, false);
        }
        match (self.begins(now_s), known) {
            (true, _) => (Look::Wait, true),
            (false, true) => (Look::Absent, false),
            (false, false) => (Look::Unavailable, false),
        }
    }

    fn begins(&mut self, now_s: u64) -> bool {
        let begins = !self.under_way && now_s >= self.next_fetch_s;
        self.under_way |= begins;
        begins
    }

    pub fn fetched(&mut self, set: KeySet, now_s: u64) {
        *self = Self {
            set: Some((Arc::new(set), now_s)),
            under_way: false,
            next_fetch_s: now_s.saturating_add(FETCH_GAP_S),
            failures: 0,
        };
    }

    /// It could not be fetched, or was no key set.
    pub fn failed(&mut self, now_s: u64) {
        let gap = 1u64.checked_shl(self.failures).unwrap_or(RETRY_GAP_S_MAX).min(RETRY_GAP_S_MAX);
        self.under_way = false;
        self.failures = self.failures.saturating_add(1);
        self.next_fetch_s = now_s.saturating_add(gap);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::jwks::{ED25519_KID, ED25519_SET};
    use super::*;

    fn set() -> KeySet {
        KeySet::parse(ED25519_SET.as_bytes()).unwrap()
    }

    fn shown(look: (Look, bool)) -> (&'static str, bool) {
        let name = match look.0 {
            Look::Use(_) => "use",
            Look::Wait => "wait",
            Look::Absent => "absent",
            Look::Unavailable => "unavailable",
        };
        (name, look.1)
    }

    #[test]
    fn first_token_starts_one_fetch_and_others_wait_for_it() {
        let mut cache = KeyCache::default();
        assert_eq!(shown(cache.look(ED25519_KID, 1000)), ("wait", true));
        assert_eq!(shown(cache.look(ED25519_KID, 1000)), ("wait", false));
        assert_eq!(shown(cache.look("other", 1500)), ("wait", false));
        cache.fetched(set(), 1500);
        assert_eq!(shown(cache.look(ED25519_KID, 1500)), ("use", false));
    }

    #[test]
    fn flood_of_invented_ids_starts_one_fetch_per_interval() {
        let mut cache = KeyCache::default();
        let mut fetches = 0;
        for now_s in 1000..1100 {
            for id in 0..50 {
                let (look, fetch) = cache.look(&format!("{now_s}-{id}"), now_s);
                if fetch {
                    fetches += 1;
                    cache.fetched(set(), now_s);
                } else {
                    assert!(matches!(look, Look::Absent));
                }
            }
            assert_eq!(shown(cache.look(ED25519_KID, now_s)), ("use", false));
        }
        assert_eq!(fetches, 10);
    }

    #[test]
    fn stale_set_is_used_during_a_fetch_up_to_its_age_limit() {
        let mut cache = KeyCache::default();
        cache.look(ED25519_KID, 0);
        cache.fetched(set(), 0);
        assert_eq!(shown(cache.look(ED25519_KID, FRESH_S - 1)), ("use", false));
        assert_eq!(shown(cache.look(ED25519_KID, FRESH_S)), ("use", true));
        assert_eq!(shown(cache.look(ED25519_KID, FRESH_S)), ("use", false));
        cache.failed(FRESH_S);
        assert_eq!(shown(cache.look(ED25519_KID, FRESH_S + 1)), ("use", true));
        cache.failed(KEEP_S - 1);
        assert_eq!(shown(cache.look(ED25519_KID, KEEP_S)), ("unavailable", false));
        assert_eq!(shown(cache.look(ED25519_KID, KEEP_S + 1)), ("wait", true));
    }

    #[test]
    fn failures_are_retried_ever_more_slowly_and_refuse_nothing_for_good() {
        let mut cache = KeyCache::default();
        let mut now_s = 0;
        let mut gaps = Vec::new();
        for _ in 0..8 {
            assert_eq!(shown(cache.look("a", now_s)), ("wait", true));
            cache.failed(now_s);
            let start = now_s;
            while shown(cache.look("a", now_s)) == ("unavailable", false) {
                now_s += 1;
            }
            cache.under_way = false;
            gaps.push(now_s - start);
        }
        assert_eq!(gaps, [1, 2, 4, 8, 16, 30, 30, 30]);
        for _ in 0..100 {
            cache.failed(now_s);
        }
    }

    #[test]
    fn clock_that_goes_back_has_no_effect() {
        let mut cache = KeyCache::default();
        cache.fetched(set(), u64::MAX - 5);
        assert_eq!(shown(cache.look(ED25519_KID, 0)), ("use", false));
        assert_eq!(shown(cache.look("other", 0)), ("absent", false));
    }
}
