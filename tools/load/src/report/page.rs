//! One run as one page: the verdict, the figures as tiles, the plots, everything in tables, the host and the command.

use super::charts;
use super::html::{self, command, escape, pairs, verdict};
use super::saved_run::Run;
use super::scale::{byte_unit, time_unit};
use super::table::{PERCENTILES, groups, percentiles};
use crate::report::{human, whole};
use serde_json::Value;
use std::fmt::Write;

pub fn page(all: &Value) -> String {
    let run = Run { name: String::new(), value: all.clone() };
    let kind = run.text("kind");
    let mut body = format!(
        "<header><h1>{} under load</h1><p>{}</p></header>\n",
        escape(kind),
        escape(&[run.text("started"), run.text("tool"), &what(&run)].join(" · "))
    );
    body += &judgement(&run);
    body += &tiles(&run);
    let plots = charts::all(&run);
    if !plots.is_empty() {
        body += "<h2>The course of it</h2><div class=\"plots\">";
        plots.iter().for_each(|plot| body += &plot.card());
        body += "</div>\n";
    }
    body += &tables(&run);
    html::page(&format!("{kind} {}", run.text("started")), &body)
}

/// Settings in a few words.
fn what(run: &Run) -> String {
    let named = ["subscribers", "connections", "sockets", "size", "window", "depth", "rate", "batch"];
    // Settings as they were given: 64, and not 64.0; a rate may be text.
    let one = |name: &&str| match &run.value["result"][*name] {
        Value::String(text) => Some(format!("{name} {text}")),
        _ => Some(format!("{name} {}", run.figure(name)?)),
    };
    let mut words: Vec<_> = named.iter().filter_map(one).collect();
    words.extend(run.figure("seconds").map(|seconds| format!("{seconds:.1} s measured")));
    words.join(", ")
}

fn judgement(run: &Run) -> String {
    let (void, warnings) = (run.texts("void"), run.texts("warnings"));
    let mut out = match (void.is_empty(), warnings.is_empty()) {
        (true, true) => verdict("", "Fine: everything is accounted for, and nothing speaks against the figures.", &[]),
        (true, false) => verdict("", "Fine: everything is accounted for.", &[]),
        _ => verdict("void", "VOID: these figures do not count.", &void),
    };
    if !warnings.is_empty() {
        out += &verdict("mind", "Mind", &warnings);
    }
    out
}

fn tiles(run: &Run) -> String {
    let mut tiles: Vec<(String, String, &str)> = Vec::new();
    let unit = run.value["result"]["unit"].as_str().unwrap_or("connections");
    let mut number = |label: &str, value: Option<f64>, unit: &'static str| {
        tiles.extend(value.map(|value| (label.to_string(), human(value), unit)));
    };
    number("highest rate within the bounds", run.figure("knee"), "per second");
    number(&format!("{unit} per second"), run.figure("per_second"), "");
    if let Some((key, label)) = run.main_latency() {
        for name in ["p50", "p99", "max"] {
            let us = run.figure(&format!("{key}.{name}")).unwrap_or(0.0);
            let unit = time_unit(us);
            number(&format!("{label}, {name}"), Some(us / unit.divisor), unit.name);
        }
        if key != "last_us" {
            let us = run.figure("last_us.p99").filter(|us| *us > 0.0);
            let unit = time_unit(us.unwrap_or(0.0));
            number("time to last subscriber, p99", us.map(|us| us / unit.divisor), unit.name);
        }
    }
    number("server CPU per message", run.figure("server_ns_per_message"), "ns");
    number("server's busiest core", run.figure("server_busy").map(|share| share * 100.0), "%");
    number("server writes per message", run.figure("server_writes_per_message"), "");
    let rss = run.column("server_rss_bytes").into_iter().flatten().fold(0.0, f64::max);
    let unit = byte_unit(rss);
    number("server memory, at the most", (rss > 0.0).then_some(rss / unit.divisor), unit.name);
    number("this tool's busiest core", run.figure("own_busy").map(|share| share * 100.0), "%");
    let lag = run.figure("own_lag_us.p99");
    let unit = time_unit(lag.unwrap_or(0.0));
    number("own lag, p99", lag.map(|us| us / unit.divisor), unit.name);
    let mut out = String::from("<div class=\"tiles\">");
    for (label, value, unit) in tiles {
        let (label, unit) = (escape(&label), escape(unit));
        let _ = write!(out, "<div class=\"tile\"><span>{label}</span><b>{value} <small>{unit}</small></b></div>");
    }
    out + "</div>\n"
}

fn tables(run: &Run) -> String {
    let mut out = String::from("<h2>All figures</h2><div class=\"stack\">");
    let latencies = percentiles(run);
    if !latencies.is_empty() {
        out += "<div class=\"card scroll\"><table><tr><th>microseconds</th>";
        PERCENTILES.iter().chain(&["count"]).for_each(|name| out += &format!("<th class=\"n\">{name}</th>"));
        for (label, values, count) in latencies {
            let _ = write!(out, "</tr><tr><td>{}</td>", escape(label));
            values.iter().for_each(|value| out += &format!("<td class=\"n\">{}</td>", human(*value)));
            let _ = write!(out, "<td class=\"n\">{}</td>", whole(count));
        }
        out += "</tr></table></div>";
    }
    let rows = groups(run).into_iter().flat_map(|(_, rows)| rows);
    let _ = writeln!(out, "<div class=\"card\">{}</div></div>", pairs(rows));
    let facts = run.facts();
    let facts = pairs(facts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let _ = write!(
        out,
        "<h2>Host of this tool</h2><div class=\"card\">{facts}</div>\n<h2>Command</h2><div class=\"card\"><pre>{}</pre></div>\n\
         <footer>Latency is counted from when a message should have been sent wherever there is a rate. Written by {}, form {}.\
         </footer>\n",
        escape(&command(&run.texts("command"))),
        escape(run.text("tool")),
        run.value["schema"],
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::saved_run::tests::run;

    #[test]
    fn a_page_is_whole_in_itself_and_says_the_verdict_first() {
        let page = page(&run("a", 1.0).value);
        for part in
            ["Fine: everything", "Latency over time", "Percentiles", "Throughput", "Processor time", "Server memory"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.find("Fine:").unwrap() < page.find("class=\"tiles\"").unwrap());
        assert!(page.contains("mind &lt;this&gt;") && page.contains("&#39;ws://a&amp;b&#39;"));
        assert!(!page.contains("Latency by rate"));
        for part in ["<script", "http://", "https://", "NaN", "inf"] {
            assert!(!page.contains(part), "{part}");
        }
    }

    #[test]
    fn a_void_run_says_why_and_an_empty_one_breaks_nothing() {
        let mut value = run("a", 1.0).value;
        value["void"] = serde_json::json!(["3 deliveries never came"]);
        let text = page(&value);
        assert!(text.contains("VOID: these figures do not count") && text.contains("3 deliveries never came"));
        let bare = page(&serde_json::json!({"schema": 1, "kind": "x", "result": {}}));
        assert!(bare.contains("All figures") && !bare.contains("The course of it"));
    }
}
