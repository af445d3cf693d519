//! The table of the other servers: what they announced, and when each was heard last. Time is an argument.
//!
//! | state | from | to |
//! |---|---|---|
//! | running | any message | stalled after `STALLED_AFTER` without one |
//! | stalled | running | running with any message; lost after `LOST_AFTER` |
//! | lost | stalled | running with an announcement; forgotten after `FORGET_AFTER` |
//!
//! A server that says that it leaves is removed at once.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::view::{NodeInfo, NodeState, NodeView};

/// How often a server announces itself.
pub(crate) const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(3);
/// One announcement is missing, and it is not merely late.
pub(crate) const STALLED_AFTER: Duration = Duration::from_millis(4_500);
/// Two announcements are missing.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(7);
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// Servers in the table; one more is ignored.
pub(crate) const NODES_MAX: usize = 1024;
/// Lost servers that are remembered.
const LOST_MAX: usize = 256;
/// A longer time between two checks means that this process was stopped, and heard nothing for that reason.
const PAUSE_MIN: Duration = Duration::from_secs(2);

pub(crate) struct NodeTable {
    nodes: HashMap<Box<str>, Node>,
    lost: HashMap<Box<str>, Node>,
    checked: Instant,
}

struct Node {
    info: NodeInfo,
    heard: Instant,
    state: NodeState,
}

/// What has become of a server.
#[derive(PartialEq, Debug)]
pub(crate) struct Change {
    pub(crate) node: Label,
    pub(crate) what: What,
}

#[derive(PartialEq, Debug)]
pub(crate) enum What {
    Joined {
        version: String,
    },
    /// It was lost for so long.
    Returned(Duration),
    /// No message for so long.
    Stalled(Duration),
    /// It was stalled, and has sent a message after so long.
    Resumed(Duration),
    Lost(Duration),
    Left,
}

/// A server in a log line. Names come from other servers, so that they are escaped.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Label {
    name: String,
    uid: String,
}

impl Label {
    pub(crate) fn of(info: &NodeInfo) -> Self {
        Self { name: info.name.clone(), uid: info.uid.clone() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name.escape_debug(), self.uid.escape_debug())
    }
}

impl NodeTable {
    pub(crate) fn new(now: Instant) -> Self {
        Self { nodes: HashMap::new(), lost: HashMap::new(), checked: now }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A server has announced itself. `Err`: the table is full.
    pub(crate) fn announced(&mut self, mut info: NodeInfo, now: Instant) -> Result<Option<Change>, ()> {
        if let Some(node) = self.nodes.get_mut(&*info.uid) {
            info.metrics = info.metrics.or(node.info.metrics.take());
            node.info = info;
            return Ok(node.hear(now));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(());
        }
        let what = match self.lost.remove(&*info.uid) {
            Some(lost) => What::Returned(now.duration_since(lost.heard)),
            None => What::Joined { version: info.version.clone() },
        };
        let node = Label::of(&info);
        self.nodes.insert(info.uid.as_str().into(), Node { info, heard: now, state: NodeState::Running });
        Ok(Some(Change { node, what }))
    }

    /// Any other message of a server has arrived.
    pub(crate) fn heard(&mut self, uid: &str, now: Instant) -> Option<Change> {
        self.nodes.get_mut(uid)?.hear(now)
    }

    /// A server has said that it leaves.
    pub(crate) fn left(&mut self, uid: &str) -> Option<Change> {
        self.lost.remove(uid);
        let node = self.nodes.remove(uid)?;
        Some(Change { node: Label::of(&node.info), what: What::Left })
    }

    /// Finds the servers that are not heard any more. Returns the time for which this process was stopped, if it was, too.
    pub(crate) fn check(&mut self, now: Instant) -> (Vec<Change>, Option<Duration>) {
        let pause = now.duration_since(std::mem::replace(&mut self.checked, now));
        let pause = (pause >= PAUSE_MIN).then_some(pause);
        if let Some(pause) = pause {
            // Their messages may wait to be read.
            self.nodes.values_mut().for_each(|node| node.heard = now.min(node.heard + pause));
        }
        let mut changes = Vec::new();
        for node in self.nodes.values_mut() {
            let silent = now.duration_since(node.heard);
            if silent >= LOST_AFTER {
                node.state = NodeState::Lost;
                changes.push(Change { node: Label::of(&node.info), what: What::Lost(silent) });
            } else if silent >= STALLED_AFTER && node.state == NodeState::Running {
                node.state = NodeState::Stalled;
                changes.push(Change { node: Label::of(&node.info), what: What::Stalled(silent) });
            }
        }
        self.lost.extend(self.nodes.extract_if(|_, node| node.state == NodeState::Lost));
        self.forget(now);
        (changes, pause)
    }

    fn forget(&mut self, now: Instant) {
        self.lost.retain(|_, node| now.duration_since(node.heard) < FORGET_AFTER);
        while self.lost.len() > LOST_MAX {
            let oldest = self.lost.iter().min_by_key(|(_, node)| node.heard).map(|(uid, _)| uid.clone());
            oldest.map(|uid| self.lost.remove(&uid));
        }
    }

    /// The servers that a survey asks.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (Box<str>, Label)> + '_ {
        self.nodes.iter().map(|(uid, node)| (uid.clone(), Label::of(&node.info)))
    }

