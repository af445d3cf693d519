//! One program for all targets: `CORECAST_FUZZ` names the one to run.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("CORECAST_FUZZ").expect("CORECAST_FUZZ names a target");
    corecast_fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
