//! Sockets and wake-ups: the layer at which mio begins.
//!
//! Owns how a listener is opened, what a worker remembers of a socket, how workers post to each
//! other, how much memory there is, and the calls about file descriptors. Never knows what the
//! bytes mean or who is allowed what: the heart does. The engine's worker puts these parts
//! together.

pub mod addresses;
pub mod admin_socket;
pub mod descriptors;
pub mod hatch;
pub mod kernel;
pub mod listener;
pub mod mailbox;
pub mod memory;
mod peer_table;
mod primitives;
pub mod socket;
pub mod socket_table;
pub mod spare_descriptor;
pub mod tcp_info;
