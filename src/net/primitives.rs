//! What the mailbox is built of.
//!
//! Owns only names: the channel, the atomics and the waker that [`mailbox`](super::mailbox) uses
//! and nothing else. `tests/mailbox.rs` compiles that file over primitives of its own, which try
//! every order in which threads can run and every value that a load may see.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};

pub(super) use crossbeam_channel as channel;
pub(super) use crossbeam_utils::CachePadded;
pub(super) use mio::{Poll, Token, Waker};
