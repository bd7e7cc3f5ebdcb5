//! Bytes to messages and back.
//!
//! Owns every dialect's grammar: native frames, text lines, JSON objects, WebSocket frames, HTTP
//! heads, and the sniffing that tells them apart. Allocates only into buffers it is given, and for
//! what JSON escapes; and knows no connection: a decoder takes a slice and says what it holds, and
//! what one has to remember between two slices is a value that the caller keeps. The heart
//! ([`chat`](crate::chat)), the load tools and the tests call it.

mod decimal;
pub mod http;
pub mod json;
pub mod line;
pub mod message;
pub mod native;
pub mod sniff;
pub mod websocket;
