//! How a session loses its connection.
//!
//! Owns which sessions are kept, what they take along, and the wait until all that was under way
//! for one has arrived, whereupon it is deposited at the shard where it was born
//! ([`resume`](super::resume)). Called where a connection ends ([`egress`](super::egress)), and
//! with the answers that come for one that has ended.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Position, Seq};
use crate::base::limits::{DEFLATE_RATIO_MAX, MESSAGE_FRAME_MIN};
use crate::base::name::Name;
use crate::base::time::Now;

use super::batch::Dialect;
use super::catch_up::Feed;
use super::kept::{Kept, KeptRoom};
use super::mail::{Ending, Mail};
use super::membership::{Membership, Stay};
use super::refs::RefWindow;
use super::resume::Rejoining;
use super::room::Room;
use super::session::{Compression, Marks, Session, State};
use super::shard::{Shard, Verdict};

/// A session that lost its connection, of which something is still under way.
#[derive(Debug)]
pub struct Unsettled {
    pub(super) kept: Box<Kept>,
    /// Gaps in its rooms: the last message before one, and the last one missing.
    gaps: Vec<(Name, Position, Seq)>,
    /// Joins that homes have not answered, and the rooms.
    joins: Vec<(Stay, Name)>,
    /// What the shell has yet to say of its bytes.
    unmeasured: Option<Unmeasured>,
}

impl Unsettled {
    /// Waits no longer for the answers to joins of rooms that are `lost`. It stays in the rooms,
    /// and
    /// joins them anew when it is resumed.
    pub(super) fn forget_joins(&mut self, lost: impl Fn(&Name) -> bool) {
        self.joins.retain(|(_, room)| !lost(room));
    }

    /// Notes how many bytes may not have arrived, as what they are at most as plain native frames:
    /// those are shorter than every other rendering that is not compressed.
    ///
    /// The homes look for what is lost by its bytes, and messages that the client was told to be
    /// missing had none: where they may lie among the lost ones, it has come as far as before them.
    fn note_undelivered(&mut self, bytes: usize, compression: Compression) {
        let factor = match compression {
            Compression::Off => 1,
            Compression::Deflate => DEFLATE_RATIO_MAX,
        };
        let bytes = u32::try_from(bytes.saturating_mul(factor)).unwrap_or(u32::MAX);
        self.kept.undelivered_bytes = self.kept.undelivered_bytes.saturating_add(bytes);
        let messages = u64::from(self.kept.undelivered_bytes).div_ceil(MESSAGE_FRAME_MIN as u64);
        for (name, before, to) in self.gaps.drain(..) {
            let room = self.kept.rooms.iter_mut().find(|kept| kept.room == name);
            if let Some(room) = room
                && room.last.epoch == before.epoch
                && room.last.seq.0 < to.0.saturating_add(messages)
            {
                room.last = room.last.min(before);
            }
        }
    }
}

/// What is known of the bytes on their way to a connection, before the kernel is asked.
#[derive(Clone, Copy, Debug)]
struct Unmeasured {
    /// They may be compressed.
    compression: Compression,
    /// Those that were dropped from its outbox.
    dropped: usize,
    /// Last words behind the others.
    last_words: usize,
}

/// Why and how a connection is lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// The socket failed with so many bytes that were not acknowledged.
    Failed { unacknowledged: usize },
    /// It is closed by the heart: the kernel is to be asked. So many bytes waited in its outbox or
    /// had been dropped from it before its last words, which wait now.
    Closed { undelivered: usize },
}

impl Shard {
    /// Whether a session that loses its connection for `reason` is kept.
    pub(super) fn is_to_be_kept(&self, conn: ConnId, reason: CloseReason) -> bool {
        let Some(session) = self.sessions.get(conn) else {
            return false;
        };
        // A server that drains will not be there when the client comes back.
        let may_come_back = Ending::of(reason) == Ending::Cut && reason != CloseReason::Draining;
        let is_live = matches!(session.state, State::Live(dialect) if dialect != Dialect::Text);
        may_come_back
            && is_live
            && !session.marks.has(Marks::LEAVING)
            && self.drain.is_none()
            && self.limits.resume_window_ms > 0
            && self.limits.max_kept_sessions > 0
    }

