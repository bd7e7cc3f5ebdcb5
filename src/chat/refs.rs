//! Which requests a session has made lately, so that none is done twice.
//!
//! Owns the last [`REF_WINDOW`] non-zero refs of one session and what became of each. Never
//! answers: the shard does.

use std::collections::VecDeque;

use crate::base::ids::{Epoch, Ref, Seq, ShardId};
use crate::base::limits::REF_WINDOW;

/// A request and what became of it, in 16 bytes: a busy session remembers 1,024 of them.
#[derive(Clone, Copy, Debug)]
struct Entry {
    reference: Ref,
    /// The epoch of the message. While there is no message yet: the home that was asked for it, in
    /// the upper half, and how many repetitions wait.
    epoch_or_repetitions: u32,
    /// The message's place, counted from 1; 0 while the home has not answered.
    seq: Seq,
}

const PENDING: Seq = Seq(0);
/// More repetitions of one request are not answered singly.
const REPETITIONS_MAX: u32 = u16::MAX as u32;

impl Entry {
    fn new(reference: Ref, home: ShardId) -> Entry {
        Entry { reference, epoch_or_repetitions: u32::from(home.0) << 16, seq: PENDING }
    }

    /// The home that was asked, of one that is pending.
    fn home(&self) -> ShardId {
        ShardId((self.epoch_or_repetitions >> 16) as u16)
    }

    /// How many repetitions wait, of one that is pending.
    fn repetitions(&self) -> u32 {
        self.epoch_or_repetitions & REPETITIONS_MAX
    }

    fn is_pending(&self) -> bool {
        self.seq == PENDING
    }
}

/// What a ref means when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was not seen before: do it.
    New,
    /// It is being done: the answer will come, twice.
    Pending,
    /// It was done: answer so.
    Done {
        /// The epoch of the first one.
        epoch: Epoch,
        /// The place of the first one.
        seq: Seq,
    },
}

/// The window over one session's refs.
#[derive(Debug, Default)]
pub struct RefWindow {
    entries: VecDeque<Entry>,
    highest: u32,
    pending: usize,
}

impl RefWindow {
    /// Notes that `reference` arrived, which `home` is asked for if it is new.
    ///
    /// A ref above all earlier ones is new without a search, which is how clients count.
    pub fn arrive(&mut self, reference: Ref, home: ShardId) -> Arrival {
        debug_assert!(reference.wants_answer(), "ref 0 is not remembered");
        if reference.0 <= self.highest
            && let Some(entry) = self.find(reference)
        {
            if entry.is_pending() {
                entry.epoch_or_repetitions += u32::from(entry.repetitions() < REPETITIONS_MAX);
                return Arrival::Pending;
            }
            return Arrival::Done { epoch: Epoch(entry.epoch_or_repetitions), seq: entry.seq };
        }
        if self.entries.len() == REF_WINDOW
            && self.entries.pop_front().is_some_and(|oldest| oldest.is_pending())
        {
            self.pending -= 1;
        }
        self.entries.push_back(Entry::new(reference, home));
        self.highest = self.highest.max(reference.0);
        self.pending += 1;
        Arrival::New
    }

    /// Notes the answer to `reference`; returns how many repetitions wait for it besides.
    pub fn complete(&mut self, reference: Ref, epoch: Epoch, seq: Seq) -> u32 {
        let Some(entry) = self.find(reference).filter(|entry| entry.is_pending()) else {
            return 0;
        };
        let repetitions = entry.repetitions();
        (entry.epoch_or_repetitions, entry.seq) = (epoch.0, seq);
        self.pending -= 1;
        repetitions
    }

    /// Forgets `reference`, which was refused and may be tried again; returns how many repetitions
    /// wait for an answer besides.
    pub fn forget(&mut self, reference: Ref) -> u32 {
        let Some(index) = self.entries.iter().rposition(|entry| entry.reference == reference)
        else {
            return 0;
        };
        match self.entries.remove(index) {
            Some(entry) if entry.is_pending() => {
                self.pending -= 1;
                entry.repetitions()
            }
            _ => 0,
        }
    }

    /// The requests that `home` was asked for and has not answered.
    pub fn pending_at(&self, home: ShardId) -> impl Iterator<Item = Ref> + '_ {
        let its = move |entry: &&Entry| entry.is_pending() && entry.home() == home;
        self.entries.iter().filter(its).map(|entry| entry.reference)
    }

    /// How many requests are still being done.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives back the room for more.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    fn find(&mut self, reference: Ref) -> Option<&mut Entry> {
        self.entries.iter_mut().rev().find(|entry| entry.reference == reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_told_what_became_of_the_first() {
        let mut window = RefWindow::default();
        assert_eq!(window.arrive(Ref(5), ShardId(0)), Arrival::New);
        assert_eq!(window.arrive(Ref(5), ShardId(0)), Arrival::Pending);
        assert_eq!(window.pending(), 1);
        assert_eq!(window.complete(Ref(5), Epoch(7), Seq(41)), 1);
        assert_eq!(window.pending(), 0);
        assert_eq!(
            window.arrive(Ref(5), ShardId(0)),
            Arrival::Done { epoch: Epoch(7), seq: Seq(41) }
        );
        assert_eq!(window.arrive(Ref(3), ShardId(0)), Arrival::New, "a lower ref may come later");
    }

    #[test]
    fn a_refused_request_may_be_made_again() {
        let mut window = RefWindow::default();
        assert_eq!(window.arrive(Ref(5), ShardId(0)), Arrival::New);
        assert_eq!(window.arrive(Ref(5), ShardId(0)), Arrival::Pending);
        assert_eq!(window.forget(Ref(5)), 1);
        assert_eq!(window.arrive(Ref(5), ShardId(0)), Arrival::New);
    }

    #[test]
    fn the_window_holds_the_last_1024() {
        let mut window = RefWindow::default();
        for reference in 1..=REF_WINDOW as u32 + 1 {
            assert_eq!(window.arrive(Ref(reference), ShardId(0)), Arrival::New);
            window.complete(Ref(reference), Epoch(1), Seq(u64::from(reference)));
        }
        assert!(matches!(window.arrive(Ref(2), ShardId(0)), Arrival::Done { .. }));
        assert_eq!(window.arrive(Ref(1), ShardId(0)), Arrival::New);
        assert_eq!(window.entries.len(), REF_WINDOW);
    }

    #[test]
    fn pending_requests_that_slide_out_are_no_longer_counted() {
        let mut window = RefWindow::default();
        for reference in 1..=REF_WINDOW as u32 + 10 {
            window.arrive(Ref(reference), ShardId(0));
        }
        assert_eq!(window.pending(), REF_WINDOW);
        assert_eq!(window.complete(Ref(1), Epoch(1), Seq(1)), 0);
        assert_eq!(window.pending(), REF_WINDOW);
    }

    #[test]
    fn what_a_home_owes_is_known_by_the_home() {
        let mut window = RefWindow::default();
        for reference in 1..=4 {
            window.arrive(Ref(reference), ShardId(reference as u16 % 2));
        }
        assert_eq!(window.arrive(Ref(1), ShardId(1)), Arrival::Pending);
        window.complete(Ref(3), Epoch(1), Seq(1));
        assert_eq!(window.pending_at(ShardId(1)).collect::<Vec<Ref>>(), [Ref(1)]);
        assert_eq!(window.pending_at(ShardId(0)).collect::<Vec<Ref>>(), [Ref(2), Ref(4)]);
        assert_eq!(window.forget(Ref(1)), 1, "one repetition waits");
    }
}
