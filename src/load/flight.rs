//! Messages under way in a closed loop.
//!
//! Owns the counting by which a publisher learns that a message has reached everybody: each thread
//! counts its own members without sharing a cache line, and tells only when the last of them has
//! it. Never sends. Drivers call it for every delivery.

use std::sync::atomic::{AtomicU32, Ordering};

use super::config::Traffic;
use super::plan::Plan;

/// What all threads share: how many of them still wait for a message.
#[derive(Debug)]
pub struct Flights {
    in_flight: u32,
    rooms: u32,
    threads: u32,
    /// Members that count, by room and thread.
    listeners: Vec<u32>,
    /// Threads that wait, by publisher and place among its messages in flight.
    waiting: Vec<AtomicU32>,
}

impl Flights {
    /// For the closed loop of `plan` over `threads` threads; `None` for a plan without one.
    pub fn new(plan: &Plan, threads: u32) -> Option<Flights> {
        let Traffic::Closed { in_flight } = plan.config().traffic else { return None };
        let rooms = plan.config().rooms;
        let mut listeners = vec![0; (rooms * threads) as usize];
        for index in (0..plan.members()).filter(|&index| rooms > 0 && !plan.is_slow(index)) {
            listeners[(index % rooms * threads + index % threads) as usize] += 1;
        }
        let places = plan.publishers().min(plan.members()) as usize * in_flight as usize;
        let waiting = (0..places).map(|_| AtomicU32::new(0)).collect();
        Some(Flights { in_flight, rooms, threads, listeners, waiting })
    }

    /// Messages of one publisher that are under way at any time.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Members on `thread` that a message of `publisher` must reach.
    fn listeners(&self, publisher: u32, thread: u32) -> u32 {
        let room = publisher % self.rooms;
        let all = self.listeners[(room * self.threads + thread) as usize];
        all - u32::from(publisher % self.threads == thread)
    }

    fn place(&self, publisher: u32, index: u32) -> usize {
        publisher as usize * self.in_flight as usize + (index % self.in_flight) as usize
    }

    /// A message begins its way. To be called before it is written.
    pub fn depart(&self, publisher: u32, index: u32) {
        let waiting = (0..self.threads).filter(|&thread| self.listeners(publisher, thread) > 0);
        let waiting = waiting.count() as u32;
        self.waiting[self.place(publisher, index)].store(waiting, Ordering::Release);
    }
}

/// How far the messages in flight have come on one thread.
#[derive(Debug)]
pub struct Landings {
    thread: u32,
    heard: Vec<u32>,
}

impl Landings {
    /// None yet.
    pub fn new(flights: &Flights, thread: u32) -> Landings {
        Landings { thread, heard: vec![0; flights.waiting.len()] }
    }

    /// A member on this thread has heard a message. Whether everybody has now.
    pub fn land(&mut self, flights: &Flights, publisher: u32, index: u32) -> bool {
        let place = flights.place(publisher, index);
        self.heard[place] += 1;
        if self.heard[place] < flights.listeners(publisher, self.thread) {
            return false;
        }
        self.heard[place] = 0;
        flights.waiting[place].fetch_sub(1, Ordering::AcqRel) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{LoadConfig, Scenario};
    use super::*;

    #[test]
    fn a_message_has_landed_when_the_last_member_of_the_last_thread_has_it() {
        let mut config = LoadConfig::of(Scenario::Broadcast);
        (config.connections, config.rooms) = (7, 1);
        config.traffic = Traffic::Closed { in_flight: 2 };
        let flights = Flights::new(&Plan::new(config), 2).unwrap();
        let mut threads = [Landings::new(&flights, 0), Landings::new(&flights, 1)];
        for round in 0..3 {
            let (first, second) = (2 * round, 2 * round + 1);
            flights.depart(0, first);
            flights.depart(0, second);
            // Four members are on thread 0, one of which is the publisher, and three on thread 1.
            let mut land = |thread: usize, index| threads[thread].land(&flights, 0, index);
            let last = [0, 0, 0, 1, 1].map(|thread| land(thread, first));
            assert_eq!(last, [false; 5]);
            assert!(!land(0, second));
            assert!(land(1, first), "the sixth of six");
            assert_eq!(
                [0, 0, 1, 1, 1].map(|thread| land(thread, second)),
                [false, false, false, false, true]
            );
        }
    }

    #[test]
    fn an_open_loop_counts_nothing() {
        assert!(Flights::new(&Plan::new(LoadConfig::of(Scenario::Broadcast)), 1).is_none());
    }
}
