//! The heart: sessions, rooms, heartbeats, limits and queues, as plain data and functions.

pub mod mail;
pub mod shard;
