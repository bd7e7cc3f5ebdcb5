//! Request heads.
//!
//! Owns what a request says before its body: method, target, header fields; and which heads are
//! refused. The grammar is read by httparse. Never takes a body: a request that announces one is
//! refused. Called through [`http`](super) by the heart, the load tools and the tests.

use httparse::{EMPTY_HEADER, Header};

use super::response::Status;
use crate::base::limits::HTTP_FIELDS_MAX;

/// The methods that this server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Transfer what is there.
    Get,
    /// As GET, without the body.
    Head,
    /// What can be done here.
    Options,
}

/// The head of a request, borrowed from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// Where: the target's path without its query, `*` for OPTIONS of the whole server.
    pub path: &'a str,
    /// What stands behind the `?` of the target.
    pub query: Option<&'a str>,
    /// The server's name and port as the client knows them: of the target in absolute form, else
    /// the field Host. Only HTTP/1.0 may say none.
    pub authority: Option<&'a str>,
    /// HTTP/1.1, not 1.0.
    pub is_1_1: bool,
    /// Whether the connection goes on behind the response, as far as the client is concerned.
    pub keep_alive: bool,
    fields: [Header<'a>; HTTP_FIELDS_MAX],
    fields_len: usize,
}

impl<'a> Request<'a> {
    /// The values of the fields of that name, in their order. What is not UTF-8 is left out: no
    /// field that is understood here may hold such.
    ///
    /// `name` is given in lower case or any other; fields have no case.
    pub fn values<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'a str> {
        values(&self.fields[..self.fields_len], name)
    }

    /// As [`Request::values`], any bytes.
    pub fn values_of_bytes<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'a [u8]> {
        named(&self.fields[..self.fields_len], name).map(|field| field.value)
    }

    /// The members of the comma-separated lists in the fields of that name (RFC 9110 section
    /// 5.6.1), without white space, empty ones left out.
    pub fn list<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'a str> {
        list(&self.fields[..self.fields_len], name)
    }

    /// The value of the one field of that name; none where there are several, or it is not UTF-8.
    pub fn sole(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values_of_bytes(name);
        let value = values.next().filter(|_| values.next().is_none())?;
        std::str::from_utf8(value).ok()
    }
}

/// Why a request is refused before anybody asked what it is for. Every one ends the connection,
/// since where the next request begins is not certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpError {
    /// The bytes are no request.
    Malformed,
    /// The target is none that a server can be asked for.
    Target,
    /// HTTP/1.1 without exactly one valid Host.
    Host,
    /// Content-Length is no number, stands twice, or stands beside Transfer-Encoding.
    Length,
    /// A method that HTTP has and this server does not take.
    Method,
    /// The request has a body.
    Body,
    /// The first line alone is longer than the limit.
    TargetTooLong,
    /// The head is longer than the limit, or has too many fields.
    HeadTooLarge,
    /// A method that HTTP does not have.
    UnknownMethod,
    /// A Transfer-Encoding other than `chunked`.
    TransferEncoding,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
}

impl HttpError {
    /// The status that the client is told.
    pub fn status(self) -> Status {
        match self {
            HttpError::Malformed | HttpError::Target | HttpError::Host | HttpError::Length => {
                Status::BadRequest
            }
            HttpError::Method => Status::MethodNotAllowed,
            HttpError::Body => Status::ContentTooLarge,
            HttpError::TargetTooLong => Status::UriTooLong,
            HttpError::HeadTooLarge => Status::HeaderFieldsTooLarge,
            HttpError::UnknownMethod | HttpError::TransferEncoding => Status::NotImplemented,
            HttpError::Version => Status::VersionNotSupported,
        }
    }

    /// The reason in words: one line, with its end.
    pub fn text(self) -> &'static str {
        match self {
            HttpError::Malformed => "this is no HTTP request\n",
            HttpError::Target => "the request's target is not understood\n",
            HttpError::Host => "HTTP/1.1 needs exactly one valid Host\n",
            HttpError::Length => "Content-Length is wrong, or not alone\n",
            HttpError::Method => "only GET, HEAD and OPTIONS are taken\n",
            HttpError::Body => "no request with a body is taken\n",
            HttpError::TargetTooLong => "the request's target is too long\n",
            HttpError::HeadTooLarge => "the request's head is too large\n",
            HttpError::UnknownMethod => "the method is unknown\n",
            HttpError::TransferEncoding => "the Transfer-Encoding is unknown\n",
            HttpError::Version => "only HTTP/1.1 and HTTP/1.0 are spoken here\n",
        }
    }
}

