//! Which web pages may connect: `client.allowed_origins`, patterns of whole origins.
//!
//! In a pattern `*` stands for any text, also for none, `?` for one character, `[abc]`, `[a-z]` and `[!abc]` for one of a
//! class, `{one,two}` for one of a list; `\` takes the meaning from the next character. ASCII letters' case is ignored.
//! A request without an Origin comes from no browser and passes; there is no rule for a page of the same host.

use std::fmt;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Bytes that the patterns may take once they are made ready, together.
const PATTERNS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The patterns made ready: one pass over the origin, whatever they are.
#[derive(Clone, Debug)]
pub struct Origins {
    /// Everything passes.
    any: bool,
    patterns: RegexSet,
}

/// A pattern that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadOrigin {
    pub pattern: String,
}

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no pattern: a bracket or brace stays open, a class is empty, or it is too large",
            self.pattern
        )
    }
}

impl std::error::Error for BadOrigin {}

impl Default for Origins {
    fn default() -> Self {
        Self { any: false, patterns: RegexSet::empty() }
    }
}

impl Origins {
    /// No patterns: only requests without an Origin pass. Errors: the first pattern that cannot be used.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadOrigin> {
        let mut all = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let bad = || BadOrigin { pattern: pattern.to_owned() };
            let translated = translate(&pattern.to_ascii_lowercase()).ok_or_else(bad)?;
            set(std::slice::from_ref(&translated)).ok_or_else(bad)?;
            all.push(translated);
        }
        let any = patterns.iter().any(|pattern| matches!(pattern.as_ref(), "*" | "**"));
        let together = || BadOrigin { pattern: format!("all {} patterns together", patterns.len()) };
        Ok(Self { any, patterns: set(&all).ok_or_else(together)? })
    }

    pub fn allows(&self, origin: Option<&str>) -> bool {
        match origin {
            None | Some("") => true,
            Some(_) if self.any => true,
            Some(origin) => self.patterns.is_match(&origin.to_ascii_lowercase()),
        }
    }
}

/// One such pattern by itself, for other texts than origins. `None` where it cannot be used.
pub fn glob(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&translate(pattern)?).dot_matches_new_line(true).size_limit(PATTERNS_BYTES_MAX).build().ok()
}

fn set(patterns: &[String]) -> Option<RegexSet> {
    RegexSetBuilder::new(patterns).dot_matches_new_line(true).size_limit(PATTERNS_BYTES_MAX).build().ok()
}

/// The pattern as a regular expression. `None` where something stays open.
fn translate(pattern: &str) -> Option<String> {
    let mut out = String::from("^");
    let mut braces = 0u32;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '{' => {
                braces += 1;
                out.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            '[' => class(&mut chars, &mut out)?,
            '\\' => escaped(chars.next()?, &mut out),
            c => escaped(c, &mut out),
        }
    }
    out.push('$');
    (braces == 0).then_some(out)
}

/// From after `[` to after `]`.
fn class(chars: &mut std::str::Chars<'_>, out: &mut String) -> Option<()> {
    out.push('[');
    let mut empty = true;
    let mut next = chars.next()?;
    if next == '!' {
        out.push('^');
        next = chars.next()?;
    }
    while next != ']' {
        match next {
            '-' if !empty => out.push('-'),
            '\\' => escaped(chars.next()?, out),
            c => escaped(c, out),
        }
        empty = false;
        next = chars.next()?;
    }
    out.push(']');
    (!empty).then_some(())
}

/// The character as itself.
fn escaped(c: char, out: &mut String) {
    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(patterns: &[&str], origin: &str) -> bool {
        Origins::new(patterns).unwrap().allows(Some(origin))
    }

    #[test]
    fn origins_match_whole_patterns() {
        for (pattern, origin, expected) in [
            ("*", "https://anything.example", true),
            ("https://*.example.com", "https://chat.Example.com", true),
            ("HTTPS://*.Example.com", "https://chat.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://exampleXcom", false),
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://example.com.evil.net", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://example.com", "evil https://example.com", false),
            ("https://example.com", "https://example.com\n", false),
            ("*.example.com", "https://two.\u{435}xample.com", false),
            ("*example*", "https://an.example.org:8080", true),
            ("*****a*****b", "https://ab", true),
            ("null", "null", true),
            ("file://*", "file://", true),
            ("https://?.example", "https://a.example", true),
            ("https://?.example", "https://ab.example", false),
            ("https://[ab].example", "https://b.example", true),
            ("https://[!ab].example", "https://b.example", false),
            ("https://[a-c]x.example", "https://bx.example", true),
            ("https://[a^&&b].example", "https://^.example", true),
            ("https://{one,two*}.example", "https://twothree.example", true),
            ("https://{one,two}.example", "https://three.example", false),
            ("{http,https}://{a,{b,c}}.example", "http://c.example", true),
            (r"https://\*.example", "https://*.example", true),
            (r"https://\*.example", "https://a.example", false),
            ("https://(a|b)+$^.example", "https://(a|b)+$^.example", true),
            ("http://\\[::1\\]:*", "http://[::1]:8000", true),
            ("https://a,b}", "https://a,b}", true),
        ] {
            assert_eq!(allows(&[pattern], origin), expected, "{pattern} {origin}");
        }
        assert!(allows(&["https://a.example", "https://b.example"], "https://b.example"));
    }

    #[test]
    fn requests_without_an_origin_pass_and_without_patterns_no_others_do() {
        let none = Origins::new::<&str>(&[]).unwrap();
        assert!(none.allows(None) && none.allows(Some("")));
        assert!(!none.allows(Some("https://a.example")) && !none.allows(Some("null")));
        assert!(!Origins::default().allows(Some("*")));
        assert!(Origins::new(&["https://a.example"]).unwrap().allows(None));
    }

    #[test]
    fn patterns_that_stay_open_are_refused() {
        for pattern in ["[", "[a", "[!", "[]", "[!]", "{a", "{{a}", "\\", "[z-a]", &"{a,b}*".repeat(100_000)] {
            assert!(Origins::new(&["*", pattern]).is_err(), "{}", &pattern[..pattern.len().min(20)]);
        }
    }
}
