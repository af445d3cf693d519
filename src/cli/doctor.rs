//! `corecast doctor`: its arguments, and the report as text or JSON.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use corecast::config::Config;
use corecast::doctor::{self, Finding, PROFILES, Profile, Question, Report, Severity, Verdict};

/// Columns of a line.
const WIDTH: usize = 110;
/// Columns before the details of a finding.
const INDENT: usize = 16;

#[derive(Args, Debug)]
pub struct Doctor {
    /// File with the settings, as for `serve`: the cores, listeners and limits to check against [env: CORECAST_CONFIG]
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// What the host is used for
    #[arg(long, default_value = PROFILES[0].0, value_parser = PossibleValuesParser::new(PROFILES.iter().map(|(name, _)| *name)))]
    profile: String,
    /// Concurrent connections to expect [default: client.connection_limit, else the profile's number]
    #[arg(long, value_name = "N")]
    connections: Option<u64>,
    /// The network interface of the clients [default: that of the default route]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Check the limits and control groups of this process, such as a running server, instead of the doctor's own
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Also check the settings for a machine that generates load
    #[arg(long)]
    load: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Show only problems and what could not be read
    #[arg(long, short)]
    quiet: bool,
    /// The folder with proc and sys, such as a copy from another host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

pub const HELP: &str = "\
Examples:
  corecast doctor
  corecast doctor --config /etc/corecast/corecast.toml --profile million-connections
  corecast doctor --pid \"$(pidof corecast)\" --quiet
  corecast doctor --json | jq '.findings[] | select(.severity == \"fail\")'

The doctor changes nothing; tuning/tune applies and undoes the fixes. Each line begins with
  ok       as expected
  note     worth knowing; nothing needs to be done
  unknown  could not be read: in a container, or without permission
  warn     slower or less reliable than this host could be
  FAIL     the expected load does not fit, or the server will not start

Exit codes: 0 no problems, 1 problems (warn or FAIL), 2 no problems found but something could not be
read, or wrong arguments or settings.";

impl Doctor {
    /// The text for stdout, and the exit code.
    pub fn run(self, config: &Config) -> (String, u8) {
        let profile =
            Profile::named(&self.profile).expect("clap allows only known names, and a test reads each profile");
        let Self { root, pid, interface, connections, load, .. } = self;
        let report = doctor::examine(&Question { root, process: pid, profile, interface, connections, load }, config);
        let code = match report.verdict {
            Verdict::Fine => 0,
            Verdict::Problems => 1,
            Verdict::Unknown => 2,
        };
        (if self.json { json(&report) } else { text(&report, self.quiet) }, code)
    }
}

fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("texts and numbers can always be written");
    text.push('\n');
    text
}

fn text(report: &Report, quiet: bool) -> String {
    let interfaces = if report.interfaces.is_empty() { "no interface".into() } else { report.interfaces.join(", ") };
    let mut out = format!(
        "profile {}: {} connections on {} shards, cores {}, {interfaces}\n",
        report.profile, report.connections, report.shards, report.cores
    );
    let mut area = "";
    for finding in report.findings.iter().filter(|finding| !quiet || finding.severity > Severity::Note) {
        if finding.area != area {
            area = finding.area;
            let _ = writeln!(out, "\n{area}");
        }
        write_finding(&mut out, finding);
    }
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let _ = writeln!(
        out,
        "\n{} ok, {} notes, {} problems ({} of them must be fixed for the expected load), {} unknown. Nothing was changed.",
        count(Severity::Ok),
        count(Severity::Note),
        count(Severity::Warn) + count(Severity::Fail),
        count(Severity::Fail),
        count(Severity::Unknown)
    );
    out
}

fn write_finding(out: &mut String, finding: &Finding) {
    let word = match finding.severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Unknown => "unknown",
        Severity::Warn => "warn",
        Severity::Fail => "FAIL",
    };
    fold(out, &format!("  {word:<7} "), &format!("{}: {}", finding.name, finding.actual));
    if finding.severity == Severity::Ok {
        return;
    }
    let details =
        [("expected", &finding.expected), ("why", &finding.why), ("cost", &finding.cost), ("fix", &finding.fix)];
    for (label, text) in details.into_iter().filter(|(_, text)| !text.is_empty()) {
        fold(out, &format!("{:>width$}  ", label, width = INDENT + 4), text);
    }
}

/// The head and the text, broken between words; further lines begin below the first word of the text.
fn fold(out: &mut String, head: &str, text: &str) {
    let indent = head.chars().count();
    out.push_str(head);
    let mut column = indent;
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if index > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_between_words() {
        let mut out = String::new();
        fold(&mut out, "  why  ", &"word ".repeat(60));
        assert!(out.lines().count() > 2 && out.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(out.lines().skip(1).all(|line| line.starts_with("       w")), "{out}");
    }
}
