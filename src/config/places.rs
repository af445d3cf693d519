//! Settings that name a place: addresses, listeners, cores, origins.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::value::{Field, Raw, Unit, Wrong, list, quoted};
use super::{Listen, Place};

impl Field for Option<SocketAddr> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let Raw::Text(text) = raw else {
            return Err(raw.not("an address", "write \"ADDR:PORT\", such as \"127.0.0.1:9000\""));
        };
        *self = Some(socket_address(text)?);
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        self.map(|address| quoted(&address.to_string()))
    }
}

impl Field for Vec<Listen> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let mend = "write a list, such as [\"0.0.0.0:8000\"]";
        let items = raw.items(mend)?;
        *self = items.iter().map(|item| item.parse()).collect::<Result<_, _>>()?;
        if self.is_empty() {
            return Err(Wrong::new("it names no address", mend));
        }
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        Some(list(self.iter().map(Listen::to_string)))
    }
}

impl std::str::FromStr for Listen {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let (mut tls, mut proxied) = (false, false);
        let mut place = text;
        loop {
            let (said, rest) = match (place.strip_prefix(Self::TLS), place.strip_prefix(Self::PROXIED)) {
                (Some(rest), _) => (&mut tls, rest),
                (_, Some(rest)) => (&mut proxied, rest),
                (None, None) => return Ok(Self { place: place.parse()?, tls, proxied }),
            };
            if std::mem::replace(said, true) {
                return Err(Wrong::new(format!("\"{text}\" says the same twice"), "say it once"));
            }
            place = rest;
        }
    }
}

impl std::str::FromStr for Place {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            // sun_path holds 108 bytes, the closing zero among them (unix(7)).
            if !path.starts_with('/') || path.len() > 107 {
                let what = format!("\"{text}\" is not an absolute path of at most 107 bytes");
                return Err(Wrong::new(what, "write \"unix:/run/corecast/client.sock\""));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if let Some(number) = text.strip_prefix("fd:") {
            let number = number.parse::<i32>().ok().filter(|&number| number >= 3);
            let what = format!("\"{text}\" is not an inherited descriptor");
            return number.map(Self::Inherited).ok_or_else(|| {
                Wrong::new(
                    what,
                    "write \"fd:3\" or above, as the parent process passes it; 0 to 2 are the standard streams",
                )
            });
        }
        socket_address(text).map(Self::Tcp)
    }
}

impl Field for Vec<IpNet> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let mend = "write a list, such as [\"10.0.0.0/8\", \"2001:db8::/32\"]";
        *self = raw.items(mend)?.iter().map(|item| network(item)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        Some(list(self.iter().map(IpNet::to_string)))
    }
}

fn network(text: &str) -> Result<IpNet, Wrong> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let wrong = || Wrong::new(format!("\"{text}\" is no network"), "write one such as \"10.0.0.0/8\"");
    let net = net.ok_or_else(wrong)?;
    if net.trunc() != net {
        let what = format!("\"{text}\" has bits beyond its prefix");
        return Err(Wrong::new(what, format!("write \"{}\"", net.trunc())));
    }
    Ok(net)
}

fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    let Err(_) = text.parse::<SocketAddr>() else {
        return Ok(text.parse().expect("parsed a line above"));
    };
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    let mend = match (port, text.parse::<IpAddr>()) {
        (_, Ok(IpAddr::V6(_))) => format!("put a v6 address in brackets: \"[{text}]:8000\""),
        (_, Ok(IpAddr::V4(_))) => format!("add the port: \"{text}:8000\""),
        (Some(port), _) if text.starts_with("localhost:") => {
            format!("names are not looked up; write \"127.0.0.1:{port}\"")
        }
        (Some(port), _) => {
            format!("names are not looked up; write the address, \"0.0.0.0:{port}\" for all of this machine")
        }
        _ => "write \"ADDR:PORT\", such as \"127.0.0.1:8000\" or \"[::]:8000\"".to_owned(),
    };
    Err(Wrong::new(format!("\"{text}\" is not an address with a port"), mend))
}

/// The highest core number taken: beyond it a typing error is likelier than a machine.
const CORE_MAX: usize = 4095;