/// Takes the head of the request at the head of `bytes`, and says how many bytes it took with the
/// empty line behind it. `Ok(None)` asks for more bytes.
///
/// # Errors
/// As soon as they are certain: see [`HttpError`]. [`HttpError::HeadTooLarge`] or
/// [`HttpError::TargetTooLong`] for a head of more than `max_head` bytes.
pub fn request(bytes: &[u8], max_head: usize) -> Result<Option<(Request<'_>, usize)>, HttpError> {
    let window = &bytes[..bytes.len().min(max_head)];
    let mut fields = [EMPTY_HEADER; HTTP_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let used = match parsed.parse(window) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if window.len() < max_head => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(longer_than_allowed(window)),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(HttpError::Version),
        Err(_) => return Err(HttpError::Malformed),
    };
    let (method, target) = (parsed.method.unwrap_or(""), parsed.path.unwrap_or(""));
    let (is_1_1, fields_len) = (parsed.version == Some(1), parsed.headers.len());
    let present = &fields[..fields_len];
    let host = host(present, is_1_1)?;
    let has_body = has_body(present, is_1_1)?;
    let method = method_of(method)?;
    if has_body {
        return Err(HttpError::Body);
    }
    let Target { path, query, authority } = target_of(target, method)?;
    let closes = list(present, "connection").any(|token| token.eq_ignore_ascii_case("close"));
    let stays = list(present, "connection").any(|token| token.eq_ignore_ascii_case("keep-alive"));
    let keep_alive = !closes && (is_1_1 || stays);
    let authority = authority.or(host);
    let request =
        Request { method, path, query, authority, is_1_1, keep_alive, fields, fields_len };
    Ok(Some((request, used)))
}

/// Which part of a head is too long: the first line, where it has no end.
fn longer_than_allowed(window: &[u8]) -> HttpError {
    let start = window.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    match start {
        Some(start) if memchr::memchr(b'\n', &window[start..]).is_none() => {
            HttpError::TargetTooLong
        }
        _ => HttpError::HeadTooLarge,
    }
}

fn method_of(method: &str) -> Result<Method, HttpError> {
    match method {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "OPTIONS" => Ok(Method::Options),
        "POST" | "PUT" | "PATCH" | "DELETE" | "TRACE" | "CONNECT" => Err(HttpError::Method),
        _ => Err(HttpError::UnknownMethod),
    }
}

/// The field Host (RFC 9112 section 3.2): exactly one in HTTP/1.1, at most one in HTTP/1.0.
fn host<'a>(fields: &[Header<'a>], is_1_1: bool) -> Result<Option<&'a str>, HttpError> {
    let mut hosts = named(fields, "host");
    let Some(host) = hosts.next() else {
        return if is_1_1 { Err(HttpError::Host) } else { Ok(None) };
    };
    let value = std::str::from_utf8(host.value).map_err(|_| HttpError::Host)?;
    if hosts.next().is_some() || !is_authority(value) {
        return Err(HttpError::Host);
    }
    Ok(Some(value))
}

/// Whether these are the characters of a host and a port (RFC 3986 section 3.2), which the empty
/// text is too.
fn is_authority(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte))
}

/// Whether a body follows (RFC 9112 section 6.3). What contradicts itself is refused, for the peer
/// and whoever stands between may see the next request begin at another byte.
fn has_body(fields: &[Header<'_>], is_1_1: bool) -> Result<bool, HttpError> {
    let mut lengths = named(fields, "content-length");
    let length = lengths.next();
    let mut encodings = named(fields, "transfer-encoding");
    if let Some(encoding) = encodings.next() {
        if length.is_some() || !is_1_1 {
            return Err(HttpError::Length);
        }
        let chunked = encoding.value.eq_ignore_ascii_case(b"chunked");
        let sole = encodings.next().is_none();
        return if chunked && sole { Ok(true) } else { Err(HttpError::TransferEncoding) };
    }
    let Some(length) = length else {
        return Ok(false);
    };
    let is_number = !length.value.is_empty() && length.value.iter().all(u8::is_ascii_digit);
    if !is_number || lengths.next().is_some() {
        return Err(HttpError::Length);
    }
    Ok(length.value.iter().any(|digit| *digit != b'0'))
}

/// A request's target, taken apart.
struct Target<'a> {
    path: &'a str,
    query: Option<&'a str>,
    authority: Option<&'a str>,
}

/// Reads a target in origin form, absolute form or, for OPTIONS alone, asterisk form (RFC 9112
/// section 3.2).
fn target_of(target: &str, method: Method) -> Result<Target<'_>, HttpError> {
    if target == "*" && method == Method::Options {
        return Ok(Target { path: target, query: None, authority: None });
    }
    if target.contains('#') {
        return Err(HttpError::Target);
    }
    let (rest, authority) = match absolute(target) {
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if authority.is_empty() || !is_authority(authority) {
                return Err(HttpError::Target);
            }
            (rest, Some(authority))
        }
        None if target.starts_with('/') => (target, None),
        None => return Err(HttpError::Target),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    Ok(Target { path: if path.is_empty() { "/" } else { path }, query, authority })
}

/// What stands behind the scheme of an absolute target.
fn absolute(target: &str) -> Option<&str> {
    ["http://", "https://", "ws://", "wss://"].into_iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn named<'a, 'f>(fields: &'f [Header<'a>], name: &'f str) -> impl Iterator<Item = &'f Header<'a>> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name))
}

fn values<'a, 'f>(fields: &'f [Header<'a>], name: &'f str) -> impl Iterator<Item = &'a str> {
    named(fields, name).filter_map(|field| std::str::from_utf8(field.value).ok())
}

fn list<'a, 'f>(fields: &'f [Header<'a>], name: &'f str) -> impl Iterator<Item = &'a str> {
    values(fields, name)
        .flat_map(|value| value.split(','))
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
}
