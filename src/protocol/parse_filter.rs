//! Parsing a filter in the encoding of its command.

use super::error::FilterError;
use super::filter::{Budget, FILTER_BYTES_MAX, RawFilter};
use super::packed_filter::Filter;
use super::{json, protobuf};

impl RawFilter<'_> {
    /// Parses and checks the filter; `None` if the command has no filter.
    pub(crate) fn filter(&self) -> Result<Option<Filter>, FilterError> {
        let (Self::Json(bytes) | Self::Protobuf(bytes)) = *self;
        if self.is_none() {
            return Ok(None);
        }
        if bytes.len() > FILTER_BYTES_MAX {
            return Err(FilterError::Invalid);
        }
        let mut budget = Budget::default();
        let root = match self {
            Self::Json(_) => json::filter(bytes, &mut budget)?,
            Self::Protobuf(_) => protobuf::filter(bytes, &mut budget)?,
        };
        root.and_then(|root| Filter::pack(&root)).map(Some).ok_or(FilterError::Invalid)
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
