//! The last closes of one worker.
//!
//! Owns a ring of records: the oldest gives way to the youngest. Never asks or decides anything.
//! The worker writes it, and reads it for whoever asks.

use std::str::FromStr;

use super::close_record::CloseRecord;
use crate::base::counters::CloseReason;
use crate::base::limits::CLOSES_KEPT;
use crate::base::name::{self, Name};

/// How many closes are told where nobody says.
const CLOSES_TOLD: usize = 50;

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
    /// What a request means: `closes [N] [reason=R] [user=U] [after=N,N…]`, without its first word.
    ///
    /// # Errors
    /// One line that says what was not understood.
    pub fn read(words: &[&str]) -> Result<CloseQuery, String> {
        let mut query =
            CloseQuery { last: CLOSES_TOLD, reason: None, user: None, after: Vec::new() };
        for word in words {
            match word.split_once('=') {
                None => query.last = number(word)?,
                Some(("reason", name)) => {
                    let reason = CloseReason::from_name(name);
                    query.reason = Some(reason.ok_or_else(|| format!("no such reason: {name}"))?);
                }
                Some(("user", name)) => {
                    name::check(name).map_err(|error| format!("the user name {}", error.text()))?;
                    query.user = Some(Name::new(name));
                }
                Some(("after", numbers)) => {
                    query.after = numbers.split(',').map(number).collect::<Result<_, _>>()?;
                }
                Some((other, _)) => return Err(format!("closes can not be chosen by {other}")),
            }
        }
        query.last = query.last.min(CLOSES_KEPT);
        Ok(query)
    }

    fn matches(&self, record: &CloseRecord) -> bool {
        self.reason.is_none_or(|reason| record.reason() == reason)
            && self.user.as_deref().is_none_or(|user| record.user() == Some(user))
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("not a number: {word}"))
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
    fn a_request_is_read_and_a_wrong_one_told_what_is_wrong() {
        let plain = CloseQuery::read(&[]).unwrap();
        assert_eq!((plain.last, plain.reason, plain.user), (CLOSES_TOLD, None, None));
        let chosen =
            CloseQuery::read(&["7", "reason=slow_reader", "user=a=b", "after=3,4"]).unwrap();
        assert_eq!(chosen.last, 7);
        assert_eq!(chosen.reason, Some(CloseReason::SlowReader));
        assert_eq!(chosen.user.as_deref(), Some("a=b"));
        assert_eq!(chosen.after, [3, 4]);
        assert_eq!(CloseQuery::read(&["99999999"]).unwrap().last, CLOSES_KEPT);
        assert_eq!(CloseQuery::read(&["reason=boredom"]).unwrap_err(), "no such reason: boredom");
        assert_eq!(CloseQuery::read(&["user="]).unwrap_err(), "the user name is empty");
        assert_eq!(CloseQuery::read(&["some"]).unwrap_err(), "not a number: some");
        assert_eq!(
            CloseQuery::read(&["colour=red"]).unwrap_err(),
            "closes can not be chosen by colour"
        );
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
