//! The error of a call as a gRPC status, with the error itself among its details.

use prost::Message;
use tonic::{Code, Status};

use super::api;
use crate::api::shard_api::ApiError;
use crate::protocol::ErrorCode;

pub fn from_error(error: &ApiError) -> Status {
    let code = match error.code() {
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => Code::NotFound,
        ErrorCode::BadRequest | ErrorCode::NotAvailable => Code::InvalidArgument,
        ErrorCode::TooManyRequests => Code::ResourceExhausted,
        ErrorCode::UnrecoverablePosition => Code::OutOfRange,
        ErrorCode::ConcurrentPagination => Code::AlreadyExists,
        _ => Code::Internal,
    };
    let message = error.message().into_owned();
    let detail = Detail {
        type_url: "type.googleapis.com/centrifugal.centrifugo.api.Error".into(),
        value: api::Error::from(error).encode_to_vec(),
    };
    let details = Details { code: code as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// `google.rpc.Status`: what the details of a gRPC status hold.
#[derive(Clone, PartialEq, Message)]
pub struct Details {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Detail>,
}

/// `google.protobuf.Any`: a message of any type, and the type's name.
#[derive(Clone, PartialEq, Message)]
pub struct Detail {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}
