//! The paths of the transports over plain HTTP.

use super::checks::Checks;
use crate::config::schema::config::Config;
use crate::http::BODY_BYTES_MAX;

/// Paths that are served already.
const TAKEN: &[&str] = &["/connection/websocket", "/connection/uni_websocket", "/echo", "/health", "/metrics", "/api"];

pub(crate) fn paths(config: &Config, checks: &mut Checks) {
    let Config { http_stream, sse, emulation, uni_http_stream, uni_sse, init, .. } = config;
    let sections = [
        ("http_stream", &http_stream.handler_prefix, http_stream.max_request_body_size),
        ("sse", &sse.handler_prefix, sse.max_request_body_size),
        ("emulation", &emulation.handler_prefix, emulation.max_request_body_size),
        ("uni_http_stream", &uni_http_stream.handler_prefix, uni_http_stream.max_request_body_size),
        ("uni_sse", &uni_sse.handler_prefix, uni_sse.max_request_body_size),
        ("init", &init.handler_prefix, 0),
    ];
    for (index, (section, path, body_bytes_max)) in sections.iter().enumerate() {
        let name = format!("{section}.handler_prefix");
        let is_path =
            path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        checks.require(is_path, &name, format!("{path:?} is not a path"), "begin it with /, without a query");
        let is_taken = TAKEN.contains(&path.as_str()) || sections[..index].iter().any(|(_, other, _)| other == path);
        checks.require(!is_taken, &name, format!("{path} is served already"), "choose another path");
        let what = format!("{body_bytes_max} bytes are more than {BODY_BYTES_MAX}");
        let fits = *body_bytes_max <= BODY_BYTES_MAX;
        checks.require(
            fits,
            &format!("{section}.max_request_body_size"),
            what,
            "write 64KiB, the default, or up to 1MiB",
        );
    }
}
