//! Words that the project no longer uses, in code, comments, documents, pages and scripts. Each was replaced by a term of the
//! field; `docs/architecture.md` has the glossary.

use crate::scanner::Source;

/// Words of plain language that hide what is meant, and old names of this code. Written in two parts, so that this file does
/// not break its own rule.
const OLD_WORDS: &[(&str, &str)] = &[
    ("who", "ever"),
    ("who", "soever"),
    ("some", "body"),
    ("no", "body"),
    ("every", "body"),
    ("hand-", "shake"),
    ("hand-", "shakes"),
    ("men", "d"),
    ("men", "ds"),
    ("men", "ded"),
    ("sha", "ll"),
    ("dia", "lect"),
    ("grave", "s"),
    ("fare", "well"),
    ("tw", "in"),
    ("tw", "ins"),
    ("he", "ir"),
    ("gue", "st"),
    ("gue", "sts"),
    ("tha", "w"),
];
/// Old names of types and functions, looked for in code alone.
const OLD_NAMES: &[(&str, &str)] = &[
    ("C", "x"),
    ("Fee", "ds"),
    ("Man", "ner"),
    ("Ros", "ter"),
    ("War", "d"),
    ("Ear", "s"),
    ("kno", "ck"),
    ("bu", "ry"),
    ("uns", "eat"),
    ("set", "tle"),
    ("some", "body"),
];
/// Texts that are not the project's: licenses, recorded exchanges, other projects' words.
const EXCEPT: &[&str] = &["LICENSE", "tools/conformance/transcripts/", "tools/fuzz/corpus/", "tests/data/"];

/// Each use of an old word, with its place.
pub fn found(files: &[Source]) -> Vec<String> {
    let words: Vec<String> = OLD_WORDS.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let names: Vec<String> = OLD_NAMES.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| !EXCEPT.iter().any(|prefix| file.name.starts_with(prefix))) {
        let is_rust = file.name.ends_with(".rs");
        for (index, line) in file.text.lines().enumerate() {
            let parts = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
            for part in parts {
                let lower = part.to_lowercase();
                let old = words.contains(&lower) || is_rust && names.iter().any(|name| name == part);
                let part_of_name =
                    part.contains('_') && lower.split('_').any(|piece| words.iter().any(|word| word == piece));
                if old || part_of_name {
                    faults.push(format!("{}:{}: `{part}`", file.name, index + 1));
                }
            }
        }
    }
    faults
}
