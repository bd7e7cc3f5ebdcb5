//! The doors of one worker.
//!
//! Owns the listeners and the reasons why they may be left alone for a moment. Never registers or
//! counts what it accepts: the worker does. The worker calls it once a turn.
//!
//! There is one door, or several where a process took over the listeners of one with more workers.

use std::io;
use std::net::SocketAddr;

use log::warn;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::net::listener;

/// After the kernel had no descriptor to give, accepting rests for so long, or until a connection
/// is closed.
const REST_MS: u64 = 100;
/// At most one line is logged in this time about connections that could not be taken.
const COMPLAINT_PERIOD_MS: u64 = 1_000;

/// What is known of the queue of connections before a door.
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

#[derive(Debug)]
struct Door {
    listener: TcpListener,
    queue: Queue,
}

/// The doors of one worker: open from [`Acceptor::open`] to [`Acceptor::shut`].
#[derive(Debug)]
pub struct Acceptor {
    worker: ShardId,
    doors: Vec<Door>,
    is_open: bool,
    /// The door that is looked at first.
    next: usize,
    /// Connections not taken since the last complaint.
    untold: u64,
    complained: Option<Mono>,
}

impl Acceptor {
    /// No door yet.
    pub fn new(worker: ShardId) -> Acceptor {
        Acceptor { worker, doors: Vec::new(), is_open: false, next: 0, untold: 0, complained: None }
    }

    /// Adds a door that is shut still. `registry` tells by `token` when somebody waits before it.
    ///
    /// # Errors
    /// What the kernel says to the registration.
    pub fn add(
        &mut self,
        mut listener: TcpListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        self.doors.push(Door { listener, queue: Queue::Empty });
        Ok(())
    }

    /// How many doors there are.
    pub fn doors(&self) -> usize {
        self.doors.len()
    }

    /// Opens the doors: from now on whoever waits is taken in.
    pub fn open(&mut self) {
        self.is_open = true;
        self.note_all_waiting();
    }

    /// An event: somebody waits before a door.
    pub fn note_waiting(&mut self, door: usize) {
        if let Some(door) = self.doors.get_mut(door)
            && matches!(door.queue, Queue::Empty | Queue::Taken)
        {
            door.queue = Queue::Waiting;
        }
    }

    /// Somebody may wait before any door.
    pub fn note_all_waiting(&mut self) {
        (0..self.doors.len()).for_each(|door| self.note_waiting(door));
    }

    /// A connection was closed: its descriptor can serve another.
    pub fn note_descriptor_freed(&mut self) {
        for door in &mut self.doors {
            if matches!(door.queue, Queue::Resting(_)) {
                door.queue = Queue::Waiting;
            }
        }
    }

    /// When there is something to accept: the past where somebody waits already.
    pub fn deadline(&self) -> Option<Mono> {
        let due = |door: &Door| match door.queue {
            Queue::Empty => None,
            Queue::Waiting | Queue::Taken => Some(Mono(0)),
            Queue::Resting(until) => Some(until),
        };
        if self.is_open { self.doors.iter().filter_map(due).min() } else { None }
    }

    /// The next connection and where it comes from, or `None` when there is none to be had now. Of
    /// several doors each has its turn.
    pub fn accept(&mut self, now: Mono) -> Option<(TcpStream, SocketAddr)> {
        if !self.is_open {
            return None;
        }
        for _ in 0..self.doors.len() {
            let door = self.next;
            self.next = if door + 1 < self.doors.len() { door + 1 } else { 0 };
            match self.doors[door].accept(now) {
                Ok(Some(accepted)) => return Some(accepted),
                Ok(None) => {}
                Err(error) => self.complain(now, &format_args!("{error}")),
            }
        }
        None
    }

    /// A connection was accepted and closed at once, because the worker holds all that it may.
    pub fn turn_away(&mut self, stream: TcpStream, max_connections: usize, now: Mono) {
        drop(stream);
        let reason =
            format_args!("it holds {max_connections}, the most that --max-connections allows");
        self.complain(now, &reason);
    }