impl Field for Option<Vec<usize>> {
    fn read(&mut self, raw: &Raw, _: Unit) -> Result<(), Wrong> {
        let wrong = |what: String| Wrong::new(what, "write core numbers and ranges, such as \"0,2-5\"");
        let text = match raw {
            Raw::Text(text) => text.clone(),
            Raw::Integer(core) => core.to_string(),
            _ => return Err(wrong(format!("{} is not a list of cores", raw.kind()))),
        };
        let mut cores: Vec<usize> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last <= CORE_MAX => first..=last,
                (Ok(first), Ok(last)) if first > last => return Err(wrong(format!("the range {part} runs backwards"))),
                (Ok(_), Ok(_)) => return Err(wrong(format!("{part} is beyond core {CORE_MAX}"))),
                _ => return Err(wrong(format!("\"{part}\" is neither a core nor a range of cores"))),
            };
            for core in range {
                if cores.contains(&core) {
                    return Err(wrong(format!("core {core} is named twice")));
                }
                cores.push(core);
            }
        }
        *self = Some(cores);
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        let numbers = self.as_ref()?.iter().map(usize::to_string).collect::<Vec<_>>();
        Some(quoted(&numbers.join(",")))
    }
}

impl Field for Vec<String> {
    fn read(&mut self, raw: &Raw, unit: Unit) -> Result<(), Wrong> {
        let mend = match unit {
            Unit::Headers => "write a list, such as [\"Cookie\"]",
            Unit::Paths => "write a list, such as [\"/etc/corecast/example.org.pem\"]",
            _ => "write a list, such as [\"https://example.com\"]",
        };
        let items = raw.items(mend)?;
        *self = match unit {
            Unit::Headers => items.iter().map(|item| header(item)).collect::<Result<_, _>>()?,
            Unit::Paths => items,
            _ => items.into_iter().map(|item| origin(&item).map(|()| item)).collect::<Result<_, _>>()?,
        };
        Ok(())
    }

    fn show(&self, _: Unit) -> Option<String> {
        Some(list(self.iter().cloned()))
    }
}

/// A header's name (RFC 9110, section 5.6.2) in lower case.
pub(super) fn header(name: &str) -> Result<String, Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !name.is_empty() && name.bytes().all(fits) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(Wrong::new(format!("\"{name}\" is no header's name"), "write one such as \"Cookie\"")),
    }
}

/// An origin is scheme, host and port (RFC 6454, section 6.2): no path, and a browser never sends a closing slash.
fn origin(text: &str) -> Result<(), Wrong> {
    if text == "*" || text == "null" {
        return Ok(());
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return Err(Wrong::new(format!("\"{text}\" names no scheme"), format!("write \"https://{text}\"")));
    };
    if let Some(slash) = host.find('/') {
        let what = format!("\"{text}\" has a path, which no browser sends");
        return Err(Wrong::new(what, format!("write \"{scheme}://{}\"", &host[..slash])));
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
    fn listeners_of_each_sort_are_read_and_shown_again() {
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
        for (bad, mend) in [
            ("localhost:8000", "127.0.0.1:8000"),
            (":8000", "0.0.0.0:8000"),
            ("::1", "[::1]:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("unix:relative", "unix:/run"),
            ("fd:1", "fd:3"),
            ("8000", "0.0.0.0:8000"),
            ("tls:tls:127.0.0.1:8000", "once"),
            ("tls:", "127.0.0.1:8000"),
        ] {
            let wrong = bad.parse::<Listen>().unwrap_err();
            assert!(wrong.mend.contains(mend), "{bad}: {wrong:?}");
        }
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        let mut cores = None;
        cores.read(&text("0, 2-5"), Unit::Cores).unwrap();
        assert_eq!(cores, Some(vec![0, 2, 3, 4, 5]));
        for bad in ["", "a", "5-2", "0,0", "1-3,2", "0-99999999", "-1", "1-"] {
            assert!(cores.read(&text(bad), Unit::Cores).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_read_and_an_address_is_one() {
        let mut networks = Vec::<IpNet>::new();
        networks.read(&text("10.0.0.0/8, 192.0.2.1,2001:db8::/32"), Unit::Networks).unwrap();
        assert_eq!(networks.show(Unit::Networks).unwrap(), "[\"10.0.0.0/8\", \"192.0.2.1/32\", \"2001:db8::/32\"]");
        assert_eq!(network("10.1.2.3/8").unwrap_err().mend, "write \"10.0.0.0/8\"");
        assert!(network("10.0.0.0/33").is_err() && network("ten").is_err());
        networks.read(&text(""), Unit::Networks).unwrap();
        assert!(networks.is_empty());
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        for good in ["*", "null", "https://example.com", "https://*.example.com", "http://localhost:3000"] {
            origin(good).unwrap();
        }
        assert_eq!(origin("https://example.com/").unwrap_err().mend, "write \"https://example.com\"");
        assert_eq!(origin("example.com").unwrap_err().mend, "write \"https://example.com\"");
    }
}
