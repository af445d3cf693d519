//! What peers and operators may send, thrown at the functions that read it. Each target takes any bytes and panics where a
//! promise is broken; the fuzzer looks for such bytes, and a test of the workspace replays what it found.

mod codec;
pub mod readers;
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
    ("token", text::token),
    ("delta", text::delta),
];

pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}
