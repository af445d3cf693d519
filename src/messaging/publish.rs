//! A client's publication: may it, in what form, and its way to the channel's home.

use std::borrow::Cow;

use super::arena::{Terms, Who};
use super::commands::Done;
use super::home_shard::has_room;
use super::mail::ReplyTo;
use super::proxy_calls::{Reason, Waits};
use super::{Mail, Messaging};
use crate::auth::grant;
use crate::backend::call::Question;
use crate::config::DataFormat;
use crate::engine::Context;
use crate::ids::ConnId;
use crate::protocol::{Encoding, ErrorCode};

impl Messaging {
    pub(crate) fn publish(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        channel: &str,
        data: &[u8],
    ) -> Done {
        let namespace = match self.checked(channel) {
            Ok(namespace) => namespace,
            Err(error) => return self.refuse(cx, conn, id, error),
        };
        let session = &self.sessions[conn.index()];
        let json = session.encoding == Encoding::Json;
        if !fits(data, namespace.publication_data_format, json) {
            return self.refuse(cx, conn, id, ErrorCode::BadRequest);
        }
        if let Some(proxy) = namespace.publish_proxy {
            let question = Question::Publish { channel: channel.to_owned(), data: data.to_vec() };
            let waits = Waits {
                id,
                raw: Box::default(),
                reason: Reason::Publish { channel: channel.into(), data: data.into() },
            };
            return self.call(cx, conn, proxy, question, waits);
        }
        let subscribed = namespace.allow_publish_for_subscriber && self.subscription(conn, channel).is_some();
        if !self.may_publish(session, namespace, subscribed) {
            return self.refuse(cx, conn, id, ErrorCode::PermissionDenied);
        }
        let delta = namespace.delta_publish;
        let terms = if delta { Some(Terms { delta, ..Terms::default() }) } else { None };
        self.send_home(cx, ReplyTo { conn, id }, channel, data, terms, json)
    }

    /// The backend has allowed it, and may have changed it.
    pub(crate) fn publish_granted(
        &mut self,
        cx: &mut Context<Mail>,
        reply_to: ReplyTo,
        channel: &str,
        data: &[u8],
        publish: &grant::Publish,
    ) -> Done {
        let own = publish.data.is_empty();
        let json = own && self.session(reply_to.conn).encoding == Encoding::Json;
        let data = if own { data } else { &publish.data };
        self.send_home(cx, reply_to, channel, data, Some(Terms::of(publish)), json)
    }

    fn send_home(
        &mut self,
        cx: &mut Context<Mail>,
        reply_to: ReplyTo,
        channel: &str,
        data: &[u8],
        terms: Option<Terms<'_>>,
        json: bool,
    ) -> Done {
        let home = self.home_of(channel);
        if !has_room(cx, home) || self.twin_is_full() {
            return Done::NoRoom;
        }
        let session = &self.sessions[reply_to.conn.index()];
        let detail = self.subscription(reply_to.conn, channel).and_then(|sub| self.feeds.get(sub).detail());
        let chan_info = detail.map_or(&[][..], |detail| &detail.info);
        let who = Who {
            client: session.client,
            user: session.user(),
            conn_info: session.identity.as_ref().map_or(&[], |identity| &identity.info),
            chan_info,
        };
        let channel = cx.mail.put(home, channel.as_bytes());
        let data = cx.mail.put(home, data);
        let who = cx.mail.put_with(home, |out| who.pack(out));
        let terms = terms.map_or_else(Default::default, |terms| cx.mail.put_with(home, |out| terms.pack(out)));
        self.session(reply_to.conn).owed += 1;
        cx.mail.post(home, Mail::Publish { channel, data, who, terms, reply_to, json });
        Done::Yes
    }
}

/// Whether data is what the namespace wants. `json`: it is known to be JSON.
pub(crate) fn fits(data: &[u8], format: DataFormat, json: bool) -> bool {
    let json = || json || is_json(data);
    match format {
        DataFormat::Binary => true,
        _ if data.is_empty() => false,
        DataFormat::Any => true,
        DataFormat::Json => json(),
        DataFormat::JsonObject => json() && data.trim_ascii_start().first() == Some(&b'{'),
    }
}

pub(crate) fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
}

/// JSON on one line, as it may stand in a frame of lines. A line break in it is whitespace between tokens (RFC 8259, section
/// 2), so a blank serves as well.
pub(crate) fn one_line(data: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\n', b'\r', data).is_none() {
        return Cow::Borrowed(data);
    }
    Cow::Owned(data.iter().map(|&byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_held_against_the_format() {
        for (data, format, fit) in [
            (&b"{}"[..], DataFormat::JsonObject, true),
            (b" {\"a\":1}", DataFormat::JsonObject, true),
            (b"[1]", DataFormat::JsonObject, false),
            (b"[1]", DataFormat::Json, true),
            (b"\x01", DataFormat::Json, false),
            (b"\x01", DataFormat::Any, true),
            (b"", DataFormat::Any, false),
            (b"", DataFormat::Binary, true),
        ] {
            assert_eq!(fits(data, format, false), fit, "{data:?} {format:?}");
        }
    }
}
