//! Settings that name addresses: listeners, networks, cores, origins.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use super::value::{Argument, Invalid, Raw, Unit, list, quoted};
use crate::engine::net::listener::{Address as ListenAddress, ListenOptions};

/// An IP address with a port, or unset.
pub(crate) enum Address {}

impl Unit<Option<SocketAddr>> for Address {
    const FORM: &'static str = "\"ADDR:PORT\"";
    const ARGUMENT: Argument = Argument::One("ADDR:PORT");

    fn read(raw: &Raw) -> Result<Option<SocketAddr>, Invalid> {
        let Raw::Text(text) = raw else {
            return Err(raw.is_not("an address", "write \"ADDR:PORT\", such as \"127.0.0.1:9000\""));
        };
        socket_address(text.trim()).map(Some)
    }

    fn show(address: &Option<SocketAddr>) -> Option<String> {
        address.map(|address| quoted(&address.to_string()))
    }
}

/// Where and how clients connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    pub address: ListenAddress,
    pub options: ListenOptions,
}

impl Listen {
    /// Prefixes of an address in the setting `listen`.
    const PROXIED: &str = "proxy:";
    const TLS: &str = "tls:";

    /// A listener without TLS or the PROXY protocol.
    pub fn plain(address: ListenAddress) -> Self {
        Self { address, options: ListenOptions::default() }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxied = if self.options.proxied { Self::PROXIED } else { "" };
        let tls = if self.options.tls { Self::TLS } else { "" };
        write!(f, "{proxied}{tls}{}", self.address)
    }
}

impl FromStr for Listen {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut options = ListenOptions::default();
        let mut address = text;
        loop {
            let (option, rest) = match (address.strip_prefix(Self::TLS), address.strip_prefix(Self::PROXIED)) {
                (Some(rest), _) => (&mut options.tls, rest),
                (_, Some(rest)) => (&mut options.proxied, rest),
                (None, None) => return Ok(Self { address: listen_address(address)?, options }),
            };
            if std::mem::replace(option, true) {
                return Err(Invalid::new(format!("\"{text}\" repeats a prefix"), "write it once"));
            }
            address = rest;
        }
    }
}

fn listen_address(text: &str) -> Result<ListenAddress, Invalid> {
    if let Some(path) = text.strip_prefix("unix:") {
        // sun_path holds 108 bytes, the closing zero among them (unix(7)).
        if !path.starts_with('/') || path.len() > 107 {
            let what = format!("\"{text}\" is not an absolute path of at most 107 bytes");
            return Err(Invalid::new(what, "write \"unix:/run/corecast/client.sock\""));
        }
        return Ok(ListenAddress::Unix(PathBuf::from(path)));
    }
    if let Some(number) = text.strip_prefix("fd:") {
        let number = number.parse::<i32>().ok().filter(|&number| number >= 3);
        let what = format!("\"{text}\" is not an inherited descriptor");
        let fix = "write \"fd:3\" or above, as the parent process passes it; 0 to 2 are the standard streams";
        return number.map(ListenAddress::Inherited).ok_or_else(|| Invalid::new(what, fix));
    }
    socket_address(text).map(ListenAddress::Tcp)
}

/// One or more listeners.
pub(crate) enum Listeners {}

impl Unit<Vec<Listen>> for Listeners {
    const FORM: &'static str =
        "list of \"ADDR:PORT\", \"[V6]:PORT\", \"unix:/PATH\", \"fd:N\", each with proxy: and tls: before it if needed";
    const ARGUMENT: Argument = Argument::Many("ADDR:PORT");

    fn read(raw: &Raw) -> Result<Vec<Listen>, Invalid> {
        let fix = "write a list, such as [\"[::]:8000\"]";
        let listeners: Vec<Listen> = raw.items(fix)?.iter().map(|item| item.parse()).collect::<Result<_, _>>()?;
        if listeners.is_empty() { Err(Invalid::new("it contains no address", fix)) } else { Ok(listeners) }
    }

