//! The loop over mio: one `Poll` per shard, edge-triggered, every socket registered once for both directions.
//!
//! Descriptors (poll, waker, listeners) are made before the thread starts. The clock is read once a turn.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags};

use super::admission::peers::Peer;
use super::app::App;
use super::control_port::{ControlCommand, ControlInbox};
use super::log_ring::{LogRecord, REACHED_INTERVAL_MS};
use super::mailbox::Wake;
use super::net::listener::ListenOptions;
use super::net::source::Plain;
use super::net::stream::Stream;
use super::net::tls::{Tls, TlsShared};
use super::shard::Shard;
use super::timer_wheel::Millis;
use super::turn::{Readiness, Wait};
use super::turn_time::STEP_WORK;
use crate::ids::ConnId;
use crate::ws::Refusal;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;
/// A turn that begins so much too late: the process or its host was stopped.
const STOPPED: Millis = 500;
/// How long a listener rests after the kernel had no descriptor, memory or epoll watch for a new connection.
const ACCEPT_REST: Millis = 100;
/// Tokens that are not connections: the waker, then the listeners, counted down from the top.
const WAKER: Token = Token(usize::MAX);

/// The eventfd of a shard, as the mailboxes know it.
pub(crate) struct Eventfd(pub Arc<mio::Waker>);

impl Wake for Eventfd {
    fn wake(&self) {
        // The counter of an eventfd is full only after 2^64 - 1 writes without a read.
        self.0.wake().expect("an eventfd takes a write");
    }
}

struct Listener {
    socket: OwnedFd,
    /// Connections may wait: no new edge will come until accept has said "would block".
    ready: bool,
    retry_at: Millis,
    options: ListenOptions,
}

/// What the event loop gets from the thread that starts the shards.
pub(crate) struct LoopParts<R> {
    pub poll: Poll,
    pub listeners: Vec<(OwnedFd, ListenOptions)>,
    /// False: no connection is accepted before `ControlCommand::Accept`.
    pub accepts: bool,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub inbox: ControlInbox<R>,
    /// The zero of the process's clock.
    pub began: Instant,
    /// Where the thread is pinned.
    pub core: Option<usize>,
}

/// A shard and its descriptors, ready to run on a thread of its own.
pub(crate) struct EventLoop<A: App> {
    shard: Shard<A, Stream>,
    poll: Poll,
    listeners: Vec<Listener>,
    accepts: bool,
    /// What the TLS connections of the shard share.
    tls: Rc<RefCell<TlsShared>>,
    inbox: ControlInbox<A::Request>,
    began: Instant,
    core: Option<usize>,
    /// Commands of the control thread wait for the next turn, since the time for them was over.
    commands_wait: bool,
    /// When it may be logged again that a new connection failed.
    log_failure_at: Millis,
    /// Turns in a row in which the kernel may have had more to report.
    incomplete_turns: usize,
    /// Since when there has been no work.
    idle_since: Instant,
    spin: Duration,
}

/// A poll with its waker, made before the mailboxes: wakers are part of them.
pub(crate) fn poll() -> io::Result<(Poll, Arc<mio::Waker>)> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    Ok((poll, Arc::new(waker)))
}

impl<A: App> EventLoop<A> {
    pub(crate) fn new(mut shard: Shard<A, Stream>, parts: LoopParts<A::Request>) -> io::Result<Self> {
        let LoopParts { poll, listeners: sockets, accepts, tls, inbox, began, core } = parts;
        shard.cx.counters.epoll_ctls = 1; // the waker's
        let mut listeners = Vec::new();
        for (socket, options) in sockets {
            let token = Token(WAKER.0 - 1 - listeners.len());
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
            shard.cx.counters.epoll_ctls += 1;
            listeners.push(Listener { socket, ready: true, retry_at: 0, options });
        }
        let spin = shard.cx.config.machine.spin;
        Ok(Self {
            shard,
            poll,
            listeners,
            accepts,
            tls: Rc::new(RefCell::new(TlsShared::new(tls))),
            inbox,
            began,
            core,
            commands_wait: false,
            log_failure_at: 0,
            incomplete_turns: 0,
            idle_since: began,
            spin,
        })
    }

