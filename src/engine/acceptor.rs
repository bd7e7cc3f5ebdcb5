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

use crate::base::gcra::{Bucket, Rate, TooFast};
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
    rate: Rate,
    bucket: Bucket,
    /// Nobody is taken before this instant, because so many were.
    paced_until: Option<Mono>,
    /// Times that accepting was paced and nobody asked.
    pauses: u64,
    /// Connections not taken since the last complaint.
    untold: u64,
    complained: Option<Mono>,
}

impl Acceptor {
    /// No door yet. Those that are added will be passed at that rate, all together.
    pub fn new(worker: ShardId, rate: Rate) -> Acceptor {
        Acceptor {
            worker,
            doors: Vec::new(),
            is_open: false,
            next: 0,
            rate,
            bucket: Bucket::default(),
            paced_until: None,
            pauses: 0,
            untold: 0,
            complained: None,
        }
    }

    /// From here on nobody who waits is kept waiting by the rate.
    pub fn hurry(&mut self) {
        self.rate = Rate::UNLIMITED;
        self.paced_until = None;
        self.note_all_waiting();
    }

    /// How many times accepting paused because of the rate, since this was last asked.
    pub fn take_pauses(&mut self) -> u64 {
        std::mem::take(&mut self.pauses)
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
        let first = self.doors.iter().filter_map(due).min().filter(|_| self.is_open);
        first.map(|due| self.paced_until.map_or(due, |until| until.max(due)))
    }

    /// The next connection, or `None` when there is none to be had now. Of several doors each has
    /// its turn.
    pub fn accept(&mut self, now: Mono) -> Option<(TcpStream, SocketAddr)> {
        if !self.is_open || self.paced_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paced_until = None;
        for _ in 0..self.doors.len() {
            let index = self.next;
            self.next = if index + 1 < self.doors.len() { index + 1 } else { 0 };
            let door = &mut self.doors[index];
            if !door.may_have_somebody(now) {
                continue;
            }
            if let Err(TooFast { wait_ms }) = self.rate.look(self.bucket, 1, now) {
                self.paced_until = Some(now + wait_ms);
                self.pauses += 1;
                return None;
            }
            match door.accept(now) {
                Ok(Some(taken)) => {
                    let _ = self.rate.charge(&mut self.bucket, 1, now);
                    return Some(taken);
                }
                Ok(None) => {}
                Err(error) => self.complain(now, &format_args!("{error}")),
            }
        }
        None
    }

    /// A connection was accepted and will not be served.
    pub fn note_refused(&mut self, reason: &dyn std::fmt::Display, now: Mono) {
        self.complain(now, reason);
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
    /// Whether it is worth asking for a connection.
    fn may_have_somebody(&mut self, now: Mono) -> bool {
        self.queue = match self.queue {
            Queue::Resting(until) if now < until => return false,
            Queue::Taken if !listener::somebody_waits(&self.listener) => Queue::Empty,
            Queue::Waiting | Queue::Taken | Queue::Resting(_) => Queue::Waiting,
            Queue::Empty => Queue::Empty,
        };
        self.queue == Queue::Waiting
    }

    /// # Errors
    /// What keeps the kernel from giving a connection that waits.
    fn accept(&mut self, now: Mono) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        loop {
            let error = match self.listener.accept() {
                Ok(taken) => {
                    self.queue = Queue::Taken;
                    return Ok(Some(taken));
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
        doors_with(count, Rate::UNLIMITED)
    }

    fn doors_with(count: usize, rate: Rate) -> (Acceptor, Poll, Vec<SocketAddr>) {
        let poll = Poll::new().unwrap();
        let mut acceptor = Acceptor::new(ShardId(0), rate);
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
    fn a_crowd_is_taken_at_the_rate_and_those_behind_wait_in_the_kernel() {
        let (mut acceptor, _poll, addresses) = doors_with(2, Rate::new(10, 2));
        acceptor.open();
        let _peers: Vec<_> = addresses.iter().flat_map(|&address| come(address, 3)).collect();
        acceptor.note_all_waiting();
        let mut taken_at = |now| std::iter::from_fn(|| acceptor.accept(Mono(now))).count();
        assert_eq!(taken_at(1_000), 2);
        assert_eq!(taken_at(1_099), 0);
        assert_eq!(taken_at(1_100), 1);
        acceptor.note_all_waiting();
        acceptor.note_descriptor_freed();
        assert_eq!(acceptor.deadline(), Some(Mono(1_200)), "neither lets anybody in early");
        assert_eq!(acceptor.take_pauses(), 2);
        acceptor.hurry();
        assert_eq!(std::iter::from_fn(|| acceptor.accept(Mono(1_101))).count(), 3);
        assert_eq!(acceptor.deadline(), None);
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
