//! Listeners: all made by one thread, in shard order, before the shards start. Options are set once on the listener, and
//! accepted sockets inherit them.
//!
//! `[::]` serves IPv4 too, unless `0.0.0.0` with the same port is listed; on a host without IPv6 it serves only IPv4.
//!
//! TCP addresses get one SO_REUSEPORT socket per shard, among which the kernel spreads connections. Unix sockets and
//! inherited descriptors are one socket that all shards accept from. Before the first SO_REUSEPORT bind the port is
//! probed without it: a second server, started by mistake, would silently take half of the clients.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd; // LISTEN_FDS (sd_listen_fds(3)) without `unsafe`
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::engine::config::Machine;
use crate::sys;

/// Connections that may wait for accept; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;
/// The first descriptor of sd_listen_fds(3).
const INHERITED_FIRST: i32 = 3;

/// Where clients connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A descriptor passed by the parent process (`LISTEN_FDS`), by its number.
    Inherited(i32),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(number) => write!(f, "fd:{number}"),
        }
    }
}

/// What comes at a listener before the request head.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ListenOptions {
    /// A TLS handshake.
    pub tls: bool,
    /// A PROXY header: the peers are proxies, and name the client first.
    pub proxied: bool,
}

/// Why an address cannot be listened on, and what to do about it.
#[derive(Debug)]
pub struct ListenError {
    pub address: Address,
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        match (self.error.kind(), &self.address) {
            (_, Address::Tcp(address)) => f.write_str(&hint(
                *address,
                &self.error,
                "choose another --listen, or give --join if it is a corecast server that should share the port with this one",
            )),
            (io::ErrorKind::AddrInUse, _) => {
                write!(f, "\n  Another process listens there. Stop it or choose another path.")
            }
            (io::ErrorKind::NotFound, Address::Inherited(_)) => write!(
                f,
                "\n  The parent process must pass it as systemd does: LISTEN_FDS and LISTEN_PID set, numbers from 3 on."
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}

/// A line with what to do about an address that cannot be listened on, or nothing. `choose` says how to choose another.
pub fn hint(address: SocketAddr, error: &io::Error, choose: &str) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("\n  Another process has port {port}; `ss -ltnp 'sport = :{port}'` names it. Stop it, or {choose}.")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "\n  Ports below 1024 need CAP_NET_BIND_SERVICE, or choose one from 1024 on.".into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  No interface of this host has that address; `ip addr` lists the addresses.".into()
        }
        _ => String::new(),
    }
}

/// The TCP addresses that another process has, each with its error. Nothing stays open. `passed` are those of a process that is
/// taken over.
pub fn probe(addresses: &[Address], passed: &ListenSockets, machine: &Machine) -> Vec<ListenError> {
    let mut errors = Vec::new();
    for address in addresses {
        let Address::Tcp(at) = *address else { continue };
        let tcp = Tcp { address: at, is_dual: is_dual(at, addresses), machine };
        let is_passed = passed.iter().any(|(one, _)| matches!(one, Address::Tcp(one) if one.port() == at.port()));
        if at.port() != 0 && !is_passed {
            let probed = tcp.socket(Port::Exclusive).map(drop);
            let error = probed.err().filter(|error| error.kind() == io::ErrorKind::AddrInUse);
            errors.extend(error.map(|error| ListenError { address: address.clone(), error }));
        }
    }
    errors
}

/// The listeners of one shard, each with the index of its address.
pub type ShardListeners = Vec<(OwnedFd, usize)>;

/// Listening sockets by their addresses, each socket once: what one process passes to the next.
pub type ListenSockets = Vec<(Address, Vec<OwnedFd>)>;

/// What was opened.
pub struct Opened {
    /// `per_shard[shard]` are that shard's.
    pub per_shard: Vec<ShardListeners>,
    /// The addresses as bound: port 0 is replaced by the kernel's choice.
    pub bound: Vec<Address>,
    /// Duplicates of all of them, if they may be passed on one day.
    pub kept: ListenSockets,
}

/// What to open, for which shards and how.
pub struct Wanted<'a> {
    pub addresses: &'a [Address],
    /// One entry for each shard.
    pub cores: &'a [Option<usize>],
    /// Share TCP ports with another server that listens there already.
    pub join: bool,
    /// Also return descriptors to pass on.
    pub keep: bool,
    pub machine: &'a Machine,
}

