//! Sockets: where a connection goes, from which address, the limit on open files, pinning. Frames, compression and TLS are in the
//! files below.

pub mod deflate;
pub mod frame;
pub mod http;
pub mod stream;

use crate::args::options::{Sources, Transport};
use crate::net::deflate::Deflate;
use crate::net::stream::Tls;
use crate::protocols::Protocol;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::{io, time::Duration};

/// Connections from one source address to one destination. The default port range has 28,232 ports. The kernel assigns one parity
/// of them first; once that half (14,116) is used, each connect walks over all of it: 4 ms instead of 30 µs. If sockets come and
/// go at that limit, as in a storm, each connect walks over most of it, so this value is far lower.
const PER_SOURCE: usize = 8_000;

/// A server and the request that upgrades a connection to it. With an empty request the connection is not upgraded.
#[derive(Clone, Debug)]
pub struct Target {
    pub addr: SocketAddr,
    pub request: Vec<u8>,
    /// The kernel's receive buffer in bytes; `None`: the default of the kernel.
    pub receive_buffer: Option<usize>,
    pub tls: Option<Tls>,
    pub deflate: Deflate,
    /// The addresses from which connections leave, in turn.
    pub sources: Option<Sources>,
}

/// A parsed URL.
#[derive(Clone, Debug)]
pub struct Url {
    /// As it was written, for the `Host` header.
    pub host: String,
    pub path: String,
    pub addr: SocketAddr,
}

impl Url {
    /// Parses `scheme://host[:port][/path]` and resolves the host; `scheme` includes its slashes.
    pub fn parse(url: &str, scheme: &str) -> Result<Self, String> {
        let rest = url.strip_prefix(scheme).ok_or_else(|| format!("{url}: the URL must begin with {scheme}"))?;
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let port = if scheme == "wss://" { 443 } else { 80 };
        let full = if has_port(host) { host.to_string() } else { format!("{host}:{port}") };
        let addr = full.to_socket_addrs().map_err(|e| format!("{url}: {e}"))?.next();
        let addr = addr.ok_or_else(|| format!("{url}: the host has no address"))?;
        Ok(Self { host: host.into(), path, addr })
    }
}

impl Target {
    /// A server without an upgrade.
    pub fn without_upgrade(addr: SocketAddr) -> Self {
        Self { addr, request: Vec::new(), receive_buffer: None, tls: None, deflate: Deflate::Off, sources: None }
    }

    /// The server at `ws://host[:port][/path]` or `wss://…`, upgraded for a messaging protocol.
    pub fn new(protocol: Protocol, url: &str, options: &Transport) -> Result<Self, String> {
        let url = &protocol.url(url);
        let secure = url.starts_with("wss://");
        let Url { host, path, addr } = Url::parse(url, if secure { "wss://" } else { "ws://" })?;
        let tls = if secure { Some(Tls::new(&host, options)?) } else { None };
        let (deflate, sources) = (options.deflate, options.source.clone());
        let request = frame::request(&host, &path, &format!("{}{}", protocol.header(), deflate.offer()));
        Ok(Self { request, tls, deflate, sources, ..Self::without_upgrade(addr) })
    }
}

/// The nodes at several URLs.
pub fn targets(protocol: Protocol, urls: &[String], options: &Transport) -> Result<Vec<Target>, String> {
    urls.iter().map(|url| Target::new(protocol, url, options)).collect()
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// The source address of the n-th connection: `None` while one address has enough ports, then 127.0.0.2, 127.0.0.3, ...
fn source(target: SocketAddr, n: usize) -> Option<IpAddr> {
    let block = n / PER_SOURCE;
    (block > 0 && target.ip().is_loopback() && target.is_ipv4())
        .then(|| IpAddr::V4(Ipv4Addr::new(127, 0, (block / 250) as u8, (block % 250 + 1) as u8)))
}

/// Begins to connect as the n-th connection. The socket becomes writable when the connect has succeeded or failed.
pub fn connect(target: &Target, n: usize) -> io::Result<mio::net::TcpStream> {
    let addr = target.addr;
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(socket2::Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = target.receive_buffer {
        // Before the connect, which negotiates the window scale.
        socket.set_recv_buffer_size(bytes)?;
    }
    let given = target.sources.as_ref().and_then(|Sources(list)| list.get(n % list.len().max(1)).copied());
    if let Some(ip) = given.or_else(|| source(addr, n)) {
        // The port is chosen at connect, by the whole 4-tuple, instead of at bind.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    match socket.connect(&addr.into()) {
        Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(e),
        _ => {}
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// Closes with a reset later on. A reset leaves no TIME_WAIT, so a storm does not run out of ports.
pub fn reset_on_close(stream: &mio::net::TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Leaves TCP's quick-acknowledge mode.
pub fn delay_acks(stream: &mio::net::TcpStream) {
    // A failure costs only time of this tool.
    let _ = socket2::SockRef::from(stream).set_tcp_quickack(false);
}

/// Raises the limit of open files to its hard limit and returns that.
pub fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit.maximum.map_or(usize::MAX, |n| n as usize)
}

/// Pins the calling thread to a core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        let parse = |url| Target::new(Protocol::Plain, url, &Transport::default());
        let target = parse("ws://127.0.0.1:9001/echo?x=1").unwrap();
        assert_eq!(target.addr, "127.0.0.1:9001".parse().unwrap());
        assert!(target.request.starts_with(b"GET /echo?x=1 HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n"));
        assert!(parse("ws://127.0.0.1?pub").unwrap().request.starts_with(b"GET /?pub HTTP/1.1"));
        assert_eq!(parse("ws://[::1]:80").unwrap().addr, "[::1]:80".parse().unwrap());
        assert!(parse("http://127.0.0.1/").is_err());
        assert!(parse("wss://127.0.0.1/").is_err_and(|why| why.contains("--tls-ca")));
        let secure = Transport { tls_insecure: true, ..Transport::default() };
        let target = Target::new(Protocol::Plain, "wss://127.0.0.1/", &secure).unwrap();
        assert_eq!((target.addr.port(), target.tls.is_some()), (443, true));
    }

    #[test]
    fn source_addresses_change_before_the_ports_run_out() {
        let local: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(source(local, PER_SOURCE - 1), None);
        assert_eq!(source(local, PER_SOURCE), Some("127.0.0.2".parse().unwrap()));
        assert_eq!(source("10.0.0.1:1".parse().unwrap(), PER_SOURCE), None);
    }
}
