//! Reads the wire format: a message is a sequence of fields, each with a number and a value.
//!
//! `varint`, `bytes` and the other getters refuse a value of another wire type. The caller ignores fields that it does not
//! know; groups, which this protocol does not use, are skipped as a whole.

use crate::protocol::error::Malformed;

/// The highest number of a field.
const FIELD_MAX: u64 = (1 << 29) - 1;

/// One field of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    value: Value<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of fixed size or a group: no field of this protocol has such a type.
    Unused,
}

impl<'a> Field<'a> {
    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        if let Value::Varint(value) = self.value { Ok(value) } else { Err(Malformed) }
    }

    pub(crate) fn flag(self) -> Result<bool, Malformed> {
        self.varint().map(|value| value != 0)
    }

    /// The low 32 bits of a varint, as all readers of 32-bit fields take them.
    pub(crate) fn int32(self) -> Result<i32, Malformed> {
        self.varint().map(|value| value as i32)
    }

    /// A payload or a message.
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Value::Bytes(bytes) = self.value { Ok(bytes) } else { Err(Malformed) }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        simdutf8::basic::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// The fields of a message. No item follows an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            0 => Value::Varint(varint(&mut self.rest).ok_or(Malformed)?),
            2 => Value::Bytes(delimited(&mut self.rest).ok_or(Malformed)?),
            _ => {
                self.skip_unused(wire_type)?;
                Value::Unused
            }
        };
        Ok(Field { number, value })
    }

    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let key = varint(&mut self.rest).ok_or(Malformed)?;
        match key >> 3 {
            number @ 1..=FIELD_MAX => Ok((number as u32, key as u8 & 7)),
            _ => Err(Malformed),
        }
    }

    /// Skips a value of fixed size, or a group with all groups inside it.
    fn skip_unused(&mut self, mut wire_type: u8) -> Result<(), Malformed> {
        let mut depth = 0usize;
        loop {
            match wire_type {
                0 => drop(varint(&mut self.rest).ok_or(Malformed)?),
                1 => self.skip(8)?,
                2 => drop(delimited(&mut self.rest).ok_or(Malformed)?),
                3 => depth += 1,
                4 => depth = depth.checked_sub(1).ok_or(Malformed)?,
                5 => self.skip(4)?,
                _ => return Err(Malformed),
            }
            if depth == 0 {
                return Ok(());
            }
            wire_type = self.key()?.1;
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(bytes..).ok_or(Malformed)?;
        Ok(())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Reads seven bits per byte, the low ones first, from at most ten bytes. Bits past 64 are lost.
#[inline]
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads a length and that many bytes.
#[inline]
pub(crate) fn delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (inside, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Result<Field<'_>, Malformed>> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn wire_fields_of_every_type_are_skipped() {
        let known = [0x08, 1];
        for (name, foreign) in [
            ("64 bits", &[0x11, 1, 2, 3, 4, 5, 6, 7, 8][..]),
            ("32 bits", &[0x15, 1, 2, 3, 4]),
            ("a group", &[0x13, 0x08, 1, 0x12, 2, 0x14, 0x14, 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x14]),
            ("groups in groups", &[0x13, 0x1b, 0x13, 0x14, 0x1c, 0x14]),
        ] {
            let items = all(foreign);
            assert!(matches!(items[..], [Ok(Field { number: 2, value: Value::Unused })]), "{name}: {items:?}");
            let field = items[0].expect("read");
            assert_eq!((field.varint(), field.bytes()), (Err(Malformed), Err(Malformed)));
            assert_eq!(all(&[foreign, &known].concat()).len(), 2);
            for end in 1..foreign.len() {
                assert_eq!(all(&foreign[..end]), [Err(Malformed)], "{name} cut at {end}");
            }
        }
        let deep = [[0x0b].repeat(100_000), [0x0c].repeat(100_000)].concat();
        assert_eq!(all(&deep).len(), 1, "groups are read without recursion");
    }

    #[test]
    fn wire_bytes_that_are_not_a_field_are_malformed() {
        for (fault, bytes) in [
            ("field 0", &[0x00, 0][..]),
            ("a number past 29 bits", &[0x80, 0x80, 0x80, 0x80, 0x10, 0]),
            ("a group's end alone", &[0x0c]),
            ("wire type 6", &[0x0e, 0]),
            ("wire type 7", &[0x0f, 0]),
            ("a varint of eleven bytes", &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            ("a length past the end", &[0x0a, 2, 0]),
            ("a length past all memory", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            ("a group with an unknown wire type", &[0x0b, 0x0e, 0x0c]),
        ] {
            assert_eq!(all(bytes), [Err(Malformed)], "{fault}");
        }
    }

    #[test]
    fn wire_varints_keep_64_bits_and_32_bit_fields_the_low_ones() {
        let items = all(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        let field = items[0].expect("read");
        assert_eq!((field.varint(), field.int32(), field.flag()), (Ok(u64::MAX), Ok(-1), Ok(true)));
        assert_eq!((field.text(), field.bytes()), (Err(Malformed), Err(Malformed)));
        assert_eq!(all(&[0x08, 0x80, 0x00])[0].and_then(Field::flag), Ok(false), "a longer way to say 0");
        assert_eq!(all(&[0x0a, 1, 0xff])[0].and_then(Field::text), Err(Malformed));
    }
}