    /// `None`: it has left, or was never there.
    pub(crate) fn state(&self, uid: &str) -> Option<NodeState> {
        self.nodes.get(uid).or_else(|| self.lost.get(uid)).map(|node| node.state)
    }

    /// All servers, by name.
    pub(crate) fn view(&self, now: Instant) -> Vec<NodeView> {
        let view = |node: &Node| NodeView {
            info: node.info.clone(),
            state: node.state,
            heard_ms_ago: now.duration_since(node.heard).as_millis() as u64,
        };
        let mut all: Vec<_> = self.nodes.values().chain(self.lost.values()).map(view).collect();
        all.sort_by(|one, other| (&one.info.name, &one.info.uid).cmp(&(&other.info.name, &other.info.uid)));
        all
    }
}

impl Node {
    fn hear(&mut self, now: Instant) -> Option<Change> {
        let silent = now.duration_since(std::mem::replace(&mut self.heard, now));
        let was_stalled = std::mem::replace(&mut self.state, NodeState::Running) == NodeState::Stalled;
        was_stalled.then(|| Change { node: Label::of(&self.info), what: What::Resumed(silent) })
    }
}

impl Change {
    /// The line for the log, with what follows from the change.
    pub(crate) fn log(&self, others: usize) {
        let Self { node, what } = self;
        match what {
            What::Joined { version } => {
                log::info!("cluster: {node}, version {}, has joined; {others} other servers", version.escape_debug());
            }
            What::Returned(after) => {
                log::warn!(
                    "cluster: {node} is back after {after:.1?}; calls of the server API in that time may not have \
                     reached its clients; {others} other servers"
                );
            }
            What::Stalled(silent) => {
                log::warn!(
                    "cluster: {node} has sent nothing for {silent:.1?}; `channels` does not wait for it; it is removed \
                     after {LOST_AFTER:?}"
                );
            }
            What::Resumed(silent) => log::info!("cluster: {node} sends again after {silent:.1?}"),
            What::Lost(silent) => {
                log::warn!(
                    "cluster: {node} has sent nothing for {silent:.1?} and is removed; `info` and `channels` are \
                     without it; {others} other servers"
                );
            }
            What::Left => log::info!("cluster: {node} has left; {others} other servers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::view::NodeMetrics;

    fn node(uid: &str) -> NodeInfo {
        NodeInfo { uid: uid.into(), name: format!("name-{uid}"), ..NodeInfo::default() }
    }

    fn changes(table: &mut NodeTable, now: Instant) -> Vec<What> {
        table.check(now).0.into_iter().map(|change| change.what).collect()
    }

    /// Checks every 250 ms, as the cluster does.
    fn pass(table: &mut NodeTable, now: &mut Instant, time: Duration) -> Vec<What> {
        let end = *now + time;
        let mut all = Vec::new();
        while *now < end {
            *now += Duration::from_millis(250);
            all.extend(changes(table, *now));
        }
        all
    }

    #[test]
    fn server_stalls_is_lost_and_returns() {
        let mut now = Instant::now();
        let mut table = NodeTable::new(now);
        let joined = table.announced(node("a"), now).unwrap().expect("it is new");
        assert_eq!(joined.what, What::Joined { version: String::new() });
        assert!(table.announced(node("a"), now).unwrap().is_none());
        assert_eq!(pass(&mut table, &mut now, Duration::from_secs(4)), []);
        assert_eq!(pass(&mut table, &mut now, Duration::from_secs(2)), [What::Stalled(STALLED_AFTER)]);
        assert_eq!(table.state("a"), Some(NodeState::Stalled));
        let resumed = table.heard("a", now).expect("it was stalled");
        assert_eq!((resumed.what, table.state("a")), (What::Resumed(Duration::from_secs(6)), Some(NodeState::Running)));
        let lost = pass(&mut table, &mut now, Duration::from_secs(8));
        assert_eq!(lost, [What::Stalled(STALLED_AFTER), What::Lost(LOST_AFTER)]);
        assert_eq!((table.len(), table.state("a")), (0, Some(NodeState::Lost)));
        assert!(table.heard("a", now).is_none(), "only an announcement brings it back");
        let returned = table.announced(node("a"), now).unwrap().expect("it was lost");
        assert_eq!(returned.what, What::Returned(Duration::from_secs(8)));
        assert_eq!(table.left("a").map(|change| change.what), Some(What::Left));
        assert_eq!((table.state("a"), table.left("a")), (None, None));
    }

    #[test]
    fn pause_of_this_process_does_not_lose_the_others() {
        let mut now = Instant::now();
        let mut table = NodeTable::new(now);
        table.announced(node("a"), now).unwrap();
        now += Duration::from_secs(60);
        let (changes, pause) = table.check(now);
        assert_eq!((changes, pause), (Vec::new(), Some(Duration::from_secs(60))));
        assert_eq!(pass(&mut table, &mut now, Duration::from_secs(5)).len(), 1, "it stalls only now");
    }

    #[test]
    fn metrics_stay_until_others_come() {
        let now = Instant::now();
        let mut table = NodeTable::new(now);
        let metrics = Some(NodeMetrics { interval_s: 60.0, ..NodeMetrics::default() });
        table.announced(NodeInfo { metrics: metrics.clone(), ..node("a") }, now).unwrap();
        table.announced(NodeInfo { clients: 5, ..node("a") }, now).unwrap();
        let view = table.view(now);
        assert_eq!((&view[0].info.metrics, view[0].info.clients), (&metrics, 5));
    }

    #[test]
    fn table_and_the_list_of_lost_servers_are_bounded() {
        let mut now = Instant::now();
        let mut table = NodeTable::new(now);
        for number in 0..NODES_MAX {
            assert!(table.announced(node(&number.to_string()), now).is_ok());
        }
        assert!(table.announced(node("one more"), now).is_err());
        pass(&mut table, &mut now, Duration::from_secs(8));
        assert_eq!((table.len(), table.lost.len()), (0, LOST_MAX));
        pass(&mut table, &mut now, FORGET_AFTER);
        assert!(table.lost.is_empty());
    }

    #[test]
    fn names_of_other_servers_do_not_break_log_lines() {
        let label = Label::of(&NodeInfo { name: "a\nerror".into(), uid: "u".into(), ..NodeInfo::default() });
        assert_eq!(label.to_string(), "a\\nerror (u)");
    }
}