/// Opens all addresses for all shards. The sockets that another process has passed (`passed`) are used and not opened again:
/// all of them, however many shards there are, since connections wait in each.
pub fn open(wanted: &Wanted<'_>, passed: &mut ListenSockets) -> Result<Opened, ListenError> {
    let &Wanted { addresses, cores, join, keep, machine } = wanted;
    let shards = cores.len();
    let mut opened =
        Opened { per_shard: (0..shards).map(|_| Vec::new()).collect(), bound: Vec::new(), kept: Vec::new() };
    let mut inherited = ListenFd::from_env();
    for (index, address) in addresses.iter().enumerate() {
        let fail = |error| ListenError { address: address.clone(), error };
        let (sockets, at) = match (take_passed(passed, address, addresses), address) {
            (Some((at, sockets)), _) => complete(&at, sockets, wanted).map(|s| (s, at)),
            (None, Address::Tcp(at)) => {
                open_tcp(&Tcp { address: *at, is_dual: is_dual(*at, addresses), machine }, shards, join)
                    .map(|(s, at)| (s, Address::Tcp(at)))
            }
            (None, Address::Unix(path)) => open_unix(path).map(|s| (vec![s], address.clone())),
            (None, Address::Inherited(number)) => {
                take_inherited(&mut inherited, *number).map(|s| (vec![s], address.clone()))
            }
        }
        .map_err(fail)?;
        steer(&sockets, wanted).map_err(fail)?;
        if keep {
            let kept = sockets.iter().map(|socket| socket.try_clone().map(OwnedFd::from));
            opened.kept.push((at.clone(), kept.collect::<io::Result<_>>().map_err(fail)?));
        }
        for (nth, socket) in copies(sockets, shards).map_err(fail)?.into_iter().enumerate() {
            opened.per_shard[nth % shards].push((socket.into(), index));
        }
        opened.bound.push(at);
    }
    Ok(opened)
}

/// The address serves both families: `[::]`, if the port of IPv4 is not another listener's.
fn is_dual(address: SocketAddr, all: &[Address]) -> bool {
    let is_other = |other: &Address| *other == Address::Tcp((Ipv4Addr::UNSPECIFIED, address.port()).into());
    address.ip() == Ipv6Addr::UNSPECIFIED && !all.iter().any(is_other)
}

/// The address of IPv4 that replaces one of both families if the error says that the host has no IPv6.
pub fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let is_missing = error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    let is_any = address.ip() == Ipv6Addr::UNSPECIFIED;
    (is_missing && is_any).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// The passed sockets of this address. Port 0 is any port of the address. An address of both families takes those of IPv4: the
/// process before could have had no others, and holds their port.
fn take_passed(passed: &mut ListenSockets, address: &Address, all: &[Address]) -> Option<(Address, Vec<OwnedFd>)> {
    let fits = |one: &Address, wanted: &Address| match (one, wanted) {
        (Address::Tcp(one), Address::Tcp(wanted)) if wanted.port() == 0 => one.ip() == wanted.ip(),
        _ => one == wanted,
    };
    let find = |wanted: &Address| passed.iter().position(|(one, sockets)| fits(one, wanted) && !sockets.is_empty());
    let of_ipv4 = || match address {
        Address::Tcp(at) if is_dual(*at, all) => find(&Address::Tcp((Ipv4Addr::UNSPECIFIED, at.port()).into())),
        _ => None,
    };
    let index = find(address).or_else(of_ipv4)?;
    Some(passed.remove(index))
}

/// The passed sockets, and for TCP more of them until each shard has one.
fn complete(at: &Address, sockets: Vec<OwnedFd>, wanted: &Wanted<'_>) -> io::Result<Vec<Socket>> {
    let mut sockets: Vec<_> = sockets.into_iter().map(Socket::from).collect();
    if let (Address::Tcp(at), true) = (at, sockets[0].reuse_port()?) {
        // Sockets of one port must agree: the passed ones may be of an older configuration.
        let is_dual = at.is_ipv6() && !sockets[0].only_v6()?;
        let tcp = Tcp { address: *at, is_dual, machine: wanted.machine };
        while sockets.len() < wanted.cores.len() {
            let socket = tcp.socket(Port::Shared)?;
            socket.listen(BACKLOG)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Has the kernel prefer, among the sockets of a port, the one of the shard on whose core the packets of a connection arrive.
fn steer(sockets: &[Socket], wanted: &Wanted<'_>) -> io::Result<()> {
    if !wanted.machine.incoming_cpu || !sockets[0].reuse_port().unwrap_or(false) {
        return Ok(());
    }
    for (socket, core) in sockets.iter().zip(wanted.cores) {
        core.map_or(Ok(()), |core| socket.set_cpu_affinity(core))?;
    }
    Ok(())
}

/// A TCP listener to open.
struct Tcp<'a> {
    address: SocketAddr,
    /// It serves IPv4 too.
    is_dual: bool,
    machine: &'a Machine,
}

fn open_tcp(tcp: &Tcp<'_>, shards: usize, join: bool) -> io::Result<(Vec<Socket>, SocketAddr)> {
    let &Tcp { address, is_dual, machine } = tcp;
    if !join && address.port() != 0 {
        // The probe: it fails if another process has the port.
        match (tcp.socket(Port::Exclusive), is_dual) {
            (Err(error), true) if without_ipv6(address, &error).is_some() => {}
            (probed, _) => _ = probed?,
        }
    }
    let first = match (tcp.socket(Port::Shared), is_dual) {
        (Err(error), true) => {
            let address = without_ipv6(address, &error).ok_or(error)?;
            return open_tcp(&Tcp { address, is_dual: false, machine }, shards, join);
        }
        (first, _) => first?,
    };
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(Tcp { address: bound, is_dual, machine }.socket(Port::Shared)?);
    }
    // Listening begins when all are bound: the kernel numbers the group's sockets in this order.
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok((sockets, bound))
}

/// Whether other sockets may be bound to the same port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Exclusive,
    Shared,
}

