//! Calls without the API key: counted, and logged now and then, so that guessing leaves a trace and writes few lines.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Shortest time between two log lines about the calls of one API.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The API that was called. The index is the place in the counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Api {
    Http,
    Grpc,
}

impl Api {
    /// Each with its label in the metrics.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Http, "http"), (Self::Grpc, "grpc")];
}

#[derive(Default, Debug)]
struct Count {
    calls: u64,
    logged: Option<Instant>,
    suppressed: u64,
}

/// The rejected calls of this process.
#[derive(Default, Debug)]
pub struct Unauthorized([Mutex<Count>; Api::ALL.len()]);

impl Unauthorized {
    pub(crate) fn record(&self, api: Api, peer: Option<SocketAddr>) {
        if let Some(suppressed) = self.count(api, Instant::now()) {
            let name =
                if api == Api::Http { "HTTP API: answered with 401" } else { "gRPC API: answered UNAUTHENTICATED" };
            let from = peer.map_or(String::new(), |peer| format!(" from {}", peer.ip()));
            log::info!("{name}: a call{from} without the API key ({suppressed} similar lines suppressed)");
        }
    }

    /// How many calls were not logged since the last line, if this one may be logged.
    fn count(&self, api: Api, now: Instant) -> Option<u64> {
        let mut count = self.0[api as usize].lock().expect("never poisoned: no code panics while holding the lock");
        count.calls += 1;
        if count.logged.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL) {
            count.suppressed += 1;
            return None;
        }
        count.logged = Some(now);
        Some(std::mem::take(&mut count.suppressed))
    }

    pub(crate) fn calls(&self, api: Api) -> u64 {
        self.0[api as usize].lock().expect("never poisoned: no code panics while holding the lock").calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_one_line_in_ten_seconds_and_is_counted_in_full() {
        let (unauthorized, now) = (Unauthorized::default(), Instant::now());
        assert_eq!(unauthorized.count(Api::Http, now), Some(0));
        assert_eq!((0..99).filter_map(|_| unauthorized.count(Api::Http, now)).count(), 0);
        assert_eq!(unauthorized.count(Api::Grpc, now), Some(0), "each API is counted apart");
        assert_eq!(unauthorized.count(Api::Http, now + LOG_INTERVAL), Some(99));
        assert_eq!((unauthorized.calls(Api::Http), unauthorized.calls(Api::Grpc)), (101, 1));
    }
}
