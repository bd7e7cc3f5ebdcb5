//! A session without a connection.
//!
//! Owns what a session takes along when it loses its connection, on its way between shards and
//! while it waits to be resumed.

use crate::base::ids::{Address, Epoch, Seq, SessionId};
use crate::base::name::Name;

use super::refs::RefWindow;

/// A session that lost its connection: all that it needs to go on where it was.
#[derive(Debug)]
pub struct Kept {
    /// Which session it is.
    pub id: SessionId,
    /// Whose.
    pub user: Name,
    /// The connection that it lost.
    pub address: Address,
    /// Its rooms, and how far it has come in each.
    pub rooms: Box<[KeptRoom]>,
    /// What it asked for lately; none where it asked for nothing with a ref.
    pub refs: Option<Box<RefWindow>>,
    /// Bytes that were on their way to it and may not have arrived, at most.
    pub undelivered_bytes: u32,
    /// Whether it has been away for longer than the grace, and so left the rosters of its rooms.
    pub absent: bool,
}

/// A room of a [`Kept`] session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRoom {
    /// The room.
    pub room: Name,
    /// The epoch in which it was.
    pub epoch: Epoch,
    /// The last message that was put into its outbox, or would have been were it not its own.
    pub seq: Seq,
    /// Whether it wants to be told of joins and leaves.
    pub notify: bool,
}
