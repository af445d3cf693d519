//! Words that the project no longer uses, in code, comments, documents, pages and scripts. Each was replaced by a term of
//! the field; `docs/architecture.md` has the glossary.

use crate::scanner::Source;

/// Vague words, and old names of this code. Written in two parts, so that this file does not break its own rule.
const OLD_WORDS: &[(&str, &str)] = &[
    ("who", "ever"),
    ("who", "soever"),
    ("some", "body"),
    ("no", "body"),
    ("every", "body"),
    ("hand-", "shake"),
    ("hand-", "shakes"),
    ("hand-", "shaking"),
    ("men", "d"),
    ("men", "ds"),
    ("men", "ded"),
    ("men", "ding"),
    ("sha", "ll"),
    ("dia", "lect"),
    ("grave", "s"),
    ("fare", "well"),
    ("tw", "in"),
    ("tw", "ins"),
    ("he", "ir"),
    ("he", "irs"),
    ("gue", "st"),
    ("gue", "sts"),
    ("tha", "w"),
    ("tha", "wed"),
    ("ros", "ter"),
    ("some", "one"),
    ("any", "body"),
];
/// Old names of types, functions and files, searched only in Rust code.
const OLD_NAMES: &[(&str, &str)] = &[
    ("Asked", "Roll"),
    ("Bli", "nd"),
    ("bu", "ry"),
    ("C", "x"),
    ("Ca", "lling"),
    ("De", "sk"),
    ("de", "sk"),
    ("Do", "or"),
    ("Ea", "rs"),
    ("Fare", "well"),
    ("Fa", "te"),
    ("Fe", "ed"),
    ("Fe", "eds"),
    ("Fee", "dId"),
    ("Fle", "et"),
    ("fle", "et"),
    ("Giv", "en"),
    ("Gu", "est"),
    ("her", "ald"),
    ("Jour", "nal"),
    ("Kee", "per"),
    ("kno", "ck"),
    ("Man", "ner"),
    ("par", "ley"),
    ("Par", "ting"),
    ("Pla", "ces"),
    ("Ren", "ewal"),
    ("Ros", "ter"),
    ("Se", "at"),
    ("set", "tle"),
    ("some", "body"),
    ("squ", "eeze"),
    ("Sub", "Id"),
    ("Succ", "ession"),
    ("Tw", "in"),
    ("uns", "eat"),
    ("visit", "ors"),
    ("War", "d"),
];
/// Uses that stay: an option of the load tool, which is part of its public command line.
const ALLOWED: &[(&str, &str)] = &[("tools/load/src/args/mod.rs", concat!("long = \"set", "tle\""))];
/// Texts of others: licenses, recorded exchanges, test data.
const EXCEPT: &[&str] = &["LICENSE", "tools/conformance/transcripts/", "tools/fuzz/corpus/", "tests/data/"];

/// Each use of an old word, with its place.
pub fn found(files: &[Source]) -> Vec<String> {
    let words: Vec<String> = OLD_WORDS.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let names: Vec<String> = OLD_NAMES.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| !EXCEPT.iter().any(|prefix| file.name.starts_with(prefix))) {
        let is_rust = file.name.ends_with(".rs");
        for (index, line) in file.text.lines().enumerate() {
            if ALLOWED.iter().any(|(name, use_of_it)| file.name == *name && line.contains(use_of_it)) {
                continue;
            }
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
