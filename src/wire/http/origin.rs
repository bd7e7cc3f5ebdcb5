//! Which pages may open a WebSocket.
//!
//! Owns the comparison of a browser's Origin (RFC 6454) with the server's own name and with a list.
//! Never guards against what is no browser: that can claim any origin, or none.

/// The pages from which browsers may connect: those of the server itself, and a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    any: bool,
    allowed: Vec<String>,
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError;

impl Origins {
    /// Only pages of the server itself.
    pub fn same() -> Origins {
        Origins::default()
    }

    /// Lets in pages of one more origin: `scheme://host[:port]` without a path, `null` (a page
    /// without an origin, for example a file), or `*` for all.
    ///
    /// # Errors
    /// [`OriginError`] for anything else.
    pub fn allow(&mut self, origin: &str) -> Result<(), OriginError> {
        if origin == "*" {
            self.any = true;
            return Ok(());
        }
        if origin != "null" && Origin::parse(origin).is_none() {
            return Err(OriginError);
        }
        self.allowed.push(origin.to_owned());
        Ok(())
    }

    /// Whether a page of that Origin may connect to the server that it calls `authority`
    /// (`host[:port]`). Whoever sends no Origin is no browser, and may.
    pub fn admits(&self, origin: Option<&str>, authority: Option<&str>) -> bool {
        let Some(origin) = origin else {
            return true;
        };
        if self.any {
            return true;
        }
        let Some(parsed) = Origin::parse(origin) else {
            return self.allowed.iter().any(|allowed| allowed == origin);
        };
        let same = authority.is_some_and(|authority| parsed.is_of(authority));
        same || self.allowed.iter().filter_map(|allowed| Origin::parse(allowed)).any(|allowed| {
            allowed.scheme.eq_ignore_ascii_case(parsed.scheme)
                && allowed.host.eq_ignore_ascii_case(parsed.host)
                && allowed.port == parsed.port
        })
    }
}

/// An origin, taken apart. Scheme and host have no case.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The port, said or the scheme's own.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Origin<'a>> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = host_and_port(authority)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || host.is_empty() {
            return None;
        }
        Some(Origin { scheme, host, port: port.or(default_port(scheme)) })
    }

    /// Whether a page of this origin came from the server that its own requests call `authority`.
    /// The authority does not tell whether TLS was spoken (a proxy may have taken it off), so a
    /// port that is not said is the origin's own default.
    fn is_of(&self, authority: &str) -> bool {
        let Some((host, port)) = host_and_port(authority) else {
            return false;
        };
        host.eq_ignore_ascii_case(self.host) && port.or(default_port(self.scheme)) == self.port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

/// The parts of `host[:port]`; the host may be an IPv6 address in brackets.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end_of_host = match authority.rfind(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end_of_host);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
    if !host.bytes().all(is_host) {
        return None;
    }
    match port.strip_prefix(':') {
        None => port.is_empty().then_some((host, None)),
        Some("") => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}
