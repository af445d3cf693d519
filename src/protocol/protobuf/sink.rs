//! Fields written, or only counted.
//!
//! A message stands behind its length, so that a message in a message has to be counted before it is written. A `Message`
//! says its fields once, to any `Sink`: `Count` adds up what they would take, a vector takes them. Cost: a message is
//! counted once for each message around it, four at most; no byte of it is moved twice.

/// What has fields.
pub trait Message {
    fn fields<S: Sink>(&self, sink: &mut S);

    /// Bytes of the fields.
    fn size(&self) -> usize {
        let mut count = Count(0);
        self.fields(&mut count);
        count.0
    }
}

/// Where fields go. All but the message leave zero values out, and `entry_text` does not.
pub trait Sink: Sized {
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

    /// Bytes behind their length, also where there are none.
    #[inline]
    fn delimited(&mut self, tag: u32, bytes: &[u8]) {
        self.key(tag, 2);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// Bytes that were not written.
pub struct Count(pub usize);

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

/// Appends a whole message behind its length.
#[inline]
pub fn append(out: &mut Vec<u8>, message: &impl Message) {
    let bytes = message.size();
    out.reserve(bytes + varint_bytes(bytes as u64));
    out.varint(bytes as u64);
    message.fields(out);
}

#[inline]
pub const fn varint_bytes(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

const _: () = assert!(varint_bytes(0) == 1 && varint_bytes(127) == 1 && varint_bytes(128) == 2);
const _: () = assert!(varint_bytes(1 << 62) == 9 && varint_bytes(1 << 63) == 10);
