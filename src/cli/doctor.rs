//! `corecast doctor`: its arguments, and the report as a person or a program reads it.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use corecast::config::Config;
use corecast::doctor::{self, Finding, PROFILES, Profile, Question, Report, Severity, Verdict};

/// Columns of a line.
const WIDTH: usize = 110;
/// Before what is said below a finding.
const INDENT: usize = 15;

#[derive(Args, Debug)]
pub struct Doctor {
    /// File with the settings, as for `serve`: cores, listeners and bounds come from it [env: CORECAST_CONFIG]
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// What the host is wanted for
    #[arg(long, default_value = PROFILES[0].0, value_parser = PossibleValuesParser::new(PROFILES.iter().map(|(name, _)| *name)))]
    profile: String,
    /// Connections at once [default: client.connection_limit, else the profile's]
    #[arg(long, value_name = "N")]
    connections: Option<u64>,
    /// The interface that clients come through [default: that of the default route]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Look at the limits and groups of this process, as of a server that runs, and not at the doctor's own
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Judge the settings of a machine that generates load too
    #[arg(long)]
    load: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Show only what is not fine
    #[arg(long, short)]
    quiet: bool,
    /// Look below this folder for proc and sys, such as a copy from another host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

pub const HELP: &str = "\
Examples:
  corecast doctor
  corecast doctor --config /etc/corecast/corecast.toml --profile million-connections
  corecast doctor --pid \"$(pidof corecast)\" --quiet
  corecast doctor --json | jq '.findings[] | select(.severity == \"fail\")'

It changes nothing; tuning/tune does, and undoes it. Each line is
  ok      as it should be
  note    worth knowing; nothing needs to be done
  unseen  could not be looked at: in a container, or without the rights
  warn    slower or less certain than this host could be
  FAIL    the expected load does not fit, or the server will not start

Exit codes: 0 all fine, 1 something should be mended (warn or FAIL), 2 nothing is wrong with what
was seen but something could not be seen, or wrong arguments or settings.";

impl Doctor {
    /// What goes to stdout, and the exit code.
    pub fn run(self, config: &Config) -> (String, u8) {
        let profile = Profile::named(&self.profile).expect("one of the names that clap allows, and a test reads each");
        let Self { root, pid, interface, connections, load, .. } = self;
        let report = doctor::examine(&Question { root, process: pid, profile, interface, connections, load }, config);
        let code = match report.verdict {
            Verdict::Fine => 0,
            Verdict::Mend => 1,
            Verdict::Unseen => 2,
        };
        (if self.json { json(&report) } else { text(&report, self.quiet) }, code)
    }
}

fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("texts and numbers");
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
        say(&mut out, finding);
    }
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let _ = writeln!(
        out,
        "\n{} fine, {} noted, {} to mend ({} of them for the expected load to fit), {} not seen. Nothing was changed.",
        count(Severity::Ok),
        count(Severity::Note),
        count(Severity::Warn) + count(Severity::Fail),
        count(Severity::Fail),
        count(Severity::Unseen)
    );
    out
}

fn say(out: &mut String, finding: &Finding) {
    let word = match finding.severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Unseen => "unseen",
        Severity::Warn => "warn",
        Severity::Fail => "FAIL",
    };
    fold(out, &format!("  {word:<6} "), &format!("{}: {}", finding.name, finding.is));
    if finding.severity == Severity::Ok {
        return;
    }
    let said =
        [("should be", &finding.should), ("why", &finding.why), ("costs", &finding.cost), ("mend", &finding.mend)];
    for (label, text) in said.into_iter().filter(|(_, text)| !text.is_empty()) {
        fold(out, &format!("{:>width$}  ", label, width = INDENT + 4), text);
    }
}

/// The text behind its head, broken between words, later lines below its first word.
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
