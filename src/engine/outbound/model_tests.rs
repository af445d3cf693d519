//! Queues under policies against a model that keeps one frame after the other and knows nothing of chunks and ranges.

use std::collections::BTreeMap;

use super::tests::{broadcast_of, left};
use super::*;
use crate::slow_policy::SlowConsumerPolicy;

const STEPS: usize = 400;
const ROUNDS: u64 = 300;

#[derive(Clone)]
struct Frame {
    bytes: Vec<u8>,
    owner: Option<Owner>,
    publication: bool,
}

#[derive(Default)]
struct Model {
    frames: Vec<Frame>,
    /// Bytes of the first frame that are written: it is never dropped.
    written: usize,
    /// Frames before the broadcast that is under way.
    mark: Option<usize>,
    in_flight: Vec<(u64, InFlight)>,
    dropped: BTreeMap<u64, u64>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes.len()).sum::<usize>() - self.written
    }

    fn left(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.bytes.clone()).skip(self.written).collect()
    }

    fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let rest = self.frames[0].bytes.len() - self.written;
            if n < rest {
                self.written += n;
                return;
            }
            n -= rest;
            self.written = 0;
            self.remove(0);
        }
    }

    fn remove(&mut self, at: usize) -> Frame {
        self.mark = self.mark.map(|mark| mark - usize::from(at < mark));
        self.frames.remove(at)
    }

    /// The indices of the whole frames of an owner.
    fn of(&self, id: u64) -> Vec<usize> {
        let first = usize::from(self.written > 0);
        let is = |&at: &usize| self.frames[at].owner.is_some_and(|owner| owner.id == id);
        (first..self.frames.len()).filter(is).collect()
    }

    fn drop_frame(&mut self, at: usize) {
        let frame = self.remove(at);
        *self.dropped.entry(frame.owner.expect("a frame with a policy").id).or_default() += 1;
    }

    fn apply_policies(&mut self, owners: &[Owner], bytes_max: usize) {
        for owner in owners {
            match owner.policy {
                SlowConsumerPolicy::Close => {}
                SlowConsumerPolicy::DropOldest { bytes_max } => {
                    let mut most = bytes_max as usize;
                    loop {
                        let of = self.of(owner.id);
                        let bytes: usize = of.iter().map(|&at| self.frames[at].bytes.len()).sum();
                        if bytes <= most || of.len() < 2 {
                            break;
                        }
                        self.drop_frame(of[0]);
                        most = (bytes_max - bytes_max / 8) as usize;
                    }
                }
                SlowConsumerPolicy::KeepLatest => {
                    let of = self.of(owner.id);
                    let kept = of.iter().copied().rfind(|&at| self.frames[at].publication);
                    of.into_iter().rev().filter(|&at| Some(at) != kept).for_each(|at| self.drop_frame(at));
                }
            }
        }
        let mut at = usize::from(self.written > 0);
        let most = if self.bytes() > bytes_max { bytes_max - bytes_max / 8 } else { bytes_max };
        while self.bytes() > most && at < self.frames.len() {
            let owner =
                self.frames[at].owner.filter(|owner| matches!(owner.policy, SlowConsumerPolicy::DropOldest { .. }));
            if owner.is_some_and(|owner| self.of(owner.id).last() != Some(&at)) {
                self.drop_frame(at);
            } else {
                at += 1;
            }
        }
    }

    fn purge(&mut self, id: u64) -> u64 {
        let of = self.of(id);
        let count = of.len() as u64;
        of.into_iter().rev().for_each(|at| drop(self.remove(at)));
        count
    }
}

fn frames(random: &mut fastrand::Rng, owner: Owner) -> Vec<Frame> {
    let kept = (owner.policy != SlowConsumerPolicy::Close).then_some(owner);
    let frame = |random: &mut fastrand::Rng| {
        let payload =
            vec![random.u8(..); if random.u8(..20) == 0 { random.usize(126..300) } else { random.usize(..9) }];
        let mut bytes = Vec::new();
        match payload.len() {
            short @ ..126 => bytes.extend([0x82, short as u8]),
            long => bytes.extend([0x82, 126, (long >> 8) as u8, long as u8]),
        }
        bytes.extend(payload);
        Frame { bytes, owner: kept, publication: random.u8(..4) > 0 }
    };
    (0..random.usize(1..6)).map(|_| frame(random)).collect()
}

/// The bytes, and where the newest publication begins.
fn joined(frames: &[Frame]) -> (Vec<u8>, Option<usize>) {
    let (mut bytes, mut latest) = (Vec::new(), None);
    for frame in frames {
        latest = if frame.publication { Some(bytes.len()) } else { latest };
        bytes.extend(&frame.bytes);
    }
    (bytes, latest)
}

