//! What every method does, whatever front-end read the call: check it, ask the shards, say what came of it.
//!
//! Publications of one call are under way together: those of one channel keep their order, since the shards are asked
//! in the order of the call, and between channels there is none to keep.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use data_encoding::BASE64;

use super::call::{self, Beyond, Call, Payload, Text};
use super::in_flight::{self, Places, Window};
use super::shard_api::{AskError, Asked, ShardApi, Stats};
use crate::admin::{Settings, VERSION};
use crate::auth::grant::{RefreshGrant, SubscribeGrant};
use crate::auth::{self, grant};
use crate::messaging::control_request::{History, HistoryQuery, Member, Place, Who};
use crate::protocol::{self, ErrorCode};
use crate::ws::CLOSE_REASON_BYTES_MAX;

/// Codes with which the API may close a connection: the dialect's own, and the applications'.
const DISCONNECT_CODES: std::ops::RangeInclusive<u32> = 3000..=4999;

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Publish(Option<Place>),
    Broadcast(Vec<Asked<Option<Place>>>),
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Presence(Vec<Member>),
    PresenceStats(Stats),
    History(History),
    HistoryRemove,
    Channels(BTreeMap<Box<str>, u32>),
    Info(Info),
}

/// This server in numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Info {
    pub uid: String,
    pub name: String,
    pub version: &'static str,
    pub clients: u32,
    pub users: u32,
    pub channels: u32,
    pub subscriptions: u32,
    pub uptime_s: u32,
}

/// What every call has at hand.
pub struct Calls<F> {
    pub fleet: F,
    places: Places,
    bounds: Bounds,
    uid: String,
    name: String,
    began: Instant,
}

/// What a publication may look like.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Bytes of a channel's name.
    channel_bytes_max: usize,
    /// Bytes of the data.
    data_bytes_max: usize,
}

impl<F: ShardApi> Calls<F> {
    pub fn new(fleet: F, settings: &Settings) -> Self {
        let Settings { channel_bytes_max, data_bytes_max, uid, name, .. } = settings.clone();
        let bounds = Bounds { channel_bytes_max, data_bytes_max };
        Self { fleet, places: Places::default(), bounds, uid, name, began: Instant::now() }
    }

    pub async fn call(&self, call: &Call<'_>) -> Asked<Outcome> {
        match call {
            Call::Publish(publish) => self.publish(publish).await.map(Outcome::Publish),
            // The others are rare: what they keep while they wait shall not be the publications' to carry.
            other => Box::pin(self.other(other)).await,
        }
    }

    async fn other(&self, call: &Call<'_>) -> Asked<Outcome> {
        let fleet = &self.fleet;
        match call {
            Call::Publish(publish) => self.publish(publish).await.map(Outcome::Publish),
            Call::Broadcast(publish) => self.broadcast(publish).await.map(Outcome::Broadcast),
            Call::Subscribe(subscribe) => self.subscribe(subscribe).await,
            Call::Unsubscribe(request) => self.unsubscribe(request).await,
            Call::Disconnect(request) => self.disconnect(request).await,
            Call::Refresh(request) => self.refresh(request).await,
            Call::Presence(of) => Ok(Outcome::Presence(fleet.presence(self.channel(&of.channel)?).await?)),
            Call::PresenceStats(of) => {
                Ok(Outcome::PresenceStats(fleet.presence_stats(self.channel(&of.channel)?).await?))
            }
            Call::History(request) => {
                let channel = self.channel(&request.channel)?;
                let since = request.since.as_ref().map(place);
                let query = HistoryQuery { limit: request.limit, since, reverse: request.reverse };
                Ok(Outcome::History(fleet.history(channel, query).await?))
            }
            Call::HistoryRemove(of) => {
                fleet.history_remove(self.channel(&of.channel)?).await?;
                Ok(Outcome::HistoryRemove)
            }
            Call::Channels(request) if auth::glob(&request.pattern).is_none() => Err(bad("`pattern` is no glob")),
            Call::Channels(request) => Ok(Outcome::Channels(fleet.channels(&request.pattern).await?)),
            Call::Info => self.info().await.map(Outcome::Info),
            Call::Rpc(request) if request.method.is_empty() => Err(bad("`method` is missing")),
            // The dialect has this method for extensions that are compiled in, and there are none.
            Call::Rpc(_) => Err(ErrorCode::MethodNotFound.into()),
        }
    }

