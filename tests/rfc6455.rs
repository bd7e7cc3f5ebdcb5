//! The real server against the catalogue of cases by which WebSocket implementations are compared,
//! that of the Autobahn test suite: framing (1), pings and pongs (2), reserved bits (3), opcodes
//! (4), fragmentation (5), UTF-8 (6), the closing handshake (7), limits (9), fragmentation by the
//! sender (10) and compression (12, 13). The cases bear its numbers; what they do is written here
//! anew.
//!
//! A case is strict: exactly these answers and no other, the exact close code, told as soon as a
//! byte shows it, and an orderly end of the stream behind it.

mod common;

mod rfc6455 {
    mod case;
    mod close;
    mod compression;
    mod control;
    mod fragments;
    mod framing;
    mod limits;
    mod reserved;
    mod text;
}
