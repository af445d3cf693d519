//! What all pages have in common: the head, the style for light and dark, escaping, and small parts.
//!
//! A page fetches nothing and runs nothing: it can be mailed, kept, and read years later.

use std::fmt::Write;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--ink:#1b2230;--dim:#5d6778;--rule:#e3e6eb;--shade:#eef0f4;
--good:#157347;--goodbg:#e3f4ea;--bad:#b42318;--badbg:#fdeceb;--warn:#8a5a00;--warnbg:#fdf3dc;
--c1:#1d4ed8;--c2:#ea7317;--c3:#0f8b6d;--c4:#c2255c;--c5:#6d4bd1;--c6:#6b7280}
@media(prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#171b22;--ink:#e7eaf0;--dim:#98a2b3;--rule:#2a303b;
--shade:#1f242e;--good:#6fd39b;--goodbg:#12291d;--bad:#ff9b92;--badbg:#34181a;--warn:#f2c66d;--warnbg:#2e2512;
--c1:#7aa2ff;--c2:#ffa561;--c3:#4fd1ae;--c4:#ff85b0;--c5:#b9a2ff;--c6:#a3acba}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 16px 56px}
header p{color:var(--dim);margin:2px 0 18px}
h1{font-size:26px;line-height:1.25;margin:0;letter-spacing:-.01em}
h2{font-size:18px;margin:36px 0 12px}
h3{font-size:15px;margin:0}
.verdict{border-radius:10px;padding:13px 16px;margin:0 0 12px;background:var(--goodbg);color:var(--good)}
.verdict.void{background:var(--badbg);color:var(--bad)}
.verdict.mind{background:var(--warnbg);color:var(--warn)}
.verdict b{font-size:16px}
.verdict ul{margin:4px 0 0;padding-left:20px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(158px,1fr));gap:12px;margin:18px 0 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 14px}
.tile span{display:block;color:var(--dim);font-size:13px;line-height:1.35}
.tile b{font-size:22px;line-height:1.35;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.tile b small{font-size:13px;font-weight:500;color:var(--dim);letter-spacing:0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:14px}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;margin:0;min-width:0}
figcaption p{margin:2px 0 0;color:var(--dim);font-size:13px;line-height:1.4}
svg{display:block;width:100%;height:auto;margin-top:6px}
svg.narrow{display:none}
svg text{font:11.5px system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif;fill:var(--dim);font-variant-numeric:tabular-nums}
svg .phase{font-style:italic}
.grid{stroke:var(--rule);fill:none}
.axis{stroke:var(--dim);fill:none}
.shade{fill:var(--shade)}
.stroke{fill:none;stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}
.fill{opacity:.22}
.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}
.stroke{stroke:var(--c)}.fill,.dot{fill:var(--c)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:6px 0 0;padding:0;font-size:13px;color:var(--dim)}
.legend i{display:inline-block;width:16px;height:3px;border-radius:2px;background:var(--c);margin-right:6px;vertical-align:4px}
.legend i.band{height:11px;opacity:.35;vertical-align:-1px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
tr:last-child>*{border-bottom:0}
th{font-weight:500;color:var(--dim)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;padding:6px 0 6px 14px}
td.better{color:var(--good)}td.worse{color:var(--bad)}
td.wrap{overflow-wrap:anywhere}
.half th{width:38%;overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.55 ui-monospace,\"SF Mono\",Menlo,Consolas,monospace}
.stack{display:grid;gap:14px}
footer{color:var(--dim);font-size:13px;margin-top:28px}
@media(max-width:560px){main{padding:18px 12px 40px}svg.wide{display:none}svg.narrow{display:block}
h1{font-size:22px}.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile{padding:10px 11px}.tile b{font-size:19px}.card{padding:12px}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
";

/// A whole page around `body`.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n",
        escape(title)
    )
}

/// Text as it may stand in HTML, within and without an attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A coloured box: a word and its reasons.
pub fn verdict(class: &str, word: &str, reasons: &[&str]) -> String {
    let mut out = format!("<div class=\"verdict {class}\"><b>{}</b>", escape(word));
    if !reasons.is_empty() {
        out.push_str("<ul>");
        reasons.iter().for_each(|reason| out += &format!("<li>{}</li>", escape(reason)));
        out.push_str("</ul>");
    }
    out + "</div>\n"
}

/// Names and texts, one below the other.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("<table class=\"half\">");
    for (name, text) in rows {
        let _ = write!(out, "<tr><th>{}</th><td class=\"wrap\">{}</td></tr>", escape(name), escape(text));
    }
    out + "</table>"
}

/// A command line as a shell takes it.
pub fn command(words: &[&str]) -> String {
    let safe = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_=:/.,@%+".contains(c));
    let quoted = |word: &&str| if safe(word) { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        assert_eq!(command(&["load", "ws://h:1/p", "a b", "it's", ""]), r"load ws://h:1/p 'a b' 'it'\''s' ''");
    }
}