    /// One outcome per call, in the order of the calls. Where they need not wait for one another, all kinds are under
    /// way together, and else only publications that follow one another.
    pub async fn batch(&self, calls: &[Asked<Call<'_>>], parallel: bool) -> Vec<Asked<Outcome>> {
        let mut window = Window::new(calls.len());
        for call in calls {
            let begun = match call {
                Err(error) => Begun::Done(Err(error.clone())),
                Ok(Call::Publish(publish)) => {
                    let place = window.place(&self.places).await;
                    Begun::Publish(self.begin(&publish.channel, self.granted(publish), place))
                }
                // A broadcast waits for places of its own.
                Ok(other) if parallel && !matches!(other, Call::Broadcast(_)) => begin(self.other(other)),
                Ok(other) => {
                    window.drain().await;
                    Begun::Done(Box::pin(self.other(other)).await)
                }
            };
            window.push(outcome(begun)).await;
        }
        window.finish().await
    }

    async fn publish(&self, publish: &call::Publish<'_>) -> Asked<Option<Place>> {
        if publish.channel.is_empty() && !publish.channels.is_empty() {
            return Err(bad("`channels` belongs to broadcast, publish takes `channel`"));
        }
        let granted = self.granted(publish);
        self.begin(&publish.channel, granted, self.places.wait().await)?.await
    }

    async fn broadcast(&self, publish: &call::Publish<'_>) -> Asked<Vec<Asked<Option<Place>>>> {
        if publish.channels.is_empty() {
            return Err(match publish.channel.is_empty() {
                true => bad("`channels` is missing or empty"),
                false => bad("`channel` belongs to publish, broadcast takes `channels`"),
            });
        }
        let granted = self.granted(publish)?;
        let mut window = Window::new(publish.channels.len());
        for channel in &publish.channels {
            let place = window.place(&self.places).await;
            window.push(answer(self.begin(channel, Ok(granted.clone()), place))).await;
        }
        Ok(window.finish().await)
    }

    /// Has the channel's home asked before it returns; the future only waits, and holds its place until then.
    fn begin<'a>(
        &'a self,
        channel: &'a str,
        publish: Asked<grant::Publish>,
        place: Asked<in_flight::Place<'a>>,
    ) -> Asked<impl Future<Output = Asked<Option<Place>>> + Send + use<'a, F>> {
        let (channel, publish, place) = (self.channel(channel)?, publish?, place?);
        let asked = self.fleet.publish(channel, publish);
        Ok(async move {
            let answer = asked.await;
            drop(place);
            answer
        })
    }

    fn granted(&self, publish: &call::Publish<'_>) -> Asked<grant::Publish> {
        let data = match (&publish.data.0, publish.b64data.is_empty()) {
            (Some(data), false) if &**data != b"null" => {
                return Err(bad("`data` and `b64data` exclude each other"));
            }
            (Some(data), true) => data.to_vec(),
            (_, false) => base64("b64data", &publish.b64data)?,
            (None, true) => return Err(bad("`data` is missing")),
        };
        if data.len() > self.bounds.data_bytes_max {
            return Err(bad(format!("the data is longer than {} bytes", self.bounds.data_bytes_max)));
        }
        Ok(grant::Publish {
            data,
            tags: publish.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            skip_history: publish.skip_history,
            idempotency_key: publish.idempotency_key.to_string(),
            delta: publish.delta,
            version: publish.version,
            version_epoch: publish.version_epoch.to_string(),
        })
    }

    async fn subscribe(&self, request: &call::Subscribe<'_>) -> Asked<Outcome> {
        let (who, since) =
            (who(&request.user, &request.client, &request.session), request.recover_since.as_ref().map(place));
        only_here(request.label_filter, request.all_users)?;
        let channel = self.channel(&request.channel)?;
        let call::Overrides { presence, join_leave, force_recovery, force_positioning, force_push_join_leave } =
            request.overrides;
        let on = |switch: Option<call::Switch>| switch.map(|switch| switch.value);
        let grant = SubscribeGrant {
            info: either("info", &request.info, "b64info", &request.b64info)?,
            data: either("data", &request.data, "b64data", &request.b64data)?,
            expire_at: expire_at(request.expire_at)?,
            overrides: grant::Overrides {
                presence: on(presence),
                join_leave: on(join_leave),
                force_recovery: on(force_recovery),
                force_positioning: on(force_positioning),
                force_push_join_leave: on(force_push_join_leave),
            },
        };
        self.fleet.subscribe(who, channel, grant, since).await?;
        Ok(Outcome::Subscribe)
    }

    async fn unsubscribe(&self, request: &call::Unsubscribe<'_>) -> Asked<Outcome> {
        only_here(request.label_filter, request.all_users)?;
        let channel = if request.channel.is_empty() { "" } else { self.channel(&request.channel)? };
        self.fleet.unsubscribe(who(&request.user, &request.client, &request.session), channel).await?;
        Ok(Outcome::Unsubscribe)
    }

    async fn disconnect(&self, request: &call::Disconnect<'_>) -> Asked<Outcome> {
        only_here(request.label_filter, request.all_users)?;
        let forced = protocol::Disconnect::ForceDisconnect;
        let (code, reason) = match &request.disconnect {
            Some(call::Farewell { code, reason }) if *code > 0 || !reason.is_empty() => (*code, &**reason),
            _ => (u32::from(forced.code()), forced.reason()),
        };
        let code = u16::try_from(code).ok().filter(|_| DISCONNECT_CODES.contains(&code));
        let code = code.ok_or_else(|| {
            bad(format!("`disconnect.code` is not within {} to {}", DISCONNECT_CODES.start(), DISCONNECT_CODES.end()))
        })?;
        if reason.len() > CLOSE_REASON_BYTES_MAX {
            return Err(bad(format!("`disconnect.reason` is longer than {CLOSE_REASON_BYTES_MAX} bytes")));
        }
        let spared = request.whitelist.iter().map(|client| (**client).into()).collect();
        let who = who(&request.user, &request.client, &request.session);
        self.fleet.disconnect(who, spared, code, reason).await?;
        Ok(Outcome::Disconnect)
    }

    async fn refresh(&self, request: &call::Refresh<'_>) -> Asked<Outcome> {
        only_here(request.label_filter, request.all_users)?;
        let renewal = RefreshGrant {
            expired: request.expired,
            expire_at: expire_at(request.expire_at)?,
            info: request.info.or_nothing().to_vec(),
            meta: Vec::new(),
        };
        self.fleet.refresh(who(&request.user, &request.client, &request.session), renewal).await?;
        Ok(Outcome::Refresh)
    }

    async fn info(&self) -> Asked<Info> {
        // Both are asked before either is waited for.
        let (users, snapshots) = (self.fleet.users(), self.fleet.snapshots());
        let (snapshots, users) = (snapshots.await, users.await?);
        let sum = |of: fn(&crate::engine::stats::Snapshot) -> u64| count(snapshots.iter().map(of).sum());
        Ok(Info {
            uid: self.uid.clone(),
            name: self.name.clone(),
            version: VERSION,
            clients: sum(|snapshot| snapshot.connections),
            users: count(users as u64),
            channels: sum(|snapshot| snapshot.channels),
            subscriptions: sum(|snapshot| snapshot.subscriptions),
            uptime_s: count(self.began.elapsed().as_secs()),
        })
    }

    /// A name that the shards may be asked about.
    fn channel<'a>(&self, name: &'a str) -> Asked<&'a str> {
        let bytes_max = self.bounds.channel_bytes_max;
        match name {
            "" => Err(bad("`channel` is missing or empty")),
            _ if name.len() > bytes_max => Err(bad(format!("the channel's name is longer than {bytes_max} bytes"))),
            _ if !name.is_ascii() => Err(bad("the channel's name is not ASCII")),
            _ => Ok(name),
        }
    }
}

