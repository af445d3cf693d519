//! The URL of a key set. `{{name}}` in it is replaced by what the pattern's group of that name captures in `iss` or `aud`, so
//! that each tenant can have its own key set.
//!
//! The claims that fill the URL are not verified yet: the client chooses them. Therefore a group must be a list of fixed
//! values, `(?P<tenant>one|two)`, and there are only as many URLs as the operator named.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex::{Captures, Regex};

use super::error::InvalidSetting;

const SETTING: &str = "jwks_public_endpoint";

/// A URL, split at its placeholders.
pub(super) struct Endpoint {
    /// Alternately texts and names; the first and the last are texts.
    parts: Vec<String>,
}

impl Endpoint {
    /// `patterns`: the settings whose groups the URL may name, with their patterns.
    pub(super) fn new(url: &str, patterns: &[(&'static str, Option<&Regex>)]) -> Result<Self, InvalidSetting> {
        let invalid = |what: String, fix| InvalidSetting { setting: SETTING, what, fix };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(invalid("not an http:// or https:// URL".into(), "write the whole URL of the key set"));
        }
        let mut parts = Vec::new();
        let mut rest = url;
        while let Some((text, (name, after))) =
            rest.split_once("{{").and_then(|(text, after)| Some((text, after.split_once("}}")?)))
        {
            parts.extend([text.to_owned(), name.to_owned()]);
            rest = after;
        }
        parts.push(rest.to_owned());
        let endpoint = Self { parts };
        for name in endpoint.names() {
            let has = |pattern: &Regex| pattern.capture_names().flatten().any(|group| group == name);
            let groups = patterns.iter().filter_map(|(setting, pattern)| Some((*setting, (*pattern)?)));
            let mut groups = groups.filter(|(_, pattern)| has(pattern)).peekable();
            if groups.peek().is_none() {
                let what = format!("{{{{{name}}}}} is not a group of issuer_regex or audience_regex");
                return Err(invalid(what, "name the group in the pattern: (?P<name>one|two)"));
            }
            if let Some((setting, _)) = groups.find(|(_, pattern)| !is_fixed(pattern.as_str(), name)) {
                let what = format!("{SETTING} uses the group `{name}`, which matches more than fixed values");
                let fix = "list the values: (?P<name>one|two), with letters, digits, `-`, `_` and `\\.`";
                return Err(InvalidSetting { setting, what, fix });
            }
        }
        Ok(endpoint)
    }

    fn names(&self) -> BTreeSet<&str> {
        self.parts.iter().skip(1).step_by(2).map(String::as_str).collect()
    }

    /// The URL, if it is the same for every token.
    pub(super) fn fixed(&self) -> Option<&str> {
        if let [url] = &self.parts[..] { Some(url) } else { None }
    }

    /// The URL for these captures.
    pub(super) fn fill(&self, captures: &[Option<Captures<'_>>]) -> Cow<'_, str> {
        if let Some(url) = self.fixed() {
            return Cow::Borrowed(url);
        }
        let value = |name: &str| {
            let found = captures.iter().flatten().find_map(|captures| captures.name(name));
            found.map_or("", |found| found.as_str())
        };
        let fill = |(index, part): (usize, &'_ String)| match index % 2 {
            0 => part.clone(),
            _ => value(part).to_owned(),
        };
        Cow::Owned(self.parts.iter().enumerate().map(fill).collect())
    }
}

/// True if the group can only match one of the texts written in it.
fn is_fixed(pattern: &str, name: &str) -> bool {
    let heads = [format!("(?P<{name}>"), format!("(?<{name}>")];
    let Some(body) = heads.iter().find_map(|head| pattern.split_once(head)?.1.split_once(')')).map(|(body, _)| body)
    else {
        return false;
    };
    let plain = body.replace("\\.", "");
    plain.chars().all(|c| c.is_ascii_alphanumeric() || "-_|".contains(c))
}
