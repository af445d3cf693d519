//! The messages and both sides of `api.proto`, as the build script generates them.

tonic::include_proto!("centrifugal.centrifugo.api");
