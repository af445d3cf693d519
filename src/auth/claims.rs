//! What a token says → what it grants. The claims are read in place; only what is granted is copied.
//!
//! A claim that is `null` is one that is not there. A claim named twice refuses the token (RFC 7519, section 4).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text::{Seconds, Text, object};
use super::verify::{Reason, SubscribeToken};
use crate::auth::grant::{ConnectGrant, Overrides, SubscribeGrant};

/// The claims of both kinds of token. Those that only one kind has, and those that are only sometimes looked at, are left
/// unread here: their faults are none for the other kind.
#[derive(Deserialize)]
pub struct Claims<'a> {
    #[serde(borrow, default)]
    sub: Option<Text<'a>>,
    #[serde(borrow, default)]
    iss: Option<Text<'a>>,
    #[serde(borrow, default)]
    aud: Option<&'a RawValue>,
    #[serde(default)]
    exp: Option<Seconds>,
    #[serde(default)]
    nbf: Option<Seconds>,
    #[serde(default)]
    expire_at: Option<Seconds>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    b64info: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    b64data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channels: Option<&'a RawValue>,
    #[serde(borrow, default)]
    subs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channel: Option<Text<'a>>,
    #[serde(borrow, default)]
    client: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "override")]
    overrides: Option<&'a RawValue>,
}

/// The options of one server-side subscription.
#[derive(Deserialize, Default)]
struct Options<'a> {
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    b64info: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    b64data: Option<Text<'a>>,
    #[serde(default, rename = "override")]
    overrides: Option<OverrideClaims>,
}

#[derive(Deserialize, Default)]
struct OverrideClaims {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
    force_push_join_leave: Option<Switch>,
}

/// `{"value":true}`: so that an option which is off differs from one which is not there.
#[derive(Deserialize, Clone, Copy)]
struct Switch {
    #[serde(default)]
    value: bool,
}

impl<'a> Claims<'a> {
    pub fn read(claims: &'a [u8]) -> Result<Self, Reason> {
        object(claims).ok_or(Reason::Claims)
    }

    pub fn issuer(&self) -> &str {
        self.iss.as_ref().map_or("", |issuer| &issuer.0)
    }

