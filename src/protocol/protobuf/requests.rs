//! Decodes the requests for a channel, subscribe and history, and the emulation request.

use std::borrow::Cow;

use super::wire::{Field, Fields};
use crate::protocol::error::Malformed;
use crate::protocol::filter::RawFilter;
use crate::protocol::request::{EmulationRequest, HistoryRequest, StreamPosition, SubscribeRequest};

pub(crate) fn text(field: Field<'_>) -> Result<Cow<'_, str>, Malformed> {
    field.text().map(Cow::Borrowed)
}

pub(crate) fn subscribe_request(message: &[u8]) -> Result<SubscribeRequest<'_>, Malformed> {
    let mut request = SubscribeRequest::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => request.channel = text(field)?,
            2 => request.token = text(field)?,
            3 => request.recover = field.flag()?,
            6 => request.epoch = text(field)?,
            7 => request.offset = field.varint()?,
            8 => request.data = field.bytes()?,
            9 => request.positioned = field.flag()?,
            10 => request.recoverable = field.flag()?,
            11 => request.join_leave = field.flag()?,
            12 => request.delta = text(field)?,
            13 => request.tf = RawFilter::Protobuf(field.bytes()?),
            14 => request.flag = field.varint()? as i64,
            15 => request.kind = field.int32()?,
            _ => (),
        }
    }
    Ok(request)
}

pub(crate) fn history_request(message: &[u8]) -> Result<HistoryRequest<'_>, Malformed> {
    let mut request = HistoryRequest::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => request.channel = text(field)?,
            7 => request.limit = field.int32()?,
            8 => request.since = Some(position(field.bytes()?)?),
            9 => request.reverse = field.flag()?,
            _ => (),
        }
    }
    Ok(request)
}

pub(crate) fn emulation_request(message: &[u8]) -> Result<EmulationRequest<'_>, Malformed> {
    let mut request = EmulationRequest::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => request.node = text(field)?,
            2 => request.session = text(field)?,
            3 => request.data = Cow::Borrowed(field.bytes()?),
            _ => (),
        }
    }
    Ok(request)
}

fn position(message: &[u8]) -> Result<StreamPosition<'_>, Malformed> {
    let mut position = StreamPosition::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => position.offset = field.varint()?,
            2 => position.epoch = text(field)?,
            _ => (),
        }
    }
    Ok(position)
}
