//! What each node delivered and lost, and how its clients went on after failures.
//!
//! A publication is lost for a subscriber if the server acknowledged it and the subscriber never got it. Without reconnects every
//! publication must arrive, so each counts as acknowledged. One without an answer may also arrive late, because a server that was
//! slow may still carry it out. A loss counts for the node whose delivery skipped it; at the end of a
//! channel, for the node of the subscriber.

use super::{DELIVERY_FAULTS, Traffic};
use crate::engine::workers::Finished;
use crate::report::Report;
use crate::report::figures::whole;
use crate::scenarios::delivery_check::DeliveryFaults;
use crate::scenarios::fanout::Fanout;
use crate::scenarios::fanout_plan::Plan;
use crate::scenarios::node_figures::NodeFigures;
use crate::scenarios::publisher::Publisher;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Lost publications of a node that the report names.
const NAMED_MAX: usize = 5;

/// A publication: its channel, publisher and number.
type Key = (usize, u8, u32);

#[derive(Default)]
struct Node {
    figures: NodeFigures,
    faults: DeliveryFaults,
    /// Subscribers at the end of the run.
    subscribers: u64,
    /// Deliveries of acknowledged publications after a later one.
    reordered: u64,
    /// Lost deliveries, and their publications.
    lost: u64,
    publications: BTreeSet<Key>,
}

impl Node {
    fn lose(&mut self, key: Key) {
        self.lost += 1;
        self.publications.insert(key);
    }

    fn lost_text(&self, plan: &Plan) -> String {
        let name = |(channel, publisher, seq): &Key| match plan.publishers_of[*channel] {
            1 => format!("{} number {seq}", plan.channels[*channel]),
            _ => format!("{} number {seq} of publisher {publisher}", plan.channels[*channel]),
        };
        let named: Vec<String> = self.publications.iter().take(NAMED_MAX).map(name).collect();
        let more = self.publications.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} publications, the first in {}{more}", self.publications.len(), named.join(", "))
    }

    fn json(&self, url: &str) -> Value {
        let (figures, faults) = (&self.figures, &self.faults);
        json!({
            "url": url, "subscribers": self.subscribers, "deliveries": figures.deliveries, "lost": self.lost,
            "recovered_deliveries": figures.missed.len(),
            "lost_publications": self.publications.len(), "duplicates": faults.duplicates,
            "reordered": self.reordered, "strange": faults.unknown, "closes": figures.closes,
            "unsubscribes": figures.unsubscribes, "silent": figures.silent, "failed_attempts": figures.failed,
            "recovered": figures.recovered, "not_recovered": figures.not_recovered, "ended": figures.ended,
            "away_ms_max": crate::report::figures::round(figures.away.max_micros() / 1e3),
        })
    }

    fn text(&self) -> String {
        let counted = [
            (self.figures.deliveries, "deliveries"),
            (self.lost, "lost"),
            (self.faults.duplicates, "duplicated"),
            (self.reordered, "out of order"),
        ];
        let counted = counted.map(|(n, what)| format!("{} {what}", whole(n as f64))).join(", ");
        format!("{} subscribers: {counted}", whole(self.subscribers as f64))
    }
}