impl Tcp<'_> {
    /// A bound socket that does not listen yet.
    fn socket(&self, port: Port) -> io::Result<Socket> {
        let &Self { address, is_dual, machine } = self;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(port == Port::Shared)?;
        if address.is_ipv6() {
            // Never the host's default (net.ipv6.bindv6only).
            socket.set_only_v6(!is_dual)?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(machine.notsent_bytes_max)?;
        if !machine.defer_accept.is_zero() {
            sys::set_defer_accept(&socket, machine.defer_accept.as_secs() as u32)?;
        }
        if !machine.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(machine.user_timeout))?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    }
}

fn open_unix(path: &Path) -> io::Result<Socket> {
    // A socket file that refuses connections is left over from a process that was killed.
    if path.exists() && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn take_inherited(inherited: &mut ListenFd, number: i32) -> io::Result<Socket> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "no such descriptor was passed");
    let index = usize::try_from(number - INHERITED_FIRST).map_err(|_| missing())?;
    if index >= inherited.len() {
        return Err(missing());
    }
    let socket = match inherited.take_tcp_listener(index) {
        Ok(listener) => Socket::from(listener.ok_or_else(missing)?),
        Err(_) => Socket::from(Option::<UnixListener>::ok_or_else(inherited.take_unix_listener(index)?, missing)?),
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// At least one for each shard: duplicates if there are fewer.
fn copies(mut sockets: Vec<Socket>, shards: usize) -> io::Result<Vec<Socket>> {
    for index in 0..shards.saturating_sub(sockets.len()) {
        sockets.push(sockets[index].try_clone()?);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn any() -> Address {
        Address::Tcp("127.0.0.1:0".parse().expect("an address"))
    }

    fn taking(
        addresses: &[Address],
        shards: usize,
        join: bool,
        passed: &mut ListenSockets,
    ) -> Result<Opened, ListenError> {
        let cores = vec![None; shards];
        let wanted = Wanted { addresses, cores: &cores, join, keep: true, machine: &Machine::default() };
        open(&wanted, passed)
    }

    fn fresh(addresses: &[Address], shards: usize, join: bool) -> Result<Opened, ListenError> {
        taking(addresses, shards, join, &mut Vec::new())
    }

    #[test]
    fn every_shard_gets_its_own_socket_on_the_one_port() {
        let opened = fresh(&[any(), any()], 3, false).expect("ports are free");
        assert_eq!(opened.per_shard.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        assert!(opened.bound.iter().all(|at| matches!(at, Address::Tcp(a) if a.port() != 0)));
    }

    #[test]
    fn listener_has_the_options_that_were_set() {
        let machine = Machine {
            incoming_cpu: true,
            defer_accept: Duration::from_secs(5),
            notsent_bytes_max: 16 * 1024,
            user_timeout: Duration::from_secs(30),
            ..Machine::default()
        };
        let cores = [Some(0), Some(0)];
        let wanted = Wanted { addresses: &[any()], cores: &cores, join: false, keep: false, machine: &machine };
        let opened = open(&wanted, &mut Vec::new()).expect("a port is free");
        for (socket, _) in opened.per_shard.into_iter().flatten() {
            let socket = Socket::from(socket);
            assert_eq!(socket.cpu_affinity().expect("it was set"), 0);
            assert_eq!(socket.tcp_notsent_lowat().expect("it was set"), 16 * 1024);
            assert_eq!(socket.tcp_user_timeout().expect("it was set"), Some(machine.user_timeout));
        }
    }

    #[test]
    fn any_address_of_ipv6_serves_ipv4_too_unless_that_is_listed() {
        let any6 = Address::Tcp("[::]:0".parse().expect("an address"));
        let opened = fresh(std::slice::from_ref(&any6), 2, false).expect("a port is free");
        let Address::Tcp(at) = opened.bound[0] else { panic!("it is TCP") };
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, at.port())).expect("IPv4 is served");
        if at.is_ipv6() {
            std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, at.port())).expect("IPv6 is served");
        }
        drop(opened);
        let both = [
            Address::Tcp((Ipv4Addr::UNSPECIFIED, at.port()).into()),
            Address::Tcp((Ipv6Addr::UNSPECIFIED, at.port()).into()),
        ];
        let Address::Tcp(v6) = both[1] else { unreachable!() };
        assert!(!is_dual(v6, &both) && is_dual(v6, &both[1..]) && is_dual(at, &[any()]) == at.is_ipv6());
        let opened = fresh(&both, 2, false).expect("each family has its own sockets");
        assert!(opened.per_shard.into_iter().flatten().all(|(socket, index)| {
            index == 0 || at.is_ipv4() || Socket::from(socket).only_v6().expect("it was set")
        }));
    }

    #[test]
    fn host_without_ipv6_serves_ipv4() {
        let any6: SocketAddr = "[::]:8000".parse().expect("an address");
        let v4 = Some("0.0.0.0:8000".parse().expect("an address"));
        for (error, fallback) in [(libc::EAFNOSUPPORT, v4), (libc::EADDRNOTAVAIL, v4), (libc::EADDRINUSE, None)] {
            assert_eq!(without_ipv6(any6, &io::Error::from_raw_os_error(error)), fallback);
        }
        let one = "[::1]:8000".parse().expect("an address");
        assert_eq!(without_ipv6(one, &io::Error::from_raw_os_error(libc::EAFNOSUPPORT)), None);
    }

    #[test]
    fn address_of_both_families_takes_the_passed_sockets_of_ipv4() {
        let v4 = Address::Tcp((Ipv4Addr::UNSPECIFIED, 0).into());
        let first = fresh(&[v4], 2, false).expect("a port is free");
        let Address::Tcp(at) = first.bound[0] else { panic!("it is TCP") };
        let mut passed = first.kept;
        let wanted = [Address::Tcp((Ipv6Addr::UNSPECIFIED, at.port()).into())];
        let next = taking(&wanted, 3, false, &mut passed).expect("the sockets were passed");
        assert!(passed.is_empty() && next.bound == first.bound);
        assert_eq!(next.per_shard.iter().map(Vec::len).sum::<usize>(), 3);
    }

    #[test]
    fn port_in_use_is_refused_unless_joined() {
        let held = fresh(&[any()], 1, false).expect("a port is free");
        let refused = fresh(&held.bound, 1, false).map(|_| ()).expect_err("the port is taken");
        assert!(refused.to_string().contains("--join"), "{refused}");
        fresh(&held.bound, 2, true).expect("joined");
    }

    #[test]
    fn passed_sockets_are_all_served_by_fewer_and_by_more_shards() {
        for (before, after, sockets) in [(3, 2, 3), (2, 5, 5), (2, 2, 2)] {
            let first = fresh(&[any()], before, false).expect("a port is free");
            let mut passed = first.kept;
            let next = taking(&[any()], after, false, &mut passed).expect("the sockets were passed");
            assert!(passed.is_empty() && next.bound == first.bound);
            assert_eq!(next.per_shard.iter().map(Vec::len).sum::<usize>(), sockets);
            assert!(next.per_shard.iter().all(|listeners| !listeners.is_empty()));
            assert_eq!(next.kept[0].1.len(), sockets, "the process after the next gets all of them too");
        }
    }

    #[test]
    fn stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("corecast-test-{}.sock", std::process::id()));
        let address = [Address::Unix(path.clone())];
        let first = fresh(&address, 2, false).expect("the path is free");
        assert!(fresh(&address, 1, false).is_err());
        drop(first);
        fresh(&address, 1, false).expect("the socket file is stale");
        std::fs::remove_file(path).expect("it was made");
    }

    #[test]
    fn missing_inherited_descriptor_is_named() {
        let refused = fresh(&[Address::Inherited(3)], 1, false).map(|_| ()).expect_err("nothing was passed");
        assert!(refused.to_string().contains("LISTEN_FDS"), "{refused}");
    }
}
