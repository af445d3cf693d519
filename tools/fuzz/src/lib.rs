//! Bytes of peers and operators, given to the functions that parse them. Each target accepts any bytes and panics if a
//! guarantee is broken; the fuzzer searches such bytes, and a test of the workspace replays the corpus.

mod codec;
pub mod readers;
pub(crate) mod session;
mod text;

/// A target's name and function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("upgrade", codec::upgrade),
    ("proxied", codec::proxied),
    ("client_of", codec::client_of),
    ("extension", codec::extension),
    ("frames", codec::frames),
    ("differential", codec::differential),
    ("inflate", codec::inflate),
    ("json_commands", text::json_commands),
    ("protobuf_commands", text::protobuf_commands),
    ("config", text::config),
    ("environment", text::environment),
    ("token", text::token),
    ("delta", text::delta),
    ("session", session::session),
];

pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}
