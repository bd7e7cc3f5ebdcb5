//! How to ask for the last messages of a room.
//!
//! Owns the way from *the last twenty*, which is what people want, to what the protocol has: what
//! follows a place in the present epoch. Pure. The talk and the line mode ask.

use crate::client::Seq;

/// Behind any message: a HISTORY from here on brings none, but tells where the last one is.
pub const NOWHERE: Seq = Seq(u64::MAX);

/// What to ask HISTORY for, to have the last `count` messages of a room whose last one is `head`:
/// behind which place, and how many. Of an epoch that is younger than that nobody knows how much
/// of an earlier one stands before it, so all is asked for, and the last are taken.
pub fn last(head: Seq, count: u16) -> (Seq, u16) {
    match head.0.checked_sub(u64::from(count)) {
        None | Some(0) => (Seq(0), 0),
        Some(since) => (Seq(since), count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_messages_follow_a_place_unless_an_earlier_epoch_may_have_some_of_them() {
        assert_eq!(last(Seq(500), 20), (Seq(480), 20));
        assert_eq!(last(Seq(21), 20), (Seq(1), 20));
        for young in [0, 3, 20] {
            assert_eq!(last(Seq(young), 20), (Seq(0), 0), "all, of which the last are taken");
        }
    }
}
