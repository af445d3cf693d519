//! Control messages and their bytes. Whatever is received is bounded and checked here; nothing of it is trusted.

use prost::Message as _;

use super::commands;
use super::proto;
use super::stats::Dropped;
use super::view::{NodeInfo, NodeMetrics};
use crate::messaging::ApiCall;

/// Bytes of an answer to a survey, which may name every channel of a server.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of any other message: a call of the server API has at most half of that.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an announcement with metrics; those of a larger one are left out.
const METRICS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a server's uid, and of its name and version.
const UID_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 1024;

/// A message, and the uid of the server that sent it.
#[derive(PartialEq, Debug)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) content: Content,
}

#[derive(PartialEq, Debug)]
pub(crate) enum Content {
    Node(NodeInfo),
    /// The sender leaves.
    Shutdown,
    Call(ApiCall),
    SurveyRequest(proto::SurveyRequest),
    SurveyResponse(proto::SurveyResponse),
    /// This server has sent it itself: the broker delivers. The id of its survey, if it is one.
    Own(Option<u64>),
    /// Something that this server needs not know, or a call that selects no connection.
    Nothing,
}

/// Reads a message. `own` is the uid of this server. Longer channel names are malformed.
pub(crate) fn decode(bytes: &[u8], own: &str, channel_bytes_max: usize) -> Result<Received, Dropped> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(Dropped::TooLarge);
    }
    let command = proto::Command::decode(bytes).map_err(|_| Dropped::Malformed)?;
    if command.uid == own {
        let survey = command.survey_request.map(|request| request.id);
        return Ok(Received { from: command.uid, content: Content::Own(survey) });
    }
    if command.uid.is_empty() || command.uid.len() > UID_BYTES_MAX {
        return Err(Dropped::Malformed);
    }
    if command.survey_response.is_none() && bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Dropped::TooLarge);
    }
    let from = command.uid.clone();
    let content = content(command, bytes.len(), channel_bytes_max)?;
    Ok(Received { from, content })
}

/// The first field that is set, in the order in which the original looks at them.
fn content(command: proto::Command, bytes: usize, channel_bytes_max: usize) -> Result<Content, Dropped> {
    let call = |call: Option<ApiCall>| call.map_or(Content::Nothing, Content::Call);
    Ok(match command {
        proto::Command { uid, node: Some(node), .. } => Content::Node(node_info(node, &uid, bytes)?),
        proto::Command { shutdown: Some(_), .. } => Content::Shutdown,
        proto::Command { unsubscribe: Some(fields), .. } => call(commands::unsubscribe(fields, channel_bytes_max)?),
        proto::Command { subscribe: Some(fields), .. } => call(commands::subscribe(fields, channel_bytes_max)?),
        proto::Command { disconnect: Some(fields), .. } => call(commands::disconnect(fields)?),
        proto::Command { survey_request: Some(request), .. } => Content::SurveyRequest(request),
        proto::Command { survey_response: Some(response), .. } => Content::SurveyResponse(response),
        proto::Command { refresh: Some(fields), .. } => call(commands::refresh(fields)?),
        // A notification, or what a later version has.
        _ => Content::Nothing,
    })
}

fn node_info(node: proto::Node, sender: &str, bytes: usize) -> Result<NodeInfo, Dropped> {
    let proto::Node { uid, name, version, num_clients, num_users, num_channels, uptime, metrics, num_subs, .. } = node;
    // A server speaks for itself alone.
    if uid != sender || name.len() > NAME_BYTES_MAX || version.len() > NAME_BYTES_MAX {
        return Err(Dropped::Malformed);
    }
    let metrics =
        metrics.filter(|_| bytes <= METRICS_BYTES_MAX).map(|proto::Metrics { interval, items }| NodeMetrics {
            interval_s: if interval.is_finite() { interval } else { 0.0 },
            // Numbers that JSON does not have.
            items: items.into_iter().filter(|(_, value)| value.is_finite()).collect(),
        });
    Ok(NodeInfo {
        uid,
        name,
        version,
        clients: num_clients,
        users: num_users,
        channels: num_channels,
        subscriptions: num_subs,
        uptime_s: uptime,
        metrics,
    })
}

/// The announcement of a server.
pub(crate) fn node(info: NodeInfo) -> proto::Node {
    let NodeInfo { uid, name, version, clients, users, channels, subscriptions, uptime_s, metrics } = info;
    let metrics = metrics.map(|NodeMetrics { interval_s: interval, items }| proto::Metrics { interval, items });
    proto::Node {
        uid,
        name,
        version,
        num_clients: clients,
        num_users: users,
        num_channels: channels,
        uptime: uptime_s,
        metrics,
        data: Vec::new(),
        num_subs: subscriptions,
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
