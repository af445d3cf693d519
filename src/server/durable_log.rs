//! The durable log: it is opened before the shards, so that no client is served without it, and its threads start once they run.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::brokers::post_to;
use super::start::StartError;
use crate::broker::Broker;
use crate::broker::durable::{self, Command, LogHandle, LogOptions, LogStats, Source, ThreadArgs};
use crate::broker::port::{EventBatch, EventPort, RequestQueue, request_queue};
use crate::broker::thread;
use crate::config::Config;
use crate::durable::Directory;
use crate::engine::control_port::ControlPort;
use crate::handover::Link;
use crate::ids::ShardId;
use crate::messaging::handover_message::pack_event;
use crate::messaging::{BrokerLinks, ControlRequest, HandoverPeer};

/// Whether another process still has the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Predecessor {
    None,
    HasTheLog,
}

/// The log before its threads run.
pub(crate) struct LogPlan {
    lanes: Vec<PlannedLane>,
    broker: Broker,
    events_bytes_max: usize,
    pub(crate) stats: Arc<LogStats>,
}

struct PlannedLane {
    source: Source<Directory>,
    options: LogOptions,
    requests: RequestQueue,
    stats: Arc<durable::LaneStats>,
}

/// What runs.
pub(crate) struct RunningLog {
    pub(crate) handle: LogHandle,
    threads: Vec<JoinHandle<()>>,
}

impl LogPlan {
    /// Opens every directory, unless another process hands over the log later. `None`: there is no log.
    pub(crate) fn open(config: &Config, predecessor: Predecessor) -> Result<Option<Self>, StartError> {
        if !config.durable.enabled {
            return Ok(None);
        }
        let stats = Arc::new(LogStats::default());
        let (mut lanes, mut ports) = (Vec::new(), Vec::new());
        for options in durable::log_options(&config.durable).map_err(StartError::DurableLog)? {
            let (port, requests) = request_queue(config.durable.queue_bytes_max);
            let lane_stats = stats.register(&options.name, requests.gauge());
            let source = match predecessor {
                Predecessor::HasTheLog => Source::Awaited,
                Predecessor::None => {
                    let lane = durable::open(&options, &lane_stats).map_err(StartError::DurableLog)?;
                    Source::Open(Box::new(lane))
                }
            };
            lanes.push(PlannedLane { source, options, requests, stats: lane_stats });
            ports.push(port);
        }
        let events_bytes_max = config.brokers.events_bytes_max;
        Ok(Some(Self { lanes, broker: Broker::new(ports), events_bytes_max, stats }))
    }

    /// The links of the brokers, and the one to the log.
    pub(crate) fn add_to(&self, links: Option<BrokerLinks>, config: &Config) -> BrokerLinks {
        let links = links.unwrap_or_else(|| BrokerLinks::without_brokers(config));
        BrokerLinks { log: Some(self.broker.clone()), ..links }
    }

    /// Starts the threads. They end when the shards have ended, and close the log. `peer`: the process that hands over the log,
    /// and the number of its shards, which stay clients of the log until it ends.
    pub(crate) fn start(
        self,
        ports: &[ControlPort<ControlRequest>],
        peer: Option<(&Arc<Link>, u16)>,
    ) -> io::Result<RunningLog> {
        let Self { lanes, broker, events_bytes_max, .. } = self;
        drop(broker);
        let events = || {
            // The shard is woken at once: the thread may be busy with the disk before it runs another task.
            let own = ports.iter().map(|port| EventPort::new(post_to(port, ControlPort::send), events_bytes_max));
            let of_peer = peer.into_iter().flat_map(|(link, shards)| {
                (0..shards).map(move |shard| peer_port(link, ShardId(shard), events_bytes_max))
            });
            own.chain(of_peer).collect::<Vec<_>>()
        };
        let (mut threads, mut commands) = (Vec::new(), Vec::<mpsc::UnboundedSender<Command>>::new());
        for PlannedLane { source, options, requests, stats } in lanes {
            let (sender, lane_commands) = mpsc::unbounded_channel();
            commands.push(sender);
            let (name, dir) = (format!("log {}", options.lane.lane), options.name.clone());
            let (events, reader_events) = (events(), events());
            let args = ThreadArgs { source, options, requests, events, reader_events, commands: lane_commands, stats };
            let work = move || durable::run(args, move || Directory::new(&*dir));
            threads.push(thread::spawn(name, work)?);
        }
        Ok(RunningLog { handle: LogHandle::new(commands), threads })
    }
}

/// The way to a shard of the process that hands over the log.
fn peer_port(link: &Arc<Link>, to: ShardId, bytes_max: usize) -> EventPort {
    let (link, ended) = (Arc::clone(link), Arc::clone(link));
    let post = Arc::new(move |mut batch: EventBatch| {
        if link.is_full() && !link.has_ended() {
            return Err(batch);
        }
        for event in batch.events.by_ref() {
            if let Some(message) = pack_event(to, &event) {
                link.send_message(message);
            }
        }
        Ok(())
    });
    EventPort::new(post, bytes_max).until(Arc::new(move || ended.has_ended()))
}

impl RunningLog {
    /// Waits for the threads, which close the log after the shards have ended.
    pub(crate) fn join(self) {
        let Self { handle, threads } = self;
        drop(handle);
        thread::join(threads, "a thread of the durable log has panicked: the next start reads it as after a crash");
    }
}
