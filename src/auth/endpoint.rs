//! Where keys are fetched from: a URL, in which `{{name}}` may stand for what the group of that name caught in `iss` or
//! `aud`, so that each tenant has a key set of its own.
//!
//! The claims that fill it are not verified yet: whoever connects chooses them. So a group may only be a list of fixed
//! values, `(?P<tenant>one|two)`, and the endpoints are as many as the operator named.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex::{Captures, Regex};

use super::settings::KeyFault;

const SETTING: &str = "jwks_public_endpoint";

/// A URL cut at its placeholders.
pub struct Endpoint {
    /// Texts and names in turn, a text first and last.
    parts: Vec<String>,
}

impl Endpoint {
    /// `patterns`: the settings of the patterns whose groups may be named.
    pub fn new(url: &str, patterns: &[(&'static str, Option<&Regex>)]) -> Result<Self, KeyFault> {
        let fault = |what: String, mend| KeyFault { setting: SETTING, what, mend };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(fault("this is no http:// or https:// URL".into(), "write the whole URL of the key set"));
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
                let what = format!("{{{{{name}}}}} is no group of issuer_regex or audience_regex");
                return Err(fault(what, "name the group in the pattern: (?P<name>one|two)"));
            }
            if let Some((setting, _)) = groups.find(|(_, pattern)| !fixed(pattern.as_str(), name)) {
                let what = format!("the group `{name}` is part of {SETTING} and catches more than fixed values");
                let mend = "list them: (?P<name>one|two), of letters, digits, `-`, `_` and `\\.`";
                return Err(KeyFault { setting, what, mend });
            }
        }
        Ok(endpoint)
    }

    fn names(&self) -> BTreeSet<&str> {
        self.parts.iter().skip(1).step_by(2).map(String::as_str).collect()
    }

    /// The URL, where it is the same for every token.
    pub fn fixed(&self) -> Option<&str> {
        if let [url] = &self.parts[..] { Some(url) } else { None }
    }

    /// The URL with its placeholders filled from what the patterns caught.
    pub fn fill(&self, caught: &[Option<Captures<'_>>]) -> Cow<'_, str> {
        if let Some(url) = self.fixed() {
            return Cow::Borrowed(url);
        }
        let value = |name: &str| {
            let caught = caught.iter().flatten().find_map(|captures| captures.name(name));
            caught.map_or("", |found| found.as_str())
        };
        let fill = |(index, part): (usize, &'_ String)| match index % 2 {
            0 => part.clone(),
            _ => value(part).to_owned(),
        };
        Cow::Owned(self.parts.iter().enumerate().map(fill).collect())
    }
}

/// True where the group can only catch one of the texts written in it.
fn fixed(pattern: &str, name: &str) -> bool {
    let heads = [format!("(?P<{name}>"), format!("(?<{name}>")];
    let Some(body) = heads.iter().find_map(|head| pattern.split_once(head)?.1.split_once(')')).map(|(body, _)| body)
    else {
        return false;
    };
    let plain = body.replace("\\.", "");
    plain.chars().all(|c| c.is_ascii_alphanumeric() || "-_|".contains(c))
}
