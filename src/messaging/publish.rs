//! A client's publication: is it permitted, in what format, do the hooks allow it, and its way to the channel's home
//! shard.

use super::arena;
use super::backend_calls::{self, reject_without_room};
use super::data_format::fits;
use super::hooks::{HookClient, Hooks, PublishDecision};
use super::mail::{Mail, ReplyTo, has_room};
use super::state::{CommandContext, Progress};
use crate::backend::call::{Answer, Question};
use crate::engine::mailbox::Span;
use crate::ids::ShardId;
use crate::protocol::{Body, Command, Encoding, ErrorCode, RawClientInfo, is_json};
use crate::pubsub::{Publication, PublishOptions};

/// The publish command.
pub(crate) fn publish(cx: &mut CommandContext<'_>, channel: &str, data: &[u8]) -> Progress {
    let state = &*cx.state;
    let namespace = match state.settings.checked_namespace(channel) {
        Ok(namespace) => namespace,
        Err(error) => return cx.reject(error),
    };
    let session = &state.sessions[cx.conn];
    let is_json = session.encoding == Encoding::Json;
    if !fits(data, namespace.publication_data_format, is_json) {
        return cx.reject(ErrorCode::BadRequest);
    }
    if let Some(proxy) = namespace.publish_proxy {
        let question = Question::Publish { channel: channel.to_owned(), data: data.to_vec() };
        return backend_calls::call(cx, proxy, question, publish_granted);
    }
    let subscribed = namespace.allow_publish_for_subscriber && state.subscription(cx.conn, channel).is_some();
    if !state.settings.may_publish(session, namespace, subscribed) {
        return cx.reject(ErrorCode::PermissionDenied);
    }
    let options = PublishOptions { use_delta: namespace.delta_publish, ..PublishOptions::default() };
    send_home(cx, &Publication { channel, data, is_json, options, ..Publication::default() })
}

/// The backend's answer to `Question::Publish`: it may have changed the publication.
fn publish_granted(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    let Answer::Publish(grant) = answer else { return backend_calls::reject(cx, answer) };
    let Some(Command { body: Body::Publish { channel, data, .. }, .. }) = cx.decode() else { return Progress::Ended };
    let mut tags = Vec::new();
    let mut publication = arena::granted(&channel, &grant, &mut tags);
    if grant.data.is_empty() {
        publication.data = data;
        publication.is_json = cx.session().encoding == Encoding::Json;
    }
    let progress = send_home(cx, &publication);
    reject_without_room(cx, progress)
}

/// Sends a publication, as the hooks allow it, to its channel's home shard, which replies.
fn send_home(cx: &mut CommandContext<'_>, publication: &Publication<'_>) -> Progress {
    let home = cx.state.home_of(publication.channel);
    if !has_room(cx.engine, home) || cx.state.is_handover_peer_full() {
        return Progress::NoRoom;
    }
    let Some(hooks) = &cx.state.settings.hooks else { return post_home(cx, home, publication) };
    match replacement(cx, &**hooks, publication) {
        Ok(None) => post_home(cx, home, publication),
        Ok(Some(data)) => {
            let is_json = cx.session().encoding == Encoding::Json;
            post_home(cx, home, &Publication { data: &data, is_json, ..*publication })
        }
        Err(error) => cx.reject(error),
    }
}

/// The data that a hook puts in the place of a publication's. Errors: the hook denies it, or returns data that this client
/// could not have published.
fn replacement(
    cx: &CommandContext<'_>,
    hooks: &dyn Hooks,
    publication: &Publication<'_>,
) -> Result<Option<Vec<u8>>, ErrorCode> {
    let Publication { channel, data, .. } = *publication;
    let session = &cx.state.sessions[cx.conn];
    let mut text = uuid::Uuid::encode_buffer();
    let data = match hooks.on_publish(&HookClient::new(&session.raw_info(), &mut text), channel, data) {
        PublishDecision::Accept => return Ok(None),
        PublishDecision::Deny => return Err(ErrorCode::PermissionDenied),
        PublishDecision::Replace(data) => data,
    };
    let format = cx.state.settings.namespace_of(channel)?.publication_data_format;
    let is_fit = data.len() <= cx.engine.config.message_bytes_max
        && fits(&data, format, false)
        && (session.encoding != Encoding::Json || is_json(&data));
    if is_fit { Ok(Some(data)) } else { Err(ErrorCode::Internal) }
}

#[inline]
fn post_home(cx: &mut CommandContext<'_>, home: ShardId, publication: &Publication<'_>) -> Progress {
    let CommandContext { state, engine, conn, id, .. } = cx;
    let Publication { channel, data, is_json, .. } = *publication;
    let session = &state.sessions[*conn];
    let subscription = state.subscription(*conn, channel).map(|sub| state.subscribers.get(sub));
    let detail = subscription.and_then(|subscription| subscription.detail());
    let info = RawClientInfo { chan_info: detail.map_or(&[][..], |detail| &detail.info), ..session.raw_info() };
    let channel = engine.mail.put(home, channel.as_bytes());
    let data = engine.mail.put(home, data);
    let client_info = engine.mail.put_with(home, |out| info.pack(out));
    let options = match arena::has_options(publication) {
        true => engine.mail.put_with(home, |out| arena::pack_options(publication, out)),
        false => Span::default(),
    };
    state.sessions[*conn].replies_owed += 1;
    let reply_to = ReplyTo { conn: *conn, id: *id };
    engine.mail.post(home, Mail::Publish { channel, data, client_info, options, reply_to, is_json });
    Progress::Done
}
