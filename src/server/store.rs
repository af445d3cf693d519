//! `corecast store`: checks, prints, exports and imports the durable log of a directory. What it prints of records and
//! publications, and what it imports, are JSON lines.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::Path;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::durable::{self, BadPart, Directory, Durability, KeptPublication, Lane, LaneOptions, NewPublication};
use crate::protocol::{IdText, RawClientInfo, Tags, client_text, is_json};
use crate::pubsub::HistoryOptions;

/// Lines of one write.
const LINES_AT_ONCE: usize = 1_000;

/// Why a command of `store` did not do all of it.
#[derive(Debug)]
pub enum StoreError {
    /// Reading the directory, or writing the result.
    Io(io::Error),
    /// The directory cannot be used; what to do about it.
    Directory(String),
    /// A line of an import.
    Line(u64, String),
}

impl StoreError {
    /// The reader of stdout stopped early (`| head`).
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Directory(reason) => f.write_str(reason),
            Self::Line(line, reason) => write!(f, "line {line}: {reason}; the lines before it are imported"),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A line of an export.
#[derive(Serialize, Deserialize)]
struct Line {
    channel: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
    /// Milliseconds since 1970.
    time: u64,
    /// If the data is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// If it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    tags: Map<String, Value>,
    /// The publishing client: its id, and all of it in the form of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    b64info: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tag: String,
    #[serde(default)]
    version: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    version_epoch: String,
    history_size: u32,
    history_ttl_ms: u64,
    #[serde(default)]
    meta_ttl_ms: u64,
    #[serde(default)]
    strict: bool,
}

impl Line {
    fn new(kept: KeptPublication) -> Result<Self, String> {
        let text = String::from_utf8(kept.data);
        let (data, b64data) = match text {
            Ok(text) if is_json(text.as_bytes()) => {
                (Some(RawValue::from_string(text).map_err(|error| error.to_string())?), None)
            }
            Ok(text) => (None, Some(BASE64.encode(text.as_bytes()))),
            Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
        };
        let mut text: IdText = [0; size_of::<IdText>()];
        let client = kept.client_info.first_chunk().map(|id| client_text(*id, &mut text).to_string());
        let tags = Tags::from_bytes(&kept.tags).iter().map(|(key, value)| (key.into(), value.into())).collect();
        Ok(Self {
            channel: kept.channel.into(),
            offset: kept.offset,
            epoch: kept.epoch,
            time: kept.time,
            data,
            b64data,
            tags,
            client,
            b64info: BASE64.encode(&kept.client_info),
            user: kept.user,
            tag: kept.tag,
            version: kept.version,
            version_epoch: kept.version_epoch,
            history_size: kept.history_size,
            history_ttl_ms: kept.history_ttl_ms,
            meta_ttl_ms: kept.meta_ttl_ms,
            strict: kept.is_strict,
        })
    }

