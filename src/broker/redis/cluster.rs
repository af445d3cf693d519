//! The links to the servers of a Redis Cluster, and which of them a request goes to.
//!
//! A slot that moves must not change the order of the requests about a channel. When a server passes the first request of a slot
//! on, new requests of the slot wait. The others that were sent to that server come back in order, and then the answer to a
//! fence that was sent behind them. Then what came back is sent again one by one, each with a fence: a server that is getting
//! the slot may pass one request on and take the next one. Behind them goes what waited.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::command_link::{CommandLink, Commander, LinkContext};
use super::commands::Commands;
use super::dial::{Dialer, Expect};
use super::in_flight::{Load, Redirect, RedirectTo, Redirects, refuse};
use super::job::{Job, Redirected};
use super::random;
use super::target::Target;
use super::topology::Topology;
use crate::broker::message::RequestKind;
use crate::broker::stats::{ConnectionStats, LinkState, Purpose, Refusal};
use crate::config::Endpoint;

/// Pause before a request is sent again to a server that could not take it yet.
const AGAIN_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Cluster {
    topology: Rc<Topology>,
    dialer: Rc<Dialer>,
    commands: Rc<Commands>,
    context: LinkContext,
    reads_replicas: bool,
    links: RefCell<HashMap<(Endpoint, Expect), Commander>>,
    held: RefCell<HashMap<u16, Held>>,
    /// Of the fresh requests in `held`.
    held_bytes: Cell<usize>,
    redirects: UnboundedSender<Redirect>,
    /// Of the cluster as a whole: counts what no link takes.
    stats: Arc<ConnectionStats>,
    load: Load,
}

/// Requests of a slot that wait until the server that had it has answered everything.
#[derive(Default)]
struct Held {
    came_back: VecDeque<(Box<Redirected>, Option<Endpoint>)>,
    fresh: Vec<Job>,
    /// The server that had the slot has answered everything: what came back is sent one by one.
    is_draining: bool,
    /// Something goes to the server that could not take it.
    pauses: bool,
}

impl Cluster {
    /// `reads_replicas`: presence is read from replicas.
    pub(super) fn start(
        topology: Rc<Topology>,
        dialer: Rc<Dialer>,
        commands: Rc<Commands>,
        context: &LinkContext,
        reads_replicas: bool,
    ) -> Rc<Self> {
        let (redirects, receiver) = unbounded_channel();
        let stats = context.stats.register("redis cluster", Purpose::Commands);
        let cluster = Rc::new(Self {
            topology: Rc::clone(&topology),
            dialer,
            commands,
            context: context.clone(),
            reads_replicas,
            links: RefCell::default(),
            held: RefCell::default(),
            held_bytes: Cell::new(0),
            redirects,
            stats,
            load: Load::default(),
        });
        let adopting = Rc::downgrade(&cluster);
        context.spawn_endless(async move {
            let adopt = || {
                if let Some(cluster) = adopting.upgrade() {
                    cluster.adopt();
                }
            };
            topology.watch(adopt).await;
        });
        let redirecting = Rc::downgrade(&cluster);
        context.spawn_endless(take_redirects(redirecting, receiver));
        cluster
    }

    pub(super) fn is_up(&self) -> bool {
        self.links.borrow().values().any(Commander::is_up)
    }

    pub(super) fn send(&self, job: Job) {
        let Some(slot) = self.commands.slot_of(&job) else { return self.send_anywhere(job) };
        let mut held = self.held.borrow_mut();
        let Some(waiting) = held.get_mut(&slot) else {
            drop(held);
            return self.forward(job, slot);
        };
        let bytes = self.held_bytes.get() + job.bytes();
        if bytes > self.context.bytes_max {
            drop(held);
            return self.refuse(job, Refusal::Full);
        }
        self.held_bytes.set(bytes);
        waiting.fresh.push(job);
    }

    fn send_anywhere(&self, job: Job) {
        let links = self.links.borrow();
        let up: Vec<_> = links.values().filter(|link| link.is_up()).collect();
        match up.len() {
            0 => self.refuse(job, Refusal::Away),
            count => up[random::number() as usize % count].send(job),
        }
    }

    /// To the server of a slot.
    fn forward(&self, job: Job, slot: u16) {
        let reads_presence = matches!(
            job.request().map(|request| &request.kind),
            Some(RequestKind::Presence { .. } | RequestKind::PresenceStats { .. })
        );
        let from_replica = self.reads_replicas && reads_presence && matches!(job, Job::Request(_));
        if from_replica && let Some((endpoint, expect)) = self.topology.replica_of(slot) {
            let replica = self.link(endpoint, expect);
            // Without a replica in service the master answers.
            if replica.is_up() {
                return replica.send(job);
            }
        }
        match self.topology.master_of(slot) {
            Some(master) => self.link(master, Expect::Any).send(job),
            None => self.refuse(job, Refusal::Away),
        }
    }

    fn refuse(&self, job: Job, reason: Refusal) {
        refuse(job, reason, &self.context.events, &self.stats, &self.load);
    }