fn owners() -> [Owner; 5] {
    let oldest = |id, bytes_max| Owner { id, policy: SlowConsumerPolicy::DropOldest { bytes_max } };
    let other = |id, policy| Owner { id, policy };
    [
        oldest(1, 40),
        oldest(2, u32::MAX),
        other(3, SlowConsumerPolicy::KeepLatest),
        other(4, SlowConsumerPolicy::KeepLatest),
        other(5, SlowConsumerPolicy::Close),
    ]
}

/// One thing happens to both.
fn step(random: &mut fastrand::Rng, queue: &mut Queue, model: &mut Model) {
    let owners = owners();
    let owner = owners[random.usize(..owners.len())];
    match random.u8(..20) {
        0..3 => {
            let new = frames(random, Owner { policy: SlowConsumerPolicy::Close, ..owner });
            let bytes = joined(&new).0;
            match random.bool() {
                true => queue.reply(|out| out.extend(bytes)),
                false => queue.push_buffer([b"gap", &*bytes].concat(), 3),
            }
            model.frames.extend(new);
        }
        3..6 => {
            let new = frames(random, owner);
            let (bytes, latest) = joined(&new);
            queue.put(owner, &bytes, latest);
            model.frames.extend(new);
        }
        6..10 => broadcast(random, queue, model, owner),
        // Nothing is written while a broadcast is under way.
        10..14 if model.mark.is_none() => {
            let n = random.usize(..=queue.bytes().min(40));
            queue.advance(n);
            model.advance(n);
        }
        14 if model.mark.is_none() => {
            queue.mark_broadcast();
            model.mark = Some(model.frames.len());
        }
        15 => {
            assert_eq!(queue.purge(owner.id), model.purge(owner.id));
            if model.mark.is_some() {
                queue.decide(owner.id, InFlight::Refused);
                model.in_flight.push((owner.id, InFlight::Refused));
            }
        }
        16 => {
            queue.disown(owner.id);
            let of = |frame: &&mut Frame| frame.owner.is_some_and(|other| other.id == owner.id);
            model.frames.iter_mut().filter(of).for_each(|frame| frame.owner = None);
            if model.mark.is_some() {
                queue.decide(owner.id, InFlight::Disowned);
                model.in_flight.push((owner.id, InFlight::Disowned));
            }
        }
        17 if random.u8(..20) == 0 => {
            let whole = model.frames.len() - usize::from(model.written > 0);
            assert_eq!(queue.drop_unsent(), whole as u64);
            model.frames.truncate(model.frames.len() - whole);
            (model.mark, model.in_flight) = (None, Vec::new());
        }
        _ => {
            let bytes_max = random.usize(20..200);
            let mut dropped: BTreeMap<u64, u64> = BTreeMap::new();
            queue.apply_policies(bytes_max, |drop| *dropped.entry(drop.owner.id).or_default() += drop.messages);
            model.apply_policies(&owners, bytes_max);
            assert_eq!(dropped, std::mem::take(&mut model.dropped));
        }
    }
}

fn broadcast(random: &mut fastrand::Rng, queue: &mut Queue, model: &mut Model, owner: Owner) {
    let mut new = frames(random, owner);
    let (bytes, latest) = joined(&new);
    let refused = queue.insert_broadcast(&broadcast_of(bytes, owner, latest), 0);
    let in_flight = model.in_flight.iter().find(|(id, _)| *id == owner.id).map(|(_, decided)| *decided);
    assert_eq!(refused > 0, in_flight == Some(InFlight::Refused));
    if in_flight == Some(InFlight::Disowned) {
        new.iter_mut().for_each(|frame| frame.owner = None);
    }
    let at = model.mark.unwrap_or(model.frames.len());
    if refused == 0 {
        model.mark = model.mark.map(|mark| mark + new.len());
        model.frames.splice(at..at, new);
    }
    if random.bool() {
        queue.unmark_broadcast();
        (model.mark, model.in_flight) = (None, Vec::new());
    }
}

#[test]
fn queue_under_policies_behaves_like_its_frames_one_by_one() {
    let mut dropped = 0;
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut queue, mut model) = (Queue::default(), Model::default());
        for number in 0..STEPS {
            let before = queue.bytes();
            step(&mut random, &mut queue, &mut model);
            let place = format!("seed {seed}, step {number}");
            assert_eq!(left(&queue), model.left(), "{place}");
            assert_eq!(queue.bytes(), model.bytes(), "{place}");
            assert_eq!(queue.own, queue.items.iter().map(|item| item.chunk.own_bytes()).sum::<usize>(), "{place}");
            let partial = model.frames.first().filter(|_| model.written > 0);
            let partial = partial.map_or(0, |frame| frame.bytes.len() - model.written);
            assert_eq!(queue.partial_frame_bytes(), partial, "{place}");
            let tagged = queue.items.iter().filter(|item| item.owner.is_some()).count();
            assert_eq!(queue.owned_items(), tagged, "{place}");
            dropped += u64::from(queue.bytes() < before);
        }
    }
    assert!(dropped > 0);
}
