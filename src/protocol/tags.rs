//! A publication's tags packed into bytes: for each tag its key, then its value, each after its length.
//!
//! The bytes are written and read only here; the layers between carry them as they are. Lengths are varints as in Protobuf.
//! Foreign bytes do no harm: the tags end at the first byte that cannot be read.

/// Borrowed tags. Keys come in the order in which they were written; if a key is repeated, the first one counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Tags<'a>(&'a [u8]);

impl<'a> Tags<'a> {
    /// From the bytes that `write` wrote; no bytes are no tags.
    pub(crate) const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Appends the bytes of these tags.
    pub(crate) fn write<K: AsRef<str>, V: AsRef<str>>(out: &mut Vec<u8>, tags: impl IntoIterator<Item = (K, V)>) {
        for (key, value) in tags {
            for text in [key.as_ref(), value.as_ref()] {
                length(out, text.len());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Keys and values.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Pieces(self.0).map_while(move |(key, value)| text(key).zip(text(value)))
    }

    /// The value of a key. Cost: reads all tags before it.
    pub(crate) fn get(self, key: &str) -> Option<&'a str> {
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
    fn tags_are_read_as_written() {
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
    fn tags_end_at_foreign_bytes() {
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
