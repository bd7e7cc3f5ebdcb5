//! Where in its rooms a member has come.
//!
//! Owns the last place that it heard of in each room, and says whether the next one may follow:
//! each message of an epoch once and in order, and another epoch only behind a GAP that ends the
//! one before. Never knows what was said. The [`crowd`](super::crowd) and the
//! [`population`](super::population) use it.

use std::collections::BTreeMap;

/// Epoch and number of a message in its room.
pub(crate) type Place = (u32, u64);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Places {
    last: BTreeMap<String, Place>,
    /// Epochs of which it was told that they have ended.
    ended: BTreeMap<String, u32>,
}

impl Places {
    /// A message came.
    ///
    /// # Errors
    /// What is wrong with its place.
    pub(crate) fn take(&mut self, room: &str, place: Place) -> Result<(), String> {
        let (epoch, seq) = place;
        let last = self.last.insert(room.to_owned(), place);
        let follows = match last {
            Some(last) => place == (last.0, last.1 + 1),
            None => self.ended.get(room) != Some(&epoch),
        };
        match follows {
            true => Ok(()),
            false => Err(format!("{epoch}/{seq} behind {last:?} in {room}")),
        }
    }

    /// A GAP came: of this epoch nothing more will be told from `from` on.
    ///
    /// # Errors
    /// Why it is none of a home that has begun anew.
    pub(crate) fn end_epoch(&mut self, room: &str, (epoch, from): Place) -> Result<(), String> {
        let last = self.last.remove(room);
        self.ended.insert(room.to_owned(), epoch);
        // Where nothing was said since it joined, only the server knows where that was.
        match last.is_none_or(|(at, seq)| (epoch, from) == (at, seq + 1)) {
            true => Ok(()),
            false => Err(format!("a gap of {epoch} from {from} on behind {last:?} in {room}")),
        }
    }
}

#[test]
fn places_follow_one_another_and_an_epoch_only_behind_a_gap() {
    let mut places = Places::default();
    assert!(places.take("square", (7, 40)).is_ok(), "wherever it begins");
    assert!(places.take("square", (7, 41)).is_ok());
    assert!(places.end_epoch("square", (7, 42)).is_ok());
    assert!(places.take("square", (9, 1)).is_ok());
    assert!(places.take("square", (9, 3)).is_err(), "one is missing");
    assert!(places.take("square", (9, 3)).is_err(), "one came twice");
    assert!(places.take("square", (10, 4)).is_err(), "nobody said that 9 has ended");
    assert!(places.end_epoch("square", (10, 6)).is_err(), "5 is not named");
    assert!(places.take("square", (10, 7)).is_err(), "10 has ended");
}
