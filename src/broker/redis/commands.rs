//! Requests as commands of Redis.

use redis::Cmd;

use super::hash::slot_of;
use super::job::{Attempt, Job, Sending, has_history};
use super::messages;
use super::names::Names;
use super::random;
use super::scripts::ScriptId;
use crate::broker::clock::now_ms;
use crate::broker::message::{PublishRequest, Request, RequestKind};
use crate::broker::wire;
use crate::config::Redis;
use crate::pubsub::{HistoryFilter, HistoryOptions};

/// How long the result of an idempotency key is kept.
const RESULT_TTL_S: u32 = 300;

/// How requests to one Redis shard are written.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    pub(super) names: Names,
    uses_lists: bool,
    presence_ttl_s: u64,
    fields_expire: bool,
    pub(super) has_user_mapping: bool,
}

impl Commands {
    pub(super) fn new(names: Names, config: &Redis) -> Self {
        Self {
            names,
            uses_lists: config.history_use_lists,
            presence_ttl_s: config.presence_ttl.as_secs().max(1),
            fields_expire: config.presence_hash_field_ttl,
            has_user_mapping: config.presence_user_mapping,
        }
    }

    /// The script that the job runs.
    pub(super) fn script_of(&self, job: &Job, attempt: Attempt) -> Option<ScriptId> {
        match &job.request()?.kind {
            RequestKind::Publish { publish, .. } if has_history(publish) => Some(match (self.uses_lists, attempt) {
                (false, Attempt::First) => ScriptId::AppendStream,
                (false, Attempt::Second) => ScriptId::AppendStreamAgain,
                (true, Attempt::First) => ScriptId::AppendList,
                (true, Attempt::Second) => ScriptId::AppendListAgain,
            }),
            RequestKind::Publish { publish, .. } if !publish.idempotency_key.is_empty() => Some(ScriptId::PublishOnce),
            RequestKind::History { .. } if self.uses_lists => Some(ScriptId::ReadList),
            RequestKind::History { .. } => Some(ScriptId::ReadStream),
            RequestKind::PresenceSet { .. } => Some(ScriptId::PresenceSet),
            RequestKind::PresenceRemove { .. } => Some(ScriptId::PresenceRemove),
            RequestKind::PresenceStats { .. } if self.has_user_mapping => Some(ScriptId::PresenceStats),
            RequestKind::Presence { .. } | RequestKind::PresenceStats { .. } => Some(ScriptId::PresenceRead),
            _ => None,
        }
    }

    /// Writes the command of a job. `command` is empty.
    pub(super) fn write(&self, job: &Job, sending: Sending, command: &mut Cmd) {
        match job {
            Job::Ping | Job::Fence(_) => _ = command.arg("PING"),
            Job::Asking => _ = command.arg("ASKING"),
            // Each server listens on every Redis shard, so control messages need no slot.
            Job::Control { channel, payload } => _ = command.arg("PUBLISH").arg(channel).arg(&payload[..]),
            Job::Probe { channel, .. } => _ = command.arg(self.publish_verb()).arg(channel).arg("probe"),
            Job::Request(request) => self.write_call(job, request, sending, command),
            Job::Redirected(redirected) => self.write_call(job, &redirected.request, sending, command),
        }
    }

    /// `request` is that of the job.
    fn write_call(&self, job: &Job, request: &Request, sending: Sending, command: &mut Cmd) {
        if let Some(script) = self.script_of(job, sending.attempt) {
            let script = script.get();
            let (verb, name) = if sending.with_text { ("EVAL", &script.text) } else { ("EVALSHA", &script.sha) };
            command.arg(verb).arg(name);
        }
        self.write_request(request, sending, command);
    }

    fn write_request(&self, request: &Request, sending: Sending, command: &mut Cmd) {
        let channel = &*request.channel;
        match &request.kind {
            // Not for these links: see `shard`.
            RequestKind::Subscribe(_) | RequestKind::Unsubscribe | RequestKind::Query { .. } => (),
            RequestKind::Publish { publish, .. } => self.write_publish(channel, publish, sending, command),
            RequestKind::JoinLeave { is_join, client_info } => {
                let mut payload = if *is_join { b"__j__".to_vec() } else { b"__l__".to_vec() };
                payload.extend_from_slice(&messages::write_client_info(client_info));
                command.arg(self.publish_verb()).arg(self.names.message(channel)).arg(&payload[..]);
            }
            RequestKind::History { filter, options, .. } => self.write_history(channel, *filter, *options, command),
            RequestKind::HistoryRemove { .. } => _ = command.arg("DEL").arg(self.names.history(channel)),
            RequestKind::PresenceSet { client, client_info } => {
                let user = crate::protocol::RawClientInfo::unpack(client_info).user;
                self.presence_keys(channel, command);
                let ends = unix_s() + self.presence_ttl_s;
                command.arg(self.presence_ttl_s).arg(ends).arg(wire::client_id(*client));
                command.arg(messages::write_client_info(client_info)).arg(user);
                command.arg(flag(self.has_user_mapping)).arg(flag(self.fields_expire));
            }
            RequestKind::PresenceRemove { client, user } => {
                self.presence_keys(channel, command);
                command.arg(wire::client_id(*client)).arg(&**user);
                command.arg(flag(self.has_user_mapping)).arg(flag(self.fields_expire));
            }
            RequestKind::PresenceStats { .. } if self.has_user_mapping => {
                self.presence_keys(channel, command);
                command.arg(unix_s()).arg(flag(self.fields_expire));
            }
            RequestKind::Presence { .. } | RequestKind::PresenceStats { .. } => {
                command.arg(2).arg(self.names.presence_expire(channel)).arg(self.names.presence_data(channel));
                command.arg(unix_s()).arg(flag(self.fields_expire));
            }
        }
    }

