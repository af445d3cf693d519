//! The text of an address of Redis or NATS in its parts. Errors do not repeat the text: it may contain a password, in whatever
//! place a typing error has put it.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::Endpoint;
use crate::config::parse::scalar::{Bool, duration};
use crate::config::parse::value::{Raw, Unit};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const NATS_PORT: u16 = 4222;

/// What an address of Redis says. `None` is unsaid.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct RedisAddress {
    pub kind: RedisKind,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub db: Option<u32>,
    pub tls: bool,
    pub force_resp2: Option<bool>,
    pub replica_client: Option<bool>,
    pub connect_timeout: Option<Duration>,
    pub io_timeout: Option<Duration>,
    pub sentinel_master_name: Option<String>,
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<String>,
    pub sentinel_tls: bool,
    /// Names of parameters that mean nothing.
    pub unknown: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum RedisKind {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

/// The scheme of an address, the kind it means, and whether it uses TLS.
const SCHEMES: &[(&str, RedisKind, bool)] = &[
    ("redis://", RedisKind::Single, false),
    ("rediss://", RedisKind::Single, true),
    ("tcp://", RedisKind::Single, false),
    ("redis+cluster://", RedisKind::Cluster, false),
    ("rediss+cluster://", RedisKind::Cluster, true),
    ("redis+sentinel://", RedisKind::Sentinel, false),
    ("rediss+sentinel://", RedisKind::Sentinel, true),
];

const UNIX: &str = "unix://";

/// Errors: what is wrong, for a sentence that names the address.
pub(crate) fn redis_address(text: &str) -> Result<RedisAddress, String> {
    if let Some(rest) = text.strip_prefix(UNIX) {
        return unix_address(rest);
    }
    let Some((scheme, mut kind, tls)) = SCHEMES.iter().copied().find(|(scheme, ..)| text.starts_with(scheme)) else {
        let what = "it is neither \"host:port\" nor begins with redis://, rediss://, redis+cluster://, redis+sentinel://, \
                    rediss+sentinel://, unix:// or tcp://";
        let endpoint = host_port(text, None).ok_or(what)?;
        return Ok(RedisAddress { endpoints: vec![endpoint], ..RedisAddress::default() });
    };
    let parts = split(&text[scheme.len()..])?;
    let mut address = RedisAddress { kind, tls, user: parts.user, password: parts.password, ..RedisAddress::default() };
    read_parameters(&mut address, &parts.query)?;
    let more: Vec<&str> =
        parts.query.iter().filter(|(key, _)| key == "addr").map(|(_, value)| value.as_str()).collect();
    if address.sentinel_master_name.is_some() {
        kind = RedisKind::Sentinel;
    } else if kind == RedisKind::Single && !more.is_empty() {
        // Only a cluster has several servers of equal rank.
        kind = RedisKind::Cluster;
    }
    address.kind = kind;
    address.sentinel_tls |= tls && kind == RedisKind::Sentinel;
    let port = if kind == RedisKind::Sentinel { SENTINEL_PORT } else { REDIS_PORT };
    let host = if parts.host.starts_with(':') { format!("localhost{}", parts.host) } else { parts.host };
    for host in std::iter::once(host.as_str()).chain(more) {
        address.endpoints.push(host_port(host, Some(port)).ok_or("its host or port cannot be read")?);
    }
    address.db = match parts.path.trim_matches('/') {
        "" => None,
        db => Some(db.parse().map_err(|_| "the path after its host is not the number of a database")?),
    };
    Ok(address)
}

/// A server on this machine: only logins and timeouts make sense beside the path.
fn unix_address(rest: &str) -> Result<RedisAddress, String> {
    let parts = split(rest)?;
    let mut address = RedisAddress { user: parts.user, password: parts.password, ..RedisAddress::default() };
    read_parameters(&mut address, &parts.query)?;
    if !parts.host.is_empty() || !parts.path.starts_with('/') {
        return Err("the path of a unix socket begins with a slash: unix:///run/redis.sock".into());
    }
    // sun_path holds 108 bytes, the closing zero among them (unix(7)).
    if parts.path.len() > 107 {
        return Err("the path of a unix socket has at most 107 bytes".into());
    }
    if address.sentinel_master_name.is_some() || parts.query.iter().any(|(key, _)| key == "addr") {
        return Err("a unix socket is one server: it has neither addr nor sentinel_master_name".into());
    }
    address.endpoints.push(Endpoint::Unix(PathBuf::from(parts.path)));
    Ok(address)
}

/// Of several parameters with one name, the first counts.
fn read_parameters(address: &mut RedisAddress, query: &[(String, String)]) -> Result<(), String> {
    let text = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let flag = |name: &str| match text(name) {
        None => Ok(None),
        Some(value) => match Bool::read(&Raw::Text(value)) {
            Ok(on) => Ok(Some(on)),
            Err(_) => Err(format!("its parameter {name} is neither true nor false")),
        },
    };
    let time = |name: &str| match text(name) {
        None => Ok(None),
        Some(value) => match duration(&value) {
            Some(span) => Ok(Some(span)),
            None => Err(format!("its parameter {name} is not a time such as 1s")),
        },
    };
    address.tls |= flag("tls_enabled")?.unwrap_or(false);
    address.force_resp2 = flag("force_resp2")?;
    address.replica_client = flag("replica_client_enabled")?;
    address.connect_timeout = time("connect_timeout")?;
    address.io_timeout = time("io_timeout")?;
    address.sentinel_master_name = text("sentinel_master_name").filter(|name| !name.is_empty());
    address.sentinel_user = text("sentinel_user");
    address.sentinel_password = text("sentinel_password");
    address.sentinel_tls = flag("sentinel_tls_enabled")?.unwrap_or(false);
    const KNOWN: [&str; 10] = [
        "addr",
        "tls_enabled",
        "force_resp2",
        "replica_client_enabled",
        "connect_timeout",
        "io_timeout",
        "sentinel_master_name",
        "sentinel_user",
        "sentinel_password",
        "sentinel_tls_enabled",
    ];
    // Another text than a plain name may be the rest of a password with a question mark.
    let is_name = |key: &str| key.len() <= 32 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let unknown = query.iter().map(|(key, _)| key.as_str()).filter(|key| !KNOWN.contains(key));
    address.unknown = unknown.map(|key| if is_name(key) { key.to_owned() } else { "a parameter".into() }).collect();
    Ok(())
}

/// An address after its scheme, decoded.
struct Parts {
    user: Option<String>,
    password: Option<String>,
    host: String,
    path: String,
    query: Vec<(String, String)>,
}

fn split(rest: &str) -> Result<Parts, String> {
    let rest = rest.split('#').next().unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let (user, password) = match login.map(|login| login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)))) {
        Some((user, password)) => (Some(user).filter(|user| !user.is_empty()), password),
        None => (None, None),
    };
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decoded(&key.replace('+', " "))?, decoded(&value.replace('+', " "))?));
    }
    Ok(Parts {
        user: user.map(decoded).transpose()?,
        password: password.map(decoded).transpose()?,
        host: host.to_owned(),
        path: decoded(path)?,
        query: pairs,
    })
}

