//! The runnable commands of a document, in order, as one script in a folder of its own, so that a command finds the
//! files of earlier ones. Servers get addresses from the kernel, and the script replaces addresses in later commands by
//! these.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::commands::{Plan, plan};
use super::markdown::{Document, commands_of};
use super::root;

/// Seconds that the commands of one document may take together, on a busy machine.
const SECONDS_MAX: &str = "300";

/// Functions of the script. `start` runs a server and waits until it accepts clients; `CLIENT` and `ADMIN` are its
/// addresses.
const PRELUDE: &str = r#"set -euo pipefail
servers=() CLIENT=127.0.0.1:0 ADMIN=127.0.0.1:0
trap 'for pid in "${servers[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done' EXIT
pidof() { echo "${servers[-1]:-$$}"; }
export CORECAST_HANDOVER_SOCKET=$PWD/handover.sock
start() {
  local log=server-${#servers[@]}.log
  case " $* " in
    *" --takeover "*) ;;
    *) for pid in "${servers[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done; CLIENT=127.0.0.1:0 ADMIN=127.0.0.1:0 ;;
  esac
  corecast "$@" --listen "$CLIENT" --admin "$ADMIN" >/dev/null 2>"$log" &
  servers+=($!)
  for _ in $(seq 600); do
    ADMIN=$(grep -oE 'https?://127\.0\.0\.1:[0-9]+' "$log" | head -n 1 | sed 's,.*//,,' || true)
    CLIENT=$(grep -vE 'https?://' "$log" | grep -oE '127\.0\.0\.1:[0-9]+' | head -n 1 || true)
    if [ -n "$ADMIN" ] && [ -n "$CLIENT" ] && curl -fs -o /dev/null "http://$ADMIN/health"; then return; fi
    kill -0 "${servers[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "the server does not start:"; cat "$log"; exit 1
}
expect() {
  local line=$1 code=$2 wanted=$3
  case " $wanted " in *" $code "*) ;; *) echo "line $line: exit code $code"; exit 1 ;; esac
}
"#;

/// An empty folder for one test.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("corecast-documents-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder of our own");
    folder
}

/// Runs the runnable commands of a document; returns the errors.
pub fn run(document: &Document) -> Vec<String> {
    let mut script = String::from(PRELUDE);
    let mut faults = Vec::new();
    let mut runs = false;
    for block in &document.blocks {
        if block.language == "toml" && !block.file.is_empty() {
            let _ = writeln!(script, "cat >> {} <<'END'\n{}END", block.file, block.text);
        }
        if block.language != "sh" {
            continue;
        }
        for (line, command) in commands_of(block) {
            match plan(&command) {
                None => faults.push(format!("{}:{line}: no rule for `{command}`", document.name)),
                // Visible with `--nocapture`.
                Some(Plan::Check(why)) => println!("{}:{line}: not run, {why}: {command}", document.name),
                Some(plan) => {
                    runs = true;
                    add(&mut script, line, &command, plan);
                }
            }
        }
    }
    if runs {
        faults.extend(outcome(document, &script));
    }
    faults
}

fn add(script: &mut String, line: usize, command: &str, plan: Plan) {
    let command = command.replace("127.0.0.1:9000", "$ADMIN").replace("127.0.0.1:8000", "$CLIENT");
    let _ = match plan {
        Plan::Serve => writeln!(script, "start {}", command.trim_start_matches("corecast ")),
        Plan::Run(codes) => {
            let codes: Vec<String> = codes.iter().map(i32::to_string).collect();
            // A call of the server API succeeds only with a result.
            let checked = if command.starts_with("curl ") { " | tee answer; grep -q '\"result\"' answer" } else { "" };
            writeln!(script, "code=0; {command}{checked} || code=$?; expect {line} $code '{}'", codes.join(" "))
        }
        Plan::Check(_) => Ok(()),
    };
}

fn outcome(document: &Document, script: &str) -> Option<String> {
    let folder = folder(&document.name.replace(['/', '.'], "-"));
    for entry in fs::read_dir(root()).expect("the tree").flatten() {
        let _ = symlink(entry.path(), folder.join(entry.file_name()));
    }
    let _ = fs::copy(root().join("tests/data/centrifugo.json"), folder.join("config.json"));
    fs::write(folder.join("script"), script).expect("a folder of our own");
    let programs = Path::new(env!("CARGO_BIN_EXE_corecast")).parent().expect("a program has a folder");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args([SECONDS_MAX, "bash", "script"])
        .current_dir(&folder)
        .env_clear()
        .env("PATH", path)
        .output()
        .expect("bash and coreutils are there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let _ = fs::remove_dir_all(&folder);
    let failed = !output.status.success();
    failed.then(|| format!("{}: {}\n{}{}", document.name, output.status, text(&output.stdout), text(&output.stderr)))
}
