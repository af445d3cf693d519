//! Packed forms: what travels in a mail batch's arena, or is stored at the home shard, as one piece of bytes. They are written
//! and read here alone, so that `pubsub` and the mail treat them as bytes.
//!
//! Lengths are four bytes, little endian. Only bytes that this process packed are read: one that is too short is a bug.

use crate::auth::grant::Publish;
use crate::protocol::{Pieces, Tags, put};
use crate::pubsub::{Publication, PublishOptions};

/// A publication as the backend or the server API has made it. `tags` holds them packed.
pub(super) fn granted<'a>(channel: &'a str, publish: &'a Publish, tags: &'a mut Vec<u8>) -> Publication<'a> {
    Tags::write(tags, publish.tags.iter().map(|(key, value)| (key, value)));
    Publication {
        channel,
        data: &publish.data,
        tags,
        version: publish.version,
        options: PublishOptions {
            skip_history: publish.skip_history,
            use_delta: publish.delta,
            idempotency_key: &publish.idempotency_key,
            version_epoch: &publish.version_epoch,
        },
        ..Publication::default()
    }
}

/// Whether a publication says anything besides its data. Most do not, and have no bytes of options.
pub(super) fn has_options(publication: &Publication<'_>) -> bool {
    let PublishOptions { skip_history, use_delta, idempotency_key, version_epoch } = publication.options;
    !publication.tags.is_empty()
        || publication.version != 0
        || skip_history
        || use_delta
        || !idempotency_key.is_empty()
        || !version_epoch.is_empty()
}

/// What a publication says besides its data: tags, version and options.
pub(super) fn pack_options(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let PublishOptions { skip_history, use_delta, idempotency_key, version_epoch } = publication.options;
    out.push(u8::from(skip_history) | u8::from(use_delta) << 1);
    out.extend_from_slice(&publication.version.to_le_bytes());
    put(out, publication.tags);
    put(out, idempotency_key.as_bytes());
    put(out, version_epoch.as_bytes());
}

/// Adds packed options to a publication; an empty slice means no options.
pub(super) fn unpack_options<'a>(bytes: &'a [u8], publication: Publication<'a>) -> Publication<'a> {
    if bytes.is_empty() {
        return publication;
    }
    let mut pieces = Pieces(bytes);
    let [bits] = pieces.array();
    let version = u64::from_le_bytes(pieces.array());
    let tags = pieces.bytes();
    let options = PublishOptions {
        skip_history: bits & 1 != 0,
        use_delta: bits & 2 != 0,
        idempotency_key: pieces.text(),
        version_epoch: pieces.text(),
    };
    Publication { version, tags, options, ..publication }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_packed_only_if_there_are_some() {
        let ordinary = Publication { data: b"x", ..Publication::default() };
        assert!(!has_options(&ordinary) && !has_options(&unpack_options(b"", ordinary)));
        let publish = Publish {
            tags: vec![("a".into(), "b".into())],
            version: 9,
            version_epoch: "e".into(),
            ..Publish::default()
        };
        let (mut tags, mut bytes) = (Vec::new(), Vec::new());
        let publication = granted("news", &publish, &mut tags);
        assert!(has_options(&publication));
        pack_options(&publication, &mut bytes);
        let again = unpack_options(&bytes, ordinary);
        assert_eq!((again.version, again.options.version_epoch, again.data), (9, "e", &b"x"[..]));
        assert_eq!(Tags::from_bytes(again.tags).get("a"), Some("b"));
    }
}
