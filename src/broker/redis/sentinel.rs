//! Sentinels: which server is the master now, and which are its replicas.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::sleep;

use super::dial::{DialError, Dialed, Dialer, Expect, request, text};
use super::random;
use crate::config::Endpoint;

/// How often the sentinels are asked while all connections are fine: a failover may leave them open.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Sentinels {
    endpoints: Vec<Endpoint>,
    master_name: String,
    /// Logs in at sentinels.
    dialer: Dialer,
    /// The sentinel that answered last.
    preferred: Cell<usize>,
    master: RefCell<Option<Endpoint>>,
}

impl Sentinels {
    /// `endpoints` is not empty.
    pub(super) fn new(endpoints: Vec<Endpoint>, master_name: &str, dialer: Dialer) -> Self {
        let (preferred, master) = (Cell::new(0), RefCell::new(None));
        Self { endpoints, master_name: master_name.to_owned(), dialer, preferred, master }
    }

    pub(super) fn name(&self) -> String {
        format!("redis master {}", self.master_name)
    }

    /// Connects to the master, or to a replica. The server itself must agree with what the sentinels say.
    pub(super) async fn dial(&self, servers: &Dialer, expect: Expect) -> Result<(Dialed, Endpoint), DialError> {
        let endpoint = match expect {
            Expect::Replica => self.replica().await?,
            _ => self.ask_master().await?,
        };
        Ok((servers.dial(&endpoint, expect).await?, endpoint))
    }

    /// Whether the sentinels name another master by now.
    pub(super) fn has_moved_from(&self, endpoint: &Endpoint) -> bool {
        self.master.borrow().as_ref().is_some_and(|master| master != endpoint)
    }

    /// Asks again and again. Never ends.
    pub(super) async fn watch(&self) {
        loop {
            sleep(WATCH_INTERVAL).await;
            // Without an answer the last one stays.
            _ = self.ask_master().await;
        }
    }

    async fn ask_master(&self) -> Result<Endpoint, DialError> {
        let answer = self.ask("GET-MASTER-ADDR-BY-NAME").await?;
        let parts = if let Value::Array(parts) = &answer { &parts[..] } else { &[] };
        let [host, port] = parts else {
            return Err(DialError(format!("the sentinels know no master named {:?}", self.master_name)));
        };
        let malformed = || DialError("a sentinel names a master without an address".into());
        let host = text(host).ok_or_else(malformed)?;
        let port = text(port).and_then(|port| port.parse().ok()).ok_or_else(malformed)?;
        let master = Endpoint::Tcp(host.to_owned(), port);
        *self.master.borrow_mut() = Some(master.clone());
        Ok(master)
    }

    async fn replica(&self) -> Result<Endpoint, DialError> {
        let answer = self.ask("REPLICAS").await?;
        let replicas = if let Value::Array(replicas) = &answer { &replicas[..] } else { &[] };
        let usable: Vec<_> = replicas.iter().filter_map(usable_replica).collect();
        if usable.is_empty() {
            return Err(DialError("no replica is in service".into()));
        }
        Ok(usable[random::number() as usize % usable.len()].clone())
    }

    /// Asks the sentinels in turn until one answers.
    async fn ask(&self, subcommand: &str) -> Result<Value, DialError> {
        let mut last = None;
        for step in 0..self.endpoints.len() {
            let index = (self.preferred.get() + step) % self.endpoints.len();
            match self.ask_one(&self.endpoints[index], subcommand).await {
                Ok(value) => {
                    self.preferred.set(index);
                    return Ok(value);
                }
                Err(error) => last = Some(error),
            }
        }
        let cause = last.map_or_else(String::new, |error| format!(": {error}"));
        Err(DialError(format!("no sentinel answers{cause}")))
    }

    async fn ask_one(&self, endpoint: &Endpoint, subcommand: &str) -> Result<Value, DialError> {
        let mut dialed = self.dialer.dial(endpoint, Expect::Any).await?;
        let mut command = cmd("SENTINEL");
        command.arg(subcommand).arg(&self.master_name);
        let answer = tokio::time::timeout(self.dialer.io_timeout, request(&mut dialed.connection, &command));
        let answer = answer.await.map_err(|_| DialError("a sentinel does not answer in time".into()))??;
        answer.map_err(DialError)
    }
}

/// The address of a replica that sentinels describe, if they find it in service.
fn usable_replica(replica: &Value) -> Option<Endpoint> {
    let field = |name: &str| super::dial::field(replica, name);
    let flags = field("flags")?;
    if ["s_down", "o_down", "disconnected"].iter().any(|flag| flags.contains(flag)) {
        return None;
    }
    Some(Endpoint::Tcp(field("ip")?.to_owned(), field("port")?.parse().ok()?))
}