    /// Bytes that wait for a connection, or were dropped because it did not read.
    pub(super) fn undelivered_in_outbox(&self, conn: ConnId) -> usize {
        let outbox = self.sessions.get(conn).and_then(|session| session.outbox.as_ref());
        outbox.map_or(0, |outbox| outbox.waiting() + outbox.dropped())
    }

    /// Takes a session off its connection, to be kept.
    pub(super) fn detach(&mut self, conn: ConnId, loss: Loss, now: Now) {
        let id = self.identity(conn);
        let address = self.address(conn);
        let in_outbox = self.undelivered_in_outbox(conn);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let (Some(user), State::Live(dialect)) = (session.user.take(), session.state) else {
            return;
        };
        let compression = dialect.compression();
        let dropped = session.outbox.as_ref().map_or(0, |outbox| outbox.dropped());
        self.speakers.went(dialect);
        let mut kept = Box::new(Kept {
            id,
            user: user.clone(),
            address,
            rooms: Vec::new(),
            refs: None,
            undelivered_bytes: 0,
            absent: false,
        });
        let gaps = self.gaps_of(conn);
        let joins = self.suspend_rooms(conn, &mut kept, now);
        self.leave_directs(conn, &user, now);
        let home = self.home_of(self.hasher.hash(&user));
        let ending = Ending::Kept;
        self.send(home, Mail::Offline { user, session: address, identity: id, ending }, now);
        let mut unsettled = Unsettled { kept, gaps, joins, unmeasured: None };
        match loss {
            Loss::Failed { unacknowledged } => {
                unsettled.note_undelivered(in_outbox + unacknowledged, compression);
            }
            Loss::Closed { undelivered } => {
                self.verdicts.push_back(Verdict::Measure(conn));
                let last_words = in_outbox - undelivered;
                unsettled.unmeasured = Some(Unmeasured { compression, dropped, last_words });
            }
        }
        self.keeping.unsettled.insert(conn, unsettled);
        self.deposit_if_settled(conn, now);
    }

    /// Takes a session out of its rooms and notes where it was in them. Returns the joins that are
    /// under way.
    fn suspend_rooms(&mut self, conn: ConnId, kept: &mut Kept, now: Now) -> Vec<(Stay, Name)> {
        let mut joins = Vec::new();
        while let Some(membership) =
            self.sessions.get_mut(conn).and_then(|session| session.pop_membership())
        {
            self.rooms.subscriptions -= 1;
            let stay = membership.stay();
            let last = match self.rejoining(conn, stay) {
                Some(rejoining) => {
                    joins.push((stay, self.rooms.get(membership.room).name.clone()));
                    kept.undelivered_bytes = rejoining.undelivered_bytes;
                    Some(rejoining.last)
                }
                None => self.position_of(conn, &membership),
            };
            match last {
                Some(last) => {
                    let notify = membership.notify();
                    let room = self.suspend(conn, &membership, now);
                    kept.rooms.push(KeptRoom { room, last, notify });
                }
                // The client does not know that it is a member, and asks again.
                None => self.leave_room(&membership, kept.user.clone(), now),
            }
        }
        kept.rooms.shrink_to_fit();
        let extra = self.sessions.get_mut(conn).and_then(|session| session.extra.take());
        kept.refs = extra.map(|extra| extra.refs).filter(|refs| !refs.is_empty()).map(Box::new);
        joins
    }

    fn gaps_of(&self, conn: ConnId) -> Vec<(Name, Position, Seq)> {
        let Some(session) = self.sessions.get(conn) else {
            return Vec::new();
        };
        let before = |first: Position| Position { seq: Seq(first.seq.0 - 1), ..first };
        let rooms = session.memberships().map(|membership| self.rooms.get(membership.room));
        let of_room = |room: &Room| {
            let (first, to) = room.missing()?;
            Some((room.name.clone(), before(first), to))
        };
        let dropped = session.missed().iter().map(|missed| {
            (self.rooms.get(missed.room).name.clone(), before(missed.first), missed.last)
        });
        rooms.filter_map(of_room).chain(dropped).collect()
    }