/// A call of a batch, under way.
enum Begun<'a, W> {
    Publish(Asked<W>),
    Other(Pin<Box<dyn Future<Output = Asked<Outcome>> + Send + 'a>>),
    Done(Asked<Outcome>),
}

async fn outcome<W: Future<Output = Asked<Option<Place>>>>(begun: Begun<'_, W>) -> Asked<Outcome> {
    match begun {
        Begun::Publish(asked) => answer(asked).await.map(Outcome::Publish),
        Begun::Other(other) => other.await,
        Begun::Done(outcome) => outcome,
    }
}

async fn answer<W: Future<Output = Asked<T>>, T>(asked: Asked<W>) -> Asked<T> {
    asked?.await
}

/// As far as it goes without waiting, which is until the shards were asked.
fn begin<'a, W>(call: impl Future<Output = Asked<Outcome>> + Send + 'a) -> Begun<'a, W> {
    let mut call: Pin<Box<dyn Future<Output = Asked<Outcome>> + Send + 'a>> = Box::pin(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Begun::Done(outcome),
        Poll::Pending => Begun::Other(call),
    }
}

fn bad(what: impl Into<Cow<'static, str>>) -> AskError {
    AskError::BadRequest(what.into())
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn who(user: &str, client: &str, session: &str) -> Who {
    Who { user: user.into(), client: client.into(), session: session.into() }
}

fn place(since: &call::Since<'_>) -> Place {
    Place { offset: since.offset, epoch: (*since.epoch).into() }
}

/// Whom a call means is never widened silently: what would choose among connections otherwise is refused by name.
fn only_here(label_filter: Option<Beyond>, all_users: bool) -> Asked<()> {
    let field = match (label_filter, all_users) {
        (Some(_), _) => "`label_filter`",
        (None, true) => "`all_users`",
        (None, false) => return Ok(()),
    };
    Err(AskError::NotAvailable(format!("{field} is not known here").into()))
}

/// Seconds since 1970; 0 is never.
fn expire_at(seconds: i64) -> Asked<Option<u64>> {
    let seconds = u64::try_from(seconds).map_err(|_| bad("`expire_at` is before 1970"))?;
    Ok((seconds > 0).then_some(seconds))
}

fn base64(name: &str, text: &Text<'_>) -> Asked<Vec<u8>> {
    BASE64.decode(text.as_bytes()).map_err(|error| bad(format!("`{name}` is not base64: {error}")))
}

/// A payload that may be left out, as it is or in base64, which is preferred.
fn either(name: &str, plain: &Payload<'_>, name64: &str, text: &Text<'_>) -> Asked<Vec<u8>> {
    match (plain.or_nothing(), text.is_empty()) {
        (plain, true) => Ok(plain.to_vec()),
        ([], false) => base64(name64, text),
        (_, false) => Err(bad(format!("`{name}` and `{name64}` exclude each other"))),
    }
}
