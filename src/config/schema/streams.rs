//! The transports over plain HTTP: `http_stream`, `sse`, `emulation`, `uni_http_stream`, `uni_sse` and `init`.

use super::section::section;
use super::tables::{TableRow, Tables};
use crate::config::parse::scalar::{Bool, Bytes, Count, Text};

/// Bytes of a request body; the bound of the original.
const BODY_BYTES_MAX: usize = 64 * 1024;

section! {
    /// The section `http_stream`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct HttpStream {}

    /// Serve clients over HTTP streaming: messages come as one response that does not end, commands go to emulation.handler_prefix.
    enabled: bool as Bool = false;

    /// The path.
    handler_prefix: String as Text = "/connection/http_stream".into();

    /// Bytes of the request body, which holds the connect command; a longer one gets status 413.
    max_request_body_size: usize as Bytes = BODY_BYTES_MAX;
}

section! {
    /// The section `sse`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Sse {}

    /// Serve clients over server-sent events (EventSource in browsers): messages come as events, commands go to
    /// emulation.handler_prefix.
    enabled: bool as Bool = false;

    /// The path.
    handler_prefix: String as Text = "/connection/sse".into();

    /// Bytes of the request body, if the connect command comes in a POST; a longer one gets status 413.
    max_request_body_size: usize as Bytes = BODY_BYTES_MAX;
}

section! {
    /// The section `emulation`: where clients of http_stream and sse send their commands.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Emulation {}

    /// The path. It is served if http_stream or sse is.
    handler_prefix: String as Text = "/emulation".into();

    /// Bytes of the request body; a longer one gets status 413.
    max_request_body_size: usize as Bytes = BODY_BYTES_MAX;
}

section! {
    /// The section `uni_http_stream`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct UniHttpStream {
        pub connect_code_to_http_response: ResponseCodes = ResponseCodes::default(),
    }

    /// Serve clients that only receive over HTTP streaming: JSON, one message a line.
    enabled: bool as Bool = false;

    /// The path.
    handler_prefix: String as Text = "/connection/uni_http_stream".into();

    /// Bytes of the request body, which is the connect request; a longer one gets status 413.
    max_request_body_size: usize as Bytes = BODY_BYTES_MAX;
}

section! {
    /// The section `uni_sse`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct UniSse {
        pub connect_code_to_http_response: ResponseCodes = ResponseCodes::default(),
    }

    /// Serve clients that only receive over server-sent events, such as a plain EventSource.
    enabled: bool as Bool = false;

    /// The path.
    handler_prefix: String as Text = "/connection/uni_sse".into();

    /// Bytes of the request body, if the connect request comes in a POST; a longer one gets status 413.
    max_request_body_size: usize as Bytes = BODY_BYTES_MAX;
}

section! {
    /// The section `init`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ConnInit {}

    /// Answer GET requests with status 200 and {}: a client learns whether it reaches the server before it connects.
    enabled: bool as Bool = false;

    /// The path.
    handler_prefix: String as Text = "/connection/init".into();
}

section! {
    /// `connect_code_to_http_response` of `uni_http_stream` and `uni_sse`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ResponseCodes {}

    /// Answer a connect that fails with an HTTP status of transforms, else 500, instead of a stream with a disconnect push.
    enabled: bool as Bool = false;

    /// Codes of errors and disconnects, and the response to send instead. Without a body the response has the reason.
    transforms: Vec<ResponseCode> as Tables = Vec::new();
}

section! {
    /// One of `transforms`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ResponseCode {}

    /// The code of the error, or of the disconnect.
    code: u32 as Count = 0;

    /// The status of the response.
    to_status_code: u32 as Count = 0, named("to.status_code");

    /// The body of the response. Empty: the reason.
    to_body: String as Text = String::new(), named("to.body");
}

impl TableRow for ResponseCode {
    const EXAMPLE: &'static str = "[{ code = 109, to = { status_code = 401 } }]";

    fn check(&self) -> Result<(), String> {
        if self.code == 0 {
            return Err("needs code and to.status_code".into());
        }
        match (200..600).contains(&self.to_status_code) {
            true => Ok(()),
            false => Err("to.status_code is not within 200 and 599".into()),
        }
    }
}
