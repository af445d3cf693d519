//! Queries are compared with a list of everything that was published.

use std::sync::Arc;

use super::segment::class_of;
use super::{Directory, Durability, Lane, LaneOptions, NewPublication, Query, QueryBy};
use crate::pubsub::{HistoryOptions, TimeRange};

/// A publication of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Made {
    channel: String,
    offset: u64,
    time: u64,
    class: u8,
    user: String,
    tag: String,
    data: String,
}

struct Log {
    path: std::path::PathBuf,
    lane: Option<Lane<Directory>>,
    made: Vec<Made>,
    now: u64,
}

impl Log {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corecast-query-{name}-{}", std::process::id()));
        // Left behind by a test that failed.
        _ = std::fs::remove_dir_all(&path);
        let mut log = Self { path, lane: None, made: Vec::new(), now: 1_790_000_000_000 };
        log.open();
        log
    }

    fn open(&mut self) {
        let options = LaneOptions { segment_bytes: 16 << 10, free_bytes_min: 0, ..LaneOptions::default() };
        let files = Directory::new(&self.path).expect("a temporary directory");
        self.lane = Some(Lane::open(files, options, self.now).expect("not damaged").0);
    }

    fn lane(&mut self) -> &mut Lane<Directory> {
        self.lane.as_mut().expect("open")
    }

    fn publish(&mut self, rng: &mut fastrand::Rng) {
        self.now += rng.u64(..3);
        let number = rng.usize(..20);
        let ttl_ms = [60_000_000, 100_000_000, 700_000_000][number % 3];
        let history = HistoryOptions { namespace: 0, size: 1_000, ttl_ms, meta_ttl_ms: 0 };
        let channel = format!("channel{number}");
        let user = if rng.bool() { format!("user{}", rng.usize(..5)) } else { String::new() };
        let tag = if rng.bool() { format!("tag{}", rng.usize(..3)) } else { String::new() };
        let data = format!("{{\"n\":{}}}", self.made.len());
        let publication = NewPublication {
            data: data.as_bytes(),
            client_info: b"",
            tags: b"",
            user: &user,
            tag: &tag,
            version: 0,
            version_epoch: "",
            idempotency_key: "",
            history,
            durability: Durability::Process,
        };
        let now = self.now;
        let staged = self.lane().publish(&channel, &publication, now).expect("there is room");
        let offset = staged.position.expect("it has a history").offset;
        let made = Made { channel, offset, time: staged.time, class: class_of(ttl_ms), user, tag, data };
        self.made.push(made);
    }

    /// All pages of a query.
    fn pages(&mut self, by: QueryBy<'_>, range: TimeRange, reverse: bool, limit: usize) -> Vec<(String, u64, String)> {
        let (mut all, mut cursor) = (Vec::new(), Box::<str>::default());
        let now = self.now;
        loop {
            let accepts: super::AcceptChannel = Arc::new(|channel: &str| channel != "channel7");
            let query = Query { by, range, limit, bytes_max: 1 << 20, reverse, cursor: &cursor, accepts };
            let mut page = self.lane().plan_query(&query).expect("its own cursor").run().expect("readable");
            assert!(page.publications.len() <= limit && page.unreadable == 0);
            self.lane().keep_visible(&mut page, now);
            for found in page.publications {
                let data = String::from_utf8(found.record.data.to_vec()).expect("text");
                all.push((found.channel.into(), found.record.offset, data));
            }
            cursor = page.cursor;
            if cursor.is_empty() {
                return all;
            }
        }
    }

    fn expected(&self, by: QueryBy<'_>, range: TimeRange, reverse: bool) -> Vec<(String, u64, String)> {
        let is_meant = |made: &&Made| {
            let name = match by {
                QueryBy::User(user) => made.user == user,
                QueryBy::Tag(tag) => made.tag == tag,
            };
            name && range.contains(made.time) && made.channel != "channel7"
        };
        let mut all: Vec<_> = self.made.iter().filter(is_meant).collect();
        all.sort_by_key(|made| (made.time, made.class));
        if reverse {
            all.reverse();
        }
        all.into_iter().map(|made| (made.channel.clone(), made.offset, made.data.clone())).collect()
    }

    fn check(&mut self, rng: &mut fastrand::Rng, seed: u64) {
        let (user, tag) = (format!("user{}", rng.usize(..6)), format!("tag{}", rng.usize(..4)));
        let first = self.made.first().map_or(0, |made| made.time);
        let range = match rng.bool() {
            true => TimeRange::ALL,
            false => TimeRange { from_ms: rng.u64(first..=self.now), to_ms: rng.u64(first..=self.now + 2) },
        };
        let (reverse, limit) = (rng.bool(), [1, 7, 1_000][rng.usize(..3)]);
        let by = if rng.bool() { QueryBy::User(&user) } else { QueryBy::Tag(&tag) };
        let expected = self.expected(by, range, reverse);
        assert_eq!(self.pages(by, range, reverse, limit), expected, "seed {seed} {by:?} {range:?} {reverse} {limit}");
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // What is left in the temporary directory changes no test.
        _ = std::fs::remove_dir_all(&self.path);
    }
}

#[test]
fn query_answers_as_a_list_of_all_publications() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut log = Log::new("model");
    for round in 0..60 {
        for _ in 0..rng.usize(1..80) {
            log.publish(&mut rng);
        }
        log.lane().commit().expect("the disk takes it");
        log.check(&mut rng, seed);
        if round % 20 == 19 {
            let now = log.now;
            log.lane.take().expect("open").close(now).expect("the disk takes it");
            log.open();
        }
    }
    assert!(log.lane().stats().segments > 3);
}

#[test]
fn removed_history_is_not_found_and_corrupt_index_is_built_again() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut log = Log::new("removed");
    for _ in 0..2_000 {
        log.publish(&mut rng);
        log.lane().commit().expect("the disk takes it");
    }
    let user = QueryBy::User("user1");
    let all = log.expected(user, TimeRange::ALL, false);
    assert_eq!(log.pages(user, TimeRange::ALL, false, 100), all);
    let now = log.now;
    log.lane.take().expect("open").close(now).expect("the disk takes it");
    let mut damaged = 0;
    for entry in std::fs::read_dir(&log.path).expect("it exists") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|ext| ext == "idx") {
            let mut bytes = std::fs::read(&path).expect("readable");
            let at = [20, 200, 5_000][damaged % 3];
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("writable");
            damaged += 1;
        }
    }
    assert!(damaged > 3, "{damaged} segments had an index");
    log.open();
    assert_eq!(log.pages(user, TimeRange::ALL, true, 10), log.expected(user, TimeRange::ALL, true));
    log.lane().remove_history("channel3", now).expect("not failed");
    log.lane().commit().expect("the disk takes it");
    log.made.retain(|made| made.channel != "channel3");
    assert_eq!(log.pages(user, TimeRange::ALL, false, 100), log.expected(user, TimeRange::ALL, false));
}
