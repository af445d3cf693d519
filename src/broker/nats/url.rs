//! Where the servers are: `nats://user:password@host:port`, several separated by commas.

use percent_encoding::percent_decode_str;

/// The port of an address without one.
const PORT: u16 = 4222;

/// One server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServerAddress {
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// The scheme is `tls`.
    pub(super) needs_tls: bool,
    pub(super) login: Login,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) enum Login {
    #[default]
    None,
    Token(Box<str>),
    Password {
        user: Box<str>,
        password: Box<str>,
    },
}

impl ServerAddress {
    /// Without login: for logs and metrics.
    pub(super) fn name(&self) -> String {
        if self.host.contains(':') {
            format!("nats [{}]:{}", self.host, self.port)
        } else {
            format!("nats {}:{}", self.host, self.port)
        }
    }
}

/// Reads the addresses. The error is a sentence that does not contain the login.
pub(super) fn servers(url: &str) -> Result<Vec<ServerAddress>, String> {
    let addresses: Vec<_> = url.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    if addresses.is_empty() {
        return Err("no address of a NATS server is given".into());
    }
    let mut servers = addresses.into_iter().map(server).collect::<Result<Vec<_>, _>>()?;
    // As the clients of NATS do: a login of one address is that of addresses without one.
    if let Some(login) = servers.iter().map(|one| &one.login).find(|login| **login != Login::None).cloned() {
        servers.iter_mut().filter(|one| one.login == Login::None).for_each(|one| one.login = login.clone());
    }
    Ok(servers)
}

/// One address, also as servers announce them: `host:port`.
pub(super) fn server(address: &str) -> Result<ServerAddress, String> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("nats", address));
    let needs_tls = match scheme {
        "nats" => false,
        "tls" => true,
        _ => return Err(format!("the scheme {scheme:?} of a NATS server is not supported: use nats or tls")),
    };
    let rest = rest.split(['/', '?']).next().unwrap_or_default();
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (self::login(login)?, host),
        None => (Login::None, rest),
    };
    let (host, port) = host_and_port(host).ok_or_else(|| format!("{host:?} is not host:port of a NATS server"))?;
    Ok(ServerAddress { host: host.into(), port, needs_tls, login })
}

fn login(text: &str) -> Result<Login, String> {
    let decode = |part: &str| match percent_decode_str(part).decode_utf8() {
        Ok(part) => Ok(Box::<str>::from(part)),
        Err(_) => Err("the login in the address of a NATS server is not UTF-8".to_owned()),
    };
    match text.split_once(':') {
        _ if text.is_empty() => Ok(Login::None),
        Some((user, password)) => Ok(Login::Password { user: decode(user)?, password: decode(password)? }),
        None => Ok(Login::Token(decode(text)?)),
    }
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = if rest.is_empty() { PORT } else { rest.strip_prefix(':')?.parse().ok()? };
        return Some((host, port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, PORT),
    };
    (!host.is_empty() && port > 0).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(host: &str, port: u16) -> ServerAddress {
        ServerAddress { host: host.into(), port, needs_tls: false, login: Login::None }
    }

    #[test]
    fn addresses_are_read_with_and_without_their_parts() {
        assert_eq!(
            servers("nats://a:1, b ,tls://c").unwrap(),
            [plain("a", 1), plain("b", PORT), ServerAddress { needs_tls: true, ..plain("c", PORT) }]
        );
        assert_eq!(servers("nats://[::1]:5/").unwrap(), [plain("::1", 5)]);
        assert_eq!(servers("[::1]").unwrap()[0].name(), format!("nats [::1]:{PORT}"));
    }

    #[test]
    fn login_of_one_address_is_that_of_the_others() {
        let read = servers("nats://ann:p%40ss@a,b,nats://t0ken@c").unwrap();
        let password = Login::Password { user: "ann".into(), password: "p@ss".into() };
        assert_eq!(
            read.into_iter().map(|one| one.login).collect::<Vec<_>>(),
            [password.clone(), password, Login::Token("t0ken".into())]
        );
    }

    #[test]
    fn errors_do_not_contain_the_login() {
        for wrong in
            ["", " , ", "ws://ann:secret@a", "nats://ann:secret@:1", "nats://ann:secret@a:b", "a:0", "[::1", "%ff@a"]
        {
            let error = servers(wrong).expect_err(wrong);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
