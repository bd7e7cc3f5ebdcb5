//! The door of one worker.
//!
//! Owns the listener and the reasons why it may be left alone for a moment. Never registers or
//! counts what it accepts: the worker does. The worker calls it once a turn.

use std::io;
use std::net::SocketAddr;

use log::warn;
use mio::net::{TcpListener, TcpStream};

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::net::listener;

/// After the kernel had no descriptor to give, accepting rests for so long, or until a connection
/// is closed.
const REST_MS: u64 = 100;
/// At most one line is logged in this time about connections that could not be taken.
const COMPLAINT_PERIOD_MS: u64 = 1_000;

/// What is known of the queue of connections before the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// Empty; the next connection brings an event.
    Empty,
    /// Somebody may wait.
    Waiting,
    /// Somebody was taken, and others may have come with that one: the kernel tells of all by one
    /// event.
    Taken,
    /// Somebody waits and cannot be taken before this instant.
    Resting(Mono),
}

/// The door of one worker: open from [`Acceptor::open`] to [`Acceptor::shut`].
#[derive(Debug)]
pub struct Acceptor {
    worker: ShardId,
    listener: Option<TcpListener>,
    queue: Queue,
    /// Connections not taken since the last complaint.
    untold: u64,
    complained: Option<Mono>,
}

impl Acceptor {
    /// A door that is shut.
    pub fn new(worker: ShardId) -> Acceptor {
        Acceptor { worker, listener: None, queue: Queue::Empty, untold: 0, complained: None }
    }

    /// Opens the door. The worker has registered the listener with its poll.
    pub fn open(&mut self, listener: TcpListener) {
        self.listener = Some(listener);
    }

    /// An event: somebody waits before the door.
    pub fn note_waiting(&mut self) {
        if matches!(self.queue, Queue::Empty | Queue::Taken) {
            self.queue = Queue::Waiting;
        }
    }

    /// A connection was closed: its descriptor can serve another.
    pub fn note_descriptor_freed(&mut self) {
        if matches!(self.queue, Queue::Resting(_)) {
            self.queue = Queue::Waiting;
        }
    }

    /// When there is something to accept: the past where somebody waits already.
    pub fn deadline(&self) -> Option<Mono> {
        match self.queue {
            Queue::Empty => None,
            Queue::Waiting | Queue::Taken => Some(Mono(0)),
            Queue::Resting(until) => Some(until),
        }
    }

    /// The next connection and where it comes from, or `None` when there is none to be had now.
    pub fn accept(&mut self, now: Mono) -> Option<(TcpStream, SocketAddr)> {
        let listener = self.listener.as_ref()?;
        match self.queue {
            Queue::Empty => return None,
            Queue::Resting(until) if now < until => return None,
            Queue::Taken if !listener::somebody_waits(listener) => {
                self.queue = Queue::Empty;
                return None;
            }
            Queue::Waiting | Queue::Taken | Queue::Resting(_) => self.queue = Queue::Waiting,
        }
        loop {
            let error = match listener.accept() {
                Ok(accepted) => {
                    self.queue = Queue::Taken;
                    return Some(accepted);
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => self.queue = Queue::Empty,
                // A peer that hung up while it waited is nobody's loss.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                _ => {
                    // No descriptor, no memory: both pass. Asking again at once would spin, and
                    // waiting for an event would wait for ever, since none comes for the old ones.
                    self.queue = Queue::Resting(now + REST_MS);
                    self.complain(now, &format_args!("{error}"));
                }
            }
            return None;
        }
    }

    /// A connection was accepted and closed at once, because the worker holds all that it may.
    pub fn turn_away(&mut self, stream: TcpStream, max_connections: usize, now: Mono) {
        drop(stream);
        let reason =
            format_args!("it holds {max_connections}, the most that --max-connections allows");
        self.complain(now, &reason);
    }

    /// Shuts the door. The kernel resets whoever waits before it, so accept them first.
    pub fn shut(&mut self) {
        self.listener = None;
        self.queue = Queue::Empty;
    }

    fn complain(&mut self, now: Mono, reason: &dyn std::fmt::Display) {
        self.untold += 1;
        if self.complained.is_some_and(|last| now.since_ms(last) < COMPLAINT_PERIOD_MS) {
            return;
        }
        warn!("worker {} could not take {} connections: {reason}", self.worker, self.untold);
        self.untold = 0;
        self.complained = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> (Acceptor, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut acceptor = Acceptor::new(ShardId(0));
        acceptor.open(listener);
        (acceptor, address)
    }

    #[test]
    fn accepts_all_that_wait_and_then_waits_for_an_event() {
        let (mut acceptor, address) = door();
        let _peers: Vec<_> =
            (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert!(acceptor.accept(Mono(0)).is_none(), "no event has come");
        acceptor.note_waiting();
        assert_eq!(acceptor.deadline(), Some(Mono(0)));
        let taken = std::iter::from_fn(|| acceptor.accept(Mono(0))).count();
        assert_eq!(taken, 3);
        assert_eq!(acceptor.deadline(), None);
    }

    #[test]
    fn rests_until_the_time_is_over_or_a_descriptor_is_freed() {
        let (mut acceptor, address) = door();
        let _peer = std::net::TcpStream::connect(address).unwrap();
        acceptor.queue = Queue::Resting(Mono(100));
        acceptor.note_waiting();
        assert_eq!(acceptor.deadline(), Some(Mono(100)), "an event does not end the rest");
        assert!(acceptor.accept(Mono(99)).is_none());
        acceptor.note_descriptor_freed();
        assert_eq!(acceptor.deadline(), Some(Mono(0)));
        assert!(acceptor.accept(Mono(99)).is_some());
    }

    #[test]
    fn a_shut_door_refuses_connections() {
        let (mut acceptor, address) = door();
        acceptor.shut();
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(acceptor.accept(Mono(0)).is_none());
        assert_eq!(acceptor.deadline(), None);
    }
}