    fn show(listeners: &Vec<Listen>) -> Option<String> {
        Some(list(listeners.iter().map(Listen::to_string)))
    }
}

/// Networks; a single address counts as one.
pub(crate) enum Networks {}

impl Unit<Vec<IpNet>> for Networks {
    const FORM: &'static str = "list of \"ADDR\" or \"ADDR/BITS\"";

    fn read(raw: &Raw) -> Result<Vec<IpNet>, Invalid> {
        let fix = "write a list, such as [\"10.0.0.0/8\", \"2001:db8::/32\"]";
        raw.items(fix)?.iter().map(|item| network(item)).collect()
    }

    fn show(networks: &Vec<IpNet>) -> Option<String> {
        Some(list(networks.iter().map(IpNet::to_string)))
    }
}

fn network(text: &str) -> Result<IpNet, Invalid> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let invalid = || Invalid::new(format!("\"{text}\" is not a network"), "write a network such as \"10.0.0.0/8\"");
    let net = net.ok_or_else(invalid)?;
    if net.trunc() != net {
        let what = format!("\"{text}\" has bits after its prefix");
        return Err(Invalid::new(what, format!("write \"{}\"", net.trunc())));
    }
    Ok(net)
}

fn socket_address(text: &str) -> Result<SocketAddr, Invalid> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        let fix = match (port, text.parse::<IpAddr>()) {
            (_, Ok(IpAddr::V6(_))) => format!("put an IPv6 address in brackets: \"[{text}]:8000\""),
            (_, Ok(IpAddr::V4(_))) => format!("add the port: \"{text}:8000\""),
            (Some(port), _) if text.starts_with("localhost:") => {
                format!("names are not resolved; write \"127.0.0.1:{port}\"")
            }
            (Some(port), _) => {
                format!("names are not resolved; write the address, or \"[::]:{port}\" for all of this machine")
            }
            _ => "write \"ADDR:PORT\", such as \"127.0.0.1:8000\" or \"[::]:8000\"".to_owned(),
        };
        Invalid::new(format!("\"{text}\" is not an address with a port"), fix)
    })
}

/// The highest core number taken: a higher one is more likely a typing error than a machine.
const CORE_MAX: usize = 4095;

/// Distinct core numbers in the order written, or unset.
pub(crate) enum Cores {}

impl Unit<Option<Vec<usize>>> for Cores {
    const FORM: &'static str = "cores: \"0,2-5\"";
    const ARGUMENT: Argument = Argument::One("LIST");

    fn read(raw: &Raw) -> Result<Option<Vec<usize>>, Invalid> {
        let invalid = |what: String| Invalid::new(what, "write core numbers and ranges, such as \"0,2-5\"");
        let text = match raw {
            Raw::Text(text) if text.trim().starts_with('[') => {
                raw.items("write core numbers and ranges, such as \"0,2-5\"")?.join(",")
            }
            Raw::Text(text) => text.clone(),
            Raw::Integer(core) => core.to_string(),
            Raw::List(cores) => cores.join(","),
            _ => return Err(invalid(format!("{} is not a list of cores", raw.describe()))),
        };
        let mut cores: Vec<usize> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last <= CORE_MAX => first..=last,
                (Ok(first), Ok(last)) if first > last => {
                    return Err(invalid(format!("the range {part} runs backwards")));
                }
                (Ok(_), Ok(_)) => return Err(invalid(format!("{part} is beyond core {CORE_MAX}"))),
                _ => return Err(invalid(format!("\"{part}\" is neither a core nor a range of cores"))),
            };
            for core in range {
                if cores.contains(&core) {
                    return Err(invalid(format!("core {core} is listed twice")));
                }
                cores.push(core);
            }
        }
        Ok(Some(cores))
    }

    fn show(cores: &Option<Vec<usize>>) -> Option<String> {
        let numbers = cores.as_ref()?.iter().map(usize::to_string).collect::<Vec<_>>();
        Some(quoted(&numbers.join(",")))
    }
}

