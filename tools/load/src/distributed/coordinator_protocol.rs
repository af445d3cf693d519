//! What a coordinator and the processes that carry a part of its run say to each other, over a pipe or a TCP connection.
//!
//! Plan: a message is four bytes of length and that much JSON. The coordinator gives orders, a part answers with words. Histograms
//! travel in HdrHistogram's own form (V2).
//! Invariants: a message is no longer than `MESSAGE_BYTES_MAX`; what is longer, or no message, ends the talk and with it the part.

use crate::measure::last_delivery::Lasts;
use crate::measure::latency_series::Second;
use crate::measure::results::{Harvest, Step};
use data_encoding::BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};

/// Times to the last subscriber are the largest thing that is said: 4 bytes for each of a million publications.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One part's share of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The coordinator's version, which must be the part's.
    pub version: String,
    /// The coordinator's command line, without the program's name.
    pub args: Vec<String>,
    /// Which of how many.
    pub part: usize,
    pub of: usize,
    /// Nanoseconds that this part's clock is ahead of the first part's, which publishes.
    pub ahead: i64,
    /// Where seconds are counted from, by the part's clock.
    pub origin: u64,
}

/// What the coordinator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Say what time it is.
    Clock,
    Job(Job),
    /// Begin connections until there are so many.
    Allow(usize),
    /// Be in this phase from that moment of the part's clock on; at this rate over all workers, unless it is 0.
    Phase {
        phase: u8,
        at: u64,
        rate: f64,
    },
    /// Say what was counted until now; the number comes back with it.
    Look(u64),
}

/// What a part says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Word {
    Clock(u64),
    /// The job is understood, and the workers are there.
    Ready,
    Refused(String),
    /// The last look that was asked for, the tally, and nanoseconds on a processor per worker.
    Tally {
        look: u64,
        tally: Vec<u64>,
        cpu: Vec<u64>,
        /// Seconds that are over since the last word.
        seconds: Vec<Second>,
    },
    /// What was measured until this pause.
    Harvest(Form),
    Ended(Box<Rest>),
}

/// What is left when a part's workers have stopped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rest {
    pub harvest: Form,
    pub closes: BTreeMap<u16, u64>,
    pub errors: BTreeMap<String, u64>,
    pub handshakes: [u64; 2],
    pub seconds: Vec<Second>,
    /// Upgraded, connected, subscribed, ready, and how late messages left.
    pub histograms: [String; 5],
    /// Connections that were opened, and the nanoseconds in which.
    pub opened: u64,
    pub opening_nanos: u64,
}

/// A harvest as it travels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Form {
    steps: Vec<(u64, String)>,
    latency: BTreeMap<String, String>,
    counts: BTreeMap<String, u64>,
    most: BTreeMap<String, u64>,
    texts: BTreeMap<String, String>,
    orders: BTreeMap<u32, u64>,
    lasts: BTreeMap<u32, String>,
    lasts_over: bool,
}

pub fn pack(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // A vector takes all, and our bounds are within what the form can say.
    let _ = V2Serializer::new().serialize(histogram, &mut bytes);
    BASE64.encode(&bytes)
}

pub fn unpack(text: &str) -> io::Result<Histogram<u64>> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(invalid)?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|e| invalid(format!("a histogram: {e:?}")))
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_string())
}

impl Form {
    pub fn pack(harvest: Harvest) -> Self {
        let numbers = |row: Vec<u32>| BASE64.encode(&row.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        Self {
            steps: harvest.steps.iter().map(|step| (step.sent, pack(&step.latency))).collect(),
            latency: harvest.latency.iter().map(|(name, one)| (name.clone(), pack(one))).collect(),
            counts: harvest.counts,
            most: harvest.most,
            texts: harvest.texts,
            orders: harvest.orders,
            lasts_over: harvest.lasts.over,
            lasts: harvest.lasts.micros.into_iter().map(|(key, row)| (key, numbers(row))).collect(),
        }
    }

    pub fn unpack(self) -> io::Result<Harvest> {
        let step = |(sent, text): (u64, String)| Ok(Step { sent, latency: unpack(&text)? });
        let numbers = |text: &str| -> io::Result<Vec<u32>> {
            let bytes = BASE64.decode(text.as_bytes()).map_err(invalid)?;
            Ok(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
        };
        let mut lasts = Lasts::default();
        lasts.over = self.lasts_over;
        for (key, text) in &self.lasts {
            lasts.micros.insert(*key, numbers(text)?);
        }
        let mut latency = BTreeMap::new();
        for (name, text) in self.latency {
            latency.insert(name, unpack(&text)?);
        }
        Ok(Harvest {
            steps: self.steps.into_iter().map(step).collect::<io::Result<_>>()?,
            latency,
            counts: self.counts,
            most: self.most,
            texts: self.texts,
            orders: self.orders,
            lasts,
        })
    }
}

/// Writes one message.
pub fn say(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message).map_err(invalid)?;
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(invalid(format!("a message of {} bytes is too long", body.len())));
    }
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    out.write_all(&bytes)?;
    out.flush()
}

/// Reads one message of at most `bytes_max`. The end of the talk is an error too: nothing may be missing.
pub fn hear<T: DeserializeOwned>(from: &mut impl Read, bytes_max: usize) -> io::Result<T> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > bytes_max {
        return Err(invalid(format!("a message of {len} bytes is too long")));
    }
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&body).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::results::{Figures, histogram};
    use crate::scenarios::payload::Stamp;

    #[test]
    fn a_harvest_survives_the_journey() {
        let mut figures = Figures::new(None);
        figures.sent(1, 5, 9);
        assert!((1..1000).all(|age| figures.came(1, 5, age * 1000, 3)));
        let mut harvest = Harvest { steps: figures.take(), ..Harvest::default() };
        harvest.add_count("lost", 4);
        harvest.orders.insert(70_000, u64::MAX);
        harvest.latency.insert("last".into(), histogram());
        harvest.texts.insert("first error".into(), "\"ü\"".into());
        harvest.lasts.note(3, Stamp { seq: 2, channel: 3, publisher: 1, slot: 0 }, 5_000_000, true);
        let mut bytes = Vec::new();
        say(&mut bytes, &Word::Harvest(Form::pack(harvest.clone()))).unwrap();
        let Word::Harvest(form) = hear(&mut bytes.as_slice(), MESSAGE_BYTES_MAX).unwrap() else { panic!() };
        let back = form.unpack().unwrap();
        assert_eq!((back.steps[0].sent, &back.steps[0].latency), (9, &harvest.steps[0].latency));
        assert_eq!((&back.counts, &back.orders, &back.texts), (&harvest.counts, &harvest.orders, &harvest.texts));
        assert_eq!(back.lasts.micros, harvest.lasts.micros);
    }

    #[test]
    fn what_is_no_message_is_an_error_at_any_length() {
        let mut whole = Vec::new();
        say(&mut whole, &Order::Look(7)).unwrap();
        for cut in 0..whole.len() {
            assert!(hear::<Order>(&mut &whole[..cut], 1000).is_err(), "cut at {cut}");
        }
        assert!(matches!(hear(&mut whole.as_slice(), 1000), Ok(Order::Look(7))));
        assert!(hear::<Order>(&mut &[255, 255, 255, 255, b'{'][..], 1000).is_err(), "too long");
        assert!(hear::<Order>(&mut &[2, 0, 0, 0, b'{', b'}'][..], 1000).is_err(), "another thing");
        let form = Form { latency: BTreeMap::from([("x".into(), "AAAA".into())]), ..Form::default() };
        assert!(form.unpack().is_err());
    }
}
