//! Memory that is free and not given back.
//!
//! Owns the instant at which a worker has the allocator give back what is free. An allocator keeps
//! it for whoever comes next, and gives it back while others are freed: behind a rush nobody is.
//! Then a memory mark that was passed would hold the doors shut until a newcomer came. Never frees
//! anything itself, and wakes nobody where nothing was freed. The worker calls it once a turn.

use log::debug;

use super::worker::Worker;
use crate::base::limits::GIVE_BACK_MS;
use crate::base::pressure::Level;
use crate::base::time::Mono;
use crate::net::kernel;

/// What is known of the memory that a worker freed.
#[derive(Debug, Default)]
pub(super) struct FreedMemory {
    /// When it is to be given back; none where nothing was freed since it last was.
    due_at: Option<Mono>,
    /// What was kept for those who are away, in bytes, when it was last looked at.
    kept_bytes: usize,
}

impl FreedMemory {
    /// Something was freed, or may have been.
    pub(super) fn note(&mut self, now: Mono) {
        self.due_at.get_or_insert(now + GIVE_BACK_MS);
    }

    /// So much is kept now for those who are away.
    fn note_kept(&mut self, bytes: usize, now: Mono) {
        if bytes < self.kept_bytes {
            self.note(now);
        }
        self.kept_bytes = bytes;
    }

    /// When the worker is to wake up for it.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due_at
    }

    /// Whether it is time to give it back; it is not before something is freed again.
    fn take_due(&mut self, now: Mono) -> bool {
        self.due_at.take_if(|due_at| *due_at <= now).is_some()
    }
}

impl Worker {
    /// Phase: gives back what was freed a while ago. Under pressure, who knows by whom.
    pub(super) fn give_back_memory(&mut self) {
        let now = self.now.mono;
        self.freed.note_kept(self.shard.kept_bytes(), now);
        if self.watch.memory_level() != Level::Calm {
            self.freed.note(now);
        }
        if self.freed.take_due(now) {
            let began_us = self.clock.us();
            kernel::give_back_memory();
            let took_us = self.clock.us() - began_us;
            debug!("worker {}: gave back what memory is free, in {took_us} us", self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_is_given_back_once_and_nobody_is_woken_for_nothing() {
        let mut freed = FreedMemory::default();
        assert_eq!(freed.deadline(), None);
        assert!(!freed.take_due(Mono(1 << 40)));
        freed.note(Mono(10));
        freed.note(Mono(900));
        assert_eq!(freed.deadline(), Some(Mono(10 + GIVE_BACK_MS)), "a rush does not put it off");
        assert!(!freed.take_due(Mono(9 + GIVE_BACK_MS)));
        assert!(freed.take_due(Mono(10 + GIVE_BACK_MS)));
        assert_eq!(freed.deadline(), None);
        freed.note_kept(100, Mono(5_000));
        assert_eq!(freed.deadline(), None, "more is kept");
        freed.note_kept(99, Mono(6_000));
        assert_eq!(freed.deadline(), Some(Mono(6_000 + GIVE_BACK_MS)));
    }
}
