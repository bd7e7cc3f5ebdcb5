//! A descriptor that is kept for when there is none.
//!
//! Owns one open file that is of no use but for its place in the table. Never accepts: the engine's
//! acceptor gives the place up for one `accept`, which tells whether anybody waits and lets it be
//! told by the end of its connection, and takes it back. Without it an `accept` fails before the
//! kernel has looked whether somebody is there, so that nobody could tell an empty queue from a
//! full one (an old trick; libev's manual describes it under "the special problem of accept()ing
//! when you can't").

use std::fs::File;

/// The descriptor, as long as it is not needed.
#[derive(Debug)]
pub struct SpareDescriptor(Option<File>);

impl SpareDescriptor {
    /// One that is held from now on, where the kernel has one.
    pub fn hold() -> SpareDescriptor {
        let mut spare = SpareDescriptor(None);
        spare.take_back();
        spare
    }

    /// Gives it up. False where it had been given up before and not been had back.
    pub fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Takes it back, where the kernel has one now.
    pub fn take_back(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_given_up_once_until_it_is_taken_back() {
        let mut spare = SpareDescriptor::hold();
        assert!(spare.give_up());
        assert!(!spare.give_up());
        spare.take_back();
        assert!(spare.give_up());
    }
}