    pub(super) fn rejoining(&self, conn: ConnId, stay: Stay) -> Option<Rejoining> {
        let extra = self.sessions.get(conn)?.extra.as_ref()?;
        extra.rejoining.iter().find(|rejoining| rejoining.stay == stay).copied()
    }

    /// How far a member has come in a room; `None` if its home has not let it in.
    pub(super) fn position_of(&self, conn: ConnId, membership: &Membership) -> Option<Position> {
        let in_replay = self.catch_ups.position(conn, Feed::Room(membership.room));
        let place = membership.place.index();
        in_replay.or_else(|| place.map(|place| self.rooms.get(membership.room).position(place)))
    }

    /// Takes a member out of a room whose roster it stays in.
    fn suspend(&mut self, conn: ConnId, membership: &Membership, now: Now) -> Name {
        let key = membership.room;
        self.end_replay(conn, Feed::Room(key));
        match membership.place.index() {
            None => self.rooms.get_mut(key).joining -= 1,
            Some(place) => self.vacate(key, place),
        }
        let room = self.rooms.get(key);
        let (home, name) = (room.home, room.name.clone());
        let mail = Mail::Suspend { room: name.clone(), stay: membership.stay() };
        self.send(home, mail, now);
        self.rooms.remove_if_unused(key);
        name
    }

    /// The shell has measured what was not acknowledged.
    pub(super) fn take_measure(&mut self, conn: ConnId, unacknowledged: usize, now: Now) {
        let waiting = self.sessions.get(conn).map_or(0, Session::waiting);
        let Some(unsettled) = self.keeping.unsettled.get_mut(&conn) else {
            return;
        };
        if let Some(unmeasured) = unsettled.unmeasured.take() {
            let Unmeasured { compression, dropped, last_words } = unmeasured;
            let undelivered = dropped + (unacknowledged + waiting).saturating_sub(last_words);
            unsettled.note_undelivered(undelivered, compression);
        }
        self.deposit_if_settled(conn, now);
    }

    /// What a connection's session asked for lately, also when it has lost the connection.
    pub(super) fn refs_of(&mut self, conn: ConnId) -> Option<&mut RefWindow> {
        if let Some(unsettled) = self.keeping.unsettled.get_mut(&conn) {
            return unsettled.kept.refs.as_deref_mut();
        }
        Some(&mut self.sessions.get_mut(conn)?.extra().refs)
    }

    /// A home answered a join of a session that has lost its connection. Returns whether it did.
    /// Who was not let in again is no longer in that room.
    pub(super) fn settle_join(&mut self, conn: ConnId, stay: Stay, is_refused: bool) -> bool {
        let Some(Unsettled { kept, joins, .. }) = self.keeping.unsettled.get_mut(&conn) else {
            return false;
        };
        if let Some(index) = joins.iter().position(|(awaited, _)| *awaited == stay) {
            let (_, room) = joins.swap_remove(index);
            if is_refused {
                kept.rooms.retain(|kept| kept.room != room);
            }
        }
        true
    }

    /// Deposits a session of which nothing is under way any more.
    pub(super) fn deposit_if_settled(&mut self, conn: ConnId, now: Now) {
        let Some(unsettled) = self.keeping.unsettled.get(&conn) else {
            return;
        };
        let pending = unsettled.kept.refs.as_ref().map_or(0, |refs| refs.pending());
        if pending > 0 || !unsettled.joins.is_empty() || unsettled.unmeasured.is_some() {
            return;
        }
        let mut kept = self.keeping.unsettled.remove(&conn).expect("it was just there").kept;
        if let Some(refs) = &mut kept.refs {
            refs.shrink();
        }
        self.send(kept.id.birth().shard(), Mail::Deposit(kept), now);
    }
}
