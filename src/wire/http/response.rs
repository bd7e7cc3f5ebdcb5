//! Responses: their heads, and the short ones whole.
//!
//! Owns status lines, the fields that every response has, entity tags, and what is built into the
//! program for browsers. Never copies a file: the head is appended, and whoever sends it sends the
//! bytes behind it. Called through [`http`](super) by the heart.

use super::date::append_date;
use super::head::{HttpError, Method, Request};
use super::upgrade::Refusal;
use crate::wire::decimal::append_decimal;

/// What may be fetched by its path, built into the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Where: `/page.js`.
    pub path: &'static str,
    /// What: `text/javascript; charset=utf-8`.
    pub content_type: &'static str,
    /// The file.
    pub bytes: &'static [u8],
}

/// The status of a response (RFC 9110 section 15). 101 is written by
/// [`append_switching`](super::append_switching).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "each is named as the standard names it")]
pub enum Status {
    Ok = 200,
    NoContent = 204,
    NotModified = 304,
    BadRequest = 400,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UriTooLong = 414,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    HeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    VersionNotSupported = 505,
}

impl Status {
    /// The words behind the number.
    pub fn phrase(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::NoContent => "No Content",
            Status::NotModified => "Not Modified",
            Status::BadRequest => "Bad Request",
            Status::Forbidden => "Forbidden",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Method Not Allowed",
            Status::RequestTimeout => "Request Timeout",
            Status::ContentTooLarge => "Content Too Large",
            Status::UriTooLong => "URI Too Long",
            Status::UpgradeRequired => "Upgrade Required",
            Status::TooManyRequests => "Too Many Requests",
            Status::HeaderFieldsTooLarge => "Request Header Fields Too Large",
            Status::InternalServerError => "Internal Server Error",
            Status::NotImplemented => "Not Implemented",
            Status::ServiceUnavailable => "Service Unavailable",
            Status::VersionNotSupported => "HTTP Version Not Supported",
        }
    }

    /// Whether its response has a body, be it an empty one (RFC 9110 section 6.4.1).
    fn has_body(self) -> bool {
        !matches!(self, Status::NoContent | Status::NotModified)
    }
}

/// What a response owes to its request and to the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The request was HEAD: the body stays away, its length does not.
    pub head_only: bool,
    /// The connection goes on behind it.
    pub keep_alive: bool,
    /// Wall clock, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Exchange {
    /// As the request wants it. The server may still clear `keep_alive`.
    pub fn of(request: &Request<'_>, now_ms: u64) -> Exchange {
        let head_only = request.method == Method::Head;
        Exchange { head_only, keep_alive: request.keep_alive, now_ms }
    }

    /// The last one of a connection, to a request that is not known.
    pub fn last(now_ms: u64) -> Exchange {
        Exchange { head_only: false, keep_alive: false, now_ms }
    }

    /// The last one of a connection, to the request that `bytes` begin with and that is not
    /// understood: a body must not follow where it is a HEAD (RFC 9110 section 9.3.2).
    pub fn last_to(bytes: &[u8], now_ms: u64) -> Exchange {
        let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let head_only = start.is_some_and(|start| bytes[start..].starts_with(b"HEAD "));
        Exchange { head_only, ..Exchange::last(now_ms) }
    }
}

/// The head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// How it went.
    pub status: Status,
    /// What the body is; empty where there is none.
    pub content_type: &'a str,
    /// Bytes of the body.
    pub length: usize,
    /// Further fields, names and values.
    pub fields: &'a [(&'a str, &'a str)],
}

/// What browsers may do with a page of ours: load from here and nowhere else, run no script that
/// stands in a page, and connect to WebSockets, of which there may be several addresses.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
                                       base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// What can be done with anything here.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Appends the head of a response, whose body the caller sends behind it unless the request was