/// What happened to connections; `None`: nothing.
fn failures_text(figures: &NodeFigures) -> Option<String> {
    let codes = |all: &BTreeMap<u64, u64>, what: &str| {
        all.iter().map(|(code, n)| format!("{} {what} {code}", whole(*n as f64))).collect::<Vec<_>>()
    };
    let closes = figures.closes.iter().map(|(code, n)| (u64::from(*code), *n)).collect();
    let mut parts = [codes(&closes, "closed with"), codes(&figures.unsubscribes, "unsubscribed with")].concat();
    let counted = [
        (figures.silent, "of them silent"),
        (figures.failed, "failed attempts"),
        (figures.recovered, "recovered: true"),
        (figures.not_recovered, "recovered: false"),
    ];
    parts.extend(counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", whole(*n as f64))));
    if !figures.away.is_empty() {
        parts.push(format!("back within {:.1} s", figures.away.max_micros() / 1e6));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Adds the figures of all workers; the last node is that of the publishers.
fn collect(plan: &Plan, scenarios: &[Fanout]) -> Vec<Node> {
    let mut nodes: Vec<Node> = std::iter::repeat_with(Node::default).take(plan.targets.len() + 1).collect();
    let publisher = scenarios.iter().find_map(|scenario| scenario.publisher.as_ref());
    for scenario in scenarios {
        for (node, figures) in nodes.iter_mut().zip(&scenario.times.figures) {
            node.figures.merge(figures);
        }
        for (node, faults) in nodes.iter_mut().zip(&scenario.checker.faults) {
            node.faults = [node.faults, *faults].into_iter().sum();
        }
        scenario.nodes().for_each(|node| nodes[usize::from(node)].subscribers += 1);
        if let Some(publisher) = publisher {
            add_faults(&mut nodes, plan, scenario, publisher);
        }
    }
    nodes
}

fn add_faults(nodes: &mut [Node], plan: &Plan, scenario: &Fanout, publisher: &Publisher) {
    let is_due = |(channel, by, seq): Key| {
        publisher.answers.as_ref().is_none_or(|answers| answers.is_acknowledged(channel, by, seq))
    };
    let subscriptions: Vec<(usize, u8)> = scenario
        .probes()
        .flat_map(|(number, node)| plan.subscriptions.of(number).into_iter().map(move |channel| (channel, node)))
        .collect();
    for (subscription, by, seq, node) in scenario.checker.gaps() {
        let key = (subscriptions[subscription].0, by, seq);
        if is_due(key) {
            nodes[usize::from(node)].lose(key);
        }
    }
    for (subscription, by, seq, node) in scenario.checker.late() {
        nodes[usize::from(node)].reordered += u64::from(is_due((subscriptions[subscription].0, by, seq)));
    }
    for (subscription, &(channel, node)) in subscriptions.iter().enumerate() {
        for by in (0..plan.publishers_of[channel]).map(|by| by as u8) {
            let behind = scenario.checker.next(subscription, by)..publisher.sequencer.published_by(channel, by);
            behind
                .map(|seq| (channel, by, seq))
                .filter(|key| is_due(*key))
                .for_each(|key| nodes[usize::from(node)].lose(key));
        }
    }
}

/// Reports the nodes if there are several, or if clients reconnect.
pub fn report_nodes(report: &mut Report, plan: &Plan, urls: &[String], traffic: &Traffic<Fanout>) {
    let scenarios = &traffic.finished.scenarios;
    report.nodes(urls);
    if plan.targets.len() == 1 && plan.reconnects.is_none() {
        return;
    }
    let mut nodes = collect(plan, scenarios);
    let publishers = nodes.pop().unwrap_or_default();
    report.set("nodes", nodes.iter().zip(urls).map(|(node, url)| node.json(url)).collect::<Vec<_>>());
    for ((number, node), url) in (1..).zip(&nodes).zip(urls) {
        report.row(&format!("node {number}"), node.text());
        failures_text(&node.figures).into_iter().for_each(|text| report.row("", text));
        if plan.targets.len() > 1 {
            let label = format!("latency at node {number}");
            report.latency(&format!("node{number}_latency_us"), &label, &node.figures.latency);
        }
        if node.lost > 0 {
            report.row("", format!("lost: {}", node.lost_text(plan)));
            report.void(format!("node {number} ({url}) lost {} deliveries of {}", node.lost, node.lost_text(plan)));
        }
        for (n, what) in [(node.faults.duplicates, "duplicates"), (node.reordered, "deliveries out of order")] {
            if n > 0 {
                report.void(format!("node {number} ({url}) made {n} {what}"));
            }
        }
    }
    report_reconnects(report, &nodes, &publishers.figures, traffic);
}

/// Publications by their answers, and how clients went on.
fn report_reconnects(report: &mut Report, nodes: &[Node], publishers: &NodeFigures, traffic: &Traffic<Fanout>) {
    let Finished { scenarios, results, .. } = &traffic.finished;
    let publisher = scenarios.iter().find_map(|scenario| scenario.publisher.as_ref());
    let Some((publisher, answers)) = publisher.and_then(|one| Some((one, one.answers.as_ref()?))) else { return };
    let sum = |read: fn(&Node) -> u64| nodes.iter().map(read).sum::<u64>();
    let lost = sum(|node| node.lost);
    report.set("lost", lost);
    report.set("duplicates", sum(|node| node.faults.duplicates));
    report.set("reordered", sum(|node| node.reordered));
    for (name, what) in
        DELIVERY_FAULTS.iter().filter(|(name, _)| ["strange", "held_back", "disagreeing"].contains(name))
    {
        // With lost deliveries the orders cannot agree.
        let n = if *name == "disagreeing" && lost > 0 { 0 } else { results.count(name) };
        report.fault(name, n, what);
    }
    report.first_error(results);
    let mut all = publishers.clone();
    nodes.iter().for_each(|node| all.merge(&node.figures));
    report.latency("missed_us", "age of recovered deliveries", &all.missed);
    report.latency("away_us", "from close to recovery", &all.away);
    report.set("recovered", all.recovered);
    report.set("not_recovered", all.not_recovered);
    let (accepted, refused, unsent) = (answers.accepted, answers.refused, answers.unsent);
    let in_doubt = publisher.sequencer.published_in_all() - accepted - refused - unsent;
    let counts = [(accepted, "acknowledged"), (refused, "refused"), (in_doubt, "in doubt"), (unsent, "not sent")];
    report.row("publications", counts.map(|(n, what)| format!("{} {what}", whole(n as f64))).join(", "));
    report.set("refused", refused);
    report.set("acknowledged", accepted);
    report.set("in_doubt", in_doubt);
    report.set("unsent", unsent);
    failures_text(publishers).into_iter().for_each(|text| report.row("", text));
    if accepted == 0 {
        report.void("no publication was acknowledged");
    }
    report.fault("not_back", traffic.away, "clients were not connected and subscribed again at the end");
    report.fault("ended", all.ended, "clients were closed with a code after which SDKs do not reconnect");
}
