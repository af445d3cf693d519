//! A document: its headings, links, code blocks and inline code. It parses the part of Markdown that the documents use.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::root;

/// Folders whose documents are read, and single documents. Results that a bench wrote are not documents.
const FOLDERS: &[&str] = &["docs", "docs/adr"];
const FILES: &[&str] = &[
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benches/README.md",
    "tuning/README.md",
    "tools/load/README.md",
];

pub struct Document {
    /// From the root, with `/`.
    pub name: String,
    text: String,
    pub blocks: Vec<Block>,
}

/// A fenced block of code.
pub struct Block {
    /// The line of its first line of code.
    pub line: usize,
    pub language: String,
    /// The text after the language: the file that a block of settings is appended to.
    pub file: String,
    pub text: String,
}

pub fn documents() -> Vec<Document> {
    let mut names: Vec<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    for folder in FOLDERS {
        for entry in fs::read_dir(root().join(folder)).expect("a folder of documents").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    names.into_iter().filter_map(|name| Document::read(&name)).collect()
}

impl Document {
    fn read(name: &str) -> Option<Self> {
        let text = fs::read_to_string(root().join(name)).ok()?;
        let mut blocks: Vec<Block> = Vec::new();
        let mut inside = false;
        for (number, line) in text.lines().enumerate() {
            match line.trim_start().strip_prefix("```") {
                Some(info) if !inside => {
                    let (language, file) = info.split_once(' ').unwrap_or((info, ""));
                    let (language, file) = (language.to_owned(), file.trim().to_owned());
                    blocks.push(Block { line: number + 2, language, file, text: String::new() });
                    inside = true;
                }
                Some(_) => inside = false,
                None if inside => {
                    let block = blocks.last_mut().expect("a block was begun");
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => {}
            }
        }
        assert!(!inside, "{name}: a block has no end");
        Some(Self { name: name.to_owned(), text, blocks })
    }

    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Lines outside of blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut lines = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// Anchors as a repository host derives them from headings: lower case, words joined by `-`, no punctuation.
    pub fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().into_iter().filter_map(|(_, line)| line.strip_prefix('#'));
        let anchor = |heading: &str| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }

    /// Targets of `[text](target)`, with their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in self.prose() {
            let mut rest = line;
            while let Some((_, behind)) = rest.split_once("](") {
                let (target, behind) = behind.split_once(')').unwrap_or((behind, ""));
                found.push((number, target.to_owned()));
                rest = behind;
            }
        }
        found
    }

    /// Text between single backticks, with its line.
    pub fn inline_code(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in self.prose() {
            found.extend(line.split('`').skip(1).step_by(2).map(|code| (number, code.to_owned())));
        }
        found
    }

    /// The commands of its shell blocks, and those of a recorded session.
    pub fn commands(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for block in &self.blocks {
            match &*block.language {
                "sh" => found.extend(commands_of(block)),
                "console" => {
                    let shown = block.text.lines().enumerate();
                    let shown = shown.filter_map(|(at, line)| Some((block.line + at, line.strip_prefix("$ ")?)));
                    found.extend(shown.map(|(line, command)| (line, uncommented(command).to_owned())));
                }
                _ => {}
            }
        }
        found
    }
}

/// One command per line, without comments, with continued lines joined.
pub fn commands_of(block: &Block) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in block.text.lines().enumerate() {
        let line = uncommented(line).trim();
        let (text, continued) = line.strip_suffix('\\').map_or((line, false), |text| (text.trim_end(), true));
        match found.last_mut() {
            Some((_, command)) if goes_on => {
                command.push(' ');
                command.push_str(text);
            }
            _ if text.is_empty() => {}
            _ => found.push((block.line + at, text.to_owned())),
        }
        goes_on = continued;
    }
    found
}

/// Without a comment, which begins with `#` at the start of a word outside of quotes.
fn uncommented(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return line[..at].trim_end(),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    line.trim_end()
}

#[test]
fn markdown_of_the_documents_is_parsed() {
    assert_eq!(uncommented("a 'b # c' \"# d\" # e"), "a 'b # c' \"# d\"");
    let block =
        Block { line: 1, language: "sh".into(), file: String::new(), text: "# x\na \\\n  b   # y\n\nc#d\n".into() };
    assert_eq!(commands_of(&block), [(2, "a b".to_owned()), (5, "c#d".to_owned())]);
    let text = "# Top\n## One `two`, three\n[x](y.md#z) `a.b`\n```sh\n# no heading\n```\n".to_owned();
    let document = Document { name: "x.md".into(), text, blocks: Vec::new() };
    assert_eq!(document.anchors().into_iter().collect::<Vec<_>>(), ["one-two-three", "top"]);
    assert_eq!(document.links(), [(3, "y.md#z".to_owned())]);
    assert_eq!(document.inline_code(), [(2, "two".to_owned()), (3, "a.b".to_owned())]);
}
