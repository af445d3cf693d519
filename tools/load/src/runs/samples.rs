//! Sample files of runs, which `corecast-load scenarios` prints.

/// Names and texts.
pub const SAMPLES: [(&str, &str); 8] = [
    ("echo", include_str!("../../scenarios/echo.toml")),
    ("fanout", include_str!("../../scenarios/fanout.toml")),
    ("chat", include_str!("../../scenarios/chat.toml")),
    ("notifications", include_str!("../../scenarios/notifications.toml")),
    ("slow", include_str!("../../scenarios/slow.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    ("storms", include_str!("../../scenarios/storms.toml")),
    ("pusher", include_str!("../../scenarios/pusher.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::run_file;

    #[test]
    fn every_sample_is_valid_and_listed() {
        for (name, text) in SAMPLES {
            let runs = run_file::read(name, text).unwrap();
            assert!(!runs.is_empty(), "{name}");
            assert!(text.starts_with("# "), "{name} begins with its purpose");
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), SAMPLES.len());
    }
}