    /// Runs on the calling thread until a command stops it.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut wait = Wait::No;
        loop {
            let polled = self.wait(&mut events, wait)?;
            let turn_began = Instant::now();
            let now = (turn_began - self.began).as_millis() as Millis;
            let in_time = polled && self.is_in_time(now, wait);
            self.shard.begin(now);
            self.tls.borrow_mut().begin_turn(self.shard.cx.config.handshakes_per_turn);
            if !self.handle_commands() {
                return Ok(());
            }
            let mut reported = 0;
            for event in &events {
                self.event(event);
                reported += 1;
            }
            self.hold_deadlines(in_time && reported < EVENTS_MAX);
            self.accept();
            wait = self.shard.end();
            if self.commands_wait {
                wait = Wait::No;
            }
            if reported > 0 || wait == Wait::No {
                self.idle_since = turn_began;
            }
            if let Some(record) = self.tls.borrow_mut().log_record(self.shard.cx.now()) {
                self.shard.cx.log(record);
            }
            if self.accepts && self.listeners.iter().any(|listener| listener.ready) {
                wait = self.wait_for_listeners(wait);
            }
            let turn_us = turn_began.elapsed().as_micros() as u32;
            self.shard.cx.counters.turn(turn_us);
            self.shard.turn_took(turn_us);
        }
    }

    /// The turn begins about when it should. Else the process was stopped, and bytes may have come that the kernel has not
    /// reported yet.
    fn is_in_time(&self, now: Millis, wait: Wait) -> bool {
        let waited = match wait {
            Wait::No => 0,
            Wait::For(ms) => ms,
            Wait::Forever => return true,
        };
        now <= self.shard.cx.now() + waited + STOPPED
    }

    /// No deadline is judged before the kernel has reported what came: a process that was stopped finds all deadlines over,
    /// and the answers to its pings unread. Within so many turns each socket is reported once, so a flood holds deadlines no
    /// longer than that.
    fn hold_deadlines(&mut self, reports_complete: bool) {
        let turns = self.shard.occupied() / EVENTS_MAX + 2;
        self.incomplete_turns = if reports_complete { 0 } else { self.incomplete_turns + 1 };
        self.shard.hold_deadlines((1..=turns).contains(&self.incomplete_turns));
    }

    /// Waits only without work: announce the sleep, check the mailbox once more, wait. False if a signal interrupted it.
    fn wait(&mut self, events: &mut Events, wait: Wait) -> io::Result<bool> {
        let spins = !self.spin.is_zero() && self.idle_since.elapsed() < self.spin;
        let blocking = wait != Wait::No && !spins && self.shard.cx.mail.may_sleep();
        let timeout = match wait {
            Wait::For(ms) if blocking => Some(Duration::from_millis(ms)),
            Wait::Forever if blocking => None,
            _ => Some(Duration::ZERO),
        };
        let counters = &mut self.shard.cx.counters;
        counters.epoll_waits += 1;
        counters.epoll_waits_blocking += u64::from(blocking);
        let polled = self.poll.poll(events, timeout);
        if blocking {
            self.shard.cx.mail.awake();
        }
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(false)
            }
            polled => polled.map(|()| true),
        }
    }

    /// Commands of the control thread, until the time for them is over. False if the shard has to stop.
    fn handle_commands(&mut self) -> bool {
        self.commands_wait = false;
        while let Some(command) = self.inbox.next() {
            match command {
                ControlCommand::App(request) => self.shard.app.request(&mut self.shard.cx, request),
                ControlCommand::Snapshot(answer) => {
                    let mut snapshot = self.shard.snapshot();
                    snapshot.core = self.core;
                    (snapshot.tls, snapshot.tls_held_bytes) = self.tls.borrow().figures();
                    answer(snapshot);
                }
                ControlCommand::Drain { window, upgrades } => {
                    self.close_listeners();
                    self.shard.begin_drain(window, upgrades);
                }
                ControlCommand::Accept => self.accepts = true,
                ControlCommand::Config(config) => self.shard.set_config(config),
                ControlCommand::Tls(config) => self.tls.borrow_mut().set_config(config),
                ControlCommand::Stop => return false,
            }
            self.commands_wait = self.shard.cx.time.work_of_shard(STEP_WORK);
            if self.commands_wait {
                self.shard.begin_reads();
                break;
            }
        }
        true
    }

    /// Closes them, so that the kernel refuses new connections, or gives them to another process that shares the port. If
    /// another process has the socket too, the socket lives on, and while registered it would wake this shard for each
    /// connection.
    fn close_listeners(&mut self) {
        for listener in self.listeners.drain(..) {
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.socket.as_raw_fd()));
        }
    }

    fn event(&mut self, event: &mio::event::Event) {
        let token = event.token();
        if token == WAKER {
            return;
        }
        let from_top = WAKER.0 - 1 - token.0;
        if from_top < u16::MAX as usize {
            if let Some(listener) = self.listeners.get_mut(from_top) {
                listener.ready = true;
            }
            return;
        }
        let readiness = Readiness {
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            error: event.is_error(),
        };
        self.shard.event(ConnId::unpack(token.0 as u64), readiness);
    }

    fn accept(&mut self) {
        if !self.accepts {
            return;
        }
        let now = self.shard.cx.now();
        let mut budget = self.shard.cx.config.accepts_per_turn;
        for index in 0..self.listeners.len() {
            while self.listeners[index].ready && self.listeners[index].retry_at <= now && budget > 0 {
                budget -= 1;
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                match rustix::net::acceptfrom_with(&self.listeners[index].socket, flags) {
                    Ok((socket, from)) => self.admit(index, socket, from),
                    Err(Errno::AGAIN) => self.listeners[index].ready = false,
                    Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                    // No descriptor or no memory.
                    Err(error) => self.rest(index, LogRecord::AcceptFailed { errno: error.raw_os_error() }),
                }
            }
        }
    }

    /// The kernel has no means for a new connection: existing ones are served, and others wait in its backlog for a while.
    fn rest(&mut self, listener: usize, record: LogRecord) {
        let now = self.shard.cx.now();
        self.listeners[listener].retry_at = now + ACCEPT_REST;
        if now >= self.log_failure_at {
            self.log_failure_at = now + REACHED_INTERVAL_MS;
            self.shard.cx.log(record);
        }
    }

    fn admit(&mut self, listener: usize, socket: OwnedFd, from: Option<SocketAddrAny>) {
        let fd = socket.as_raw_fd();
        // A socket of both families reports an IPv4 address within an IPv6 one.
        let address = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip().to_canonical());
        let ListenOptions { tls, proxied } = self.listeners[listener].options;
        let source = match tls {
            false => Stream::Plain(Plain(socket)),
            true => Stream::Tls(Box::new(Tls::new(Plain(socket), Rc::clone(&self.tls)))),
        };
        let conn = match self.shard.admit(source, Peer { address, proxied }) {
            Ok(conn) => conn,
            Err((Stream::Plain(Plain(socket)), refusal)) => {
                return send_refusal(&socket, refusal);
            }
            // A response that the client can read would need the TLS handshake, which is what the refusal saves.
            Err((Stream::Tls(_), _)) => return,
        };
        let token = Token(conn.pack() as usize);
        self.shard.cx.counters.epoll_ctls += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut SourceFd(&fd), token, both) {
            Ok(()) => self.shard.read_new(conn),
            // No memory, or fs.epoll.max_user_watches is reached. Without events the connection would be of no use.
            Err(error) => {
                self.shard.refuse_unwatched(conn);
                self.rest(listener, LogRecord::WatchFailed { errno: error.raw_os_error().unwrap_or(0) });
            }
        }
    }

    /// A listener is ready beyond its budget, or rests: the wait must end for it.
    fn wait_for_listeners(&self, wait: Wait) -> Wait {
        let now = self.shard.cx.now();
        let ready = self.listeners.iter().filter(|listener| listener.ready);
        let rest = ready.map(|listener| listener.retry_at.saturating_sub(now)).min().unwrap_or(0);
        match wait {
            _ if rest == 0 => Wait::No,
            Wait::For(ms) => Wait::For(ms.min(rest)),
            Wait::Forever => Wait::For(rest),
            Wait::No => Wait::No,
        }
    }
}

