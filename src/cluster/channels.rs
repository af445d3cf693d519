//! The survey `channels`: asking the other servers, and answering them.
//!
//! A survey asks every server of the table. It waits for those that announce themselves, and a little for one that has stopped;
//! without that one the answer is partial, which is logged and counted. An error of one server, or no answer of one that
//! announces itself, fails the survey. So does a broker that delivers nothing, which would look like the end of all servers:
//! a server counts as dead only if the survey's own question has come back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::nodes::Label;
use super::own_shards::OwnShards;
use super::proto::{self, ChannelInfo, ChannelsRequest, ChannelsResult, SurveyRequest, SurveyResponse};
use super::shared::Shared;
use super::stats::{SurveyEnd, add};
use super::surveys::Heard;
use super::view::NodeState;
use super::wire::ANSWER_BYTES_MAX;
use crate::auth;
use crate::messaging::{ApiCall, ApiReply};

/// How long a server that announces itself may take to answer. Less than an HTTP client waits.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a survey waits for a server that has missed an announcement when it begins.
const STALLED_TIMEOUT: Duration = Duration::from_secs(1);
/// When a server that has not answered is asked again, after the begin. The broker loses a question while the connection of
/// that server is being made anew.
const ASK_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(1_000), Duration::from_millis(2_500)];
/// How often a survey looks at the table of servers.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

const OP: &str = "channels";
/// The survey of the original for sessions of its emulation transports, which this server does not have.
const EMULATION_OP: &str = "centrifuge_emulation";

/// Codes of answers.
const INTERNAL_ERROR: u32 = 1;
const INVALID_REQUEST: u32 = 2;
const METHOD_NOT_FOUND: u32 = 3;
const NO_SESSION: u32 = 2;

/// Channels by name, with the number of their subscribers.
pub(crate) type Channels = BTreeMap<Box<str>, u32>;

/// Why there is no answer.
#[derive(PartialEq, Debug)]
pub(crate) enum SurveyError {
    /// Too many surveys wait, or the queue to the broker is full.
    Busy,
    /// The broker delivers no messages.
    Silent,
    NoAnswer(Label),
    Refused(Label, u32),
    Malformed(Label),
}

impl fmt::Display for SurveyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many surveys or messages wait"),
            Self::Silent => f.write_str("the broker delivers no control messages"),
            Self::NoAnswer(node) => write!(f, "{node} announces itself and does not answer within {SURVEY_TIMEOUT:?}"),
            Self::Refused(node, code) => write!(f, "{node} answers with the error {code}"),
            Self::Malformed(node) => write!(f, "{node} sends an answer that cannot be read"),
        }
    }
}

/// A survey whose question is sent.
pub(crate) struct Survey {
    shared: Arc<Shared>,
    id: u64,
    heard: mpsc::Receiver<Heard>,
    asked: HashMap<Box<str>, Label>,
    pattern: Box<str>,
    began: Instant,
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.shared.surveys.end(self.id);
    }
}

/// Asks the other servers. `None` if there is none.
pub(crate) fn begin(shared: &Arc<Shared>, pattern: &str) -> Result<Option<Survey>, SurveyError> {
    if shared.is_silent() {
        return Err(failed(shared, SurveyError::Silent));
    }
    let asked: HashMap<_, _> = shared.nodes().labels().collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let Some((id, heard)) = shared.surveys.begin() else { return Err(failed(shared, SurveyError::Busy)) };
    let survey =
        Survey { shared: Arc::clone(shared), id, heard, asked, pattern: pattern.into(), began: Instant::now() };
    match shared.send(None, survey.question()) {
        Ok(()) => Ok(Some(survey)),
        Err(_) => Err(failed(shared, SurveyError::Busy)),
    }
}

fn failed(shared: &Shared, error: SurveyError) -> SurveyError {
    shared.counters.survey_ended(SurveyEnd::Failed);
    log::warn!("cluster: `channels` fails: {error}");
    error
}

impl Survey {
    /// The channels of the other servers, summed.
    pub(crate) async fn channels(mut self) -> Result<Channels, SurveyError> {
        let mut answered = HashMap::new();
        let result = self.collect(&mut answered).await.and_then(|()| self.sum(answered));
        result.map_err(|error| failed(&self.shared, error))
    }

    async fn collect(&mut self, answered: &mut HashMap<String, SurveyResponse>) -> Result<(), SurveyError> {
        let deadline = self.began + SURVEY_TIMEOUT;
        let mut ask_again = ASK_AGAIN_AFTER.map(|after| self.began + after).into_iter().peekable();
        let mut is_delivered = false;
        loop {
            let now = Instant::now();
            let awaited = self.awaited(answered, now);
            let is_complete = || self.asked.keys().all(|uid| answered.contains_key(&**uid));
            match awaited {
                None if is_delivered || is_complete() => return Ok(()),
                Some(node) if now >= deadline && is_delivered => return Err(SurveyError::NoAnswer(node.clone())),
                _ if now >= deadline => return Err(SurveyError::Silent),
                _ => {}
            }
            if ask_again.next_if(|&at| at <= now).is_some() {
                self.ask_again(answered);
            }
            tokio::select! {
                Some(heard) = self.heard.recv() => match heard {
                    Heard::Question => is_delivered = true,
                    Heard::Answer(from, response) => drop(answered.insert(from, response)),
                },
                () = sleep_until(deadline.min(now + CHECK_INTERVAL)) => {}
            }
        }
    }

