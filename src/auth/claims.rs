//! The claims of a token → what they grant. The claims are read in place; only the grant is copied.
//!
//! A claim that is `null` is absent. A token that repeats a claim is refused (RFC 7519, section 4).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::InvalidToken;
use super::grant::{ConnectGrant, Overrides, SubscribeGrant};
use super::text::{Seconds, Text, object};

/// What a subscription token says. The caller compares user, channel and client with the connection's own.
#[derive(Clone, PartialEq, Debug)]
pub struct SubscribeToken {
    /// Empty for the anonymous user.
    pub user: String,
    /// Never empty.
    pub channel: String,
    /// The only client that may use the token, if it names one.
    pub client: Option<String>,
    pub grant: SubscribeGrant,
}

/// The claims of both kinds of token. Claims that only one kind has are kept unparsed: if they are malformed, the other
/// kind is still valid.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
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

/// What claims say of one subscription: those of a subscription token, or an entry of `subs`.
#[derive(Deserialize, Default)]
struct SubscriptionClaims<'a> {
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    b64info: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    b64data: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "override")]
    overrides: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct OverrideClaims {
    presence: Option<BoolClaim>,
    join_leave: Option<BoolClaim>,
    force_recovery: Option<BoolClaim>,
    force_positioning: Option<BoolClaim>,
    force_push_join_leave: Option<BoolClaim>,
}

/// `{"value":true}`. An option that is off differs from one that is absent.
#[derive(Deserialize, Clone, Copy)]
struct BoolClaim {
    #[serde(default)]
    value: bool,
}

impl<'a> Claims<'a> {
    pub(super) fn read(claims: &'a [u8]) -> Result<Self, InvalidToken> {
        object(claims).ok_or(InvalidToken::Claims)
    }

    pub(super) fn issuer(&self) -> &str {
        self.iss.as_ref().map_or("", |issuer| &issuer.0)
    }

    /// RFC 7519, section 4.1.3: a string or a list.
    pub(super) fn audience(&self) -> Result<Vec<Cow<'a, str>>, InvalidToken> {
        let Some(raw) = self.aud else { return Ok(Vec::new()) };
        if raw.get().starts_with('[') {
            let all: Vec<Text<'a>> = read(raw)?;
            return Ok(all.into_iter().map(|text| text.0).collect());
        }
        Ok(vec![read::<Text<'a>>(raw)?.0])
    }

    /// RFC 7519: at `exp` the token has expired (section 4.1.4); at `nbf` it is valid (section 4.1.5).
    pub(super) fn is_valid_at(&self, now_s: u64) -> bool {
        self.exp.is_none_or(|exp| exp.0 > now_s) && self.nbf.is_none_or(|nbf| nbf.0 <= now_s)
    }

    /// `expire_at` overrides `exp`; 0 means never.
    fn expire_at(&self) -> Option<u64> {
        match self.expire_at {
            Some(at) => (at.0 > 0).then_some(at.0),
            None => self.exp.map(|exp| exp.0),
        }
    }

    pub(super) fn connect(&self, user: String) -> Result<ConnectGrant, InvalidToken> {
        if self.channel.as_ref().is_some_and(|channel| !channel.0.is_empty()) {
            return Err(InvalidToken::ChannelInConnectToken);
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

    pub(super) fn subscribe(&self, user: String) -> Result<SubscribeToken, InvalidToken> {
        let channel = self.channel.as_ref().map_or("", |channel| &channel.0);
        if channel.is_empty() {
            return Err(InvalidToken::NoChannel);
        }
        let client: Option<Text<'_>> = self.client.map(read).transpose()?;
        let subscription = SubscriptionClaims {
            info: self.info,
            b64info: self.b64info.clone(),
            data: self.data,
            b64data: self.b64data,
            overrides: self.overrides,
        };
        Ok(SubscribeToken {
            user,
            channel: channel.to_owned(),
            client: client.map(|client| client.0.into_owned()).filter(|client| !client.is_empty()),
            grant: SubscribeGrant { expire_at: self.expire_at(), ..subscription.grant()? },
        })
    }

    /// `channels` counts only if `subs` is empty.
    fn subs(&self) -> Result<Vec<(String, SubscribeGrant)>, InvalidToken> {
        let mut subs = BTreeMap::new();
        if let Some(raw) = self.subs {
            let all: BTreeMap<Text<'_>, Option<SubscriptionClaims<'_>>> = read(raw)?;
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

    pub(super) fn subject(&self) -> &str {
        self.sub.as_ref().map_or("", |sub| &sub.0)
    }
}

impl SubscriptionClaims<'_> {
    /// The grant, without a time of expiry.
    fn grant(&self) -> Result<SubscribeGrant, InvalidToken> {
        let b64data: Option<Text<'_>> = self.b64data.map(read).transpose()?;
        let overrides: Option<OverrideClaims> = self.overrides.map(read).transpose()?;
        Ok(SubscribeGrant {
            info: payload(self.info, self.b64info.as_ref())?,
            data: payload(self.data, b64data.as_ref())?,
            expire_at: None,
            overrides: overrides.unwrap_or_default().grant(),
        })
    }
}

impl OverrideClaims {
    fn grant(&self) -> Overrides {
        let value = |claim: Option<BoolClaim>| claim.map(|claim| claim.value);
        Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_recovery: value(self.force_recovery),
            force_positioning: value(self.force_positioning),
            force_push_join_leave: value(self.force_push_join_leave),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, InvalidToken> {
    serde_json::from_str(raw.get()).map_err(|_| InvalidToken::Claims)
}

/// Base64 takes precedence over JSON.
fn payload(json: Option<&RawValue>, base64: Option<&Text<'_>>) -> Result<Vec<u8>, InvalidToken> {
    match base64 {
        Some(text) if !text.0.is_empty() => BASE64.decode(text.0.as_bytes()).map_err(|_| InvalidToken::Base64),
        _ => Ok(json.map_or_else(Vec::new, |json| json.get().as_bytes().to_vec())),
    }
}

/// The user's id from the claim that the operator chose: a string, or the text of a number or boolean. Empty if the claim is
/// absent.
pub(super) fn user(claims: &[u8], name: &str) -> Result<String, InvalidToken> {
    let mut deserializer = serde_json::Deserializer::from_slice(claims);
    let found = deserializer.deserialize_map(Find(name)).map_err(|_| InvalidToken::Claims)?;
    let Some(raw) = found else { return Ok(String::new()) };
    match raw.get().as_bytes().first() {
        Some(b'"') => Ok(read::<Text<'_>>(raw)?.0.into_owned()),
        Some(b'{' | b'[') => Err(InvalidToken::UserClaim),
        _ => Ok(raw.get().to_owned()),
    }
}

/// Finds one claim by its name.
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
            return Err(serde::de::Error::custom("a claim is repeated"));
        }
        Ok(found)
    }
}