/// Patterns of web origins.
pub(crate) enum Origins {}

impl Unit<Vec<String>> for Origins {
    const FORM: &'static str = "list of origins; * matches any text";

    fn read(raw: &Raw) -> Result<Vec<String>, Invalid> {
        let items = raw.items("write a list, such as [\"https://example.com\"]")?;
        items.into_iter().map(|item| origin(&item).map(|()| item)).collect()
    }

    fn show(origins: &Vec<String>) -> Option<String> {
        Some(list(origins.iter().cloned()))
    }
}

/// An origin is scheme, host and port (RFC 6454, section 6.2): no path, and browsers never send a slash at the end.
fn origin(text: &str) -> Result<(), Invalid> {
    if text == "*" || text == "null" {
        return Ok(());
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return Err(Invalid::new(format!("\"{text}\" has no scheme"), format!("write \"https://{text}\"")));
    };
    if let Some(slash) = host.find('/') {
        let what = format!("\"{text}\" has a path, which browsers do not send");
        return Err(Invalid::new(what, format!("write \"{scheme}://{}\"", &host[..slash])));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    #[test]
    fn listeners_of_each_kind_are_read_and_shown_again() {
        for typed in [
            "127.0.0.1:8000",
            "[::1]:8000",
            "unix:/run/corecast.sock",
            "fd:3",
            "proxy:[::1]:80",
            "proxy:unix:/x",
            "tls:0.0.0.0:8443",
            "proxy:tls:fd:3",
        ] {
            assert_eq!(typed.parse::<Listen>().unwrap().to_string(), typed);
        }
        let turned = "tls:proxy:127.0.0.1:1".parse::<Listen>().unwrap();
        assert_eq!(turned.to_string(), "proxy:tls:127.0.0.1:1");
        for (bad, fix) in [
            ("localhost:8000", "127.0.0.1:8000"),
            (":8000", "[::]:8000"),
            ("::1", "[::1]:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("unix:relative", "unix:/run"),
            ("fd:1", "fd:3"),
            ("8000", "[::]:8000"),
            ("tls:tls:127.0.0.1:8000", "once"),
            ("tls:", "127.0.0.1:8000"),
        ] {
            let invalid = bad.parse::<Listen>().unwrap_err();
            assert!(invalid.fix.contains(fix), "{bad}: {invalid:?}");
        }
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        assert_eq!(Cores::read(&text("0, 2-5")).unwrap(), Some(vec![0, 2, 3, 4, 5]));
        assert_eq!(Cores::read(&text("[0,1]")).unwrap(), Some(vec![0, 1]));
        assert_eq!(Cores::read(&Raw::List(vec!["0".into(), "2-3".into()])).unwrap(), Some(vec![0, 2, 3]));
        for bad in ["", "a", "5-2", "0,0", "1-3,2", "0-99999999", "-1", "1-"] {
            assert!(Cores::read(&text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_read_and_an_address_is_one() {
        let networks = Networks::read(&text("10.0.0.0/8, 192.0.2.1,2001:db8::/32")).unwrap();
        assert_eq!(Networks::show(&networks).unwrap(), "[\"10.0.0.0/8\", \"192.0.2.1/32\", \"2001:db8::/32\"]");
        assert_eq!(network("10.1.2.3/8").unwrap_err().fix, "write \"10.0.0.0/8\"");
        assert!(network("10.0.0.0/33").is_err() && network("ten").is_err());
        assert!(Networks::read(&text("")).unwrap().is_empty());
    }

    #[test]
    fn origin_has_a_scheme_and_no_path() {
        for good in ["*", "null", "https://example.com", "https://*.example.com", "http://localhost:3000"] {
            origin(good).unwrap();
        }
        assert_eq!(origin("https://example.com/").unwrap_err().fix, "write \"https://example.com\"");
        assert_eq!(origin("example.com").unwrap_err().fix, "write \"https://example.com\"");
    }
}
