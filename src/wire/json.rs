//! The JSON dialect: one object in each text message of a WebSocket.
//!
//! Owns the names of the members and what they may hold. Never judges a name or a request, and
//! never keeps bytes: what is decoded borrows from the text, except for strings with escapes and
//! bodies in Base64, which are the only things that are allocated. The heart, the load tools and
//! the tests call it.

mod decode;
mod encode;
mod member;

pub use self::encode::{encode_event, encode_request};
pub use self::member::{Member, Object, object};
