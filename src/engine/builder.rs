//! A server of one app: the entry point of the library.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::app::App;
use super::config::EngineConfig;
use super::control_port::{ControlCommand, ControlPort};
use super::drain::Upgrades;
use super::net::affinity;
use super::net::listener::{Address, ListenOptions};
use super::stats::Snapshot;
use super::threads::{self, Engine, EngineError, Plan};
use crate::ids::ShardId;

/// How often a shutdown asks the shards whether connections are left.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Running shards with one app on each.
///
/// Dropping it leaves the shards running. A shard that panics ends the process.
pub struct Server<R> {
    engine: Engine<R>,
    close_time: Duration,
}

impl Server<()> {
    /// The settings of a server: one shard for each core that the process may use, no address, the default limits.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    ///
    /// use corecast::engine::{App, ConnId, Context, Flow, Message, Server};
    ///
    /// struct Shout;
    ///
    /// impl App for Shout {
    ///     type Mail = Infallible;
    ///     type Request = Infallible;
    ///
    ///     fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, message: Message<'_>) -> Flow {
    ///         message.payload.make_ascii_uppercase();
    ///         Flow::Reflect
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let any_port: SocketAddr = "127.0.0.1:0".parse()?;
    /// let server = Server::builder().shards(2).listen(any_port).start(|_shard| Shout)?;
    /// assert_eq!(server.shards(), 2);
    /// server.shutdown(Duration::ZERO);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            listen: Vec::new(),
            options: Vec::new(),
            cores: None,
            config: EngineConfig::default(),
            tls: None,
        }
    }
}

/// The settings of a [`Server`] that is not started yet.
pub struct ServerBuilder {
    listen: Vec<Address>,
    options: Vec<ListenOptions>,
    cores: Option<Vec<Option<usize>>>,
    config: EngineConfig,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl ServerBuilder {
    /// Listens on one more address, in the clear and without a PROXY header.
    pub fn listen(self, address: impl Into<Address>) -> Self {
        self.listen_with(address, ListenOptions::default())
    }

    /// Listens on one more address. `ListenOptions::tls` needs [`ServerBuilder::tls`].
    pub fn listen_with(mut self, address: impl Into<Address>, options: ListenOptions) -> Self {
        self.listen.push(address.into());
        self.options.push(options);
        self
    }

    /// The certificates and rules of the TLS listeners.
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// The number of shards, which are not pinned to cores. Zero means one.
    pub fn shards(mut self, shards: usize) -> Self {
        self.cores = Some(vec![None; shards.max(1)]);
        self
    }

    /// One shard for each of these cores, pinned to it. An empty list is every core that the process may use.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().map(Some).collect());
        self
    }

    /// The limits and the use of the host.
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// Starts the shards, each with an app that `make` returns on the shard's own thread.
    ///
    /// # Errors
    ///
    /// An address cannot be listened on, or the kernel refuses an epoll instance, an eventfd or a thread.
    pub fn start<A: App>(
        self,
        make: impl Fn(ShardId) -> A + Clone + Send + 'static,
    ) -> Result<Server<A::Request>, EngineError> {
        let every_core = || match affinity::usable_cores() {
            cores if cores.is_empty() => vec![None],
            cores => cores.into_iter().map(Some).collect(),
        };
        let close_time = self.config.close_timeout + self.config.linger_timeout;
        let plan = Plan {
            listen: self.listen,
            options: self.options,
            tls: self.tls,
            cores: self.cores.filter(|cores| !cores.is_empty()).unwrap_or_else(every_core),
            config: self.config,
            join: false,
        };
        Ok(Server { engine: threads::start(&plan, make)?, close_time })
    }
}

impl<R> Server<R> {
    /// The addresses as bound: port 0 is replaced by the kernel's choice.
    pub fn addresses(&self) -> &[Address] {
        &self.engine.bound
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.engine.ports.len()
    }

    /// Hands a request to the app of one shard (`App::request`), or gives it back if there is no such shard, or if too many
    /// requests wait there.
    ///
    /// # Errors
    ///
    /// The request itself.
    pub fn request(&self, shard: ShardId, request: R) -> Result<(), R> {
        let Some(port) = self.engine.ports.get(shard.index()) else { return Err(request) };
        port.send(ControlCommand::App(request)).map_err(|command| match command {
            ControlCommand::App(request) => request,
            _ => unreachable!("the port gives back what it was given"),
        })
    }

    /// Closes the listeners, then every connection with a close frame, evenly over `window`. Returns when all have ended and
    /// the shards have stopped, or at the latest when the timeouts for closing have passed after the window.
    pub fn shutdown(self, window: Duration) {
        let ports = &self.engine.ports;
        let drain = || ControlCommand::Drain { window: window.as_millis() as u64, upgrades: Upgrades::Refuse };
        send_to_all(ports, drain);
        let deadline = Instant::now() + window + self.close_time;
        while Instant::now() < deadline && !all_idle(ports) {
            std::thread::sleep(IDLE_CHECK_INTERVAL);
        }
        send_to_all(ports, || ControlCommand::Stop);
        self.engine.join();
    }

    /// Waits until every shard has stopped.
    pub fn join(self) {
        self.engine.join();
    }
}

/// Sends a command to every shard, and waits where too many commands are queued.
fn send_to_all<R>(ports: &[ControlPort<R>], command: impl Fn() -> ControlCommand<R>) {
    for port in ports {
        while port.send(command()).is_err() {
            std::thread::sleep(IDLE_CHECK_INTERVAL);
        }
    }
}

fn all_idle<R>(ports: &[ControlPort<R>]) -> bool {
    let (sender, snapshots) = mpsc::channel::<Snapshot>();
    send_to_all(ports, || {
        let sender = sender.clone();
        ControlCommand::Snapshot(Box::new(move |snapshot| _ = sender.send(snapshot)))
    });
    drop(sender);
    snapshots.iter().all(|snapshot| snapshot.idle)
}
