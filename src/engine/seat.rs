//! What a worker works with, whoever sits down to it.
//!
//! Owns the poll, the mailbox and the ways to all others that a worker has while it serves. It was
//! opened before the worker began, outlives it, and is taken over by the one that begins anew where
//! a worker panicked. Never does anything. The server fills it, the thread hands it to its
//! [`worker`](super::worker).

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use mio::Poll;

use super::config::FileTables;
use super::parcel::{Parcel, Report};
use super::steering::Steering;
use crate::net::addresses::AddressBlock;
use crate::net::mailbox::{Receiver, Sender};
use crate::store::intake::Submitter;
use crate::store::keeper::Errand;

/// What a worker brings into its thread. All of it was opened before file tables became private.
pub struct Seat {
    /// The worker's poll.
    pub poll: Poll,
    /// Its own mailbox.
    pub mailbox: Receiver<Parcel>,
    /// Everybody's mailboxes, by shard.
    pub peers: Vec<Sender<Parcel>>,
    /// The steward's mailbox.
    pub steward: Sender<Report>,
    /// Ways to hand connections over.
    pub steering: Steering,
    /// Where records are handed to the store; none where all is in memory.
    pub store: Option<Submitter<Errand>>,
    /// Addresses whose connections are not counted.
    pub exempt: Vec<AddressBlock>,
    /// Whether the worker has a table of descriptors of its own.
    pub tables: FileTables,
    /// Which life each shard lives: changed and read only where one begins anew.
    pub lives: Arc<[AtomicU32]>,
}
