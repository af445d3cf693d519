//! The parts that all HTML pages share: the head with the style sheet, escaping, and small elements.
//!
//! A page loads nothing and runs nothing, so it can be mailed, archived, and read years later.

/// The style sheet for light and dark screens.
const STYLE: &str = include_str!("page.css");

/// A whole page around `body`.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>\n{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n",
        escape(title)
    )
}

/// Text for HTML, inside and outside of attributes.
pub fn escape(text: &str) -> String {
    let pairs = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")];
    pairs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// A colored box: a verdict and its reasons.
pub fn verdict(class: &str, text: &str, reasons: &[&str]) -> String {
    let items: String = reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let list = if items.is_empty() { items } else { format!("<ul>{items}</ul>") };
    format!("<div class=\"verdict {class}\"><b>{}</b>{list}</div>\n", escape(text))
}

/// A table with a cell class per column; the header is in the first row.
pub fn table(classes: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = String::from("<div class=\"card scroll\"><table>");
    for (i, row) in rows.into_iter().enumerate() {
        let tag = if i == 0 { "th" } else { "td" };
        let cells = row.iter().zip(classes).map(|(text, class)| {
            // A verdict colors its cell.
            let color = if text == "B better" {
                " better"
            } else if text == "A better" {
                " worse"
            } else {
                ""
            };
            format!("<{tag} class=\"{class}{color}\">{}</{tag}>", escape(text))
        });
        out += &format!("<tr>{}</tr>", cells.collect::<String>());
    }
    out + "</table></div>\n"
}

/// Names and texts in two columns.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let row = |(name, text)| format!("<tr><th>{}</th><td class=\"wrap\">{}</td></tr>", escape(name), escape(text));
    format!(
        "<div class=\"card\"><table class=\"half\">{}</table></div>\n",
        rows.into_iter().map(row).collect::<String>()
    )
}

/// Command lines, quoted for a shell.
pub fn commands(lines: impl IntoIterator<Item = String>) -> String {
    let lines: String = lines.into_iter().map(|line| format!("{}\n", escape(&line))).collect();
    format!("<div class=\"card\"><pre>{lines}</pre></div>\n")
}

/// A command line, quoted for a shell.
pub fn command<T: AsRef<str>>(words: &[T]) -> String {
    let safe = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_=:/.,@%+".contains(c));
    let quoted = |word: &T| match word.as_ref() {
        word if safe(word) => word.to_string(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }

    #[test]
    fn command_is_quoted_for_a_shell() {
        assert_eq!(command(&["load", "ws://h:1/p", "a b", "it's", ""]), r"load ws://h:1/p 'a b' 'it'\''s' ''");
    }
}
