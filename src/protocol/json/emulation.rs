//! Decodes an emulation request.

use std::borrow::Cow;

use serde::Deserialize;

use super::fields::{Object, text};
use crate::protocol::error::Malformed;
use crate::protocol::request::EmulationRequest;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    node: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    session: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    data: Cow<'a, str>,
}

pub(crate) fn emulation_request(bytes: &[u8]) -> Result<EmulationRequest<'_>, Malformed> {
    let Object(Fields { node, session, data }) = serde_json::from_slice(bytes).map_err(|_| Malformed)?;
    let data = match data {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Ok(EmulationRequest { node, session, data })
}