    /// Shuts the doors for good. Where no other process has the listeners, the kernel resets
    /// whoever waits before them, so accept them first.
    pub fn shut(&mut self, registry: &Registry) {
        self.is_open = false;
        for door in &mut self.doors {
            // Closing would not do: the kernel tells of a listener until its last descriptor is
            // closed, and another table or process may have one. A poll that never told of it has
            // nothing to forget.
            let _ = registry.deregister(&mut door.listener);
        }
        self.doors.clear();
        self.next = 0;
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

impl Door {
    /// # Errors
    /// What keeps the kernel from giving a connection that waits.
    fn accept(&mut self, now: Mono) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        match self.queue {
            Queue::Empty => return Ok(None),
            Queue::Resting(until) if now < until => return Ok(None),
            Queue::Taken if !listener::somebody_waits(&self.listener) => {
                self.queue = Queue::Empty;
                return Ok(None);
            }
            Queue::Waiting | Queue::Taken | Queue::Resting(_) => self.queue = Queue::Waiting,
        }
        loop {
            let error = match self.listener.accept() {
                Ok(accepted) => {
                    self.queue = Queue::Taken;
                    return Ok(Some(accepted));
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.queue = Queue::Empty;
                    return Ok(None);
                }
                // A peer that hung up while it waited is nobody's loss.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                _ => {
                    // No descriptor, no memory: both pass. Asking again at once would spin, and
                    // waiting for an event would wait for ever, since none comes for the old ones.
                    self.queue = Queue::Resting(now + REST_MS);
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::Poll;

    use super::*;

    fn doors(count: usize) -> (Acceptor, Poll, Vec<SocketAddr>) {
        let poll = Poll::new().unwrap();
        let mut acceptor = Acceptor::new(ShardId(0));
        let mut addresses = Vec::new();
        for number in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            addresses.push(listener.local_addr().unwrap());
            acceptor.add(listener, poll.registry(), Token(number)).unwrap();
        }
        (acceptor, poll, addresses)
    }

    fn come(address: SocketAddr, count: usize) -> Vec<std::net::TcpStream> {
        (0..count).map(|_| std::net::TcpStream::connect(address).unwrap()).collect()
    }

    #[test]
    fn accepts_all_that_wait_and_then_waits_for_an_event() {
        let (mut acceptor, _poll, addresses) = doors(1);
        acceptor.open();
        assert!(acceptor.accept(Mono(0)).is_none());
        let _peers = come(addresses[0], 3);
        assert!(acceptor.accept(Mono(0)).is_none(), "no event has come");
        acceptor.note_waiting(0);
        assert_eq!(acceptor.deadline(), Some(Mono(0)));
        let taken = std::iter::from_fn(|| acceptor.accept(Mono(0))).count();
        assert_eq!(taken, 3);
        assert_eq!(acceptor.deadline(), None);
    }

    #[test]
    fn rests_until_the_time_is_over_or_a_descriptor_is_freed() {
        let (mut acceptor, _poll, addresses) = doors(1);
        acceptor.open();
        let _peers = come(addresses[0], 1);
        acceptor.doors[0].queue = Queue::Resting(Mono(100));
        acceptor.note_waiting(0);
        assert_eq!(acceptor.deadline(), Some(Mono(100)), "an event does not end the rest");
        assert!(acceptor.accept(Mono(99)).is_none());
        acceptor.note_descriptor_freed();
        assert_eq!(acceptor.deadline(), Some(Mono(0)));
        assert!(acceptor.accept(Mono(99)).is_some());
    }

    #[test]
    fn nobody_is_taken_in_before_the_doors_are_open() {
        let (mut acceptor, _poll, addresses) = doors(1);
        let _peers = come(addresses[0], 2);
        acceptor.note_waiting(0);
        assert_eq!(acceptor.deadline(), None, "or the worker would not sleep");
        assert!(acceptor.accept(Mono(0)).is_none());
        acceptor.open();
        assert_eq!(acceptor.deadline(), Some(Mono(0)));
        assert_eq!(std::iter::from_fn(|| acceptor.accept(Mono(0))).count(), 2);
    }

    #[test]
    fn every_door_has_its_turn_and_none_is_forgotten() {
        let (mut acceptor, _poll, addresses) = doors(3);
        let _peers: Vec<_> = addresses.iter().flat_map(|&address| come(address, 2)).collect();
        acceptor.open();
        let mut ports: Vec<u16> = Vec::new();
        while let Some((stream, _)) = acceptor.accept(Mono(0)) {
            ports.push(stream.local_addr().unwrap().port());
        }
        let expected: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [&expected[..], &expected[..]].concat());
        let _late = come(addresses[1], 1);
        acceptor.note_waiting(1);
        assert!(acceptor.accept(Mono(0)).is_some());
    }

    #[test]
    fn a_shut_door_refuses_connections() {
        let (mut acceptor, poll, addresses) = doors(2);
        acceptor.open();
        acceptor.shut(poll.registry());
        assert!(std::net::TcpStream::connect(addresses[0]).is_err());
        assert!(acceptor.accept(Mono(0)).is_none());
        assert_eq!(acceptor.deadline(), None);
    }

    #[test]
    fn a_door_that_is_left_to_another_process_keeps_nobody_awake() {
        let (mut acceptor, mut poll, addresses) = doors(0);
        assert!(addresses.is_empty());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let copy = listener.try_clone().unwrap();
        copy.set_nonblocking(true).unwrap();
        acceptor.add(TcpListener::from_std(copy), poll.registry(), Token(0)).unwrap();
        acceptor.open();
        acceptor.shut(poll.registry());
        let _peers = come(address, 1);
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "{events:?}");
    }
}
