//! All sockets of one worker.
//!
//! Owns the slab, the generations, the peers' addresses, and the queue of sockets with unread
//! bytes. Never closes by itself. Only the worker calls it; it removes sockets in its close phase
//! alone, so that a slot is never reused while a turn may still name its tenant.

use std::collections::VecDeque;
use std::net::SocketAddr;

use mio::net::TcpStream;
use slab::Slab;

use super::peer_table::PeerTable;
use super::socket::{Input, Socket};
use crate::base::ids::ConnId;
use crate::base::time::Tick;

/// The sockets of one worker, by [`ConnId`].
#[derive(Debug)]
pub struct SocketTable {
    slab: Slab<Socket>,
    peers: PeerTable,
    /// The number of the next connection.
    generation: u32,
    /// Sockets whose input is [`Input::Ready`], each once, and some that are gone.
    ready: VecDeque<ConnId>,
}

impl SocketTable {
    /// A table with room for `capacity` sockets; it moves when there are more.
    ///
    /// The room is two allocations, and their pages are touched as they are used.
    pub fn with_capacity(capacity: usize) -> SocketTable {
        SocketTable {
            slab: Slab::with_capacity(capacity),
            peers: PeerTable::with_capacity(capacity),
            generation: 0,
            ready: VecDeque::new(),
        }
    }

    /// An empty table whose connections have identities that this one never gave.
    #[must_use]
    pub fn successor(&self, capacity: usize) -> SocketTable {
        SocketTable { generation: self.generation, ..SocketTable::with_capacity(capacity) }
    }

    /// All connections.
    pub fn conns(&self) -> Vec<ConnId> {
        let conn = |(slot, socket): (usize, &Socket)| ConnId::new(slot, socket.generation());
        self.slab.iter().map(conn).collect()
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The identity that the next [`SocketTable::insert`] gives.
    pub fn next_id(&self) -> ConnId {
        ConnId::new(self.slab.vacant_key(), self.generation)
    }

    /// Takes a new socket in, which was accepted from `peer`.
    pub fn insert(&mut self, stream: TcpStream, peer: SocketAddr, opened: Tick) -> ConnId {
        let conn = self.next_id();
        self.slab.insert(Socket::new(stream, conn.generation(), opened));
        self.peers.insert(conn.slot(), peer);
        self.generation = self.generation.wrapping_add(1);
        conn
    }

    /// The socket of `conn`, unless that connection is gone.
    pub fn of(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.slab.get_mut(conn.slot()).filter(|socket| socket.generation() == conn.generation())
    }

    /// Where `conn` comes from, unless that connection is gone.
    pub fn peer_of(&mut self, conn: ConnId) -> Option<SocketAddr> {
        self.of(conn)?;
        Some(self.peers.of(conn.slot()))
    }

    /// Takes the socket of `conn` out. Dropping it closes it.
    pub fn remove(&mut self, conn: ConnId) -> Option<Socket> {
        self.of(conn)?;
        self.peers.remove(conn.slot());
        Some(self.slab.remove(conn.slot()))
    }

    /// An event: bytes have come, or the peer has closed its side.
    pub fn note_readable(&mut self, conn: ConnId, peer_closed: bool) {
        let Some(socket) = self.of(conn) else { return };
        if peer_closed {
            socket.note_peer_closed();
        }
        if socket.input() == Input::Drained {
            socket.set_input(Input::Ready);
            self.ready.push_back(conn);
        }
    }

    /// Leaves unread bytes in the kernel until [`SocketTable::resume`].
    pub fn pause(&mut self, conn: ConnId) {
        if let Some(socket) = self.of(conn) {
            socket.set_input(Input::Paused);
        }
    }

    /// Reads a paused socket again. Of one that is not paused, an event will tell.
    pub fn resume(&mut self, conn: ConnId) {
        if let Some(socket) = self.of(conn)
            && socket.input() == Input::Paused
        {
            socket.set_input(Input::Ready);
            self.ready.push_back(conn);
        }
    }

    /// How many entries wait in the queue of sockets to be read.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next socket to be read. Give it back by [`SocketTable::requeue`] after the read.
    pub fn next_ready(&mut self) -> Option<ConnId> {
        self.ready.pop_front()
    }

    /// Puts a socket that was read, and of which more is to be read, at the end of the queue.
    pub fn requeue(&mut self, conn: ConnId) {
        if self.of(conn).is_some_and(|socket| socket.input() == Input::Ready) {
            self.ready.push_back(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    use super::super::socket::Arrival;
    use super::*;

    const PEER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (TcpStream::from_std(stream), peer)
    }

    #[test]
    fn a_stale_identity_meets_nobody() {
        let mut table = SocketTable::with_capacity(2);
        let (first, _peer) = pair();
        let old = table.insert(first, PEER, Tick(0));
        table.note_readable(old, false);
        assert!(table.remove(old).is_some());
        let (second, _other) = pair();
        let new = table.insert(second, PEER, Tick(0));
        assert_eq!(old.slot(), new.slot(), "the slot is reused");
        assert!(table.of(old).is_none());
        assert!(table.remove(old).is_none());
        assert_eq!(table.next_ready(), Some(old), "the queue may name the dead");
        table.requeue(old);
        assert_eq!(table.ready(), 0, "and forgets them");
        assert_eq!(table.of(new).unwrap().input(), Input::Drained);
    }

    #[test]
    fn many_events_queue_a_socket_once_and_a_pause_holds_until_the_heart_resumes() {
        let mut table = SocketTable::with_capacity(1);
        let (stream, _peer) = pair();
        let conn = table.insert(stream, PEER, Tick(0));
        table.note_readable(conn, false);
        table.note_readable(conn, false);
        assert_eq!(table.ready(), 1);
        assert_eq!(table.next_ready(), Some(conn));
        table.pause(conn);
        table.requeue(conn);
        table.note_readable(conn, false);
        assert_eq!(table.ready(), 0);
        table.resume(conn);
        table.resume(conn);
        assert_eq!(table.ready(), 1);
    }

    #[test]
    fn after_the_peer_closed_a_short_read_is_not_the_last() {
        let mut table = SocketTable::with_capacity(1);
        let (stream, mut peer) = pair();
        let conn = table.insert(stream, PEER, Tick(0));
        peer.write_all(b"last words").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        table.note_readable(conn, true);
        assert_eq!(table.next_ready(), Some(conn));
        let socket = table.of(conn).unwrap();
        let mut buffer = [0; 64];
        let mut read = 0;
        // Loopback delivers before the peer's call returns, so no wait is needed.
        loop {
            match socket.read(&mut buffer) {
                Arrival::Bytes(count) => {
                    read += count;
                    assert_eq!(socket.input(), Input::Ready, "the end is still to be read");
                }
                Arrival::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, b"last words".len());
        assert_eq!(socket.input(), Input::Ended);
        table.note_readable(conn, true);
        assert_eq!(table.ready(), 0, "what has ended is never queued again");
    }
}
