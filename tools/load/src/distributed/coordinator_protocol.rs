//! The messages between a coordinator and its worker processes, over a pipe or a TCP connection.
//!
//! A message is four bytes of length (little-endian) and that much JSON. The coordinator sends commands, a worker process sends
//! reports.
//! Invariants: a message is at most `MESSAGE_BYTES_MAX` long. A longer or unreadable one ends the exchange, and with it the worker
//! process.

use crate::engine::connection::ConnectionStats;
use crate::engine::control::Phase;
use crate::engine::counters::Counters;
use crate::measure::latency_series::Seconds;
use crate::measure::results::Results;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};

/// The times to the last subscriber are the largest part: up to 8 bytes for each of a million publications.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The part of a run that a worker process carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The version of the coordinator, which must be that of the worker process.
    pub version: String,
    /// The command line of the coordinator, without the program name.
    pub args: Vec<String>,
    /// The number of this part, and the number of parts.
    pub part: usize,
    pub of: usize,
    /// Nanoseconds by which the clock of this part is ahead of the clock of the first part, which publishes.
    pub ahead: i64,
    /// The moment from which seconds are counted, by the clock of this part.
    pub origin: u64,
}

/// What the coordinator sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Report the clock.
    ReadClock,
    Start(Job),
    /// Begin connections until there are so many.
    Allow(usize),
    /// Enter this phase at that moment of the part's clock, with this rate over all workers (0: the rate of the scenario).
    SetPhase {
        phase: Phase,
        at: u64,
        rate: f64,
    },
    /// Report the counters; the number comes back with them.
    Refresh(u64),
}

/// What a worker process sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    Clock(u64),
    /// The job is accepted, and the workers are started.
    Ready,
    Rejected(String),
    /// The number of the last `Refresh`, the counters, the processor time per worker in nanoseconds, and the seconds that
    /// finished since the last report.
    Progress {
        refresh: u64,
        counters: Counters,
        cpu: Vec<u64>,
        seconds: Seconds,
    },
    /// What was measured up to this pause.
    Results(Box<Results>),
    Finished(Box<Rest>),
}

/// What remains when the workers of a part have stopped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rest {
    pub results: Results,
    pub connections: ConnectionStats,
    pub seconds: Seconds,
    /// The number of opened connections, and the nanoseconds that opening took.
    pub opened: u64,
    pub opening_nanos: u64,
}

fn invalid(reason: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason.to_string())
}

/// Writes one message.
pub fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message).map_err(invalid)?;
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(invalid(format!("a message of {} bytes is too long", body.len())));
    }
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    out.write_all(&bytes)?;
    out.flush()
}

/// Reads one message of at most `bytes_max`. The end of the stream is an error.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read, bytes_max: usize) -> io::Result<T> {
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
    use crate::measure::results::StepRecorder;
    use crate::scenarios::payload::Stamp;

    #[test]
    fn results_survive_the_transfer() {
        let mut recorder = StepRecorder::new(None);
        recorder.sent(1, 5, 9);
        assert!((1..1000).all(|age| recorder.received(1, 5, age * 1000, 3)));
        let mut results = Results { steps: recorder.take(), ..Results::default() };
        results.add_count("lost", 4);
        results.orders.insert(70_000, u64::MAX);
        results.latency.insert("last".into(), Default::default());
        results.first_error = Some("\"ü\"".into());
        results.last_deliveries.record(3, Stamp { seq: 2, channel: 3, publisher: 1, slot: 0 }, 5_000_000, true);
        let mut bytes = Vec::new();
        send(&mut bytes, &Report::Results(Box::new(results.clone()))).unwrap();
        let Report::Results(back) = receive(&mut bytes.as_slice(), MESSAGE_BYTES_MAX).unwrap() else { panic!() };
        assert_eq!((back.steps[0].sent, &*back.steps[0].latency), (9, &*results.steps[0].latency));
        assert_eq!((&back.counts, &back.orders), (&results.counts, &results.orders));
        assert_eq!((&back.first_error, back.latency.len()), (&results.first_error, 1));
        assert_eq!(back.last().unwrap().max(), results.last().unwrap().max());
    }

    #[test]
    fn incomplete_or_unreadable_message_is_an_error() {
        let mut message = Vec::new();
        send(&mut message, &Command::Refresh(7)).unwrap();
        for cut in 0..message.len() {
            assert!(receive::<Command>(&mut &message[..cut], 1000).is_err(), "cut at {cut}");
        }
        assert!(matches!(receive(&mut message.as_slice(), 1000), Ok(Command::Refresh(7))));
        assert!(receive::<Command>(&mut &[255, 255, 255, 255, b'{'][..], 1000).is_err(), "too long");
        assert!(receive::<Command>(&mut &[2, 0, 0, 0, b'{', b'}'][..], 1000).is_err(), "another type");
        let wrong = br#"{"Results":{"latency":{"x":"AAAA"}}}"#;
        assert!(serde_json::from_slice::<Report>(wrong).is_err());
    }
}
