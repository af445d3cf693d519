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

use super::control_port::{Inbox, Order};
use super::log_ring::LogRecord;
use super::mailbox::Wake;
use super::net::listener::ListenOptions;
use super::net::source::{Plain, Stream};
use super::net::tls::{Desk, Tls};
use super::turn::{Readiness, Wait};
use super::{App, Millis, Peer, Shard};
use crate::engine::log_ring::REACHED_INTERVAL_MS;
use crate::ids::ConnId;
use crate::ws::Refusal;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;
/// A turn that begins so much later than it was to: the process was stopped, or its machine.
const STOPPED: Millis = 500;
/// How long a listener rests when there was no descriptor or memory for a connection.
const ACCEPT_REST: Millis = 100;
/// Slots of tokens that are no connection: the waker, then the listeners, counted down from the top.
const WAKER: Token = Token(usize::MAX);

/// A shard's eventfd, as the mailboxes know it.
pub struct Eventfd(pub std::sync::Arc<mio::Waker>);

impl Wake for Eventfd {
    fn wake(&self) {
        // The counter of an eventfd that nobody read is full after 2^64 - 1 writes.
        self.0.wake().expect("an eventfd takes a write");
    }
}

struct Listener {
    socket: OwnedFd,
    /// Connections may wait: no new edge will come until accept has said "would block".
    ready: bool,
    retry_at: Millis,
    manner: ListenOptions,
}

/// A shard and its place in the kernel, ready to run on a thread of its own.
pub struct Runner<A: App> {
    shard: Shard<A, Stream>,
    poll: Poll,
    listeners: Vec<Listener>,
    /// What TLS connections have in common; no thread but this one knows it.
    desk: Rc<RefCell<Desk>>,
    inbox: Inbox<A::Request>,
    began: Instant,
    core: Option<usize>,
    /// When it may be said again that nobody can be accepted.
    accept_said: Millis,
    /// Turns in a row for which the kernel may have had more to tell.
    unheard: usize,
    /// Since when there has been nothing to do.
    idle_since: Instant,
    spin: Duration,
}

/// A poll with its waker, made before the mesh is: wakers are part of it.
pub fn poll() -> io::Result<(Poll, std::sync::Arc<mio::Waker>)> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    Ok((poll, std::sync::Arc::new(waker)))
}

impl<A: App> Runner<A> {
    /// `began` is the zero of the process's clock; `core` is where its thread is pinned.
    pub fn new(
        shard: Shard<A, Stream>,
        poll: Poll,
        listeners: Vec<(OwnedFd, ListenOptions)>,
        tls: Option<Arc<rustls::ServerConfig>>,
        inbox: Inbox<A::Request>,
        began: Instant,
        core: Option<usize>,
    ) -> io::Result<Self> {
        let desk = Rc::new(RefCell::new(Desk::new(tls)));
        let (listeners, ours) = (Vec::new(), listeners);
        let spin = shard.cx.limits.machine.spin;
        let mut runner = Self {
            shard,
            poll,
            listeners,
            desk,
            inbox,
            began,
            core,
            accept_said: 0,
            unheard: 0,
            idle_since: began,
            spin,
        };
        runner.shard.cx.counters.epoll_ctls = 1; // the waker's
        for (socket, manner) in ours {
            let token = Token(WAKER.0 - 1 - runner.listeners.len());
            runner.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
            runner.shard.cx.counters.epoll_ctls += 1;
            runner.listeners.push(Listener { socket, ready: true, retry_at: 0, manner });
        }
        Ok(runner)
    }