    /// False: the history has a later version.
    fn publish(&self, lane: &mut Lane<Directory>) -> Result<bool, String> {
        let data = match (&self.data, &self.b64data) {
            (Some(data), None) => data.get().as_bytes().to_vec(),
            (None, Some(text)) => BASE64.decode(text.as_bytes()).map_err(|error| format!("b64data: {error}"))?,
            _ => return Err("it needs either data or b64data".into()),
        };
        let client_info = BASE64.decode(self.b64info.as_bytes()).map_err(|error| format!("b64info: {error}"))?;
        if !client_info.is_empty() && RawClientInfo::try_unpack(&client_info).is_none() {
            return Err("b64info is not the client info of an export".into());
        }
        let mut tags = Vec::new();
        Tags::write(&mut tags, self.tags.iter().filter_map(|(key, value)| Some((key, value.as_str()?))));
        let history = HistoryOptions {
            namespace: 0,
            size: self.history_size,
            ttl_ms: self.history_ttl_ms,
            meta_ttl_ms: self.meta_ttl_ms,
        };
        if !history.has_history() {
            return Err("history_size and history_ttl_ms must be above 0".into());
        }
        let publication = NewPublication {
            data: &data,
            client_info: &client_info,
            tags: &tags,
            user: &self.user,
            tag: &self.tag,
            version: self.version,
            version_epoch: &self.version_epoch,
            idempotency_key: "",
            history,
            durability: if self.strict { Durability::Strict } else { Durability::Process },
        };
        let staged = lane.publish(&self.channel, &publication, self.time).map_err(|reason| reason.to_string())?;
        Ok(!staged.is_suppressed)
    }
}

/// A line for the operator if a server uses the directory.
pub fn lock_note(directory: &Path) -> Result<Option<String>, StoreError> {
    if !directory.is_dir() {
        let reason = format!("{} is not a directory; name one of `durable.data_dirs`", directory.display());
        return Err(StoreError::Directory(reason));
    }
    let holder = durable::lock_holder(directory)?;
    let note = |pid: Option<u32>| {
        let process = pid.map_or_else(|| "a process".to_string(), |pid| format!("process {pid}"));
        format!("{} is in use by {process}; what it writes now may be missing, or look torn", directory.display())
    };
    Ok(holder.map(note))
}

/// Reads everything. True: nothing is wrong.
pub fn check(directory: &Path, out: &mut dyn Write) -> Result<bool, StoreError> {
    let found = durable::inspect(directory, &mut |_| {})?;
    let mut list = |what: &str, parts: &[BadPart]| {
        let mut each = parts.iter();
        each.try_for_each(|BadPart { file, position, reason }| writeln!(out, "{what}: {file} at {position}: {reason}"))
    };
    list("corrupt", &found.bad)?;
    list("torn", &found.torn)?;
    for name in &found.bad_indexes {
        writeln!(out, "corrupt index: {name}: a query builds it again")?;
    }
    let durable::Inspection { segments, batches, publications, bytes, channels, .. } = found;
    writeln!(
        out,
        "{segments} segments, {bytes} bytes, {batches} batches, {publications} publications, {channels} channels"
    )?;
    Ok(found.bad.is_empty() && found.torn.is_empty() && found.bad_indexes.is_empty())
}

/// Prints every record, as it stands in the files.
pub fn dump(directory: &Path, out: &mut dyn Write) -> Result<(), StoreError> {
    let mut result = Ok(());
    durable::inspect(directory, &mut |seen| {
        let durable::Seen { file, position, kind, channel, offset, time, length } = seen;
        let line = json!({"file": file, "position": position, "kind": kind, "channel": channel, "offset": offset,
            "time": time, "bytes": length});
        if result.is_ok() {
            result = writeln!(out, "{line}");
        }
    })?;
    Ok(result?)
}

/// Prints every publication that a history has at this time, by time.
pub fn export(directory: &Path, now: u64, out: &mut dyn Write) -> Result<(), StoreError> {
    durable::export(directory, now, &mut |kept| {
        let line = Line::new(kept).map_err(io::Error::other)?;
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)
    })?;
    Ok(())
}

/// Publishes the lines of an export. They get new offsets. Returns how many.
pub fn import(directory: &Path, lines: &mut dyn BufRead, seed: u64) -> Result<u64, StoreError> {
    let files = Directory::new(directory)?;
    let options = LaneOptions { seed, free_bytes_min: 0, ..LaneOptions::default() };
    let name = |error: &dyn fmt::Display| StoreError::Directory(format!("{}: {error}", directory.display()));
    // Not the present time: an import keeps the times of its lines, unless the log has later ones.
    let (mut lane, _) = Lane::open(files, options, 0).map_err(|error| name(&error))?;
    let published = publish_lines(&mut lane, lines, &name);
    // The lines before a bad one are written too. The lane has the time of the last one.
    lane.close(0).map_err(|error| name(&error))?;
    published
}

fn publish_lines(
    lane: &mut Lane<Directory>,
    lines: &mut dyn BufRead,
    name: &dyn Fn(&dyn fmt::Display) -> StoreError,
) -> Result<u64, StoreError> {
    let (mut at, mut count) = (0, 0);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        at += 1;
        let read: Line = serde_json::from_str(&line).map_err(|error| StoreError::Line(at, error.to_string()))?;
        count += u64::from(read.publish(lane).map_err(|reason| StoreError::Line(at, reason))?);
        if at % LINES_AT_ONCE as u64 == 0 {
            lane.commit().map_err(|error| name(&error))?;
        }
        line.clear();
    }
    Ok(count)
}
