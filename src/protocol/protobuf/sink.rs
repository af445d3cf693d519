//! Writes fields, or counts their bytes.
//!
//! The length of a message precedes it, so a message in a message is counted before it is written. A `Message` lists its
//! fields once, for any `Sink`: `Count` adds up their bytes, a vector takes them. Cost: a message is counted once for each
//! message around it, at most four times; each byte is copied once.

/// Something with fields.
pub(crate) trait Message {
    fn fields<S: Sink>(&self, sink: &mut S);

    /// The bytes of the fields.
    fn size(&self) -> usize {
        let mut count = Count(0);
        self.fields(&mut count);
        count.0
    }
}

/// Takes fields. `message` and `delimited` write empty values too; the others leave zero values out.
pub(crate) trait Sink: Sized {
    fn raw(&mut self, bytes: &[u8]);
    fn varint(&mut self, value: u64);
    /// A message, empty or not.
    fn message(&mut self, tag: u32, message: &impl Message);

    #[inline]
    fn key(&mut self, tag: u32, wire_type: u32) {
        self.varint(u64::from(tag << 3 | wire_type));
    }

    #[inline]
    fn number(&mut self, tag: u32, value: u64) {
        if value != 0 {
            self.key(tag, 0);
            self.varint(value);
        }
    }

    #[inline]
    fn flag(&mut self, tag: u32, value: bool) {
        self.number(tag, u64::from(value));
    }

    #[inline]
    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.delimited(tag, bytes);
        }
    }

    #[inline]
    fn text(&mut self, tag: u32, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    /// Bytes after their length, also if they are empty.
    #[inline]
    fn delimited(&mut self, tag: u32, bytes: &[u8]) {
        self.key(tag, 2);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// The number of bytes that a vector would take.
pub(crate) struct Count(pub usize);

impl Sink for Count {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        self.0 += varint_bytes(value);
    }

    #[inline]
    fn message(&mut self, tag: u32, message: &impl Message) {
        self.key(tag, 2);
        let before = self.0;
        message.fields(self);
        self.varint((self.0 - before) as u64);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline]
    fn message(&mut self, tag: u32, message: &impl Message) {
        self.key(tag, 2);
        self.varint(message.size() as u64);
        message.fields(self);
    }
}

/// Appends a message after its length.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, message: &impl Message) {
    let bytes = message.size();
    out.reserve(bytes + varint_bytes(bytes as u64));
    out.varint(bytes as u64);
    message.fields(out);
}

#[inline]
pub(crate) const fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

const _: () = assert!(varint_bytes(0) == 1 && varint_bytes(127) == 1 && varint_bytes(128) == 2);
const _: () = assert!(varint_bytes(1 << 62) == 9 && varint_bytes(1 << 63) == 10);
