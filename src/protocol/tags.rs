//! A publication's tags in one piece: for each its key, then its value, each behind its length.
//!
//! We write the bytes and read them again; between the two the hub and the mail carry them without looking in. Lengths are
//! base-128, low bits first, as in Protobuf. Bytes that are not ours are no danger: the first thing that cannot be read ends
//! the tags.

/// Borrowed tags. Keys come in the order in which they were written; where one comes twice, the first counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Tags<'a>(&'a [u8]);

impl<'a> Tags<'a> {
    /// What `write` once wrote; no bytes are no tags.
    pub const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Appends the bytes of these tags.
    pub fn write<K: AsRef<str>, V: AsRef<str>>(out: &mut Vec<u8>, tags: impl IntoIterator<Item = (K, V)>) {
        for (key, value) in tags {
            for text in [key.as_ref(), value.as_ref()] {
                length(out, text.len());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Keys and values.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Pieces(self.0).map_while(move |(key, value)| text(key).zip(text(value)))
    }

    /// The value of a key. Cost: a walk over the tags before it.
    pub fn get(self, key: &str) -> Option<&'a str> {
        let (_, value) = Pieces(self.0).find(|(found, _)| *found == key.as_bytes())?;
        std::str::from_utf8(value).ok()
    }
}

#[derive(Clone)]
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn piece(&mut self) -> Option<&'a [u8]> {
        let mut length = 0usize;
        for shift in (0..usize::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let (piece, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                return Some(piece);
            }
        }
        None
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.piece()?, self.piece()?))
    }
}

fn length(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_as_they_were_written() {
        let long = "x".repeat(70_000);
        let pairs = [("", ""), ("é", "1"), ("long", long.as_str()), ("k\0\n", "\"")];
        let mut bytes = Vec::new();
        Tags::write(&mut bytes, pairs);
        let tags = Tags::from_bytes(&bytes);
        assert_eq!(tags.iter().collect::<Vec<_>>(), pairs);
        assert_eq!((tags.get("é"), tags.get(""), tags.get("e")), (Some("1"), Some(""), None));
        assert_eq!(tags.get("long"), Some(long.as_str()));
        assert!(Tags::from_bytes(&[]).is_empty() && Tags::default().iter().next().is_none());
    }

    #[test]
    fn bytes_of_others_end_the_tags_and_nothing_else() {
        let mut bytes = Vec::new();
        Tags::write(&mut bytes, [("key", "value"), ("other", "x")]);
        for end in 0..bytes.len() {
            assert!(Tags::from_bytes(&bytes[..end]).iter().count() <= 1, "{end}");
        }
        for bytes in [&[0xff; 40][..], b"\x01\xff\x01\xff", b"\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01b", b"\x7f"]
        {
            let tags = Tags::from_bytes(bytes);
            assert_eq!((tags.iter().count(), tags.get("a")), (0, None));
        }
    }
}