    /// RFC 7519, section 4.1.3: one, or a list.
    pub fn audience(&self) -> Result<Vec<Cow<'a, str>>, Reason> {
        let Some(raw) = self.aud else { return Ok(Vec::new()) };
        if raw.get().starts_with('[') {
            let all: Vec<Text<'a>> = read(raw)?;
            return Ok(all.into_iter().map(|text| text.0).collect());
        }
        Ok(vec![read::<Text<'a>>(raw)?.0])
    }

    /// RFC 7519, section 4.1.4: on `exp` it has expired. Section 4.1.5: on `nbf` it holds.
    pub fn holds_at(&self, now_s: u64) -> bool {
        self.exp.is_none_or(|exp| exp.0 > now_s) && self.nbf.is_none_or(|nbf| nbf.0 <= now_s)
    }

    /// `expire_at` overrides `exp`, and 0 there means never.
    fn expire_at(&self) -> Option<u64> {
        match self.expire_at {
            Some(at) => (at.0 > 0).then_some(at.0),
            None => self.exp.map(|exp| exp.0),
        }
    }

    pub fn connect(&self, user: String) -> Result<ConnectGrant, Reason> {
        if self.channel.as_ref().is_some_and(|channel| !channel.0.is_empty()) {
            return Err(Reason::ChannelInConnectToken);
        }
        Ok(ConnectGrant {
            user,
            expire_at: self.expire_at(),
            info: payload(self.info, self.b64info.as_ref())?,
            data: Vec::new(),
            meta: payload(self.meta, None)?,
            subs: self.subs()?,
        })
    }

    pub fn subscribe(&self, user: String) -> Result<SubscribeToken, Reason> {
        let channel = self.channel.as_ref().map_or("", |channel| &channel.0);
        if channel.is_empty() {
            return Err(Reason::NoChannel);
        }
        let client: Option<Text<'_>> = self.client.map(read).transpose()?;
        let binary: Option<Text<'_>> = self.b64data.map(read).transpose()?;
        let overrides: Option<OverrideClaims> = self.overrides.map(read).transpose()?;
        Ok(SubscribeToken {
            user,
            channel: channel.to_owned(),
            client: client.map(|client| client.0.into_owned()).filter(|client| !client.is_empty()),
            grant: SubscribeGrant {
                info: payload(self.info, self.b64info.as_ref())?,
                data: payload(self.data, binary.as_ref())?,
                expire_at: self.expire_at(),
                overrides: overrides.unwrap_or_default().grant(),
            },
        })
    }

    /// `channels` counts only where `subs` names none.
    fn subs(&self) -> Result<Vec<(String, SubscribeGrant)>, Reason> {
        let mut subs = BTreeMap::new();
        if let Some(raw) = self.subs {
            let all: BTreeMap<Text<'_>, Option<Options<'_>>> = read(raw)?;
            for (channel, options) in all {
                subs.insert(channel.0.into_owned(), options.unwrap_or_default().grant()?);
            }
        }
        if let Some(raw) = self.channels
            && subs.is_empty()
        {
            let all: Vec<Text<'_>> = read(raw)?;
            subs.extend(all.into_iter().map(|channel| (channel.0.into_owned(), SubscribeGrant::default())));
        }
        Ok(subs.into_iter().collect())
    }

    pub fn subject(&self) -> &str {
        self.sub.as_ref().map_or("", |sub| &sub.0)
    }
}

impl Options<'_> {
    fn grant(&self) -> Result<SubscribeGrant, Reason> {
        Ok(SubscribeGrant {
            info: payload(self.info, self.b64info.as_ref())?,
            data: payload(self.data, self.b64data.as_ref())?,
            expire_at: None,
            overrides: self.overrides.as_ref().map_or_else(Overrides::default, OverrideClaims::grant),
        })
    }
}

impl OverrideClaims {
    fn grant(&self) -> Overrides {
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_recovery: value(self.force_recovery),
            force_positioning: value(self.force_positioning),
            force_push_join_leave: value(self.force_push_join_leave),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Reason> {
    serde_json::from_str(raw.get()).map_err(|_| Reason::Claims)
}

/// Bytes win over JSON, as everywhere where there may be both.
fn payload(json: Option<&RawValue>, base64: Option<&Text<'_>>) -> Result<Vec<u8>, Reason> {
    match base64 {
        Some(text) if !text.0.is_empty() => BASE64.decode(text.0.as_bytes()).map_err(|_| Reason::Base64),
        _ => Ok(json.map_or_else(Vec::new, |json| json.get().as_bytes().to_vec())),
    }
}

/// The user's id from a claim of the operator's choice: a string, or a number or truth value as it stands. Empty where there
/// is none.
pub fn user(claims: &[u8], name: &str) -> Result<String, Reason> {
    let mut deserializer = serde_json::Deserializer::from_slice(claims);
    let found = deserializer.deserialize_map(Find(name)).map_err(|_| Reason::Claims)?;
    let Some(raw) = found else { return Ok(String::new()) };
    match raw.get().as_bytes().first() {
        Some(b'"') => Ok(read::<Text<'_>>(raw)?.0.into_owned()),
        Some(b'{' | b'[') => Err(Reason::UserClaim),
        _ => Ok(raw.get().to_owned()),
    }
}

/// Looks for one claim by its name.
struct Find<'n>(&'n str);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found: Option<&'de RawValue> = None;
        let mut times = 0;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if key.0 == self.0 {
                found = map.next_value()?;
                times += 1;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if times > 1 {
            return Err(serde::de::Error::custom("a claim is named twice"));
        }
        Ok(found)
    }
}
