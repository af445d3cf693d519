//! A reader of channels over many lives: it is cut, comes back and says up to where it has read. A judge of all it is told.

use std::collections::{BTreeSet, HashMap};

use corecast::ids::ConnId;
use corecast::protocol::fossil;
use corecast::ws::Opcode;

use super::end::End;
use super::seen::Seen;
use super::truth::{CHANNELS, Truth, name, number};
use super::{dialect, pb};

/// Bytes of a payload, at most.
const PAYLOAD_BYTES_MAX: usize = 1 << 10;
/// Refuse a subscribe whose position cannot be recovered.
const REJECT_UNRECOVERED: i64 = 2;

/// In what form a reader wants a channel's publications.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taste {
    Whole,
    Delta,
    /// Those with this tag alone.
    Tag(char),
    /// A filter means nothing to who wants deltas.
    DeltaAndTag(char),
}

impl Taste {
    fn delta(self) -> bool {
        matches!(self, Self::Delta | Self::DeltaAndTag(_))
    }

    fn wants(self, tag: Option<char>) -> bool {
        if let Self::Tag(wanted) = self { tag == Some(wanted) } else { true }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stand {
    Off,
    Asked,
    Live,
}

/// A subscribe on its way.
#[derive(Clone)]
struct Sent {
    since: Option<(String, u64)>,
    reject: bool,
    turn: u64,
}

/// One channel to a reader.
pub struct Seat {
    pub taste: Taste,
    /// Wants to hear of joins and leaves.
    pub watches: bool,
    pub wish: bool,
    pub stand: Stand,
    /// Ended by the server alone, and with the connection where something is lost.
    pub by_server: bool,
    pub unsubscribing: bool,
    /// Epoch, and the last offset that it has.
    pub place: Option<(String, u64)>,
    /// The last payload: what a delta is made against.
    base: Option<Vec<u8>>,
    sent: Option<Sent>,
    /// Who came (true) or left since it watches.
    pub others: HashMap<String, bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish,
    Presence(usize),
    History(usize),
}

/// One connection.
pub struct Life {
    pub end: End,
    pub text: bool,
    /// Its id, once it is connected.
    pub client: String,
    pub open: HashMap<u32, Asked>,
    unsent: Vec<pb::Command>,
    next_id: u32,
}

pub struct Reader {
    pub life: Option<Life>,
    pub seats: Vec<Seat>,
    pub presence: HashMap<usize, BTreeSet<String>>,
    /// Joins and leaves come each exactly once.
    strict: bool,
    /// A policy may drop what waits for it, and it is told to come again.
    pub lags: bool,
}

impl Reader {
    pub fn new(tastes: [Taste; CHANNELS], watches: bool, strict: bool, lags: bool) -> Self {
        let seat = |taste| Seat {
            taste,
            watches,
            wish: false,
            stand: Stand::Off,
            by_server: false,
            unsubscribing: false,
            place: None,
            base: None,
            sent: None,
            others: HashMap::new(),
        };
        Self { life: None, seats: tastes.map(seat).into(), presence: HashMap::new(), strict, lags }
    }

    /// A life begins. What it says is queued: `flush` sends it.
    pub fn begin(&mut self, end: End, text: bool) {
        let life = Life { end, text, client: String::new(), open: HashMap::new(), unsent: Vec::new(), next_id: 0 };
        self.life = Some(life);
    }

    pub fn is_there(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.end.gone())
    }

    /// Its client id, where it is connected.
    pub fn client(&self) -> Option<&str> {
        self.life.as_ref().filter(|life| !life.end.gone() && !life.client.is_empty()).map(|life| life.client.as_str())
    }

    /// The life is over, whoever ended it; its socket may not be. Places stay: they are what the next one comes back with.
    pub fn die(&mut self) -> Option<End> {
        for seat in &mut self.seats {
            (seat.stand, seat.by_server, seat.unsubscribing, seat.sent) = (Stand::Off, false, false, None);
            seat.others.clear();
        }
        self.life.take().map(|life| life.end)
    }

    fn ask(&mut self, asked: Asked, fill: impl FnOnce(&mut pb::Command)) {
        let Some(life) = &mut self.life else { return };
        life.next_id += 1;
        let mut command = pb::Command { id: life.next_id, ..Default::default() };
        fill(&mut command);
        life.open.insert(life.next_id, asked);
        life.unsent.push(command);
    }

    /// Connects; the channels named come with it.
    pub fn connect(&mut self, channels: &[usize], turn: u64) {
        let subs = channels.iter().map(|&channel| (name(channel), self.subscribe_request(channel, false, turn)));
        let subs: std::collections::BTreeMap<_, _> = subs.collect();
        self.ask(Asked::Connect, |command| {
            command.connect = Some(pb::ConnectRequest { subs, ..Default::default() });
        });
    }

    fn subscribe_request(&mut self, channel: usize, reject: bool, turn: u64) -> pb::SubscribeRequest {
        let seat = &mut self.seats[channel];
        (seat.wish, seat.stand) = (true, Stand::Asked);
        seat.sent = Some(Sent { since: seat.place.clone(), reject, turn });
        let (epoch, offset) = seat.place.clone().unwrap_or_default();
        let tf = match seat.taste {
            Taste::Tag(tag) | Taste::DeltaAndTag(tag) => {
                let (key, cmp, val) = ("k".into(), "eq".into(), tag.into());
                Some(pb::FilterNode { key, cmp, val, ..Default::default() })
            }
            _ => None,
        };
        pb::SubscribeRequest {
            channel: name(channel),
            recover: seat.place.is_some(),
            epoch,
            offset,
            positioned: true,
            recoverable: true,
            join_leave: seat.watches,
            delta: if seat.taste.delta() { "fossil".into() } else { String::new() },
            tf,
            flag: if reject { REJECT_UNRECOVERED } else { 0 },
            ..Default::default()
        }
    }

    pub fn subscribe(&mut self, channel: usize, reject: bool, turn: u64) {
        let request = self.subscribe_request(channel, reject, turn);
        self.ask(Asked::Subscribe(channel), |command| command.subscribe = Some(request));
    }

    pub fn unsubscribe(&mut self, channel: usize) {
        let seat = &mut self.seats[channel];
        (seat.wish, seat.unsubscribing) = (false, true);
        let named = pb::Named { name: name(channel) };
        self.ask(Asked::Unsubscribe(channel), |command| command.unsubscribe = Some(named));
    }

    pub fn publish(&mut self, channel: usize, data: Vec<u8>) {
        let publish = pb::PublishRequest { channel: name(channel), data, ..Default::default() };
        self.ask(Asked::Publish, |command| command.publish = Some(publish));
    }

    pub fn ask_presence(&mut self, channel: usize) {
        let named = pb::Named { name: name(channel) };
        self.ask(Asked::Presence(channel), |command| command.presence = Some(named));
    }

    pub fn ask_history(&mut self, channel: usize) {
        let history = pb::HistoryRequest { channel: name(channel), limit: 10, ..Default::default() };
        self.ask(Asked::History(channel), |command| command.history = Some(history));
    }

    /// Everything that was asked leaves in one frame. Says where to.
    pub fn flush(&mut self) -> Option<(usize, ConnId)> {
        let life = self.life.as_mut().filter(|life| !life.unsent.is_empty())?;
        let payload = dialect::encode(&std::mem::take(&mut life.unsent), life.text);
        life.end.send(if life.text { Opcode::Text } else { Opcode::Binary }, &payload);
        Some((life.end.shard, life.end.conn))
    }

    /// Reads all that is there and gives room for more. True where that is an edge for the server.
    pub fn read(&mut self, room: usize, turn: u64, truth: &mut Truth, seen: &mut Seen) -> bool {
        let Some(life) = &mut self.life else { return false };
        let edge = life.end.pull(room);
        while let Some(life) = &mut self.life
            && let Some(payload) = life.end.message()
        {
            *(if life.text { &mut seen.texts } else { &mut seen.binaries }) += 1;
            for reply in dialect::decode(&payload, life.text) {
                self.judge(reply, turn, truth, seen);
            }
        }
        edge
    }

    fn judge(&mut self, reply: pb::Reply, turn: u64, truth: &mut Truth, seen: &mut Seen) {
        if let Some(push) = reply.push {
            let channel = push.channel[1..].parse().expect("a channel of ours");
            return self.pushed(channel, push, truth, seen);
        }
        let life = self.life.as_mut().expect("who is told something lives");
        let asked = life.open.remove(&reply.id).expect("every command is answered once");
        let refused = reply.error.map(|error| error.code);
        match asked {
            Asked::Connect => {
                let connect = reply.connect.expect("nobody is refused");
                life.client = connect.client;
                for (channel, result) in connect.subs {
                    let channel: usize = channel[1..].parse().expect("a channel of ours");
                    seen.with_connect += 1;
                    self.seats[channel].by_server = true;
                    self.joined(channel, result, turn, truth, seen);
                }
            }
            Asked::Subscribe(channel) => match (reply.subscribe, refused) {
                (Some(result), None) => self.joined(channel, result, turn, truth, seen),
                (None, Some(code)) => self.refused(channel, code, turn, truth, seen),
                other => panic!("{other:?}"),
            },
            Asked::Unsubscribe(channel) => {
                assert!(reply.unsubscribe.is_some(), "{refused:?}");
                self.end(channel);
                self.seats[channel].unsubscribing = false;
            }
            Asked::Publish => assert!(reply.publish.is_some(), "{refused:?}"),
            Asked::Presence(channel) => {
                let presence = reply.presence.expect("it may be asked").presence;
                assert!(presence.iter().all(|(client, info)| *client == info.client));
                self.presence.insert(channel, presence.into_keys().collect());
            }
            Asked::History(channel) => {
                let history = reply.history.expect("it may be asked");
                for (i, publication) in history.publications.iter().enumerate() {
                    assert_eq!(publication.offset, history.publications[0].offset + i as u64);
                    truth.stands(channel, &history.epoch, publication.offset, number(&publication.data));
                }
                let last = history.publications.last().map_or(0, |publication| publication.offset);
                assert!(last <= history.offset);
            }
        }
    }

    fn end(&mut self, channel: usize) {
        let seat = &mut self.seats[channel];
        // The server may have subscribed and unsubscribed while a subscribe was on its way.
        seat.stand = if seat.sent.is_some() { Stand::Asked } else { Stand::Off };
        seat.by_server = false;
        seat.others.clear();
    }

    fn refused(&mut self, channel: usize, code: u32, turn: u64, truth: &Truth, seen: &mut Seen) {
        let seat = &mut self.seats[channel];
        let sent = seat.sent.take();
        match code {
            // The server was quicker: its push has come or will.
            105 => seen.already += 1,
            112 => {
                let sent = sent.expect("a subscribe");
                let (epoch, offset) = sent.since.expect("a position");
                assert!(sent.reject);
                let (_, cannot) = truth.verdicts(channel, (&epoch, offset), 0..=u64::MAX, sent.turn, turn);
                assert!(cannot || !truth.keeps.exact, "c{channel}: home has all behind {offset}");
                seat.place = None;
                seen.rejected += 1;
            }
            code => panic!("c{channel}: refused with {code}"),
        }
        if self.seats[channel].stand == Stand::Asked {
            self.seats[channel].stand = Stand::Off;
        }
    }

    /// The subscription is live: from here on nothing may be missing.
    fn joined(&mut self, channel: usize, result: pb::SubscribeResult, turn: u64, truth: &mut Truth, seen: &mut Seen) {
        let seat = &mut self.seats[channel];
        let sent = seat.sent.take().expect("it was asked for");
        assert_eq!(seat.stand, Stand::Asked, "c{channel}: {result:?}");
        assert!(result.positioned && result.recoverable && !result.epoch.is_empty(), "c{channel}: {result:?}");
        assert_eq!((result.delta, result.was_recovering), (seat.taste.delta(), sent.since.is_some()));
        seat.stand = Stand::Live;
        let top = (result.epoch.clone(), result.offset);
        let Some((epoch, offset)) = sent.since else {
            assert!(!result.recovered && result.publications.is_empty());
            return seat.starts_at(top);
        };
        let exact = truth.keeps.exact;
        if !result.recovered {
            assert!(result.publications.is_empty());
            let tops = result.offset..=result.offset;
            let (_, cannot) = truth.verdicts(channel, (&epoch, offset), tops, sent.turn, turn);
            assert!(
                cannot || !exact || epoch != result.epoch,
                "c{channel}: home has all behind {offset} up to {top:?}"
            );
            assert!(epoch != result.epoch || offset != result.offset, "c{channel}: nothing was missed");
            seen.unrecovered += 1;
            seen.other_epochs += u64::from(epoch != result.epoch);
            return seat.starts_at(top);
        }
        assert_eq!((&result.epoch, result.offset), (&epoch, offset), "the client's own position");
        let count = result.publications.len();
        *(if count > 0 { &mut seen.recovered } else { &mut seen.nothing_missed }) += 1;
        seen.recovered_publications += count as u64;
        // The server may have been here meanwhile: what it brought comes again.
        seat.place = Some(top);
        for publication in result.publications {
            self.published(channel, publication, truth, seen);
        }
        let seat = &mut self.seats[channel];
        let last = seat.place.as_ref().map_or(0, |place| place.1);
        let tops = if seat.taste.wants(None) { last..=last } else { last..=u64::MAX };
        let (can, _) = truth.verdicts(channel, (&epoch, offset), tops.clone(), sent.turn, turn);
        assert!(can || !exact, "c{channel}: home had not all behind {offset} up to {tops:?}");
    }

    fn pushed(&mut self, channel: usize, push: pb::Push, truth: &mut Truth, seen: &mut Seen) {
        let seat = &mut self.seats[channel];
        if let Some(pb::Subscribe { recoverable, epoch, offset, positioned, .. }) = push.subscribe {
            assert!(seat.stand != Stand::Live, "c{channel}: subscribed twice");
            assert!(positioned && recoverable, "the namespace says so");
            (seat.wish, seat.stand, seat.by_server) = (true, Stand::Live, true);
            seen.by_server += 1;
            return seat.starts_at((epoch, offset));
        }
        assert_eq!(seat.stand, Stand::Live, "c{channel}: not subscribed: {push:?}");
        if let Some(end) = push.unsubscribe {
            match end.code {
                2500 => {
                    assert!(!seat.by_server, "that is a close");
                    if !self.lags {
                        seat.assert_lost(channel, truth);
                    }
                    seen.insufficient += 1;
                }
                2000 => {
                    seat.wish = false;
                    seen.unsubscribed += 1;
                }
                code => panic!("c{channel}: unsubscribed with {code}"),
            }
            return self.end(channel);
        }
        if let Some(publication) = push.publication {
            seen.live += 1;
            return self.published(channel, publication, truth, seen);
        }
        let (who, comes) = match (push.join, push.leave) {
            (Some(who), None) => (who, true),
            (None, Some(who)) => (who, false),
            other => panic!("{other:?}"),
        };
        assert!(seat.watches && !seat.by_server, "c{channel}: nobody asked for it");
        *(if comes { &mut seen.joins } else { &mut seen.leaves }) += 1;
        let client = who.info.expect("somebody").client;
        let before = seat.others.insert(client, comes);
        assert!(!self.strict || before != Some(comes), "c{channel}: twice came or left, came: {comes}");
    }

    /// A publication, live or recovered: the next one, and the bytes that were published.
    fn published(&mut self, channel: usize, publication: pb::Publication, truth: &mut Truth, seen: &mut Seen) {
        let seat = &mut self.seats[channel];
        let pb::Publication { data, info, offset, tags, delta, epoch, .. } = publication;
        let data = match delta {
            false => data,
            true => {
                assert!(seat.taste.delta());
                seen.deltas += 1;
                let base = seat.base.as_deref().expect("something that a delta can be applied to");
                fossil::apply(base, &data, PAYLOAD_BYTES_MAX).expect("a delta against what came before")
            }
        };
        let n = number(&data);
        seat.base = Some(data);
        let (own_epoch, last) = seat.place.as_mut().expect("a position");
        let published = &truth.published[n as usize];
        assert_eq!(tags.get("k").map(String::as_str), published.tag.map(String::from).as_deref());
        assert_eq!((info.is_some(), published.channel), (published.by_client, channel));
        assert!(seat.taste.wants(published.tag), "c{channel}: {n} is of another tag");
        if offset == 0 {
            seen.passing += 1;
            return assert!(!published.kept, "c{channel}: {n} has an offset");
        }
        assert!(epoch.is_empty() || epoch == *own_epoch, "c{channel}: {epoch} in {own_epoch}");
        match seat.taste {
            Taste::Tag(tag) if offset > *last => truth.withheld(channel, own_epoch, *last + 1, offset - 1, tag),
            _ => assert_eq!(offset, *last + 1, "c{channel}: what comes after {last} to {:?}", seat.taste),
        }
        *last = offset;
        let own_epoch = own_epoch.clone();
        truth.stands(channel, &own_epoch, offset, n);
    }
}

impl Seat {
    fn starts_at(&mut self, place: (String, u64)) {
        self.place = Some(place);
        self.base = None;
    }

    /// It was told that it misses something: so it must be.
    pub fn assert_lost(&self, channel: usize, truth: &Truth) {
        let (epoch, offset) = self.place.as_ref().expect("a position");
        assert!(truth.is_lost(channel, epoch, *offset), "c{channel}: home has all that comes behind {offset}");
    }

    pub fn is_lost(&self, channel: usize, truth: &Truth) -> bool {
        self.place.as_ref().is_some_and(|(epoch, offset)| truth.is_lost(channel, epoch, *offset))
    }
}
