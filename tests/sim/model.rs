//! The model that the server is compared with: which publication has which offset, what the history of a home shard held
//! after each turn, and so what a client may be told. It learns from replies of the server API, from queries to home shards
//! between turns and from what clients receive; a later contradiction is a failure.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde_json::json;

pub const CHANNELS: usize = 4;

pub fn name(channel: usize) -> String {
    format!("c{channel}")
}

/// The payload of a publication: the number, and text enough that a difference to the one before is shorter.
pub fn payload(n: u64) -> Vec<u8> {
    let words = ["zwölf", "Boxkämpfer", "jagen", "Viktor", "quer", "über", "den", "großen", "Sylter", "Deich"];
    let from = (n % 7) as usize;
    let text: Vec<&str> = (from..from + 4 + (n % 5) as usize).map(|at| words[at % words.len()]).collect();
    json!({"n": n, "text": text.join(" ")}).to_string().into_bytes()
}

/// The publication that has this payload.
pub fn number(bytes: &[u8]) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("a payload is JSON");
    let n = value["n"].as_u64().expect("a payload has a number");
    assert_eq!(bytes, payload(n), "not the bytes that were published");
    n
}

/// What the histories of channels store.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    pub size: u64,
    pub ttl: u64,
    pub meta_ttl: u64,
    /// Publications that one recovery may bring.
    pub recovered_max: u64,
    /// Home shards are queried after each of their turns, so that it is known what they stored when.
    pub exact: bool,
}

pub struct Published {
    pub channel: usize,
    pub by_client: bool,
    pub tag: Option<char>,
    /// The history stores it.
    pub is_stored: bool,
    position: Option<(String, u64)>,
}

/// What the home shard's history held after one of its turns: offsets `first..=top`.
#[derive(Clone, Copy, Debug)]
struct HistoryState {
    turn: u64,
    first: u64,
    top: u64,
    /// All may have been dropped in this turn before more was published.
    may_drop: bool,
}

/// One epoch of a channel.
#[derive(Default)]
struct Epoch {
    /// The publication at each offset, as far as it is known.
    numbers: Vec<Option<u64>>,
    log: Vec<HistoryState>,
    stamped_at: u64,
    /// Offsets that a client with another tag did not get.
    filtered_out: Vec<(u64, u64, char)>,
}

/// What a home shard's history holds after a turn: offsets `first..=top`.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub first: u64,
    pub top: u64,
    pub turn: u64,
    pub now: u64,
    /// The server API has removed the history.
    pub removed: bool,
}

pub struct Model {
    pub limits: HistoryLimits,
    pub published: Vec<Published>,
    epochs: Vec<HashMap<String, Epoch>>,
    pub expired: u64,
}

impl Model {
    pub fn new(limits: HistoryLimits) -> Self {
        let epochs = (0..CHANNELS).map(|_| HashMap::new()).collect();
        Self { limits, published: Vec::new(), epochs, expired: 0 }
    }

    /// A publication is sent. Returns its number.
    pub fn publish(&mut self, channel: usize, by_client: bool, tag: Option<char>, is_stored: bool) -> u64 {
        self.published.push(Published { channel, by_client, tag, is_stored, position: None });
        self.published.len() as u64 - 1
    }

    /// Records the position of a publication: no other may have it, and this one no other position.
    pub fn record(&mut self, channel: usize, epoch: &str, offset: u64, n: u64) {
        assert!(offset > 0 && !epoch.is_empty());
        let published = &mut self.published[n as usize];
        assert!(published.channel == channel && published.is_stored, "c{channel}: {n} does not belong here");
        let position = published.position.get_or_insert_with(|| (epoch.to_owned(), offset));
        assert_eq!((position.0.as_str(), position.1), (epoch, offset), "c{channel}: {n} was published twice");
        let known = self.epochs[channel].entry(epoch.to_owned()).or_default();
        if known.numbers.len() < offset as usize {
            known.numbers.resize(offset as usize, None);
        }
        let recorded = known.numbers[offset as usize - 1].get_or_insert(n);
        assert_eq!(*recorded, n, "c{channel}: two publications at offset {offset}");
    }

    /// A client with this tag got nothing at these offsets.
    pub fn record_filtered_out(&mut self, channel: usize, epoch: &str, from: u64, to: u64, tag: char) {
        if from <= to {
            self.epochs[channel].entry(epoch.to_owned()).or_default().filtered_out.push((from, to, tag));
        }
    }