/// Refuses a socket that is not admitted, at the least cost: one response, and one read of what has come already, since a
/// close with unread bytes sends a reset, which may overtake the response. Best effort.
fn send_refusal(socket: &OwnedFd, refusal: Refusal) {
    let mut response = Vec::new();
    refusal.write(&mut response);
    let _ = rustix::net::send(socket, &response, SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
    let _ = rustix::net::recv(socket, &mut [0; 2048][..], RecvFlags::empty());
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs::File;

    use super::*;
    use crate::engine::app::{Flow, Message};
    use crate::engine::config::EngineConfig;
    use crate::engine::context::Context;
    use crate::engine::control_port::control_port;
    use crate::engine::log_ring::LogRing;
    use crate::engine::mailbox::{self, Bounds};
    use crate::engine::stats::Refused;
    use crate::ids::ShardId;

    struct Idle;

    impl App for Idle {
        type Mail = Infallible;
        type Request = Infallible;

        fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, _: Message<'_>) -> Flow {
            Flow::Done
        }
    }

    #[test]
    fn connection_that_epoll_does_not_accept_ends_alone() {
        let (poll, waker) = poll().expect("an epoll");
        let wakers = vec![Box::new(Eventfd(waker)) as Box<dyn Wake>];
        let mail = mailbox::mesh(wakers, Bounds { mailbox_batches_max: 1 }).pop().expect("one endpoint");
        let (log_ring, log) = LogRing::new(ShardId(0));
        let shard = Shard::new(Idle, mail, Arc::new(EngineConfig::default()), log_ring, 0);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (_port, inbox) = control_port(Arc::new(|| ()));
        let listeners = vec![(listener.into(), ListenOptions::default())];
        let parts = LoopParts { poll, listeners, accepts: true, tls: None, inbox, began: Instant::now(), core: None };
        let mut event_loop = EventLoop::new(shard, parts).expect("the listener is registered");
        // Regular files cannot be watched (epoll_ctl(2), EPERM).
        let unwatchable = || OwnedFd::from(File::open("/proc/self/exe").expect("a file"));
        for _ in 0..3 {
            event_loop.shard.begin(0);
            event_loop.admit(0, unwatchable(), None);
            event_loop.shard.end();
        }
        let counters = &event_loop.shard.cx.counters;
        assert_eq!((counters.accepted, counters.refused[Refused::Kernel as usize]), (3, 3));
        assert_eq!(event_loop.shard.occupied(), 0, "nothing of them is left");
        let records: Vec<_> = log.try_iter().map(|(_, record)| record).collect();
        assert!(matches!(records[..], [LogRecord::WatchFailed { errno: 1 }]), "one line for all: {records:?}");
        assert!(event_loop.listeners[0].retry_at > 0, "others wait in the backlog for a while");
    }
}