    fn link(&self, endpoint: Endpoint, expect: Expect) -> Commander {
        let mut links = self.links.borrow_mut();
        let start = |(endpoint, expect): &(Endpoint, Expect)| {
            let redirects = Redirects { sender: self.redirects.clone(), from: endpoint.clone() };
            let dialer = Rc::clone(&self.dialer);
            let topology = Some(Rc::clone(&self.topology));
            let target = Target::Server { dialer, endpoint: endpoint.clone(), expect: *expect, topology };
            let commands = Rc::clone(&self.commands);
            let (commander, link) = CommandLink::new(target, commands, &self.context, Some(redirects));
            self.context.spawn(link.run());
            commander
        };
        let key = (endpoint, expect);
        if let Some(commander) = links.get(&key) {
            return commander.clone();
        }
        let commander = start(&key);
        links.insert(key, commander.clone());
        commander
    }

    /// The slots have changed: links to servers that have none any more end, once their answers are in.
    fn adopt(&self) {
        let masters = self.topology.masters();
        log::info!("redis cluster: {} servers have slots", masters.len());
        self.stats.set_state(LinkState::Up, "");
        let replicas = self.topology.replicas();
        self.links.borrow_mut().retain(|(endpoint, expect), _| {
            let servers = if *expect == Expect::Any { &masters } else { &replicas };
            servers.contains(endpoint)
        });
        for master in masters {
            self.link(master, Expect::Any);
        }
    }

    /// A server passes a request on.
    fn take_redirect(&self, redirected: Box<Redirected>, from: Endpoint, to: RedirectTo) {
        let slot = self.commands.slot_of_request(&redirected.request);
        if let RedirectTo::Moved(slot, endpoint) = &to
            && self.topology.master_of(*slot).as_ref() != Some(endpoint)
        {
            self.topology.set_moved(*slot, endpoint);
        }
        let mut held = self.held.borrow_mut();
        let is_first = !held.contains_key(&slot);
        let waiting = held.entry(slot).or_default();
        waiting.pauses |= to == RedirectTo::Owner;
        let target = if let RedirectTo::Asked(endpoint) = to { Some(endpoint) } else { None };
        match waiting.is_draining {
            true => waiting.came_back.push_front((redirected, target)),
            false => waiting.came_back.push_back((redirected, target)),
        }
        drop(held);
        if is_first {
            self.send_fence(slot, (from, Expect::Any));
        }
    }

    /// `Redirect::Passed` follows when the server has answered everything.
    fn send_fence(&self, slot: u16, server: (Endpoint, Expect)) {
        let sender = self.redirects.clone();
        // The receiver lives as long as the cluster.
        let passed = move || _ = sender.send(Redirect::Passed(slot));
        let link = self.links.borrow().get(&server).cloned();
        match link {
            Some(link) => link.send(Job::Fence(Box::new(passed))),
            // It has ended, and has passed on all it had.
            None => passed(),
        }
    }

    /// A fence is answered: sends the next request that came back, and in the end what waited.
    fn release(&self, slot: u16) {
        let mut held = self.held.borrow_mut();
        let Some(waiting) = held.get_mut(&slot) else { return };
        (waiting.is_draining, waiting.pauses) = (true, false);
        if let Some((redirected, target)) = waiting.came_back.pop_front() {
            drop(held);
            match target.or_else(|| self.topology.master_of(slot)) {
                Some(server) => {
                    self.link(server.clone(), Expect::Any).send(Job::Redirected(redirected));
                    self.send_fence(slot, (server, Expect::Any));
                }
                None => {
                    self.refuse(Job::Redirected(redirected), Refusal::Away);
                    _ = self.redirects.send(Redirect::Passed(slot));
                }
            }
        } else {
            let fresh = held.remove(&slot).map(|held| held.fresh).unwrap_or_default();
            drop(held);
            for job in fresh {
                self.held_bytes.set(self.held_bytes.get().saturating_sub(job.bytes()));
                self.forward(job, slot);
            }
        }
        self.context.events.flush();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.context.stats.remove(&self.stats);
    }
}

/// Serves redirections until the cluster is gone.
async fn take_redirects(cluster: Weak<Cluster>, mut redirects: UnboundedReceiver<Redirect>) {
    while let Some(redirect) = redirects.recv().await {
        let Some(cluster) = cluster.upgrade() else { return };
        match redirect {
            Redirect::Request { redirected, from, to } => cluster.take_redirect(redirected, from, to),
            Redirect::Passed(slot) => {
                let pauses = cluster.held.borrow().get(&slot).is_some_and(|held| held.pauses);
                if !pauses {
                    cluster.release(slot);
                    continue;
                }
                let weak = Rc::downgrade(&cluster);
                cluster.context.spawn(async move {
                    sleep(AGAIN_PAUSE).await;
                    if let Some(cluster) = weak.upgrade() {
                        cluster.release(slot);
                    }
                });
            }
        }
    }
}