/// HEAD.
pub fn append_response(out: &mut Vec<u8>, response: &Response<'_>, exchange: Exchange) {
    let Response { status, content_type, length, fields } = *response;
    out.extend_from_slice(b"HTTP/1.1 ");
    append_decimal(out, status as u64);
    out.push(b' ');
    out.extend_from_slice(status.phrase().as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    append_date(out, exchange.now_ms);
    out.extend_from_slice(b"\r\n");
    if status.has_body() {
        if !content_type.is_empty() {
            append_field(out, "Content-Type", content_type);
        }
        out.extend_from_slice(b"Content-Length: ");
        append_decimal(out, length as u64);
        out.extend_from_slice(b"\r\n");
    }
    append_field(out, "X-Content-Type-Options", "nosniff");
    for (name, value) in fields {
        append_field(out, name, value);
    }
    if !exchange.keep_alive {
        append_field(out, "Connection", "close");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole response with that body, which is not to be kept by any cache.
pub fn append_body(
    out: &mut Vec<u8>,
    status: Status,
    content_type: &str,
    body: &[u8],
    exchange: Exchange,
) {
    append_whole(out, status, content_type, body, &[("Cache-Control", "no-store")], exchange);
}

/// Appends a whole response in plain words.
pub fn append_text(out: &mut Vec<u8>, status: Status, text: &str, exchange: Exchange) {
    append_body(out, status, "text/plain; charset=utf-8", text.as_bytes(), exchange);
}

/// Appends a whole response in plain words to a client that is to try again after so long, which is
/// told in whole seconds (RFC 9110 section 10.2.3).
pub fn append_retry(
    out: &mut Vec<u8>,
    status: Status,
    text: &str,
    after_ms: u64,
    exchange: Exchange,
) {
    let seconds = after_ms.div_ceil(1_000).to_string();
    let fields = [("Cache-Control", "no-store"), ("Retry-After", &*seconds)];
    let content_type = "text/plain; charset=utf-8";
    append_whole(out, status, content_type, text.as_bytes(), &fields, exchange);
}

/// Appends the head of the response with that asset, or `304 Not Modified` where the client has it
/// already. Returns whether the asset's bytes are to be sent behind it.
pub fn append_asset(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    asset: &Asset,
    exchange: Exchange,
) -> bool {
    let etag = ETag::of(asset.bytes);
    let known = request.values("if-none-match").any(|value| etag.is_in(value));
    let status = if known { Status::NotModified } else { Status::Ok };
    let fields = [
        ("ETag", etag.as_str()),
        ("Cache-Control", "no-cache"),
        ("Access-Control-Allow-Origin", "*"),
        ("Referrer-Policy", "no-referrer"),
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ];
    let (content_type, length) = (asset.content_type, asset.bytes.len());
    append_response(out, &Response { status, content_type, length, fields: &fields }, exchange);
    !known && !exchange.head_only
}

/// Appends the response to OPTIONS: what can be done here.
pub fn append_options(out: &mut Vec<u8>, exchange: Exchange) {
    let fields = [("Allow", ALLOW)];
    let response =
        Response { status: Status::NoContent, content_type: "", length: 0, fields: &fields };
    append_response(out, &response, exchange);
}

/// Appends the whole response to a request that is refused unseen; the connection ends behind it.
pub fn append_error(out: &mut Vec<u8>, error: HttpError, exchange: Exchange) {
    let fields: &[_] = if error == HttpError::Method { &[("Allow", ALLOW)] } else { &[] };
    append_plain(out, error.status(), error.text(), fields, exchange);
}

/// Appends the whole response to a request that does not become a WebSocket; the connection ends
/// behind it.
pub fn append_refusal(out: &mut Vec<u8>, refusal: Refusal, exchange: Exchange) {
    let fields: &[_] = match refusal.status() {
        Status::UpgradeRequired => {
            &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        }
        Status::MethodNotAllowed => &[("Allow", "GET")],
        _ => &[],
    };
    append_plain(out, refusal.status(), refusal.text(), fields, exchange);
}

fn append_plain(
    out: &mut Vec<u8>,
    status: Status,
    text: &str,
    fields: &[(&str, &str)],
    exchange: Exchange,
) {
    let content_type = "text/plain; charset=utf-8";
    append_whole(out, status, content_type, text.as_bytes(), fields, exchange);
}

fn append_whole(
    out: &mut Vec<u8>,
    status: Status,
    content_type: &str,
    body: &[u8],
    fields: &[(&str, &str)],
    exchange: Exchange,
) {
    let response = Response { status, content_type, length: body.len(), fields };
    append_response(out, &response, exchange);
    if !exchange.head_only && status.has_body() {
        out.extend_from_slice(body);
    }
}

fn append_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// An entity tag (RFC 9110 section 8.8.3): names one state of an asset by its checksum and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag([u8; 19]);

impl ETag {
    /// The tag of these bytes.
    pub fn of(bytes: &[u8]) -> ETag {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let hex = |number: u32, place: usize| DIGITS[(number >> (28 - 4 * place)) as usize & 15];
        let (checksum, length) = (crc32fast::hash(bytes), bytes.len() as u32);
        let mut tag = [b'"'; 19];
        tag[9] = b'-';
        for place in 0..8 {
            tag[1 + place] = hex(checksum, place);
            tag[10 + place] = hex(length, place);
        }
        ETag(tag)
    }

    /// The tag as it is written, in its quotes.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a tag is of ASCII")
    }

    /// Whether it is one of those that an If-None-Match lists, by the weak comparison that the
    /// field asks for (RFC 9110 section 13.1.2).
    pub fn is_in(&self, list: &str) -> bool {
        list.split(',')
            .map(|tag| tag.trim_matches([' ', '\t']))
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.as_str())
    }
}