fn decoded(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(at, _)| at);
    let is_whole = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let what = "it contains a % that no two hexadecimal digits follow: write % as %25";
    if !escapes.into_iter().all(is_whole) {
        return Err(what.into());
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| "it is not UTF-8 after decoding %".into())
}

/// `host:port`, or `[v6]:port`; the port may be absent if there is a default. None: it is neither.
pub(crate) fn host_port(text: &str, default_port: Option<u16>) -> Option<Endpoint> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            // A zone may follow the address: fe80::1%eth0.
            host.split('%').next()?.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    let fits = !host.is_empty() && host.len() <= 255 && host.bytes().all(is_host);
    let port = port.map_or(default_port, |port| port.parse().ok().filter(|&port| port > 0));
    fits.then_some(Endpoint::Tcp(host.to_owned(), port?))
}

/// Every address of the URL with its scheme and port, and whether one asks for TLS.
pub(crate) fn nats_url(text: &str) -> Result<(String, bool), String> {
    let text = if text.is_empty() { "nats://localhost:4222" } else { text };
    let (mut urls, mut tls) = (Vec::new(), false);
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (scheme, rest) = match one.split_once("://") {
            Some((scheme @ ("nats" | "tls"), rest)) => (scheme, rest),
            Some(_) => return Err("it begins neither with nats:// nor with tls://".into()),
            None => ("nats", one),
        };
        let (login, host) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((login, host)) => (format!("{login}@"), host),
            None => (String::new(), rest.trim_end_matches('/')),
        };
        decoded(&login)?;
        let endpoint = host_port(host, Some(NATS_PORT)).ok_or("its host or port cannot be read")?;
        tls |= scheme == "tls";
        urls.push(format!("{scheme}://{login}{endpoint}"));
    }
    if urls.is_empty() {
        return Err("it contains no address".into());
    }
    Ok((urls.join(","), tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp(host.into(), port)
    }

    #[test]
    fn each_form_of_an_address_is_read() {
        for (text, kind, endpoint, tls) in [
            ("localhost:6380", RedisKind::Single, tcp("localhost", 6380), false),
            ("[::1]:6380", RedisKind::Single, tcp("::1", 6380), false),
            ("redis://h", RedisKind::Single, tcp("h", 6379), false),
            ("redis://:6380/", RedisKind::Single, tcp("localhost", 6380), false),
            ("tcp://10.0.0.1:1", RedisKind::Single, tcp("10.0.0.1", 1), false),
            ("rediss://h:2", RedisKind::Single, tcp("h", 2), true),
            ("redis://h:2?tls_enabled=true", RedisKind::Single, tcp("h", 2), true),
            ("redis+cluster://[fe80::1%25eth0]:3", RedisKind::Cluster, tcp("fe80::1%25eth0", 3), false),
            ("redis+sentinel://h?sentinel_master_name=m", RedisKind::Sentinel, tcp("h", 26379), false),
            ("redis://h:5?sentinel_master_name=m", RedisKind::Sentinel, tcp("h", 5), false),
            ("rediss+sentinel://h:5", RedisKind::Sentinel, tcp("h", 5), true),
            ("unix:///run/a%20b.sock", RedisKind::Single, Endpoint::Unix("/run/a b.sock".into()), false),
        ] {
            let address = redis_address(text).unwrap_or_else(|what| panic!("{text}: {what}"));
            assert_eq!((address.kind, address.tls, &address.endpoints), (kind, tls, &vec![endpoint]), "{text}");
            assert_eq!(address.sentinel_tls, tls && kind == RedisKind::Sentinel, "{text}");
            assert!(address.user.is_none() && address.password.is_none() && address.db.is_none(), "{text}");
        }
    }

    #[test]
    fn login_database_and_parameters_are_read() {
        let address = redis_address(
            "redis+sentinel://u%40x:p%3A@h:1/3?sentinel_master_name=my+m&sentinel_user=su&sentinel_password=s%26p&addr=i:2&\
             addr=j&sentinel_tls_enabled=1&tls_enabled=f&force_resp2=T&replica_client_enabled=true&connect_timeout=500ms&\
             io_timeout=1m30s&protocol=3&P%40ss",
        )
        .unwrap();
        assert_eq!(address.endpoints, [tcp("h", 1), tcp("i", 2), tcp("j", 26379)]);
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("u@x"), Some("p:")));
        assert_eq!((address.db, address.tls, address.sentinel_tls), (Some(3), false, true));
        assert_eq!(address.sentinel_master_name.as_deref(), Some("my m"));
        assert_eq!(address.sentinel_user.as_deref(), Some("su"));
        assert_eq!(address.sentinel_password.as_deref(), Some("s&p"));
        assert_eq!((address.force_resp2, address.replica_client), (Some(true), Some(true)));
        assert_eq!(address.connect_timeout, Some(Duration::from_millis(500)));
        assert_eq!(address.io_timeout, Some(Duration::from_secs(90)));
        assert_eq!(address.unknown, ["protocol", "a parameter"]);
        let password = |text: &str| redis_address(text).unwrap().password;
        assert_eq!(password("redis://:only@h:1").as_deref(), Some("only"));
        assert_eq!(password("redis://:a@b@h:1").as_deref(), Some("a@b"));
        assert_eq!(password("unix://u:p@/x").as_deref(), Some("p"));
        assert_eq!(redis_address("redis://h:1?addr=i:2").unwrap().kind, RedisKind::Cluster);
    }

    #[test]
    fn errors_do_not_repeat_the_address() {
        for bad in [
            "",
            "secret",
            ":6379",
            "http://secret:1",
            "redis://",
            "redis://:secret/x@h:1",
            "redis://secret:0",
            "redis://h:secret",
            "redis://h:1/secret",
            "redis://:secret%@h",
            "redis://:secret%ff@h",
            "redis://[secret]:1",
            "redis://h secret:1",
            "redis://h:1?addr=secret:0",
            "redis://h:1?connect_timeout=secret",
            "redis://h:1?connect_timeout=5",
            "redis://h:1?force_resp2=secret",
            "unix://secret",
            "unix://secret/x",
            "unix:///secret?addr=a:1",
            "unix:///x?sentinel_master_name=secret",
        ] {
            let what = redis_address(bad).expect_err(bad);
            assert!(!what.contains("secret"), "{bad}: {what}");
        }
    }

    #[test]
    fn urls_of_nats_get_their_scheme_and_port() {
        for (text, url, tls) in [
            ("", "nats://localhost:4222", false),
            ("h", "nats://h:4222", false),
            ("nats://u:p%40@h:1, tls://[::1]/", "nats://u:p%40@h:1,tls://[::1]:4222", true),
            ("nats://token@h:1,", "nats://token@h:1", false),
        ] {
            assert_eq!(nats_url(text).unwrap(), (url.to_owned(), tls), "{text}");
        }
        for bad in [",", "ws://secret:1", "nats://", "nats://h:secret", "nats://secret%@h"] {
            assert!(!nats_url(bad).expect_err(bad).contains("secret"));
        }
    }
}
