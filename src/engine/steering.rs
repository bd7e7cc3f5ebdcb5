//! Connections that go to another worker than the one that accepted them.
//!
//! Owns how long a door was left alone, and the two ends of a handing over. The kernel deals
//! connections out by a hash of their addresses, evenly enough where they come one by one; a storm
//! in which one worker's clients come back and another's do not, or few addresses, can fill one
//! worker. Whoever accepts is the first to answer for the connection, so nobody waits at a door
//! that is not opened: it is accepted where it came and then handed on, and stays where it is if
//! the other one's hatch is full.

use std::os::fd::RawFd;
use std::sync::Arc;

use mio::net::TcpStream;

use super::balance::Balance;
use super::worker::{Life, Worker};
use crate::base::limits::{ACCEPT_BUDGET, HATCH_BUDGET};
use crate::base::pressure::Level;
use crate::base::time::Mono;
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
    /// Phase: takes in who waits before the door.
    pub(super) fn accept_connections(&mut self) -> Progress {
        if self.acceptor.deadline() == Some(Mono(0)) {
            // Whoever waits came behind the last time that somebody was taken in, at the earliest
            // in the turn before; a worker that slept since then was woken at once.
            let awake_us = self.clock.us().saturating_sub(self.woke_us);
            self.shard.note_accept_stall(self.last_turn_us + awake_us);
        }
        self.accept_at_most(ACCEPT_BUDGET)
    }

    /// Hands an accepted connection to a worker that has far fewer, if there is one. Otherwise it
    /// comes back.
    pub(super) fn steer(&mut self, stream: TcpStream) -> Option<TcpStream> {
        if self.life != Life::Serving {
            return Some(stream);
        }
        let Steering { slots, balance, .. } = &self.seat.steering;
        // One under pressure is as good as full: a calm one need not refuse a newcomer.
        let connections = match self.watch.level() {
            Level::Calm => self.connections(),
            Level::Strained | Level::Overloaded => self.max_connections,
        };
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
                Handed::Lost => self.acceptor.note_lost(),
                Handed::Nothing => self.hatch_waits = false,
            }
        }
        self.seat_load();
        if self.hatch_waits { Progress::More } else { Progress::Done }
    }

    fn take_over(&mut self, stream: TcpStream) {
        // One that was reset under way has no address any more.
        if let Ok(peer) = stream.peer_addr() {
            self.admit(stream, peer);
        }
    }

    /// Takes in all that were handed over. Once the doors of all workers are shut these are the
    /// last.
    pub(super) fn empty_hatch(&mut self) {
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
