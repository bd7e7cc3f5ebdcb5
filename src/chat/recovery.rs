//! What members get of the past.
//!
//! Owns the home's side of it: where a replay begins, its pages, listings, and how much is kept of
//! all rooms together. Never keeps a message itself ([`history`](super::history) does), and never
//! decides when the next page goes out: the member's shard asks for it
//! ([`catch_up`](super::catch_up)).
