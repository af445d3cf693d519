//! What is true of the channels: which publication stands where, what home still had of it when, and so what a client may
//! be told. It is learned from the answers to the server API, from looking into homes between turns, and from what clients
//! see; whoever says otherwise later is wrong.

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

/// What channels keep.
#[derive(Clone, Copy, Debug)]
pub struct Keeps {
    pub size: u64,
    pub ttl: u64,
    pub meta_ttl: u64,
    /// Publications that one recovery may bring.
    pub recovered_max: u64,
    /// Homes are looked into after each of their turns, so that it is known what they had when.
    pub exact: bool,
}

pub struct Published {
    pub channel: usize,
    pub by_client: bool,
    pub tag: Option<char>,
    /// History shall have it.
    pub kept: bool,
    place: Option<(String, u64)>,
}

/// What home had behind one of its turns: offsets `first..=top`.
#[derive(Clone, Copy, Debug)]
struct State {
    turn: u64,
    first: u64,
    top: u64,
    /// All may have gone in this turn before more was published.
    may_drop: bool,
}

/// One life of a channel.
#[derive(Default)]
struct Stream {
    /// By offset, as far as it is known.
    numbers: Vec<Option<u64>>,
    log: Vec<State>,
    stamped_at: u64,
    /// Offsets that somebody did not get because his tag is another.
    withheld: Vec<(u64, u64, char)>,
}

pub struct Truth {
    pub keeps: Keeps,
    pub published: Vec<Published>,
    streams: Vec<HashMap<String, Stream>>,
    pub expired: u64,
}

impl Truth {
    pub fn new(keeps: Keeps) -> Self {
        let streams = (0..CHANNELS).map(|_| HashMap::new()).collect();
        Self { keeps, published: Vec::new(), streams, expired: 0 }
    }

    /// A publication is on its way: its number.
    pub fn publish(&mut self, channel: usize, by_client: bool, tag: Option<char>, kept: bool) -> u64 {
        self.published.push(Published { channel, by_client, tag, kept, place: None });
        self.published.len() as u64 - 1
    }

    /// Somebody saw it at this place: nobody may see another there, nor this one elsewhere.
    pub fn stands(&mut self, channel: usize, epoch: &str, offset: u64, n: u64) {
        assert!(offset > 0 && !epoch.is_empty());
        let published = &mut self.published[n as usize];
        assert!(published.channel == channel && published.kept, "c{channel}: {n} does not belong here");
        let place = published.place.get_or_insert_with(|| (epoch.to_owned(), offset));
        assert_eq!((place.0.as_str(), place.1), (epoch, offset), "c{channel}: {n} was published twice");
        let stream = self.streams[channel].entry(epoch.to_owned()).or_default();
        if stream.numbers.len() < offset as usize {
            stream.numbers.resize(offset as usize, None);
        }
        let there = stream.numbers[offset as usize - 1].get_or_insert(n);
        assert_eq!(*there, n, "c{channel}: two truths at offset {offset}");
    }

    /// A client with this tag got nothing at these offsets.
    pub fn withheld(&mut self, channel: usize, epoch: &str, from: u64, to: u64, tag: char) {
        if from <= to {
            self.streams[channel].entry(epoch.to_owned()).or_default().withheld.push((from, to, tag));
        }
    }

    /// Home, behind a turn: what it has, and the publications that are new since the last look.
    #[allow(clippy::too_many_arguments)] // one look, spread out
    pub fn observe(&mut self, channel: usize, epoch: &str, first: u64, top: u64, turn: u64, now: u64, removed: bool) {
        assert!(self.streams[channel].len() < 2, "c{channel}: a second life");
        let Keeps { size, ttl, .. } = self.keeps;
        let stream = self.streams[channel].entry(epoch.to_owned()).or_default();
        let before = stream.log.last().copied().unwrap_or(State { turn: 0, first: 1, top: 0, may_drop: false });
        let due = before.first <= before.top && stream.stamped_at + ttl <= now;
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
            stream.stamped_at = now;
        }
        if (first, top) != (before.first, before.top) || stream.log.is_empty() {
            stream.log.push(State { turn, first, top, may_drop: due || removed });
        }
    }

    /// Whether a recovery from `since` may have brought everything, and whether it may have failed, when it was answered between
    /// two turns, where the channel's top was among these. Who missed nothing may have been told so by his own shard, whose
    /// top is an earlier one.
    pub fn verdicts(
        &self,
        channel: usize,
        since: (&str, u64),
        tops: RangeInclusive<u64>,
        from: u64,
        to: u64,
    ) -> (bool, bool) {
        let (epoch, offset) = since;
        let Some(stream) = self.streams[channel].get(epoch) else { return (false, true) };
        let last = stream.log.iter().take_while(|state| state.turn <= to).last().map_or(0, |state| state.top);
        let (mut can, mut cannot) = (tops.contains(&offset) && offset <= last, false);
        let mut judge = |first: u64, at: u64| {
            if tops.contains(&at) && at >= offset {
                let missed = at - offset;
                let whole = missed == 0 || first <= offset + 1 && missed <= self.keeps.recovered_max;
                can |= whole;
                cannot |= !whole;
            }
        };
        let mut before = State { turn: 0, first: 1, top: 0, may_drop: false };
        for &state in stream.log.iter().take_while(|state| state.turn <= to) {
            if state.turn >= from {
                judge(before.first, before.top);
                for at in before.top..=state.top {
                    let evicted = (at + 1).saturating_sub(self.keeps.size);
                    judge(before.first.max(evicted), at);
                    if state.may_drop {
                        judge((before.top + 1).max(evicted), at);
                        judge(at + 1, at);
                    }
                }
            }
            before = state;
        }
        judge(before.first, before.top);
        (can, cannot)
    }

    /// Whether home no longer has something that comes behind this position.
    pub fn is_lost(&self, channel: usize, epoch: &str, offset: u64) -> bool {
        let state = self.streams[channel].get(epoch).and_then(|stream| stream.log.last());
        state.is_some_and(|state| state.first > offset + 1 && state.top > offset)
    }

    /// The last offset that anybody knows of.
    pub fn top(&self, channel: usize, epoch: &str) -> u64 {
        let Some(stream) = self.streams[channel].get(epoch) else { return 0 };
        stream.log.last().map_or(stream.numbers.len() as u64, |state| state.top)
    }

    pub fn lives(&self) -> usize {
        self.streams.iter().map(HashMap::len).sum()
    }

    /// Offsets that were stamped, all channels together. Known where homes are looked into.
    pub fn stamped(&self) -> u64 {
        let streams = self.streams.iter().flat_map(HashMap::values);
        streams.map(|stream| stream.log.last().map_or(0, |state| state.top)).sum()
    }

    /// At the end: nothing was withheld from anybody that had his tag. What has no number by now was published by a client,
    /// and clients' publications have no tags.
    pub fn check_withheld(&self) -> u64 {
        let mut offsets = 0;
        for stream in self.streams.iter().flat_map(HashMap::values) {
            for &(from, to, tag) in &stream.withheld {
                offsets += to + 1 - from;
                let known = stream.numbers.iter().take(to as usize).skip(from as usize - 1).flatten();
                for &n in known {
                    assert_ne!(self.published[n as usize].tag, Some(tag), "{n} was withheld from who wants it");
                }
            }
        }
        offsets
    }
}