    /// Runs on the thread that called it, which stands where it is to be, until it is told to stop.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut wait = Wait::No;
        loop {
            let heard = self.wait(&mut events, wait)?;
            let turn_began = Instant::now();
            let now = (turn_began - self.began).as_millis() as Millis;
            let in_time = heard && self.in_time(now, wait);
            self.shard.begin(now);
            self.desk.borrow_mut().begin_turn(self.shard.cx.limits.handshakes_per_turn);
            if !self.orders() {
                return Ok(());
            }
            let mut told = 0;
            for event in &events {
                self.event(event);
                told += 1;
            }
            self.hold_deadlines(in_time && told < EVENTS_MAX);
            self.accept()?;
            wait = self.shard.end();
            if told > 0 || wait == Wait::No {
                self.idle_since = turn_began;
            }
            if let Some(note) = self.desk.borrow_mut().note(self.shard.cx.now()) {
                self.shard.note(note);
            }
            if self.listeners.iter().any(|listener| listener.ready) {
                wait = self.wait_for_listeners(wait);
            }
            let turn_us = turn_began.elapsed().as_micros() as u32;
            self.shard.cx.counters.turn(turn_us);
            self.shard.turn_took(turn_us);
        }
    }

    /// The turn begins about when it was to, so that what has come since the one before was asked for after it.
    fn in_time(&self, now: Millis, wait: Wait) -> bool {
        let waited = match wait {
            Wait::No => 0,
            Wait::For(ms) => ms,
            Wait::Forever => return true,
        };
        now <= self.shard.cx.now() + waited + STOPPED
    }

    /// No deadline is judged before the kernel has told what came: a process that was stopped finds all deadlines over, and
    /// the answers to its pings unread. Each socket is told of once in so many turns, so that a flood holds it up no longer.
    fn hold_deadlines(&mut self, heard: bool) {
        let turns = self.shard.slots() / EVENTS_MAX + 2;
        self.unheard = if heard { 0 } else { self.unheard + 1 };
        self.shard.hold_deadlines((1..=turns).contains(&self.unheard));
    }

    /// Sleeps only where nobody left work: announce, look once more, wait. False where the kernel was not asked to the end.
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

    /// What the control thread wants. False where the shard shall stop.
    fn orders(&mut self) -> bool {
        while let Some(order) = self.inbox.next() {
            match order {
                Order::App(request) => self.shard.app.request(&mut self.shard.cx, request),
                Order::Snapshot(answer) => {
                    let mut snapshot = self.shard.snapshot();
                    snapshot.core = self.core;
                    (snapshot.tls, snapshot.tls_held_bytes) = self.desk.borrow().figures();
                    answer(snapshot);
                }
                Order::Drain { window, admits } => {
                    self.close_listeners();
                    self.shard.begin_drain(window, admits);
                }
                Order::Limits(limits) => self.shard.set_limits(limits),
                Order::Tls(config) => self.desk.borrow_mut().set_config(config),
                Order::Stop => return false,
            }
        }
        true
    }

    /// Closed, not only forgotten: the kernel refuses who comes now, or sends him to who joined the port. Where another
    /// process has the socket too it lives on, and would wake this shard for each who comes.
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

    fn accept(&mut self) -> io::Result<()> {
        let now = self.shard.cx.now();
        let mut budget = self.shard.cx.limits.accepts_per_turn;
        for index in 0..self.listeners.len() {
            while self.listeners[index].ready && self.listeners[index].retry_at <= now && budget > 0 {
                budget -= 1;
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                match rustix::net::acceptfrom_with(&self.listeners[index].socket, flags) {
                    Ok((socket, from)) => self.welcome(index, socket, from)?,
                    Err(Errno::AGAIN) => self.listeners[index].ready = false,
                    Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                    Err(error) => {
                        // No descriptor or no memory: who is here is served on, and it is tried again.
                        self.listeners[index].retry_at = now + ACCEPT_REST;
                        if now >= self.accept_said {
                            self.accept_said = now + REACHED_INTERVAL_MS;
                            self.shard.note(LogRecord::AcceptFailed { errno: error.raw_os_error() });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn welcome(&mut self, listener: usize, socket: OwnedFd, from: Option<SocketAddrAny>) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        let address = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip());
        let ListenOptions { tls, proxied } = self.listeners[listener].manner;
        let source = match tls {
            false => Stream::Plain(Plain(socket)),
            true => Stream::Tls(Box::new(Tls::new(Plain(socket), Rc::clone(&self.desk)))),
        };
        let conn = match self.shard.admit(source, Peer { address, proxied }) {
            Ok(conn) => conn,
            Err((Stream::Plain(Plain(socket)), refusal)) => {
                send_away(&socket, refusal);
                return Ok(());
            }
            // An answer that he could read would cost the hand-shake that he is refused for.
            Err((Stream::Tls(_), _)) => return Ok(()),
        };
        let token = Token(conn.pack() as usize);
        self.shard.cx.counters.epoll_ctls += 1;
        self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE | Interest::WRITABLE)?;
        self.shard.read_fresh(conn);
        Ok(())
    }

    /// A listener stands ready beyond its budget, or rests: the wait must end for it.
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

/// Refuses a socket that was not let in, at the least cost: one answer, one look at what has come already, since a close
/// over unread bytes is a reset, which may overtake the answer. Best effort: whoever is not let in has no claim on more.
fn send_away(socket: &OwnedFd, refusal: Refusal) {
    let mut answer = Vec::new();
    refusal.write(&mut answer);
    let _ = rustix::net::send(socket, &answer, SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
    let _ = rustix::net::recv(socket, &mut [0; 2048][..], RecvFlags::empty());
}
