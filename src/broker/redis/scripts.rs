//! The scripts that run in Redis. Their effects are the original's, so that both kinds of servers work on the same keys.

use std::sync::LazyLock;

/// A script with the name by which Redis knows it: SHA-1 of its text, in hex.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    pub(super) sha: String,
}

/// Which script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScriptId {
    AppendStream,
    AppendList,
    /// As the two above, but first looks whether the message is there.
    AppendStreamAgain,
    AppendListAgain,
    PublishOnce,
    ReadStream,
    ReadList,
    PresenceSet,
    PresenceRemove,
    PresenceRead,
    PresenceStats,
}

const BEGIN: &str = include_str!("scripts/append_begin.lua");
const END: &str = include_str!("scripts/append_end.lua");
const APPEND_STREAM: &str = include_str!("scripts/append_stream.lua");
const APPEND_LIST: &str = include_str!("scripts/append_list.lua");
const FIND_OWN: &str = include_str!("scripts/find_own.lua");
const EXPIRY: &str = include_str!("scripts/presence_expiry.lua");

/// By `ScriptId as usize`.
static SCRIPTS: LazyLock<[Script; ScriptId::COUNT]> = LazyLock::new(|| {
    [
        Script::new(&[BEGIN, APPEND_STREAM, END]),
        Script::new(&[BEGIN, APPEND_LIST, END]),
        Script::new(&[FIND_OWN, BEGIN, APPEND_STREAM, END]),
        Script::new(&[FIND_OWN, BEGIN, APPEND_LIST, END]),
        Script::new(&[include_str!("scripts/publish_once.lua")]),
        Script::new(&[include_str!("scripts/read_stream.lua")]),
        Script::new(&[include_str!("scripts/read_list.lua")]),
        Script::new(&[include_str!("scripts/presence_set.lua")]),
        Script::new(&[include_str!("scripts/presence_remove.lua")]),
        Script::new(&[EXPIRY, include_str!("scripts/presence_read.lua")]),
        Script::new(&[EXPIRY, include_str!("scripts/presence_stats.lua")]),
    ]
});

impl ScriptId {
    pub(super) const COUNT: usize = 11;

    pub(super) fn get(self) -> &'static Script {
        &SCRIPTS[self as usize]
    }
}

impl Script {
    /// Comments stay out of what is sent.
    fn new(parts: &[&str]) -> Self {
        let lines = parts.iter().flat_map(|part| part.lines()).filter(|line| !line.trim_start().starts_with("--"));
        let text = lines.flat_map(|line| [line, "\n"]).collect::<String>();
        // Redis names scripts by SHA-1. Nothing here depends on its strength.
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Self { sha: data_encoding::HEXLOWER.encode(digest.as_ref()), text }
    }
}
