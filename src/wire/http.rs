//! HTTP/1.1 (RFC 9112), as much of it as leads to a WebSocket and serves a page.
//!
//! Owns request heads, the decision whether one becomes a WebSocket (RFC 6455 section 4.2), and the
//! heads of responses with what browsers want in them. Never keeps state, never takes a body, and
//! never routes: which path has what is the heart's affair. The heart, the load tools and the tests
//! call it.

mod date;
mod head;
mod origin;
mod response;
mod upgrade;

pub(crate) use self::date::civil;
pub use self::head::{HttpError, Method, Request, request};
pub use self::origin::{OriginError, Origins};
pub use self::response::{
    Asset, ETag, Exchange, Response, Status, append_asset, append_body, append_error,
    append_options, append_refusal, append_response, append_retry, append_text,
};
pub use self::upgrade::{
    Endpoint, Refusal, SWITCHING, Subprotocol, Upgrade, accept_key, append_switching, upgrade,
};
