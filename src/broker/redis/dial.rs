//! Making a connection: socket, TLS, login, and the checks that the server is the right one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Stream};
use crate::broker::client_tls;
use crate::config::{ClientTls, Endpoint, Login, RedisShard};

/// How the connections of one Redis shard are made.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) login: Login,
    tls: Option<Tls>,
    db: u32,
    force_resp2: bool,
    pub(super) connect_timeout: Duration,
    pub(super) io_timeout: Duration,
}

#[derive(Clone)]
struct Tls {
    connector: Result<TlsConnector, String>,
    settings: Arc<ClientTls>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// What the server must be.
#[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expect {
    Any,
    Master,
    Replica,
    /// A replica of a cluster that answers reads.
    ClusterReplica,
}

/// A connection that serves.
pub(super) struct Dialed {
    pub(super) connection: Connection,
    #[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
    pub(super) is_cluster: bool,
}

/// A sentence about why there is no connection.
#[derive(Debug)]
pub(super) struct DialError(pub(super) String);

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Dialer {
    pub(super) fn new(shard: &RedisShard) -> Self {
        Self {
            login: shard.login.clone(),
            tls: shard.tls.as_ref().map(Tls::new),
            db: shard.db,
            force_resp2: shard.force_resp2,
            connect_timeout: shard.connect_timeout,
            io_timeout: shard.io_timeout,
        }
    }

    /// The same timeouts with another login: for sentinels.
    #[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
    pub(super) fn with_login(&self, login: &Login, tls: Option<&ClientTls>) -> Self {
        Self { login: login.clone(), tls: tls.map(Tls::new), db: 0, force_resp2: true, ..self.clone() }
    }

    /// Connects within the connect timeout, and logs in within the I/O timeout.
    pub(super) async fn dial(&self, endpoint: &Endpoint, expect: Expect) -> Result<Dialed, DialError> {
        let late = |what: &str, limit: Duration| DialError(format!("{what} takes longer than {limit:?}"));
        let stream = timeout(self.connect_timeout, self.open(endpoint));
        let stream = stream.await.map_err(|_| late("connecting", self.connect_timeout))??;
        let mut connection = Connection::new(stream);
        let greeted = timeout(self.io_timeout, self.greet(&mut connection, expect));
        let is_cluster = greeted.await.map_err(|_| late("the login", self.io_timeout))??;
        Ok(Dialed { connection, is_cluster })
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<Box<dyn Stream>, DialError> {
        let (host, port) = match endpoint {
            Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Endpoint::Tcp(host, port) => (host, *port),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let connector = tls.connector.as_ref().map_err(|error| DialError(error.clone()))?;
        let name = client_tls::server_name(&tls.settings, host).map_err(DialError)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    /// Returns whether the server is a member of a cluster.
    async fn greet(&self, connection: &mut Connection, expect: Expect) -> Result<bool, DialError> {
        let hello = request(connection, &self.hello()).await?;
        let is_cluster = match hello {
            Ok(hello) => field(&hello, "mode").is_some_and(|mode| mode == "cluster"),
            // A proxy, or a server older than 6.
            Err(error) if error.starts_with("ERR unknown command") || error.starts_with("NOPROTO") => {
                self.log_in(connection).await?;
                false
            }
            Err(error) => return Err(DialError(error)),
        };
        if self.db != 0 && !is_cluster {
            accepted(connection, cmd("SELECT").arg(self.db)).await?;
        }
        if expect == Expect::ClusterReplica {
            accepted(connection, &cmd("READONLY")).await?;
        }
        self.check_role(connection, expect).await?;
        // A server that is still loading its data answers with an error.
        accepted(connection, &cmd("PING")).await?;
        Ok(is_cluster)
    }

    fn hello(&self) -> Cmd {
        let Login { user, password, client_name } = &self.login;
        let mut hello = cmd("HELLO");
        hello.arg(if self.force_resp2 { 2 } else { 3 });
        if !password.is_empty() {
            hello.arg("AUTH").arg(if user.is_empty() { "default" } else { user }).arg(password);
        }
        if !client_name.is_empty() {
            hello.arg("SETNAME").arg(client_name);
        }
        hello
    }

    /// Without HELLO.
    async fn log_in(&self, connection: &mut Connection) -> Result<(), DialError> {
        let Login { user, password, client_name } = &self.login;
        if !password.is_empty() {
            let mut auth = cmd("AUTH");
            if !user.is_empty() {
                auth.arg(user);
            }
            accepted(connection, auth.arg(password)).await?;
        }
        if !client_name.is_empty() {
            accepted(connection, cmd("CLIENT").arg("SETNAME").arg(client_name)).await?;
        }
        Ok(())
    }

    async fn check_role(&self, connection: &mut Connection, expect: Expect) -> Result<(), DialError> {
        let expected = match expect {
            Expect::Any | Expect::ClusterReplica => return Ok(()),
            Expect::Master => "master",
            Expect::Replica => "slave",
        };
        let role = request(connection, &cmd("ROLE")).await?.map_err(DialError)?;
        let role = if let Value::Array(parts) = &role { parts.first().and_then(text) } else { None };
        match role {
            Some(role) if role == expected => Ok(()),
            role => Err(DialError(format!("the server is {}, not {expected}", role.unwrap_or("of no role")))),
        }
    }
}

impl Tls {
    fn new(settings: &ClientTls) -> Self {
        let connector = client_tls::client_config(settings).map(TlsConnector::from);
        Self { connector, settings: Arc::new(settings.clone()) }
    }
}

/// One command and its answer, on a connection that nothing else uses yet.
pub(super) async fn request(connection: &mut Connection, command: &Cmd) -> io::Result<Result<Value, String>> {
    connection.push(command);
    loop {
        match connection.next().await? {
            Value::Push { .. } => (),
            Value::ServerError(error) => return Ok(Err(error_text(&error))),
            value => return Ok(Ok(value)),
        }
    }
}

async fn accepted(connection: &mut Connection, command: &Cmd) -> Result<(), DialError> {
    request(connection, command).await?.map_err(DialError)?;
    Ok(())
}

/// What the server said, with the code in front.
pub(super) fn error_text(error: &redis::ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

/// A field of a map, which RESP2 sends as a list.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    let found = match value {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key) == Some(name)).map(|(_, value)| value),
        Value::Array(items) => items.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1]),
        _ => None,
    };
    found.and_then(text)
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}
