//! Which servers a Redis Cluster has, and which slots they serve.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::dial::{DialError, Dialed, Dialer, Expect, request, text};
use super::hash::SLOTS;
use super::random;
use crate::config::Endpoint;

/// How often the slots are read while nothing says that they have changed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest time between two reads.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// The servers of a range of slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SlotRange {
    first: u16,
    last: u16,
    master: Endpoint,
    replicas: Vec<Endpoint>,
}

pub(super) struct Topology {
    seeds: Vec<Endpoint>,
    dialer: Rc<Dialer>,
    ranges: RefCell<Vec<SlotRange>>,
    /// Something says that the slots have changed.
    pub(super) stale: Notify,
    /// They have changed. Only one task waits for it.
    pub(super) changed: Notify,
}

impl Topology {
    /// `seeds` is not empty.
    pub(super) fn new(seeds: Vec<Endpoint>, dialer: Rc<Dialer>) -> Self {
        Self { seeds, dialer, ranges: RefCell::default(), stale: Notify::new(), changed: Notify::new() }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(super) fn is_known(&self) -> bool {
        !self.ranges.borrow().is_empty()
    }

    pub(super) fn master_of(&self, slot: u16) -> Option<Endpoint> {
        self.with_range(slot, |range| range.master.clone())
    }

    /// A replica of a slot; its master if there is none.
    pub(super) fn replica_of(&self, slot: u16) -> Option<(Endpoint, Expect)> {
        self.with_range(slot, |range| match range.replicas.len() {
            0 => (range.master.clone(), Expect::Any),
            count => (range.replicas[slot as usize % count].clone(), Expect::ClusterReplica),
        })
    }

    fn with_range<T>(&self, slot: u16, read: impl Fn(&SlotRange) -> T) -> Option<T> {
        let ranges = self.ranges.borrow();
        let at = ranges.partition_point(|range| range.last < slot);
        ranges.get(at).filter(|range| range.first <= slot).map(read)
    }

    pub(super) fn masters(&self) -> Vec<Endpoint> {
        let mut seen = HashSet::new();
        let ranges = self.ranges.borrow();
        ranges.iter().map(|range| &range.master).filter(|master| seen.insert(*master)).cloned().collect()
    }

    pub(super) fn replicas(&self) -> Vec<Endpoint> {
        self.ranges.borrow().iter().flat_map(|range| range.replicas.iter().cloned()).collect()
    }

    /// A server has said that a slot is elsewhere.
    pub(super) fn set_moved(&self, slot: u16, master: &Endpoint) {
        let mut ranges = self.ranges.borrow_mut();
        let split = std::mem::take(&mut *ranges).into_iter().flat_map(|range| without(range, slot));
        let mut all: Vec<_> = split.collect();
        all.push(SlotRange { first: slot, last: slot, master: master.clone(), replicas: Vec::new() });
        all.sort_by_key(|range| range.first);
        *ranges = all;
        self.changed.notify_one();
        self.stale.notify_one();
    }

    /// Connects to the master of a slot, or to any of them if it does not matter. With `on_replica`, to a replica.
    pub(super) async fn dial(&self, slot: Option<u16>, on_replica: bool) -> Result<(Dialed, Endpoint), DialError> {
        let slot = slot.unwrap_or_else(|| (random::number() % u64::from(SLOTS)) as u16);
        let found = match on_replica {
            true => self.replica_of(slot),
            false => self.master_of(slot).map(|master| (master, Expect::Any)),
        };
        let (endpoint, expect) = found.ok_or_else(|| DialError(format!("no server of the cluster has slot {slot}")))?;
        match self.dialer.dial(&endpoint, expect).await {
            Ok(dialed) => Ok((dialed, endpoint)),
            Err(error) => {
                self.stale.notify_one();
                Err(error)
            }
        }
    }

    /// Reads the slots when they may have changed, and now and then. Never ends.
    pub(super) async fn watch(&self, mut changed: impl FnMut()) {
        loop {
            if self.refresh().await {
                self.changed.notify_one();
                changed();
            }
            sleep(REFRESH_PAUSE).await;
            let interval = if self.is_known() { REFRESH_INTERVAL } else { Duration::from_millis(250) };
            // The time that passes without a change ends the wait as well.
            _ = timeout(interval, self.stale.notified()).await;
        }
    }

    /// Returns whether there is something new.
    async fn refresh(&self) -> bool {
        let mut candidates = self.masters();
        if !candidates.is_empty() {
            let first = random::number() as usize % candidates.len();
            candidates.rotate_left(first);
        }
        candidates.extend(self.seeds.iter().cloned());
        for endpoint in candidates {
            match self.read_from(&endpoint).await {
                Ok(ranges) => return self.ranges.replace(ranges.clone()) != ranges,
                Err(error) => log::warn!("redis cluster: {endpoint:?} does not tell the slots: {error}"),
            }
        }
        false
    }

    async fn read_from(&self, endpoint: &Endpoint) -> Result<Vec<SlotRange>, DialError> {
        let mut dialed = self.dialer.dial(endpoint, Expect::Any).await?;
        let mut command = cmd("CLUSTER");
        let answer = timeout(self.dialer.io_timeout, request(&mut dialed.connection, command.arg("SLOTS")));
        let answer = answer.await.map_err(|_| DialError("no answer in time".into()))??.map_err(DialError)?;
        let ranges = slot_ranges(&answer, endpoint);
        if ranges.is_empty() { Err(DialError("it has no slots".into())) } else { Ok(ranges) }
    }
}

/// What is left of a range without one of its slots.
fn without(range: SlotRange, slot: u16) -> impl Iterator<Item = SlotRange> {
    let is_in = (range.first..=range.last).contains(&slot);
    let before = SlotRange { last: slot.saturating_sub(1), ..range.clone() };
    let after = SlotRange { first: slot.saturating_add(1), ..range.clone() };
    let (has_before, has_after) = (is_in && range.first < slot, is_in && slot < range.last);
    [(range, !is_in), (before, has_before), (after, has_after)].into_iter().filter(|part| part.1).map(|part| part.0)
}

/// The answer to `CLUSTER SLOTS`. Ranges that cannot be read are left out.
fn slot_ranges(answer: &Value, asked: &Endpoint) -> Vec<SlotRange> {
    let Value::Array(items) = answer else { return Vec::new() };
    let mut ranges: Vec<_> = items.iter().filter_map(|item| slot_range(item, asked)).collect();
    ranges.sort_by_key(|range| range.first);
    ranges
}

fn slot_range(item: &Value, asked: &Endpoint) -> Option<SlotRange> {
    let Value::Array(parts) = item else { return None };
    let [Value::Int(first), Value::Int(last), servers @ ..] = &parts[..] else { return None };
    let slot = |number: i64| u16::try_from(number).ok().filter(|&slot| slot < SLOTS);
    let mut endpoints = servers.iter().filter_map(|server| {
        let Value::Array(parts) = server else { return None };
        let [host, Value::Int(port), ..] = &parts[..] else { return None };
        Some(endpoint(text(host).unwrap_or_default(), u16::try_from(*port).ok()?, asked))
    });
    let master = endpoints.next()?;
    Some(SlotRange { first: slot(*first)?, last: slot(*last)?, master, replicas: endpoints.collect() })
}

/// A server without a host is on that of the server that was asked.
fn endpoint(host: &str, port: u16, asked: &Endpoint) -> Endpoint {
    match asked {
        Endpoint::Tcp(same, _) if host.is_empty() || host == "?" => Endpoint::Tcp(same.clone(), port),
        _ => Endpoint::Tcp(host.to_owned(), port),
    }
}

/// What `MOVED` and `ASK` say: a slot and its server. `asked` is the server that says it.
pub(super) fn redirection(details: &str, asked: &Endpoint) -> Option<(u16, Endpoint)> {
    let (slot, address) = details.split_once(' ')?;
    let (host, port) = address.split_whitespace().next()?.rsplit_once(':')?;
    let slot = slot.parse().ok().filter(|&slot| slot < SLOTS)?;
    Some((slot, endpoint(host, port.parse().ok()?, asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint::Tcp("a".into(), port)
    }

    fn topology(ranges: Vec<SlotRange>) -> Topology {
        let shard = crate::config::RedisShard::at(at(1));
        let topology = Topology::new(vec![at(1)], Rc::new(Dialer::new(&shard)));
        *topology.ranges.borrow_mut() = ranges;
        topology
    }

    #[test]
    fn slots_are_read_and_move_one_by_one() {
        let host = || Value::BulkString(b"a".to_vec());
        let server = |host, port| Value::Array(vec![host, Value::Int(port), host_id()]);
        fn host_id() -> Value {
            Value::BulkString(b"id".to_vec())
        }
        let answer = Value::Array(vec![
            Value::Array(vec![Value::Int(100), Value::Int(16_383), server(host(), 2)]),
            Value::Array(vec![Value::Int(0), Value::Int(99), server(Value::Nil, 1), server(host(), 3)]),
            Value::Array(vec![Value::Int(0), Value::Int(99_999), server(host(), 2)]),
            Value::Array(vec![Value::Int(0)]),
            Value::Nil,
        ]);
        let topology = topology(slot_ranges(&answer, &at(9)));
        let masters = |slots: &[u16]| slots.iter().map(|&slot| topology.master_of(slot)).collect::<Vec<_>>();
        assert_eq!(masters(&[0, 99, 100, 16_383]), [at(1), at(1), at(2), at(2)].map(Some));
        assert_eq!(topology.replica_of(5), Some((at(3), Expect::ClusterReplica)));
        assert_eq!(topology.replica_of(500), Some((at(2), Expect::Any)));
        topology.set_moved(0, &at(4));
        topology.set_moved(50, &at(4));
        topology.set_moved(99, &at(4));
        assert_eq!(masters(&[0, 1, 49, 50, 51, 98, 99, 100]), [4, 1, 1, 4, 1, 1, 4, 2].map(|port| Some(at(port))));
        assert_eq!(topology.masters(), [at(4), at(1), at(2)]);
    }

    #[test]
    fn slots_without_a_server_have_no_master() {
        let range = SlotRange { first: 10, last: 20, master: at(1), replicas: vec![] };
        let topology = topology(vec![range]);
        assert_eq!([9, 10, 20, 21].map(|slot| topology.master_of(slot).is_some()), [false, true, true, false]);
    }

    #[test]
    fn redirections_are_read() {
        assert_eq!(redirection("3999 b:6381", &at(1)), Some((3999, Endpoint::Tcp("b".into(), 6381))));
        assert_eq!(redirection("3999 :6381", &at(1)), Some((3999, at(6381))));
        assert_eq!(redirection("1 ::1:6381", &at(1)), Some((1, Endpoint::Tcp("::1".into(), 6381))));
        for details in ["", "3999", "x b:1", "99999 b:1", "1 b", "1 b:99999", "1 "] {
            assert_eq!(redirection(details, &at(1)), None, "{details}");
        }
    }
}
