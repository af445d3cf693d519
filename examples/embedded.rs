//! The message server in a program of your own: its hooks keep a channel for the staff and moderate what clients publish.
//!
//! `cargo run --release --example embedded`, then open http://127.0.0.1:9000/ and chat. Environment variables change the
//! settings, as with `corecast serve`.

use corecast::embed::{Denied, HookClient, Hooks, MessageServer, PublishDecision, load_text};

const SETTINGS: &str = r#"
dev = true
listen = ["127.0.0.1:8000"]
"#;

struct Moderation;

impl Hooks for Moderation {
    fn authorize_subscribe(&self, client: &HookClient<'_>, channel: &str) -> Result<(), Denied> {
        if channel == "staff" && !client.user.starts_with("staff-") { Err(Denied) } else { Ok(()) }
    }

    fn on_publish(&self, _: &HookClient<'_>, _channel: &str, data: &[u8]) -> PublishDecision {
        let Ok(text) = std::str::from_utf8(data) else { return PublishDecision::Deny };
        if text.contains("https://") {
            return PublishDecision::Deny;
        }
        if text.contains("darn") {
            return PublishDecision::Replace(text.replace("darn", "****").into_bytes());
        }
        PublishDecision::Accept
    }
}

// Public for `tests/it/embedded_hooks.rs`, which runs this file.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    let settings = || load_text(SETTINGS, std::env::vars());
    MessageServer::new(settings)?.hooks(Moderation).run()?;
    Ok(())
}
