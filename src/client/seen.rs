//! Direct messages that were handed out.
//!
//! Owns the last of their numbers, so that one that comes again after a lost acknowledgement is
//! not told twice. Pure. [`Core`](super::core::Core) asks.

use std::collections::{BTreeSet, VecDeque};

use crate::base::limits::CLIENT_DIRECTS_KEPT;

/// The last direct messages, each by its number and its time: numbers begin anew where a server
/// without storage does.
#[derive(Debug, Default)]
pub struct Seen {
    order: VecDeque<(u64, u64)>,
    known: BTreeSet<(u64, u64)>,
}

impl Seen {
    /// Message `id` of `time_ms` came. Whether it is new.
    pub fn note(&mut self, id: u64, time_ms: u64) -> bool {
        let is_new = self.known.insert((id, time_ms));
        if is_new {
            self.order.push_back((id, time_ms));
            if self.order.len() > CLIENT_DIRECTS_KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_once() {
        let mut seen = Seen::default();
        assert!(seen.note(1, 100) && seen.note(2, 100));
        assert!(!seen.note(1, 100));
        assert!(seen.note(1, 999), "another server counts anew");
    }

    #[test]
    fn the_table_forgets_the_oldest() {
        let mut seen = Seen::default();
        for id in 0..=CLIENT_DIRECTS_KEPT as u64 {
            assert!(seen.note(id, 0));
        }
        assert!(!seen.note(1, 0));
        assert!(seen.note(0, 0), "the oldest is forgotten");
    }
}
