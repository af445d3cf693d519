//! A run read from a file that `--out` wrote. Any part may be missing.

use super::figures::Quantity;
use serde_json::Value;

/// The version of the object. It rises when a field changes its meaning or is removed; new fields do not change it.
pub const SCHEMA: u64 = 1;
/// The order of the facts about the host.
const FACTS: &str = "cpu cores smt virtual governor memory_bytes kernel clock_source huge_pages files_max files_hard_max loopback \
     load_average_at_start server";
/// Latencies of opening connections.
pub const OPENINGS: [&str; 4] = ["upgraded_us", "connected_us", "subscribed_us", "ready_us"];

/// A percentile curve: (one in so many, microseconds), both rising.
pub type Curve = Vec<(f64, f64)>;

#[derive(Clone, Debug)]
pub struct SavedRun {
    /// The file name.
    pub name: String,
    pub value: Value,
}

impl SavedRun {
    /// Reads a file; the error names it.
    pub fn load(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("{path} is not JSON: {e}"))?;
        match value["schema"].as_u64() {
            Some(schema) if schema > SCHEMA => {
                Err(format!("{path} has schema {schema}; this version reads up to {SCHEMA}: use the one that wrote it"))
            }
            Some(_) if value["result"].is_object() => Ok(Self { name: path.into(), value }),
            _ => Err(format!("{path} is not a complete run: use a file that --out wrote")),
        }
    }

    pub fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }

    pub fn texts(&self, key: &str) -> Vec<&str> {
        self.list(key).filter_map(Value::as_str).collect()
    }

    fn list(&self, key: &str) -> impl Iterator<Item = &Value> {
        self.value[key].as_array().into_iter().flatten()
    }

    /// A figure of the result; `a.b` is field b of a.
    pub fn figure(&self, path: &str) -> Option<f64> {
        find(&self.value["result"], path)?.as_f64()
    }

    /// A column of the time series.
    pub fn column(&self, path: &str) -> Vec<Option<f64>> {
        let column = find(&self.value["series"], path).and_then(Value::as_array);
        column.map_or_else(Vec::new, |column| column.iter().map(Value::as_f64).collect())
    }

    /// Keys and labels of all latencies: messages first, then connections, then the background, and the own lag last.
    pub fn latencies_ranked(&self) -> Vec<(&str, &str)> {
        let named = self.list("curves").filter_map(|curve| Some((curve["key"].as_str()?, curve["label"].as_str()?)));
        let mut all: Vec<_> = named.collect();
        all.sort_by_key(|(key, _)| match OPENINGS.iter().position(|one| one == key) {
            Some(rank) => 1 + rank,
            None if key.starts_with("beside") => 1 + OPENINGS.len(),
            None if *key == "own_lag_us" => 2 + OPENINGS.len(),
            None => 0,
        });
        all
    }

    /// The latency that the run is about: the first in rank; of connections only the time until they are ready.
    pub fn main_latency(&self) -> Option<(&str, &str)> {
        let is_filled = |(key, _): &(&str, &str)| self.figure(&format!("{key}.count")).is_some_and(|n| n > 0.0);
        let all: Vec<_> = self.latencies_ranked().into_iter().filter(is_filled).collect();
        let ready = || all.iter().find(|(key, _)| *key == "ready_us");
        let first = all.first().filter(|(key, _)| !OPENINGS.contains(key));
        first.or_else(ready).or_else(|| all.first()).copied()
    }

    pub fn curve(&self, key: &str) -> Curve {
        let points = self.list("curves").find(|curve| curve["key"] == key).and_then(|curve| curve["points"].as_array());
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_f64()?));
        points.into_iter().flatten().filter_map(point).collect()
    }

    /// Labels and texts, as they were printed.
    pub fn rows(&self) -> Vec<(&str, &str)> {
        self.list("rows").filter_map(|row| Some((row[0].as_str()?, row[1].as_str()?))).collect()
    }

    /// Facts about the host by name; those inside another are named `outer inner` and come last.
    pub fn facts(&self) -> Vec<(String, String)> {
        let host = self.value["host"].as_object();
        let (inner, mut facts): (Vec<_>, Vec<_>) = host.into_iter().flatten().partition(|(_, value)| value.is_object());
        facts.sort_by_key(|(name, _)| FACTS.split(' ').position(|known| known == *name).unwrap_or(usize::MAX));
        let named =
            facts.into_iter().map(|(name, value)| (name.trim_end_matches("_bytes").replace('_', " "), name, value));
        let inner = inner.into_iter().flat_map(|(outer, value)| {
            let outer = outer.trim_end_matches('s');
            value.as_object().into_iter().flatten().map(move |(name, value)| (format!("{outer} {name}"), name, value))
        });
        named.chain(inner).map(|(label, name, value)| (label, display(name, value))).collect()
    }
}

fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    // A key may contain a dot itself: p99.9.
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    let (outer, inner) = path.split_once('.')?;
    value.get(outer)?.get(inner)
}

fn display(name: &str, value: &Value) -> String {
    match value {
        Value::Number(bytes) if name.ends_with("_bytes") => Quantity::Bytes.text(bytes.as_f64().unwrap_or(0.0)),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A run of three seconds with all parts; `times` multiplies its latencies.
    pub fn run(name: &str, times: f64) -> SavedRun {
        let us = |value: f64| value * times;
        let latency = json!({"p50": us(100.0), "p90": us(150.0), "p99": us(300.0), "p99.9": us(900.0), "max": us(2000.0),
            "count": 3000});
        let curve = json!({"key": "latency_us", "label": "latency of <deliveries>",
            "points": [[1, us(50.0)], [2, us(100.0)], [10, us(150.0)], [100, us(300.0)], [3000, us(2000.0)]]});
        let value = json!({
            "schema": 1, "tool": "corecast-load 0", "kind": "fanout", "command": ["corecast-load", "fanout", "ws://a&b"],
            "started": "2026-01-01 00:00:00 UTC", "void": [], "warnings": ["mind <this>"],
            "result": {"latency_us": latency, "per_second": 1000.0 / times, "unit": "deliveries", "seconds": 3.0,
                "subscribers": 10, "server_busy": 0.5, "server_ns_per_message": us(900.0), "own_busy": 0.2},
            "rows": [["deliveries per second", "1,000"], ["server", "50 % busy"], ["generator", "20 % busy"]],
            "curves": [curve],
            "series": {"phases": [{"name": "opening", "from": 0.0}, {"name": "warm-up", "from": 0.5},
                {"name": "measured", "from": 1.0}], "measured": [1.0, 3.0], "at": [1.0, 2.0, 3.0],
                "received_per_second": [10.0, 1000.0, 1010.0], "sent_per_second": [1.0, 100.0, 101.0],
                "own_busy": [0.1, 0.2, 0.2], "server_busy": [0.2, 0.5, 0.5], "server_rss_bytes": [1e6, 2e6, 2e6],
                "latency_us": {"p50": [null, us(100.0), us(101.0)], "p90": [null, us(150.0), us(151.0)],
                    "p99": [null, us(300.0), us(300.0)], "max": [null, us(2000.0), us(900.0)], "count": [0, 9, 9]}},
            "host": {"cpu": "X", "cores": 2, "loopback": true, "sysctls": {"net.core.somaxconn": "4096"}},
        });
        SavedRun { name: name.into(), value }
    }

    #[test]
    fn figures_and_columns_are_read_by_path() {
        let run = run("a", 1.0);
        assert_eq!((run.figure("latency_us.p99.9"), run.figure("latency_us.p50")), (Some(900.0), Some(100.0)));
        assert_eq!(run.figure("nothing.at_all"), None);
        assert_eq!(run.column("latency_us.p50"), [None, Some(100.0), Some(101.0)]);
        assert_eq!(run.main_latency().unwrap().0, "latency_us");
        assert!(run.facts().contains(&("sysctl net.core.somaxconn".into(), "4096".into())));
        assert!(run.facts().contains(&("loopback".into(), "yes".into())));
        assert_eq!(run.curve("latency_us").len(), 5);
    }

    #[test]
    fn file_that_is_not_a_run_is_rejected_with_its_name() {
        let path = format!("{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        assert!(SavedRun::load(&path).unwrap_err().contains("is not JSON"));
        assert!(SavedRun::load("/no/such/file").unwrap_err().starts_with("/no/such/file"));
    }
}
