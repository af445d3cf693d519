//! From the text of one value to its type, and back: one unit for each way of writing a value.

pub(crate) mod broker;
pub(crate) mod enums;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod lists;
pub(crate) mod net;
pub(crate) mod scalar;
pub(crate) mod value;
