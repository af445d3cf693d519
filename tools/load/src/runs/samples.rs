//! Files of runs to begin from, as `corecast-load scenarios` prints them.

/// Their names and texts.
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
    use crate::runs::run_file;

    #[test]
    fn every_sample_is_read_and_none_is_forgotten() {
        for (name, text) in SAMPLES {
            let runs = run_file::read(name, text).unwrap();
            assert!(!runs.is_empty(), "{name}");
            assert!(text.starts_with("# "), "{name} says what it is for");
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), SAMPLES.len());
    }
}
