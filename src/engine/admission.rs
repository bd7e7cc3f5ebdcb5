//! Who is let in by a worker.
//!
//! Owns what becomes of a connection that was accepted here or handed over: it is taken in, or is
//! one too many and told so, or closed. Never accepts: the [`acceptor`](super::acceptor) does, and
//! the [`steering`](super::steering) may send the connection to another worker first.

use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::worker::Worker;
use crate::base::ids::ConnId;
use crate::base::limits::REFUSALS_HELD_MAX;
use crate::chat::excess::Excess;
use crate::chat::pulse::Network;
use crate::net::addresses::Source;

impl Worker {
    /// Takes a connection in, or refuses it.
    pub(super) fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let source = self.addresses.source(peer.ip());
        match self.excess(source) {
            None => {
                if let Some(conn) = self.open(stream, peer) {
                    self.addresses.enter(conn.slot(), source);
                }
            }
            Some(excess) => self.refuse(stream, peer, excess),
        }
    }

    /// Which limit a connection from `source` would be beyond.
    fn excess(&self, source: Option<Source>) -> Option<Excess> {
        if self.sockets.len() - self.shard.held() >= self.max_connections {
            Some(Excess::Connections)
        } else if !self.addresses.has_room(source) {
            Some(Excess::Address)
        } else {
            None
        }
    }

    /// Has a connection told that it is beyond a limit, or closes it at once where enough others
    /// are being told.
    fn refuse(&mut self, stream: TcpStream, peer: SocketAddr, excess: Excess) {
        let reason = match excess {
            Excess::Connections => {
                format!("it holds {}, the most that --max-connections allows", self.max_connections)
            }
            Excess::Address => {
                format!("{} has as many as --max-connections-per-address allows", peer.ip())
            }
        };
        self.acceptor.note_refused(&reason, self.now.mono);
        if self.shard.held() >= REFUSALS_HELD_MAX {
            self.shard.note_turned_away(excess);
        } else if let Some(conn) = self.open(stream, peer) {
            self.shard.hold_to_refuse(conn, excess);
        }
    }

    /// Registers a socket, once and for both directions, and tells the shard of it.
    fn open(&mut self, mut stream: TcpStream, peer: SocketAddr) -> Option<ConnId> {
        let token = Token(self.sockets.next_id().to_bits() as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.seat.poll.registry().register(&mut stream, token, interest) {
            self.acceptor.rest(&error, self.now.mono);
            return None;
        }
        let conn = self.sockets.insert(stream, peer, self.now.mono.tick());
        self.shard.open(conn, self.now);
        if self.shard.heartbeats_adapt() {
            self.shard.note_network(conn, network_of(peer));
        }
        Some(conn)
    }
}

/// The network that a peer comes from: the 24 bits of an IPv4 address, or the 48 of an IPv6 one,
/// that are usually one site's or one carrier's way out.
fn network_of(peer: SocketAddr) -> Network {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => Network(u64::from(address.to_bits() >> 8) | 1 << 63),
        IpAddr::V6(address) => Network((address.to_bits() >> 80) as u64),
    }
}
