//! The last closes of one worker.
//!
//! Owns a ring of records: the oldest gives way to the youngest. Never asks or decides anything.
//! The worker writes it, and reads it for whoever asks.

use super::close_record::CloseRecord;
use crate::base::counters::CloseReason;
use crate::base::limits::CLOSES_KEPT;
use crate::base::name::Name;

/// Which closes somebody wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseQuery {
    /// The latest of them, at most so many.
    pub last: usize,
    /// Only those for this reason.
    pub reason: Option<CloseReason>,
    /// Only those of this user.
    pub user: Option<Name>,
    /// Only those behind this many of each worker, by its number; of others all.
    pub after: Vec<u64>,
}

impl CloseQuery {
    fn matches(&self, record: &CloseRecord) -> bool {
        self.reason.is_none_or(|reason| record.reason() == reason)
            && self.user.as_deref().is_none_or(|user| record.user() == Some(user))
    }
}

/// A record with its number: which close of its worker it was, from 1.
pub type Numbered = (u64, CloseRecord);

/// The last closes of one worker, [`CLOSES_KEPT`] at most.
#[derive(Debug, Default)]
pub struct CloseJournal {
    /// Grows up to its bound, and is a ring from there on.
    records: Vec<CloseRecord>,
    /// Closes since the start.
    total: u64,
}

impl CloseJournal {
    /// Writes one more.
    pub fn push(&mut self, record: CloseRecord) {
        let len = self.records.len();
        if len == CLOSES_KEPT {
            self.records[(self.total % CLOSES_KEPT as u64) as usize] = record;
        } else {
            if len == self.records.capacity() {
                // Doubling would overshoot the bound.
                self.records.reserve_exact(len.max(64).min(CLOSES_KEPT - len));
            }
            self.records.push(record);
        }
        self.total += 1;
    }

    /// Closes since the start.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What `query` asks for of the closes of `worker`, whose journal this is, the oldest first.
    pub fn find(&self, query: &CloseQuery, worker: usize) -> Vec<Numbered> {
        let after = query.after.get(worker).copied().unwrap_or(0);
        let oldest = self.total - self.records.len() as u64;
        let numbers = (oldest.max(after)..self.total).rev();
        let records = numbers.map(|at| (at, &self.records[(at % CLOSES_KEPT as u64) as usize]));
        let found = records.filter(|(_, record)| query.matches(record)).take(query.last);
        let mut found: Vec<_> = found.map(|(at, record)| (at + 1, record.clone())).collect();
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::close_record::samples::record;
    use super::*;

    fn all() -> CloseQuery {
        CloseQuery { last: usize::MAX, reason: None, user: None, after: Vec::new() }
    }

    fn numbers(found: &[Numbered]) -> Vec<u64> {
        found.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn the_oldest_gives_way_and_memory_ends_at_the_bound() {
        let mut journal = CloseJournal::default();
        for number in 1..=CLOSES_KEPT + 3 {
            journal.push(record(CloseReason::Bye, &format!("u{number}")));
            assert!(journal.records.capacity() <= CLOSES_KEPT);
        }
        let found = journal.find(&all(), 0);
        assert_eq!(found.len(), CLOSES_KEPT);
        for (index, (number, record)) in found.iter().enumerate() {
            assert_eq!(*number, index as u64 + 4);
            assert_eq!(record.user(), Some(format!("u{number}").as_str()));
        }
        assert_eq!(journal.total(), CLOSES_KEPT as u64 + 3);
    }

    #[test]
    fn a_question_chooses_by_reason_user_number_and_age() {
        let mut journal = CloseJournal::default();
        let reasons = [CloseReason::Bye, CloseReason::Reset, CloseReason::Bye, CloseReason::Bye];
        for (reason, user) in reasons.into_iter().zip(["ann", "ann", "bob", "ann"]) {
            journal.push(record(reason, user));
        }
        let find = |query: CloseQuery| numbers(&journal.find(&query, 1));
        assert_eq!(find(all()), [1, 2, 3, 4]);
        assert_eq!(find(CloseQuery { last: 2, ..all() }), [3, 4]);
        let byes = CloseQuery { reason: Some(CloseReason::Bye), ..all() };
        assert_eq!(find(byes.clone()), [1, 3, 4]);
        assert_eq!(find(CloseQuery { after: vec![4, 1], ..byes.clone() }), [3, 4]);
        assert_eq!(find(CloseQuery { last: 1, ..byes }), [4]);
        assert_eq!(find(CloseQuery { user: Some(Name::new("ann")), ..all() }), [1, 2, 4]);
        assert_eq!(find(CloseQuery { after: vec![4], ..all() }), [1, 2, 3, 4]);
        assert_eq!(find(CloseQuery { after: vec![0, 4], ..all() }), [] as [u64; 0]);
        assert_eq!(find(CloseQuery { after: vec![0, 99], ..all() }), [] as [u64; 0]);
    }
}
