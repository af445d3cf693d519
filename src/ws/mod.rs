//! The WebSocket protocol (RFC 6455), bytes in and bytes out: no sockets, no clocks, no logs, no threads.
//!
//! The files, in the order in which a connection uses them:
//!
//! | file        | what it does                                                                  |
//! |-------------|-------------------------------------------------------------------------------|
//! | `upgrade`   | parses the HTTP request for a WebSocket in place; `http_token` is its grammar  |
//! | `response`  | writes the response: 101, a plain response, or a refusal with its reason       |
//! | `frame`     | parses the header of a client's frame                                          |
//! | `mask`      | unmasks payloads at the speed of memory                                        |
//! | `utf8`      | checks text while it arrives, over fragments and partial frames                |
//! | `decode`    | frames to messages, pings, pongs and closes, in the receive buffer itself      |
//! | `violation` | what ends a connection, with its close code                                    |
//! | `close`     | the close codes that a peer may send, and those of the server                  |
//! | `encode`    | writes frames of the server                                                    |
//! | `extension` | negotiates permessage-deflate (RFC 7692)                                       |
//! | `deflate`   | compresses and inflates messages                                               |

mod close;
mod decode;
pub mod deflate;
pub mod encode;
pub mod extension;
mod frame;
mod http_token;
mod mask;
mod response;
pub mod upgrade;
mod utf8;
mod violation;

pub use close::CloseCode;
pub use decode::{Decoder, Event, Step};
pub use encode::{close_frame, compressed_frame, frame, frame_with, header, header_before};
pub use extension::Agreed;
pub(crate) use frame::SERVER_HEADER_BYTES_MAX;
pub use frame::{CLOSE_REASON_BYTES_MAX, Header, Opcode, parse_header};
pub use mask::unmask;
pub use response::{Refusal, accept, drop_body, http_response};
pub use upgrade::{Method, REQUEST_FIELDS_MAX, Request, RequestBounds, Upgrade, parse as parse_request};
pub use utf8::is_valid as is_text;
pub use violation::Violation;
