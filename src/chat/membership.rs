//! A session's part in a room.
//!
//! Owns how a room, a stay in it and a place in its list of members are named and packed: a
//! membership is twelve bytes. Never knows the session or the room: [`session`](super::session) and
//! [`room`](super::room) keep these.

use std::num::NonZeroU32;

/// A room in this shard's table of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey(NonZeroU32);

impl RoomKey {
    /// The room at `index`.
    pub fn new(index: usize) -> RoomKey {
        let number = u32::try_from(index + 1).expect("a shard has far fewer than 2^32 rooms");
        RoomKey(NonZeroU32::new(number).expect("an index plus one is not zero"))
    }

    /// Index into the table of rooms.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Which stay of a session in rooms this is: another one after every leave.
///
/// The home repeats it when it acknowledges a join, so that the acknowledgement of an earlier stay
/// opens no later one: a member who left and joined again would see what came before and after the
/// leave, and miss what came between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stay(u32);

const NOTIFY_BIT: u32 = 1 << 31;

impl Stay {
    /// The stay that follows this one. Repeats itself after 2^31 joins of a shard.
    #[must_use]
    pub fn next(self) -> Stay {
        Stay((self.0 + 1) & !NOTIFY_BIT)
    }
}

/// Where a member stands in its room's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// Nowhere: the home has not acknowledged the join.
    pub const PENDING: Place = Place(u32::MAX);

    /// The place at `index`.
    pub fn new(index: usize) -> Place {
        let place = Place(u32::try_from(index).expect("a room's members are counted by slots"));
        assert!(place != Place::PENDING);
        place
    }

    /// Index into the room's list, where there is one.
    pub fn index(self) -> Option<usize> {
        (self != Place::PENDING).then_some(self.0 as usize)
    }
}

/// A session's part in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The room.
    pub room: RoomKey,
    /// Where it stands in the room's list.
    pub place: Place,
    /// The stay, and in its highest bit whether presence is wanted: twelve bytes in all.
    stay_and_notify: u32,
}

impl Membership {
    /// A part in `room` that the home has yet to acknowledge.
    pub fn pending(room: RoomKey, stay: Stay, notify: bool) -> Membership {
        let mut membership = Membership { room, place: Place::PENDING, stay_and_notify: stay.0 };
        membership.set_notify(notify);
        membership
    }

    /// Which stay this is.
    pub fn stay(&self) -> Stay {
        Stay(self.stay_and_notify & !NOTIFY_BIT)
    }

    /// Whether the member wants to be told of joins and leaves.
    pub fn notify(&self) -> bool {
        self.stay_and_notify & NOTIFY_BIT != 0
    }

    /// Says whether the member wants to be told of joins and leaves.
    pub fn set_notify(&mut self, notify: bool) {
        self.stay_and_notify = self.stay().0 | if notify { NOTIFY_BIT } else { 0 };
    }
}
