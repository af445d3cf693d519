//! Messages from Redis on their way to the home shards and to the cluster.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::events::EventSink;
use super::messages;
use super::names::Names;
use super::payload::{self, Payload, WirePosition};
use super::service::ServiceChannels;
use super::subscriptions::{Delivery, Subscriptions};
use crate::broker::message::Event;
use crate::broker::stats::{ConnectionStats, add};
use crate::pubsub::{Epoch, Position};

pub(super) struct Receiver {
    names: Names,
    service: ServiceChannels,
    control: Option<Sender<Vec<u8>>>,
    events: EventSink,
    stats: Arc<ConnectionStats>,
    /// The epoch of the last publication: most are of the same one.
    last_epoch: (String, Epoch),
}

impl Receiver {
    pub(super) fn new(
        names: Names,
        service: ServiceChannels,
        control: Option<Sender<Vec<u8>>>,
        events: EventSink,
        stats: Arc<ConnectionStats>,
    ) -> Self {
        Self { names, service, control, events, stats, last_epoch: Default::default() }
    }

    /// A message. `name` is the PUB/SUB channel.
    pub(super) fn take(&mut self, name: &[u8], payload: Bytes, subscriptions: &mut Subscriptions) {
        let Some(channel) = self.names.channel_of(name) else { return self.take_service(name, payload) };
        let Some(delivery) = subscriptions.subscriber(channel) else { return };
        let Some(event) = self.event(channel, payload) else { return add(&self.stats.malformed, 1) };
        let (Delivery::Now(subscriber) | Delivery::AfterGap(subscriber)) = delivery;
        if !self.events.has_room(subscriber.from) {
            add(&self.stats.dropped, 1);
            return subscriptions.set_lagging(channel);
        }
        if matches!(delivery, Delivery::AfterGap(_)) {
            subscriptions.clear_lagging(channel);
            let serial = subscriber.serial;
            self.events.push(subscriber.from, Event::Subscribed { channel: channel.into(), serial });
        }
        self.events.push(subscriber.from, event);
    }

    fn take_service(&mut self, name: &[u8], payload: Bytes) {
        if self.service.probes.iter().any(|probe| probe.as_bytes() == name) {
            return self.stats.set_probed();
        }
        let is_control = self.service.control.iter().any(|channel| channel.as_bytes() == name);
        let Some(control) = self.control.as_ref().filter(|_| is_control) else { return };
        if control.try_send(payload.into()).is_err() {
            add(&self.stats.dropped, 1);
        }
    }

    fn event(&mut self, channel: &str, payload: Bytes) -> Option<Event> {
        let join_leave = |is_join, info| {
            let client_info = messages::read_client_info(info)?;
            Some(Event::JoinLeave { channel: channel.into(), is_join, client_info })
        };
        match payload::parse(payload)? {
            Payload::Join(info) => join_leave(true, info),
            Payload::Leave(info) => join_leave(false, info),
            Payload::Publication { position, message } => {
                let WirePosition { offset, epoch } =
                    position.unwrap_or(WirePosition { offset: 0, epoch: String::new() });
                let read = messages::read_publication(message, offset)?;
                if read.is_client_lost {
                    add(&self.stats.malformed, 1);
                }
                let offset = read.record.offset;
                let position = match offset {
                    0 => None,
                    _ => Some(Position { epoch: self.epoch(read.epoch.unwrap_or(epoch))?, offset }),
                };
                Some(Event::Publication { channel: channel.into(), record: read.record, position })
            }
        }
    }

    fn epoch(&mut self, text: String) -> Option<Epoch> {
        if self.last_epoch.0 != text {
            let epoch = Epoch::from_broker(&text)?;
            self.last_epoch = (text, epoch);
        }
        Some(self.last_epoch.1)
    }
}
