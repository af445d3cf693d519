//! A connect command that requests many channels: the limit is checked before anything is done for them, and within the
//! limit each channel is looked at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corecast::config::Config;
use corecast::embed::{Denied, HookClient, Hooks};
use corecast::engine::config::EngineConfig;
use corecast::messaging::Settings;

use crate::common::one_shard::OneShard;

/// As many as fit into a message.
const CHANNELS: usize = 6_000;

/// Counts the channels that it is asked about.
struct Count(Arc<AtomicUsize>);

impl Hooks for Count {
    fn authorize_subscribe(&self, _: &HookClient<'_>, _: &str) -> Result<(), Denied> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What the client gets for a connect with so many channels, each of them `times` times, and how often the hook was asked.
fn connect(channel_limit: usize, channels: usize, times: usize) -> (String, usize) {
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.channel_limit = channel_limit;
    let asked = Arc::new(AtomicUsize::new(0));
    let hooks: Option<Arc<dyn Hooks>> = Some(Arc::new(Count(Arc::clone(&asked))));
    let settings = Settings { hooks, ..Settings::new(&config, |_| false) };
    let mut server = OneShard::new(settings, EngineConfig { connections_max: 10, ..EngineConfig::default() });
    let subs: Vec<_> = (0..channels * times).map(|n| format!("\"{:x}\":{{}}", n % channels)).collect();
    server.send(&format!("{{\"id\":1,\"connect\":{{\"subs\":{{{}}}}}}}", subs.join(",")));
    server.run();
    (server.received(), asked.load(Ordering::Relaxed))
}

#[test]
fn request_for_more_channels_than_the_limit_is_closed_before_any_of_them_is_looked_at() {
    for (channels, times) in [(CHANNELS, 1), (129, 1), (1, CHANNELS)] {
        let (received, asked) = connect(128, channels, times);
        assert_eq!(asked, 0, "{channels} channels, {times} times");
        assert!(received.ends_with("channel limit"), "{received:?}");
    }
}

#[test]
fn request_within_the_limit_brings_each_channel_once() {
    let (received, asked) = connect(CHANNELS, CHANNELS / 2, 2);
    assert_eq!(asked, CHANNELS, "the hook is asked once for each entry");
    assert_eq!(received.matches(":{").count() - received.matches("\"connect\":{").count(), CHANNELS / 2 + 1);
    let (received, _) = connect(128, 128, 1);
    assert!(received.contains("\"connect\":{"), "{received:?}");
}
