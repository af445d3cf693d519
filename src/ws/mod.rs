//! RFC 6455, bytes in and bytes out: no sockets, no clocks, no logs, no threads.
//!
//! The map, in the order a connection meets it:
//!
//! | file       | what it does                                                                |
//! |------------|-----------------------------------------------------------------------------|
//! | `upgrade`  | the HTTP request that asks for a WebSocket, parsed in place                  |
//! | `response` | what we answer to it: 101, a plain answer, or a refusal that says why        |
//! | `frame`    | the header of a client's frame                                               |
//! | `mask`     | the masking key taken off a payload, at the speed of memory                  |
//! | `utf8`     | text checked while it arrives, over fragments and partial frames             |
//! | `decode`   | frames to messages, pings, pongs and closes, in the receive buffer itself    |
//! | `close`    | which close codes a peer may send, and those we send                         |
//! | `encode`   | the frames we send                                                           |
//! | `extension`| permessage-deflate (RFC 7692), offered and agreed on                         |
//! | `deflate`  | its messages, compressed and inflated                                        |

pub mod close;
pub mod decode;
pub mod deflate;
pub mod encode;
pub mod extension;
pub mod frame;
pub mod mask;
pub mod response;
pub mod upgrade;
mod utf8;

pub use close::CloseCode;
pub use decode::{Decoder, Event, Step, Violation};
pub use encode::{close_frame, compressed_frame, frame, frame_with, header, header_before};
pub use extension::Agreed;
pub use frame::{CLOSE_REASON_BYTES_MAX, Header, Opcode, parse_header};
pub use mask::unmask;
pub use response::{Refusal, accept, http_response};
pub use upgrade::{Request, UPGRADE_BYTES_MAX, Upgrade, parse as parse_request};
pub use utf8::is_valid as is_text;
