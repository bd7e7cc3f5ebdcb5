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
use rustix::io::Errno;

use crate::base::gcra::{Bucket, Rate, TooFast};
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::net::listener;
use crate::net::spare_descriptor::SpareDescriptor;

/// After the kernel had no descriptor to give, accepting rests for so long, or until a connection
/// is closed.
const REST_MS: u64 = 100;
/// At most one line is logged in this time about connections that could not be taken.
const COMPLAINT_PERIOD_MS: u64 = 1_000;

/// Why the kernel gave no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Nobody waits.
    Nobody,
    /// That one is gone; the next may be there. An error of its network comes to us (accept(2)).
    Gone,
    /// No descriptor is free, in this table or in the system.
    NoDescriptor,
    /// There is no memory, or something else that may pass.
    Other,
}

impl Failure {
    fn of(error: &io::Error) -> Failure {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Failure::Nobody,
            Some(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET,
            ) => Failure::Gone,
            Some(Errno::MFILE | Errno::NFILE) => Failure::NoDescriptor,
            _ => Failure::Other,
        }
    }
}

/// What went wrong at the doors since this was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Times that the kernel had no descriptor or no memory for a connection.
    pub failures: u64,
    /// Connections closed at once for want of a descriptor.
    pub closed: u64,
}

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
    /// Nobody is taken until [`Acceptor::go_on`]: the worker is overloaded.
    is_paused: bool,
    /// Whoever waits is taken in, however the worker is: the doors are about to be shut.
    hurries: bool,
    spare: SpareDescriptor,
    troubles: Troubles,
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
            is_paused: false,
            hurries: false,
            spare: SpareDescriptor::hold(),
            troubles: Troubles::default(),
            next: 0,
            rate,
            bucket: Bucket::default(),
            paced_until: None,
            pauses: 0,
            untold: 0,
            complained: None,
        }
    }

    /// Takes nobody until [`Acceptor::go_on`]. Whoever comes waits in the kernel, and is no reason
    /// to wake up.
    pub fn pause(&mut self) {
        self.is_paused = !self.hurries;
    }

    /// Takes those who wait again.
    pub fn go_on(&mut self) {
        self.is_paused = false;
        self.note_all_waiting();
    }

    /// Leaves all doors alone for a moment, because something else was missing that a connection
    /// needs.
    pub fn rest(&mut self, reason: &dyn std::fmt::Display, now: Mono) {
        self.troubles.failures += 1;
        for door in &mut self.doors {
            door.queue = Queue::Resting(now + REST_MS);
        }
        self.complain(now, reason);
    }

    /// A connection that was handed over was lost on the way, for want of a descriptor.
    pub fn note_lost(&mut self) {
        self.troubles.closed += 1;
    }

    /// What went wrong since this was last asked.
    pub fn take_troubles(&mut self) -> Troubles {
        std::mem::take(&mut self.troubles)
    }

    /// From here on nobody who waits is kept waiting, by the rate, by pressure or by a rest: what
    /// was missing may be there again.
    pub fn hurry(&mut self) {
        (self.hurries, self.is_paused) = (true, false);
        self.rate = Rate::UNLIMITED;
        self.paced_until = None;
        self.doors.iter_mut().for_each(|door| door.queue = Queue::Waiting);
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
        let is_open = self.is_open && !self.is_paused;
        let first = self.doors.iter().filter_map(due).min().filter(|_| is_open);
        first.map(|due| self.paced_until.map_or(due, |until| until.max(due)))
    }

    /// The next connection and where it comes from, or `None` when there is none to be had now. Of
    /// several doors each has its turn.
    pub fn accept(&mut self, now: Mono) -> Option<(TcpStream, SocketAddr)> {
        let is_paced = self.paced_until.is_some_and(|until| now < until);
        if !self.is_open || self.is_paused || is_paced {
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
            match door.accept() {
                Ok(Some(taken)) => {
                    let _ = self.rate.charge(&mut self.bucket, 1, now);
                    return Some(taken);
                }
                Ok(None) => {}
                Err(error) => self.fail(index, &error, now),
            }
        }
        None
    }

    /// The kernel gave nobody through a door, though somebody may wait.
    fn fail(&mut self, index: usize, error: &io::Error, now: Mono) {
        // Asking again at once would spin, and waiting for an event would wait for ever, since none
        // comes for those who wait already.
        let mut queue = Queue::Resting(now + REST_MS);
        if Failure::of(error) == Failure::NoDescriptor && self.spare.give_up() {
            match self.doors[index].listener.accept() {
                Ok(_) => self.troubles.closed += 1,
                Err(error) if Failure::of(&error) == Failure::Nobody => queue = Queue::Empty,
                Err(_) => {}
            }
        }
        self.spare.take_back();
        self.doors[index].queue = queue;
        if queue != Queue::Empty {
            self.troubles.failures += 1;
            self.complain(now, error);
        }
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
    fn accept(&mut self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        loop {
            let error = match self.listener.accept() {
                Ok(taken) => {
                    self.queue = Queue::Taken;
                    return Ok(Some(taken));
                }
                Err(error) => error,
            };
            match Failure::of(&error) {
                Failure::Nobody => {
                    self.queue = Queue::Empty;
                    return Ok(None);
                }
                // A peer that hung up while it waited is nobody's loss.
                Failure::Gone => {}
                Failure::NoDescriptor | Failure::Other => return Err(error),
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
    fn while_it_is_paused_nobody_is_taken_in_and_nobody_who_comes_keeps_it_awake() {
        let (mut acceptor, _poll, addresses) = doors(1);
        acceptor.open();
        let _early = come(addresses[0], 1);
        acceptor.pause();
        assert_eq!(acceptor.deadline(), None);
        let _late = come(addresses[0], 2);
        acceptor.note_waiting(0);
        acceptor.note_descriptor_freed();
        assert_eq!(acceptor.deadline(), None);
        assert!(acceptor.accept(Mono(0)).is_none());
        acceptor.go_on();
        assert_eq!(acceptor.deadline(), Some(Mono(0)));
        assert_eq!(std::iter::from_fn(|| acceptor.accept(Mono(0))).count(), 3);
    }

    #[test]
    fn doors_that_are_about_to_be_shut_take_in_who_waits_however_the_worker_is() {
        let (mut acceptor, _poll, addresses) = doors(1);
        acceptor.open();
        acceptor.pause();
        let _peers = come(addresses[0], 2);
        acceptor.hurry();
        acceptor.pause();
        assert_eq!(std::iter::from_fn(|| acceptor.accept(Mono(0))).count(), 2);
    }

    #[test]
    fn a_door_that_rests_takes_in_who_waits_before_it_is_shut() {
        let (mut acceptor, _poll, addresses) = doors(1);
        acceptor.open();
        let _peers = come(addresses[0], 2);
        acceptor.rest(&"no memory", Mono(0));
        assert!(acceptor.accept(Mono(1)).is_none());
        acceptor.hurry();
        assert_eq!(std::iter::from_fn(|| acceptor.accept(Mono(1))).count(), 2);
    }

    #[test]
    fn it_rests_and_counts_where_the_kernel_lacks_something_else() {
        let (mut acceptor, _poll, addresses) = doors(2);
        acceptor.open();
        let _peers = come(addresses[0], 1);
        acceptor.rest(&"no memory", Mono(0));
        acceptor.note_lost();
        assert_eq!(acceptor.deadline(), Some(Mono(REST_MS)));
        assert!(acceptor.accept(Mono(REST_MS - 1)).is_none());
        assert_eq!(acceptor.take_troubles(), Troubles { failures: 1, closed: 1 });
        assert!(acceptor.accept(Mono(REST_MS)).is_some());
        assert_eq!(acceptor.take_troubles(), Troubles::default());
    }

    #[test]
    fn what_concerns_one_connection_is_passed_over_and_what_lasts_a_while_is_not() {
        let of = |errno: Errno| Failure::of(&errno.into());
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert_eq!(of(errno), Failure::NoDescriptor);
        }
        for errno in [Errno::NOMEM, Errno::NOBUFS, Errno::PERM, Errno::OPNOTSUPP] {
            assert_eq!(of(errno), Failure::Other);
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::HOSTUNREACH] {
            assert_eq!(of(errno), Failure::Gone);
        }
        assert_eq!(of(Errno::AGAIN), Failure::Nobody);
        assert_eq!(Failure::of(&io::Error::other("strange")), Failure::Other);
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
        // A thread of another test, with a file table of its own, may have the door for a moment.
        let is_refused = (0..1_000).any(|_| {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
            std::net::TcpStream::connect(addresses[0]).is_err()
        });
        assert!(is_refused);
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
