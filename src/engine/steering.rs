//! Connections that go to another worker than the one that accepted them.
//!
//! Owns the two ends of a handing over. The kernel deals connections out by a hash of their
//! addresses, evenly enough where they come one by one; a storm in which one worker's clients come
//! back and another's do not, or few addresses, can fill one worker. Whoever accepts is the first
//! to answer for the connection, so nobody waits at a door that is not opened: it is accepted where
//! it came and then handed on, and stays where it is if the other one's hatch is full.

use std::os::fd::RawFd;
use std::sync::Arc;

use mio::net::TcpStream;

use super::balance::Balance;
use super::worker::{Life, Worker};
use crate::base::limits::HATCH_BUDGET;
use crate::chat::shard::Progress;
use crate::net::hatch::{Handed, Hatch, Slot};

/// What a worker needs to hand connections over and to be handed some. All of it was opened before
/// file tables became private.
#[derive(Debug)]
pub struct Steering {
    /// The worker's own hatch.
    pub hatch: Hatch,
    /// Everybody's slots, by shard.
    pub slots: Arc<[Slot]>,
    /// Everybody's loads.
    pub balance: Arc<Balance>,
}

impl Worker {
    /// Hands an accepted connection to a worker that has far fewer, if there is one. Otherwise it
    /// comes back.
    pub(super) fn steer(&mut self, stream: TcpStream) -> Option<TcpStream> {
        if self.life != Life::Serving {
            return Some(stream);
        }
        let Steering { slots, balance, .. } = &self.seat.steering;
        let connections = self.connections();
        let Some(emptier) = balance.emptier_than(self.id, connections, self.max_connections) else {
            return Some(stream);
        };
        match slots[emptier.index()].put(stream) {
            Ok(()) => {
                balance.note_sent(emptier);
                self.shard.note_handed_over();
                None
            }
            Err(stream) => Some(stream),
        }
    }

    /// Phase: takes in who was accepted by others.
    pub(super) fn take_handed(&mut self) -> Progress {
        for _ in 0..HATCH_BUDGET {
            if !self.hatch_waits {
                break;
            }
            match self.seat.steering.hatch.take() {
                Handed::Connection(stream) => self.take_over(stream),
                Handed::Lost => {}
                Handed::Nothing => self.hatch_waits = false,
            }
        }
        self.seat_load();
        if self.hatch_waits { Progress::More } else { Progress::Done }
    }

    fn take_over(&mut self, stream: TcpStream) {
        // Whoever is handed over while all workers shut their doors came too late for a goodbye:
        // one that is closed before its hello knows that it was not served. A connection that was
        // reset under way has no address.
        if matches!(self.life, Life::Serving | Life::Arriving)
            && let Ok(peer) = stream.peer_addr()
        {
            self.admit(stream, peer);
        }
    }

    /// Takes in all that were handed over so far, and is handed no more.
    pub(super) fn shut_hatch(&mut self) {
        self.seat.steering.balance.close(self.id);
        self.life = Life::Arriving;
        self.hatch_waits = true;
        while self.take_handed() == Progress::More {}
    }

    /// Tells the others how many connections there are.
    fn seat_load(&self) {
        if self.life == Life::Serving {
            self.seat.steering.balance.publish(self.id, self.connections());
        }
    }
}

impl Steering {
    /// The numbers of the descriptors, for a thread that closes its copies of all others.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let own = self.hatch.descriptor();
        self.slots.iter().map(Slot::descriptor).chain([own])
    }
}
