//! Publications of the past in JSON, as the server API and the reserved methods of clients have them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::ser::{Error, Serialize, Serializer};
use serde_json::value::RawValue;

use super::api_call::{HistoryPage, HistoryPublication, MemberInfo, PastPage, PastPublication};

/// JSON that is sent as it was received.
enum RawJson<'a> {
    Unchecked(&'a [u8]),
    Checked(&'a RawValue),
}

impl RawJson<'_> {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Unchecked(b""))
    }
}

impl Serialize for RawJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unchecked(bytes) => {
                serde_json::from_slice::<&RawValue>(bytes).map_err(S::Error::custom)?.serialize(to)
            }
            Self::Checked(json) => json.serialize(to),
        }
    }
}

/// An info: JSON as it was received, other bytes as a string in base64, as clients of the JSON protocol get them.
struct InfoJson<'a>(&'a [u8]);

impl InfoJson<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for InfoJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&RawValue>(self.0) {
            Ok(json) => json.serialize(to),
            Err(_) => to.serialize_str(&BASE64.encode(self.0)),
        }
    }
}

pub(crate) fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

#[derive(serde::Serialize)]
pub(crate) struct MemberBody<'a> {
    user: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "InfoJson::is_empty")]
    conn_info: InfoJson<'a>,
    #[serde(skip_serializing_if = "InfoJson::is_empty")]
    chan_info: InfoJson<'a>,
}

impl<'a> From<&'a MemberInfo> for MemberBody<'a> {
    fn from(member: &'a MemberInfo) -> Self {
        let MemberInfo { client, user, conn_info, chan_info } = member;
        Self { user, client, conn_info: InfoJson(conn_info), chan_info: InfoJson(chan_info) }
    }
}

#[derive(serde::Serialize)]
struct PublicationBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(skip_serializing_if = "RawJson::is_empty")]
    data: RawJson<'a>,
    #[serde(skip_serializing_if = "String::is_empty")]
    b64data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<MemberBody<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    time: u64,
}

impl<'a> From<&'a HistoryPublication> for PublicationBody<'a> {
    fn from(publication: &'a HistoryPublication) -> Self {
        Self {
            channel: "",
            data: RawJson::Unchecked(&publication.data),
            b64data: String::new(),
            info: publication.info.as_ref().map(MemberBody::from),
            offset: publication.offset,
            tags: publication.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            time: publication.time_ms,
        }
    }
}

impl PublicationBody<'_> {
    /// Data that is not JSON is in `b64data`, so that it does not make the whole page fail.
    fn with_any_data(mut self) -> Self {
        if let RawJson::Unchecked(data) = self.data
            && !data.is_empty()
        {
            match serde_json::from_slice(data) {
                Ok(json) => self.data = RawJson::Checked(json),
                Err(_) => {
                    self.b64data = BASE64.encode(data);
                    self.data = RawJson::Unchecked(b"");
                }
            }
        }
        self
    }
}

impl<'a> From<&'a PastPublication> for PublicationBody<'a> {
    fn from(PastPublication { channel, publication }: &'a PastPublication) -> Self {
        PublicationBody { channel, ..PublicationBody::from(publication).with_any_data() }
    }
}

/// A part of a history.
#[derive(serde::Serialize)]
pub(crate) struct HistoryBody<'a> {
    publications: Vec<PublicationBody<'a>>,
    epoch: &'a str,
    offset: u64,
}

impl<'a> From<&'a HistoryPage> for HistoryBody<'a> {
    fn from(page: &'a HistoryPage) -> Self {
        let publications = page.publications.iter().map(PublicationBody::from).collect();
        Self { publications, epoch: &page.top.epoch, offset: page.top.offset }
    }
}

impl HistoryBody<'_> {
    /// As `PublicationBody::with_any_data`.
    pub(crate) fn with_any_data(mut self) -> Self {
        self.publications = self.publications.into_iter().map(PublicationBody::with_any_data).collect();
        self
    }
}

/// A page of a past query.
#[derive(serde::Serialize)]
pub(crate) struct PastPageBody<'a> {
    publications: Vec<PublicationBody<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cursor: &'a str,
}

impl<'a> From<&'a PastPage> for PastPageBody<'a> {
    fn from(page: &'a PastPage) -> Self {
        let publications = page.publications.iter().map(PublicationBody::from).collect();
        Self { publications, cursor: &page.cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_holds_channels_and_times_and_data_that_is_not_json_in_base64() {
        let publication = |channel: &str, data: &'static [u8], time_ms| PastPublication {
            channel: channel.into(),
            publication: HistoryPublication { offset: 7, data: data.into(), time_ms, ..HistoryPublication::default() },
        };
        let publications = vec![publication("a", b"{\"x\":1}", 5), publication("b", b"\xff", 0)];
        let page = PastPage { publications, cursor: "next".into() };
        assert_eq!(
            serde_json::to_string(&PastPageBody::from(&page)).unwrap(),
            r#"{"publications":[{"channel":"a","data":{"x":1},"offset":7,"time":5},{"channel":"b","b64data":"/w==","offset":7}],"cursor":"next"}"#
        );
        let last = PastPage::default();
        assert_eq!(serde_json::to_string(&PastPageBody::from(&last)).unwrap(), r#"{"publications":[]}"#);
    }
}
