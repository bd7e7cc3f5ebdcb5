//! What both twins share with each other, and through the library with corebeat.
//!
//! Owns the options, the port, the dialects, and the sense of every request ([`conversation`]).
//! Never owns a socket, a room or a queue: how those are built is what the twins are compared by.
//! Bytes are read and written by `corebeat::wire`, the frames of WebSockets by tungstenite; names,
//! limits and heartbeats are judged by the same functions.

// Each twin uses its own part of this.
#![allow(dead_code)]

pub mod conversation;
pub mod dialect;
pub mod service;
pub mod websocket;
