//! How a request becomes a WebSocket (RFC 6455 section 4.2).
//!
//! Owns the server's half of the opening handshake: what a request must have, which subprotocol is
//! chosen, the accept key, and the response. Never speaks a frame. Called through [`http`](super)
//! by the heart, and for the client's half by the load tools and the tests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::head::{Method, Request};
use super::origin::Origins;
use super::response::Status;
use crate::wire::websocket::deflate;

/// What is joined to a key before it is hashed (RFC 6455 section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version of the WebSocket protocol that is spoken.
const WEBSOCKET_VERSION: &str = "13";
/// Bytes of a key, which comes in Base64.
const KEY_BYTES: usize = 16;
/// Bytes of an accept key: 20 bytes in Base64.
const ACCEPT_BYTES: usize = 28;

/// What is behind a path that takes WebSockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/ws`: corebeat itself, in a [`Subprotocol`].
    Chat,
    /// `/echo`: every message comes back.
    Echo,
}

impl Endpoint {
    /// What is behind that path, if it takes WebSockets.
    pub fn of(path: &str) -> Option<Endpoint> {
        match path {
            "/ws" => Some(Endpoint::Chat),
            "/echo" => Some(Endpoint::Echo),
            _ => None,
        }
    }
}

/// What is spoken over a WebSocket of `/ws`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subprotocol {
    /// `corebeat.v1.json`: a JSON object in each text message. Spoken where none is asked for.
    #[default]
    Json,
    /// `corebeat.v1.bin`: native frames in binary messages.
    Bin,
}

impl Subprotocol {
    /// Its name in the field Sec-WebSocket-Protocol.
    pub fn name(self) -> &'static str {
        match self {
            Subprotocol::Json => "corebeat.v1.json",
            Subprotocol::Bin => "corebeat.v1.bin",
        }
    }

    /// The one of that name, to the letter: names have case.
    pub fn named(name: &str) -> Option<Subprotocol> {
        [Subprotocol::Json, Subprotocol::Bin].into_iter().find(|known| known.name() == name)
    }
}

/// A request that may become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// What is behind it.
    pub endpoint: Endpoint,
    /// The subprotocol that was asked for and chosen, which the response names. None where the
    /// client asked for none, and on `/echo`.
    pub chosen: Option<Subprotocol>,
    /// What was agreed on compression.
    pub deflate: Option<deflate::Parameters>,
    accept: [u8; ACCEPT_BYTES],
}

impl Upgrade {
    /// What is spoken on `/ws`.
    pub fn subprotocol(&self) -> Subprotocol {
        self.chosen.unwrap_or_default()
    }
}

/// Why a request does not become a WebSocket. The connection is closed behind the response, since
/// a client that sends frames regardless would have them read as requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It does not ask to.
    NotAsked,
    /// Its method is not GET.
    Method,
    /// HTTP/1.0 has no upgrades.
    HttpVersion,
    /// It speaks another version of the protocol.
    Version,
    /// Not exactly one key of 16 bytes in Base64.
    Key,
    /// The page that asks is of an origin that is not let in.
    Origin,
    /// It offers only subprotocols that are not spoken here.
    Subprotocol,
    /// What it offers as extensions breaks the grammar.
    Extensions,
}

impl Refusal {
    /// The status that the client is told.
    pub fn status(self) -> Status {
        match self {
            Refusal::NotAsked | Refusal::Version => Status::UpgradeRequired,
            Refusal::Method => Status::MethodNotAllowed,
            Refusal::HttpVersion | Refusal::Key => Status::BadRequest,
            Refusal::Subprotocol | Refusal::Extensions => Status::BadRequest,
            Refusal::Origin => Status::Forbidden,
        }
    }

