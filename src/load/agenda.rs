//! What one thread has to do, and when.
//!
//! Owns a heap of instants. Never reads a clock. The driver takes out what is due once a turn.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// It sends.
    Send,
    /// It comes, for the so-manieth time.
    Come(u32),
    /// It goes.
    Go(u32),
    /// All connections of the thread are dropped and come back.
    Storm,
    /// Bare connections are opened instead.
    Bare,
}

/// Tasks by the instant at which they are due.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u32, Task)>>,
}

impl Agenda {
    /// Adds a task of the thread's connection `local`, due at `at_ns`.
    pub fn add(&mut self, at_ns: u64, local: u32, task: Task) {
        self.heap.push(Reverse((at_ns, local, task)));
    }

    /// Takes out the earliest task if it is due, with the instant at which it was.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(u64, u32, Task)> {
        let &Reverse(first) = self.heap.peek()?;
        if first.0 > now_ns {
            return None;
        }
        self.heap.pop();
        Some(first)
    }

    /// When the earliest task is due.
    pub fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.heap.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_come_in_the_order_in_which_they_are_due_and_not_before() {
        let mut agenda = Agenda::default();
        agenda.add(30, 1, Task::Send);
        agenda.add(10, 2, Task::Come(0));
        agenda.add(20, 3, Task::Go(0));
        assert_eq!(agenda.next_due(), Some(10));
        assert_eq!(agenda.pop_due(20), Some((10, 2, Task::Come(0))));
        assert_eq!(agenda.pop_due(20), Some((20, 3, Task::Go(0))));
        assert_eq!(agenda.pop_due(20), None);
        assert_eq!(agenda.next_due(), Some(30));
    }
}
