//! What the answer to a subscribe says, and how it is written: the publications that were recovered among it.

use std::borrow::Cow;

use super::arena::{Kept, Who, client_text};
use crate::protocol::delta_fits_json;
use crate::protocol::fossil;
use crate::protocol::{ClientInfo, Encoding, Expiry, Filter, JsonForm, SubscribeResult, WirePublication};
use crate::pubsub::{EpochText, Position, SubscriptionFlags};

#[derive(Default)]
pub(crate) struct Outcome {
    pub flags: SubscriptionFlags,
    /// Seconds since 1970; 0 is never.
    pub expire_at: u64,
    pub data: Box<[u8]>,
    pub delta: bool,
    pub was_recovering: bool,
    pub recovered: bool,
    pub position: Position,
    /// The offset as the client is told it: its own, where it was recovered from there.
    pub offset: u64,
    /// Packed publications.
    pub records: Box<[u8]>,
    /// Which of them the client wants.
    pub filter: Option<Filter>,
}

/// An outcome with its parts in the form that a reply borrows.
pub(crate) struct Texts<'a> {
    outcome: &'a Outcome,
    epoch: EpochText,
    kept: Vec<KeptText<'a>>,
}

/// A publication as one who recovers gets it.
pub(crate) struct KeptText<'a> {
    kept: Kept<'a>,
    data: Cow<'a, [u8]>,
    json_form: JsonForm,
    delta: bool,
    client: String,
    /// Of the channel, told with the first publication of all.
    epoch: Option<EpochText>,
}

impl<'a> KeptText<'a> {
    pub fn plain(kept: Kept<'a>, epoch: u32, encoding: Encoding) -> Self {
        let json = encoding != Encoding::Protobuf;
        let json_form = if json && !kept.json { JsonForm::Base64 } else { JsonForm::Value };
        let epoch = (kept.offset == 1).then(|| EpochText::of(epoch));
        Self { kept, data: Cow::Borrowed(kept.data), json_form, delta: false, client: client(&kept), epoch }
    }

    /// For a subscriber with deltas: the difference to `before`, where there is one and it is shorter.
    fn delta(kept: Kept<'a>, before: Option<&[u8]>, encoding: Encoding) -> Self {
        let json = encoding != Encoding::Protobuf;
        let json_form = if json { JsonForm::Text } else { JsonForm::Value };
        let mut difference = Vec::new();
        let made = before.is_some_and(|before| fossil::create(before, kept.data, &mut difference));
        let shorter = Some(difference).filter(|difference| made && (!json || delta_fits_json(difference)));
        let delta = shorter.is_some();
        let data = shorter.map_or(Cow::Borrowed(kept.data), Cow::Owned);
        Self { kept, data, json_form, delta, client: client(&kept), epoch: None }
    }

    pub fn publication(&self) -> WirePublication<'_> {
        let info = self.kept.who.map(Who::unpack).map(|who| ClientInfo {
            user: who.user,
            client: &self.client,
            conn_info: who.conn_info,
            chan_info: who.chan_info,
        });
        WirePublication {
            data: &self.data,
            json_form: self.json_form,
            info,
            offset: self.kept.offset,
            tags: self.kept.tags,
            delta: self.delta,
            version: self.kept.version,
            epoch: self.epoch.as_ref().map_or("", EpochText::as_str),
            ..WirePublication::default()
        }
    }
}

fn client(kept: &Kept<'_>) -> String {
    let mut text = uuid::Uuid::encode_buffer();
    kept.who.map(|who| client_text(Who::unpack(who).client, &mut text).to_owned()).unwrap_or_default()
}

impl Outcome {
    pub fn texts(&self, encoding: Encoding) -> Texts<'_> {
        let mut texts = Texts { outcome: self, epoch: EpochText::of(self.position.epoch), kept: Vec::new() };
        // Deltas are made against what came before, whether it was wanted or not.
        let all = self.delta || self.filter.is_none();
        let wanted = |kept: &Kept<'_>| all || self.filter.as_ref().is_some_and(|filter| filter.matches(kept.tags));
        let mut before: Option<&[u8]> = None;
        for kept in Kept::unpack_all(&self.records).filter(wanted) {
            texts.kept.push(match self.delta {
                true => KeptText::delta(kept, before, encoding),
                false => KeptText::plain(kept, self.position.epoch, encoding),
            });
            before = Some(kept.data);
        }
        texts
    }
}

impl Texts<'_> {
    pub fn publications(&self) -> Vec<WirePublication<'_>> {
        self.kept.iter().map(KeptText::publication).collect()
    }

    pub fn result<'s>(&'s self, now_s: u64, publications: &'s [WirePublication<'s>]) -> SubscribeResult<'s> {
        let outcome = self.outcome;
        let has = |flags| outcome.flags.intersects(flags);
        let ends_at = if has(SubscriptionFlags::CLIENT_REFRESH) { outcome.expire_at } else { 0 };
        SubscribeResult {
            expiry: Expiry::at(ends_at, now_s),
            recoverable: has(SubscriptionFlags::RECOVERABLE),
            epoch: if has(SubscriptionFlags::POSITIONED) { self.epoch.as_str() } else { "" },
            publications,
            recovered: outcome.recovered,
            offset: if has(SubscriptionFlags::POSITIONED) { outcome.offset } else { 0 },
            positioned: has(SubscriptionFlags::POSITIONED),
            data: &outcome.data,
            was_recovering: outcome.was_recovering,
            delta: outcome.delta,
        }
    }
}