    fn write_publish(&self, channel: &str, publish: &PublishRequest, sending: Sending, command: &mut Cmd) {
        let has_history = has_history(publish);
        let message = messages::write_publication(publish, has_history, sending.stamp);
        let key = &*publish.idempotency_key;
        let result = || self.names.result(channel, key);
        if !has_history {
            if key.is_empty() {
                command.arg(self.publish_verb()).arg(self.names.message(channel)).arg(&message[..]);
            } else {
                command.arg(1).arg(result()).arg(&message[..]).arg(self.names.message(channel));
                command.arg(self.publish_verb()).arg(RESULT_TTL_S);
            }
            return;
        }
        command.arg(3).arg(self.names.history(channel)).arg(self.names.meta(channel)).arg(result());
        command.arg(&message[..]).arg(publish.history.size).arg(seconds(publish.history.ttl_ms).max(1));
        command.arg(self.names.message(channel)).arg(seconds(publish.history.meta_ttl_ms));
        command.arg(random::epoch()).arg(self.publish_verb());
        if key.is_empty() {
            command.arg("");
        } else {
            command.arg(RESULT_TTL_S);
        }
        let use_delta = if publish.use_delta { "1" } else { "" };
        command.arg(use_delta).arg(publish.version).arg(&*publish.version_epoch);
        if sending.attempt == Attempt::Second {
            command.arg(sending.stamp.time_ms).arg(flag(self.uses_lists));
        }
    }

    fn write_history(&self, channel: &str, filter: HistoryFilter, options: HistoryOptions, command: &mut Cmd) {
        command.arg(2).arg(self.names.history(channel)).arg(self.names.meta(channel));
        let HistoryFilter { since, limit, reverse } = filter;
        let meta_ttl = seconds(options.meta_ttl_ms);
        if self.uses_lists {
            command.arg(flag(limit != 0)).arg(meta_ttl).arg(random::epoch());
            return;
        }
        let first = match since {
            None => Some(0),
            Some(since) if reverse => since.offset.checked_sub(1).filter(|&offset| offset > 0),
            Some(since) => since.offset.checked_add(1),
        };
        command.arg(flag(limit != 0 && first.is_some())).arg(first.unwrap_or(0)).arg(limit.max(0));
        command.arg(flag(reverse)).arg(meta_ttl).arg(random::epoch());
    }

    /// The slot of a job's keys. `None`: any server of the cluster takes it.
    pub(super) fn slot_of(&self, job: &Job) -> Option<u16> {
        match job {
            Job::Probe { channel, .. } if self.names.is_sharded() => Some(slot_of(channel.as_bytes())),
            _ => Some(self.slot_of_request(job.request()?)),
        }
    }

    pub(super) fn slot_of_request(&self, request: &Request) -> u16 {
        let is_presence = matches!(
            request.kind,
            RequestKind::PresenceSet { .. }
                | RequestKind::PresenceRemove { .. }
                | RequestKind::Presence { .. }
                | RequestKind::PresenceStats { .. }
        );
        let channel = &request.channel;
        let key = if is_presence { self.names.presence_data(channel) } else { self.names.message(channel) };
        slot_of(key.as_bytes())
    }

    fn presence_keys(&self, channel: &str, command: &mut Cmd) {
        command.arg(4).arg(self.names.presence_expire(channel)).arg(self.names.presence_data(channel));
        command.arg(self.names.presence_user_expire(channel)).arg(self.names.presence_user_clients(channel));
    }

    fn publish_verb(&self) -> &'static str {
        if self.names.is_sharded() { "SPUBLISH" } else { "PUBLISH" }
    }
}

fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

/// Seconds since 1970.
fn unix_s() -> u64 {
    now_ms() / 1000
}
