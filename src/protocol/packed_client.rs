//! Packed forms: a client as one piece of bytes, as it travels between shards and is stored at the home shard.
//!
//! Lengths are four bytes, little endian. Only bytes that this process packed are read: one that is too short is a bug.

use uuid::Uuid;

use super::ClientInfo;

/// Appends a piece with its length.
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes pieces from the front.
pub(crate) struct Pieces<'a>(pub(crate) &'a [u8]);

impl<'a> Pieces<'a> {
    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(n);
        self.0 = rest;
        piece
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("`take` returns exactly that many bytes")
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = u32::from_le_bytes(self.array());
        self.take(length as usize)
    }

    pub(crate) fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes()).expect("packed from a str")
    }
}

/// A client as other clients see it, with its id as bytes. Infos have the form of `protocol::kept_info`.
#[derive(Clone, Copy)]
pub(crate) struct RawClientInfo<'a> {
    pub(crate) client: [u8; 16],
    pub(crate) user: &'a str,
    pub(crate) conn_info: &'a [u8],
    pub(crate) chan_info: &'a [u8],
}

impl<'a> RawClientInfo<'a> {
    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.client);
        put(out, self.user.as_bytes());
        put(out, self.conn_info);
        out.extend_from_slice(self.chan_info);
    }

    pub(crate) fn unpack(bytes: &'a [u8]) -> Self {
        let mut pieces = Pieces(bytes);
        let client = pieces.array();
        let user = pieces.text();
        let conn_info = pieces.bytes();
        Self { client, user, conn_info, chan_info: pieces.0 }
    }

    /// The same for bytes that may be anything.
    pub(crate) fn try_unpack(bytes: &'a [u8]) -> Option<Self> {
        fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
            let (length, rest) = bytes.split_first_chunk()?;
            rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        }
        let (client, rest) = bytes.split_first_chunk()?;
        let (user, rest) = piece(rest)?;
        let (conn_info, chan_info) = piece(rest)?;
        Some(Self { client: *client, user: std::str::from_utf8(user).ok()?, conn_info, chan_info })
    }

    /// The protocol's form, with the id as text in `text`.
    pub(crate) fn text<'t>(&self, text: &'t mut IdText) -> ClientInfo<'t>
    where
        'a: 't,
    {
        ClientInfo {
            user: self.user,
            client: client_text(self.client, text),
            conn_info: self.conn_info,
            chan_info: self.chan_info,
        }
    }
}

/// Room for a client id as text.
pub(crate) type IdText = [u8; uuid::fmt::Urn::LENGTH];

/// A client id as text.
pub(crate) fn client_text(client: [u8; 16], text: &mut IdText) -> &str {
    Uuid::from_bytes(client).hyphenated().encode_lower(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_info_unpacks_to_the_same() {
        let info = RawClientInfo { client: [7; 16], user: "ann", conn_info: b"{}", chan_info: b"[1]" };
        let mut bytes = Vec::new();
        info.pack(&mut bytes);
        let again = RawClientInfo::unpack(&bytes);
        assert_eq!(
            (again.client, again.user, again.conn_info, again.chan_info),
            ([7; 16], "ann", &b"{}"[..], &b"[1]"[..])
        );
        for length in 0..bytes.len() {
            let whole = length >= bytes.len() - info.chan_info.len();
            assert_eq!(RawClientInfo::try_unpack(&bytes[..length]).is_some(), whole, "{length}");
        }
        let again = RawClientInfo::try_unpack(&bytes).expect("packed above");
        assert_eq!((again.user, again.conn_info, again.chan_info), ("ann", info.conn_info, info.chan_info));
    }
}