    /// The reason in words: one line, with its end.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::NotAsked => "this is a WebSocket: ask for an upgrade\n",
            Refusal::Method => "a WebSocket is opened by GET\n",
            Refusal::HttpVersion => "a WebSocket is opened by HTTP/1.1\n",
            Refusal::Version => "only version 13 of the WebSocket protocol is spoken here\n",
            Refusal::Key => "Sec-WebSocket-Key must be 16 bytes in Base64, once\n",
            Refusal::Origin => "pages of this origin are not let in\n",
            Refusal::Subprotocol => {
                "the subprotocols spoken here are corebeat.v1.json and corebeat.v1.bin\n"
            }
            Refusal::Extensions => "Sec-WebSocket-Extensions is not understood\n",
        }
    }
}

/// Whether the request may become a WebSocket of that endpoint.
///
/// Of the subprotocols offered, the first that is spoken is chosen, for the client names them in
/// the order of its liking. `/echo` has none and chooses none. What is offered as extensions is
/// looked at where messages may be compressed (`may_deflate`), and otherwise ignored.
///
/// # Errors
/// See [`Refusal`].
pub fn upgrade(
    request: &Request<'_>,
    endpoint: Endpoint,
    origins: &Origins,
    may_deflate: bool,
) -> Result<Upgrade, Refusal> {
    if request.method != Method::Get {
        return Err(Refusal::Method);
    }
    let names = |field: &str, word: &str| {
        request.list(field).any(|member| member.eq_ignore_ascii_case(word))
    };
    if !names("upgrade", "websocket") || !names("connection", "upgrade") {
        return Err(Refusal::NotAsked);
    }
    if !request.is_1_1 {
        return Err(Refusal::HttpVersion);
    }
    if request.sole("sec-websocket-version") != Some(WEBSOCKET_VERSION) {
        return Err(Refusal::Version);
    }
    let key = request.sole("sec-websocket-key").filter(|key| is_key(key)).ok_or(Refusal::Key)?;
    let claimed = request.values_of_bytes("origin").next().is_some();
    let origin = request.sole("origin");
    if claimed != origin.is_some() || !origins.admits(origin, request.authority) {
        return Err(Refusal::Origin);
    }
    let chosen = match endpoint {
        Endpoint::Echo => None,
        Endpoint::Chat => chosen(request)?,
    };
    let deflate = if may_deflate {
        let offers = request.values_of_bytes("sec-websocket-extensions");
        deflate::negotiate(offers).map_err(|_| Refusal::Extensions)?
    } else {
        None
    };
    Ok(Upgrade { endpoint, chosen, deflate, accept: accept_key(key) })
}

fn chosen(request: &Request<'_>) -> Result<Option<Subprotocol>, Refusal> {
    let mut offered = request.list("sec-websocket-protocol").peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    offered.find_map(Subprotocol::named).map(Some).ok_or(Refusal::Subprotocol)
}

fn is_key(key: &str) -> bool {
    let mut bytes = [0; KEY_BYTES + 2];
    STANDARD.decode_slice(key, &mut bytes) == Ok(KEY_BYTES)
}

/// What Sec-WebSocket-Accept says to that Sec-WebSocket-Key: the SHA-1 of both the key and a fixed
/// text, in Base64.
pub fn accept_key(key: &str) -> [u8; ACCEPT_BYTES] {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_GUID);
    let mut accept = [0; ACCEPT_BYTES];
    let length = STANDARD.encode_slice(hash.digest().bytes(), &mut accept);
    assert_eq!(length, Ok(ACCEPT_BYTES), "20 bytes are 28 in Base64");
    accept
}

/// The first line of the response that makes a connection a WebSocket.
pub const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";

/// Appends the response with which the WebSocket begins.
pub fn append_switching(out: &mut Vec<u8>, upgrade: &Upgrade) {
    out.extend_from_slice(SWITCHING);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    out.extend_from_slice(&upgrade.accept);
    if let Some(chosen) = upgrade.chosen {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(chosen.name().as_bytes());
    }
    if let Some(deflate) = &upgrade.deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        deflate.append_answer(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}
