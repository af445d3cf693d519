//! The entries of a connect request's maps.

use std::borrow::Cow;

use super::requests::{subscribe_request, text};
use super::wire::Fields;
use crate::protocol::error::{Entry, Malformed};
use crate::protocol::request::SubscribeRequest;

/// The remaining entries of one map. The iterator ends after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entries<'a> {
    fields: Fields<'a>,
    /// The number of the map's field.
    number: u32,
}

impl<'a> Entries<'a> {
    pub(crate) fn subs(request: &'a [u8]) -> Self {
        Self { fields: Fields::of(request), number: 3 }
    }

    pub(crate) fn headers(request: &'a [u8]) -> Self {
        Self { fields: Fields::of(request), number: 6 }
    }

    pub(crate) fn next_sub(&mut self) -> Option<Entry<'a, SubscribeRequest<'a>>> {
        self.next_entry(subscribe_request)
    }

    pub(crate) fn next_header(&mut self) -> Option<Entry<'a, Cow<'a, str>>> {
        let text = |bytes| simdutf8::basic::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Malformed);
        self.next_entry(text)
    }

    fn next_entry<T: Default>(&mut self, read: impl Fn(&'a [u8]) -> Result<T, Malformed>) -> Option<Entry<'a, T>> {
        let number = self.number;
        let field = self.fields.find(|field| field.is_ok_and(|field| field.number == number))?.ok()?;
        let entry = field.bytes().and_then(|entry| {
            let (mut key, mut value) = (Cow::default(), T::default());
            for field in Fields::of(entry) {
                let field = field?;
                match field.number {
                    1 => key = text(field)?,
                    2 => value = read(field.bytes()?)?,
                    _ => (),
                }
            }
            Ok((key, value))
        });
        if entry.is_err() {
            self.fields = Fields::of(&[]);
        }
        Some(entry)
    }
}