    fn question(&self) -> proto::Command {
        let data = ChannelsRequest { pattern: self.pattern.to_string() }.encode_to_vec();
        let survey_request = Some(SurveyRequest { id: self.id, op: OP.into(), data });
        proto::Command { survey_request, ..proto::Command::default() }
    }

    /// Asks each server again that announces itself and has not answered. A second answer replaces the first.
    fn ask_again(&self, answered: &HashMap<String, SurveyResponse>) {
        let is_running = |uid: &str| self.shared.nodes().state(uid) == Some(NodeState::Running);
        for uid in self.asked.keys().filter(|uid| !answered.contains_key(&***uid) && is_running(uid)) {
            // If it is lost, the survey fails.
            let _ = self.shared.send(Some(uid), self.question());
        }
    }

    /// A server whose answer is missing and can be expected.
    fn awaited(&self, answered: &HashMap<String, SurveyResponse>, now: Instant) -> Option<&Label> {
        let waits_for_stalled = now < self.began + STALLED_TIMEOUT;
        let nodes = self.shared.nodes();
        let is_awaited = |uid: &str| match nodes.state(uid) {
            Some(NodeState::Running) => true,
            Some(NodeState::Stalled) => waits_for_stalled,
            Some(NodeState::Lost) | None => false,
        };
        self.asked.iter().find(|(uid, _)| !answered.contains_key(&***uid) && is_awaited(uid)).map(|(_, label)| label)
    }

    fn sum(&self, answered: HashMap<String, SurveyResponse>) -> Result<Channels, SurveyError> {
        self.log_missing(&answered);
        let mut sum = Channels::new();
        for (from, SurveyResponse { code, data, .. }) in answered {
            let label = || {
                // A server that has joined since answers as well.
                let unknown = || Label::of(&super::view::NodeInfo { uid: from.clone(), ..Default::default() });
                self.asked.get(&*from).cloned().unwrap_or_else(unknown)
            };
            if code > 0 {
                return Err(SurveyError::Refused(label(), code));
            }
            let result = ChannelsResult::decode(&*data).map_err(|_| SurveyError::Malformed(label()))?;
            for (name, ChannelInfo { num_clients }) in result.channels {
                let clients: &mut u32 = sum.entry(name.into()).or_default();
                *clients = clients.saturating_add(num_clients);
            }
        }
        Ok(sum)
    }

    /// A server that has left in order is not missing.
    fn log_missing(&self, answered: &HashMap<String, SurveyResponse>) {
        let nodes = self.shared.nodes();
        let is_missing = |uid: &str| !answered.contains_key(uid) && nodes.state(uid).is_some();
        let missing = self.asked.iter().filter(|(uid, _)| is_missing(uid)).map(|(_, label)| label.to_string());
        let missing: Vec<_> = missing.collect();
        let is_partial = !missing.is_empty();
        self.shared.counters.survey_ended(if is_partial { SurveyEnd::Partial } else { SurveyEnd::Complete });
        if is_partial {
            log::warn!(
                "cluster: the answer to `channels` is partial: without the channels of {}, from which nothing arrives",
                missing.join(", ")
            );
        }
    }
}

/// The answer to a survey of another server.
pub(crate) async fn answer(shared: &Shared, shards: &impl OwnShards, request: SurveyRequest) -> SurveyResponse {
    let SurveyRequest { id, op, data } = request;
    let result = match &*op {
        OP => own_channels(shards, &data).await,
        EMULATION_OP => Err(NO_SESSION),
        _ => Err(METHOD_NOT_FOUND),
    };
    add(&shared.counters.surveys_answered);
    match result {
        Ok(data) => SurveyResponse { id, code: 0, data },
        Err(code) => SurveyResponse { id, code, data: Vec::new() },
    }
}

/// `Err`: the code of the answer.
async fn own_channels(shards: &impl OwnShards, request: &[u8]) -> Result<Vec<u8>, u32> {
    let ChannelsRequest { pattern } = ChannelsRequest::decode(request).map_err(|_| INVALID_REQUEST)?;
    auth::glob(&pattern).ok_or(INVALID_REQUEST)?;
    let Some(ApiReply::Channels(channels)) = shards.ask(ApiCall::Channels { pattern: pattern.into() }).await else {
        log::warn!("cluster: the shards do not answer; another server's call of `channels` fails");
        return Err(INTERNAL_ERROR);
    };
    let number = channels.len();
    let channels = channels.into_iter().map(|(name, num_clients)| (name.into(), ChannelInfo { num_clients }));
    let result = ChannelsResult { channels: channels.collect() };
    // With room for the head of the message.
    if result.encoded_len() > ANSWER_BYTES_MAX - 1024 {
        log::warn!(
            "cluster: the names of {number} channels are more than {ANSWER_BYTES_MAX} bytes; another server's call of \
             `channels` fails"
        );
        return Err(INTERNAL_ERROR);
    }
    Ok(result.encode_to_vec())
}
