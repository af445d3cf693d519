//! Which browser pages may connect: `client.allowed_origins`, patterns that match whole origins.
//!
//! In a pattern, `*` matches any text, also an empty one; `?` matches one character; `[abc]`, `[a-z]` and `[!abc]` match one
//! character of a class; `{one,two}` matches one of a list; `\` makes the next character literal. The case of ASCII letters
//! is ignored. A request without an `Origin` header is not from a browser and is accepted. Pages of the server's own host
//! need a pattern like all others.

use std::fmt;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// The memory of all compiled patterns together, at most.
const PATTERNS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The compiled patterns: matching takes one pass over the origin.
#[derive(Clone, Debug)]
pub struct Origins {
    /// Every origin is accepted.
    any: bool,
    patterns: RegexSet,
}

/// A pattern that is invalid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InvalidPattern {
    pub(crate) pattern: String,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a pattern: a bracket or brace is not closed, a class is empty, or it is too large",
            self.pattern
        )
    }
}

impl std::error::Error for InvalidPattern {}

impl Default for Origins {
    fn default() -> Self {
        Self { any: false, patterns: RegexSet::empty() }
    }
}

impl Origins {
    /// Without patterns, only requests without an `Origin` are accepted. Errors: the first invalid pattern.
    pub(crate) fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidPattern> {
        let mut all = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let bad = || InvalidPattern { pattern: pattern.to_owned() };
            let translated = translate(&pattern.to_ascii_lowercase()).ok_or_else(bad)?;
            set(std::slice::from_ref(&translated)).ok_or_else(bad)?;
            all.push(translated);
        }
        let any = patterns.iter().any(|pattern| matches!(pattern.as_ref(), "*" | "**"));
        let together = || InvalidPattern { pattern: format!("all {} patterns together", patterns.len()) };
        Ok(Self { any, patterns: set(&all).ok_or_else(together)? })
    }

    pub(crate) fn allows(&self, origin: Option<&str>) -> bool {
        match origin {
            None | Some("") => true,
            Some(_) if self.any => true,
            Some(origin) => self.patterns.is_match(&origin.to_ascii_lowercase()),
        }
    }
}

/// Compiles one such pattern for other texts than origins. `None` if it is invalid.
pub(crate) fn glob(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&translate(pattern)?).dot_matches_new_line(true).size_limit(PATTERNS_BYTES_MAX).build().ok()
}

fn set(patterns: &[String]) -> Option<RegexSet> {
    RegexSetBuilder::new(patterns).dot_matches_new_line(true).size_limit(PATTERNS_BYTES_MAX).build().ok()
}

/// The pattern as a regular expression. `None` if a bracket or brace is not closed.
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

/// Reads a class, from after `[` to after `]`.
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

/// Appends the character as a literal.
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
    fn origins_without_patterns_accept_only_requests_without_an_origin() {
        let none = Origins::new::<&str>(&[]).unwrap();
        assert!(none.allows(None) && none.allows(Some("")));
        assert!(!none.allows(Some("https://a.example")) && !none.allows(Some("null")));
        assert!(!Origins::default().allows(Some("*")));
        assert!(Origins::new(&["https://a.example"]).unwrap().allows(None));
    }

    #[test]
    fn origin_patterns_that_are_not_closed_are_refused() {
        for pattern in ["[", "[a", "[!", "[]", "[!]", "{a", "{{a}", "\\", "[z-a]", &"{a,b}*".repeat(100_000)] {
            assert!(Origins::new(&["*", pattern]).is_err(), "{}", &pattern[..pattern.len().min(20)]);
        }
    }
}