    /// Checks what a home shard's history holds after a turn against what it held before.
    pub fn observe(&mut self, channel: usize, epoch: &str, observed: Observation) {
        let Observation { first, top, turn, now, removed } = observed;
        assert!(self.epochs[channel].len() < 2, "c{channel}: a second epoch");
        let HistoryLimits { size, ttl, .. } = self.limits;
        let known = self.epochs[channel].entry(epoch.to_owned()).or_default();
        let before = known.log.last().copied().unwrap_or(HistoryState { turn: 0, first: 1, top: 0, may_drop: false });
        let due = before.first <= before.top && known.stamped_at + ttl <= now;
        let kept = before.first.max((top + 1).saturating_sub(size));
        let dropped = (before.top + 1).max((top + 1).saturating_sub(size));
        if !removed {
            let right = match (due, top == before.top) {
                (true, true) => first == dropped,
                (true, false) => first == kept || first == dropped,
                (false, _) => first == kept,
            };
            assert!(right, "c{channel}: {first}..={top} after {before:?}, due: {due}");
        }
        self.expired += u64::from(due && first == dropped);
        if top != before.top {
            known.stamped_at = now;
        }
        if (first, top) != (before.first, before.top) || known.log.is_empty() {
            known.log.push(HistoryState { turn, first, top, may_drop: due || removed });
        }
    }

    /// Whether a recovery from `since` may have succeeded, and whether it may have failed, if it was answered between two turns
    /// while the channel's top was in `tops`. A client that missed nothing may have got the reply of its own shard, whose top
    /// is an earlier one.
    pub fn possible_recoveries(
        &self,
        channel: usize,
        since: (&str, u64),
        tops: RangeInclusive<u64>,
        from: u64,
        to: u64,
    ) -> (bool, bool) {
        let (epoch, offset) = since;
        let Some(known) = self.epochs[channel].get(epoch) else { return (false, true) };
        let last = known.log.iter().take_while(|state| state.turn <= to).last().map_or(0, |state| state.top);
        let (mut can, mut cannot) = (tops.contains(&offset) && offset <= last, false);
        let mut consider = |first: u64, at: u64| {
            if tops.contains(&at) && at >= offset {
                let missed = at - offset;
                let whole = missed == 0 || first <= offset + 1 && missed <= self.limits.recovered_max;
                can |= whole;
                cannot |= !whole;
            }
        };
        let mut before = HistoryState { turn: 0, first: 1, top: 0, may_drop: false };
        for &state in known.log.iter().take_while(|state| state.turn <= to) {
            if state.turn >= from {
                consider(before.first, before.top);
                for at in before.top..=state.top {
                    let evicted = (at + 1).saturating_sub(self.limits.size);
                    consider(before.first.max(evicted), at);
                    if state.may_drop {
                        consider((before.top + 1).max(evicted), at);
                        consider(at + 1, at);
                    }
                }
            }
            before = state;
        }
        consider(before.first, before.top);
        (can, cannot)
    }

    /// Whether the home shard has dropped a publication behind this position.
    pub fn is_lost(&self, channel: usize, epoch: &str, offset: u64) -> bool {
        let state = self.epochs[channel].get(epoch).and_then(|known| known.log.last());
        state.is_some_and(|state| state.first > offset + 1 && state.top > offset)
    }

    /// The last known offset.
    pub fn top(&self, channel: usize, epoch: &str) -> u64 {
        let Some(known) = self.epochs[channel].get(epoch) else { return 0 };
        known.log.last().map_or(known.numbers.len() as u64, |state| state.top)
    }

    pub fn epochs(&self) -> usize {
        self.epochs.iter().map(HashMap::len).sum()
    }

    /// Offsets that were given, all channels together. Known if `exact`.
    pub fn stamped(&self) -> u64 {
        let epochs = self.epochs.iter().flat_map(HashMap::values);
        epochs.map(|known| known.log.last().map_or(0, |state| state.top)).sum()
    }

    /// At the end: no publication was filtered out for a client with its tag. An offset without a number belongs to a client's
    /// publication, which has no tag.
    pub fn check_filtered_out(&self) -> u64 {
        let mut offsets = 0;
        for epoch in self.epochs.iter().flat_map(HashMap::values) {
            for &(from, to, tag) in &epoch.filtered_out {
                offsets += to + 1 - from;
                let known = epoch.numbers.iter().take(to as usize).skip(from as usize - 1).flatten();
                for &n in known {
                    assert_ne!(
                        self.published[n as usize].tag,
                        Some(tag),
                        "{n} was filtered out for a client that wants it"
                    );
                }
            }
        }
        offsets
    }
}
