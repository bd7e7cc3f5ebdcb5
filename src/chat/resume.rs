//! Sessions that survive their connection.
//!
//! Owns how a session loses its connection and is kept, how a connection claims one, and when a
//! kept one is told absent and given up. Never replays: the homes do, from the positions that are
//! kept. Called where a connection ends ([`egress`](super::egress)), by a HELLO that names a
//! session, by mail and by the timers.
//!
//! ```text
//!  host ──────── Deposit ────▶ birth shard ◀─── Claim ──── another connection
//!   ▲                          keeps, or waits for Deposit           ▲
//!   └───────────── Evict ───────────┘ └─────── Granted / Denied ─────┘
//! ```
//!
//! Its birth shard, which the id names, knows where a session is: on the connection where it
//! began, in the table, or away. A session is deposited only when all that was under way for it has
//! arrived ([`Unsettled`]): the answers to its requests, because a repetition of them must be
//! answered in the same way, and the homes' answers to joins, because the birth shard may tell a
//! home that the session is absent, and must not be heard there before the join is.

use std::collections::BTreeMap;

use crate::base::counters::CloseReason;
use crate::base::ids::{Address, ConnId, Position, Ref, Seq, SessionId};
use crate::base::limits::{DEFLATE_RATIO_MAX, MESSAGE_FRAME_MIN};
use crate::base::name::Name;
use crate::base::time::{Mono, Now};
use crate::wire::message::Hello;

use super::batch::Dialect;
use super::catch_up::Feed;
use super::kept::{Abode, Claim, Kept, KeptRoom, KeptTable};
use super::mail::{Ending, Mail, Since};
use super::refs::RefWindow;
use super::room::{Audience, Room};
use super::session::{Compression, Marks, Membership, Session, State, Stay};
use super::shard::{Shard, Verdict};

/// A session that lost its connection, of which something is still under way.
#[derive(Debug)]
pub struct Unsettled {
    kept: Box<Kept>,
    /// Gaps in its rooms: the last message before one, and the last one missing.
    gaps: Vec<(Name, Position, Seq)>,
    /// Joins that homes have not answered, and the rooms.
    joins: Vec<(Stay, Name)>,
    /// What the shell has yet to say of its bytes.
    unmeasured: Option<Unmeasured>,
}

impl Unsettled {
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

/// All that a shard does to keep sessions.
#[derive(Debug, Default)]
pub struct Keeping {
    /// The sessions that were born here and are not where they began.
    pub table: KeptTable,
    /// Those that lost their connections here and are not deposited.
    pub unsettled: BTreeMap<ConnId, Unsettled>,
}

/// A room in which a resumed session was not let in again yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejoining {
    /// The stay that begins there.
    pub stay: Stay,
    /// What it came to, before.
    pub last: Position,
    /// Bytes up to there that may not have arrived.
    pub undelivered_bytes: u32,
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

/// What a HELLO asks for, beside a session.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    /// What the client speaks.
    pub dialect: Dialect,
    /// The name that it gives itself.
    pub user: Option<Name>,
}

impl Shard {
    /// The session that a HELLO names, if it also has the key to it.
    pub(super) fn claimed_session(&self, hello: &Hello<'_>) -> Option<SessionId> {
        let id = SessionId::from_bits(hello.session)?;
        let has_key = self.hasher.seal(id.to_bits()) == hello.resume_key;
        (has_key && self.limits.resume_window_ms > 0).then_some(id)
    }

    /// Which session lives on a connection.
    pub(super) fn identity(&self, conn: ConnId) -> SessionId {
        let extra = self.sessions.get(conn).and_then(|session| session.extra.as_ref());
        let resumed = extra.and_then(|extra| extra.identity);
        resumed.unwrap_or_else(|| SessionId::born_at(self.address(conn)))
    }

    /// Asks the birth shard for a session. Until it has answered, nothing more is read.
    pub(super) fn claim(&mut self, conn: ConnId, id: SessionId, greeting: Greeting, now: Now) {
        let claimer = self.address(conn);
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.state = State::Resuming(greeting.dialect);
        session.marks.set(Marks::RESUMING);
        session.user = greeting.user.clone();
        let mail = Mail::Claim { session: id, claimer, user: greeting.user };
        self.send(id.birth().shard(), mail, now);
    }

    /// A connection claims a session that was born here.
    pub(super) fn take_claim(&mut self, id: SessionId, claim: Claim, now: Now) {
        let abode = self.keeping.table.abode(id);
        let address = match abode {
            Some(Abode::Kept(_)) => return self.grant_if_fitting(id, claim, now),
            Some(Abode::Away(address)) => address,
            None if self.is_where_it_began(id) => id.birth(),
            None => return self.deny(&claim, now),
        };
        self.keeping.table.note_away(id, address);
        let user = claim.user.clone();
        if let Some(earlier) = self.keeping.table.await_session(id, claim) {
            self.deny(&earlier, now);
        }
        self.send(address.shard(), Mail::Evict { session: id, conn: address.conn(), user }, now);
    }

    fn is_where_it_began(&self, id: SessionId) -> bool {
        let conn = id.birth().conn();
        let unsettled = self.keeping.unsettled.get(&conn).is_some_and(|it| it.kept.id == id);
        unsettled || self.lives_at(conn, id)
    }

    /// Whether the session lives on that connection, and is one that can be kept.
    fn lives_at(&self, conn: ConnId, id: SessionId) -> bool {
        let state = self.sessions.get(conn).map(|session| session.state);
        let is_live = matches!(state, Some(State::Live(dialect)) if dialect != Dialect::Text);
        is_live && self.identity(conn) == id
    }

    fn grant_if_fitting(&mut self, id: SessionId, claim: Claim, now: Now) {
        if !self.keeping.table.get(id).is_some_and(|kept| claim.fits(&kept.user)) {
            return self.deny(&claim, now);
        }
        let kept = self.keeping.table.take(id).expect("it was just there");
        self.keeping.table.note_away(id, claim.claimer);
        let conn = claim.claimer.conn();
        self.send(claim.claimer.shard(), Mail::Granted { conn, kept }, now);
    }

    fn deny(&mut self, claim: &Claim, now: Now) {
        self.send(claim.claimer.shard(), Mail::Denied { conn: claim.claimer.conn() }, now);
    }

    /// Another connection claims a session that lives here: its connection, which its client must
    /// have given up, is closed.
    pub(super) fn evict(&mut self, id: SessionId, conn: ConnId, user: Option<Name>, now: Now) {
        if !self.lives_at(conn, id) {
            return;
        }
        let fits = {
            let claim = Claim { claimer: self.address(conn), user };
            let session = self.sessions.get(conn).expect("it was just there");
            session.user.as_ref().is_some_and(|owner| claim.fits(owner))
        };
        if fits {
            self.close(conn, CloseReason::Superseded, None, now);
        } else {
            self.send(id.birth().shard(), Mail::Stays { session: id }, now);
        }
    }

    /// A session was not to be had for the claim that waits for it.
    pub(super) fn take_stays(&mut self, id: SessionId, now: Now) {
        let claim = self.keeping.table.take_claim(id);
        if self.keeping.table.abode(id) == Some(Abode::Away(id.birth())) {
            let _ = self.keeping.table.forget_away(id);
        }
        if let Some(claim) = claim {
            self.deny(&claim, now);
        }
    }

    /// A session that was born here ended for good, away from here.
    pub(super) fn take_ended(&mut self, id: SessionId, now: Now) {
        if let Some(claim) = self.keeping.table.forget_away(id) {
            self.deny(&claim, now);
        }
    }

    /// A session that was born here lost its connection, or its claimer was gone.
    pub(super) fn take_deposit(&mut self, kept: Box<Kept>, now: Now) {
        let id = kept.id;
        let claim = self.keeping.table.forget_away(id);
        self.keeping.table.keep(kept, now.mono);
        if let Some(claim) = claim {
            self.grant_if_fitting(id, claim, now);
        }
        if self.keeping.table.len() > self.limits.max_kept_sessions
            && let Some((_, oldest)) = self.keeping.table.oldest()
        {
            self.give_up(oldest, now);
        }
    }

    /// The birth shard has no such session for the connection: it begins one of its own.
    pub(super) fn denied(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let State::Resuming(dialect) = session.state else {
            return;
        };
        let user = session.user.take();
        self.counters.resumes_denied += 1;
        self.resuming.push(conn);
        self.begin_session(conn, Greeting { dialect, user }, now);
    }

    /// The birth shard gives a session to the connection, which goes on with it.
    pub(super) fn granted(&mut self, conn: ConnId, kept: Box<Kept>, now: Now) {
        let session = self.sessions.get_mut(conn);
        let Some((State::Resuming(dialect), session)) = session.map(|it| (it.state, it)) else {
            return self.send(kept.id.birth().shard(), Mail::Deposit(kept), now);
        };
        let Kept { id, user, rooms, refs, undelivered_bytes, absent, .. } = *kept;
        let extra = session.extra();
        extra.identity = Some(id);
        extra.refs = refs.map(|refs| *refs).unwrap_or_default();
        self.counters.resumed += 1;
        self.resuming.push(conn);
        self.admit(conn, user.clone(), dialect, now);
        self.welcome(conn, dialect, &user, true, now);
        self.come_online(conn, Some(undelivered_bytes), now);
        if absent {
            let rooms = rooms.iter().map(|kept| kept.room.clone()).collect();
            let home = self.home_of(self.hasher.hash(&user));
            let session = self.address(conn);
            self.send(home, Mail::Back { user: user.clone(), session, rooms }, now);
        }
        for room in rooms {
            self.rejoin(conn, &user, room, (undelivered_bytes, absent), now);
        }
        self.send_on_if_draining(conn, now);
    }

    fn rejoin(
        &mut self,
        conn: ConnId,
        user: &Name,
        kept: KeptRoom,
        (undelivered_bytes, absent): (u32, bool),
        now: Now,
    ) {
        let KeptRoom { room, last, notify } = kept;
        let hash = self.hasher.hash(&room);
        let home = self.home_of(hash);
        self.last_stay = self.last_stay.next();
        let stay = self.last_stay;
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let key = self.rooms.find_or_add(&room, hash, home, Audience::Members);
        session.add_membership(Membership::pending(key, stay, notify));
        session.extra().rejoining.push(Rejoining { stay, last, undelivered_bytes });
        self.rooms.get_mut(key).joining += 1;
        let mail = Mail::Join {
            room,
            user: user.clone(),
            member: self.address(conn),
            reference: Ref::NONE,
            stay,
            again: false,
            returns: !absent,
            since: Since::Resumed { last, undelivered_bytes },
        };
        self.send(home, mail, now);
    }

    /// A home answered a join. Returns whether a resumed session made it, to go on in the room.
    pub(super) fn end_rejoining(&mut self, conn: ConnId, stay: Stay) -> bool {
        let extra = self.sessions.get_mut(conn).and_then(|session| session.extra.as_mut());
        let Some(rejoining) = extra.map(|extra| &mut extra.rejoining) else {
            return false;
        };
        let Some(index) = rejoining.iter().position(|rejoining| rejoining.stay == stay) else {
            return false;
        };
        rejoining.swap_remove(index);
        if rejoining.is_empty() {
            rejoining.shrink_to_fit();
        }
        true
    }
}

/// How a session loses its connection.
impl Shard {
    /// Whether a session that loses its connection for `reason` is kept.
    pub(super) fn is_to_be_kept(&self, conn: ConnId, reason: CloseReason) -> bool {
        let Some(session) = self.sessions.get(conn) else {
            return false;
        };
        let may_come_back = match reason {
            CloseReason::PeerClosed | CloseReason::SocketError | CloseReason::Superseded => true,
            CloseReason::HeartbeatTimeout | CloseReason::SlowReader => true,
            _ => false,
        };
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
        let memberships = self.sessions.get(conn).into_iter().flat_map(Session::memberships);
        let rooms = memberships.map(|membership| self.rooms.get(membership.room));
        let gap = |room: &Room| {
            let (first, to) = room.missing()?;
            let before = Position { seq: Seq(first.seq.0 - 1), ..first };
            Some((room.name.clone(), before, to))
        };
        rooms.filter_map(gap).collect()
    }

    fn rejoining(&self, conn: ConnId, stay: Stay) -> Option<Rejoining> {
        let extra = self.sessions.get(conn)?.extra.as_ref()?;
        extra.rejoining.iter().find(|rejoining| rejoining.stay == stay).copied()
    }

    /// How far a member has come in a room; `None` if its home has not let it in.
    fn position_of(&self, conn: ConnId, membership: &Membership) -> Option<Position> {
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

    /// A session ended for good: its birth shard need not know any more where it is.
    pub(super) fn end_session(&mut self, id: SessionId, now: Now) {
        let birth = id.birth();
        if birth.shard() == self.id {
            self.take_ended(id, now);
        } else {
            self.send(birth.shard(), Mail::Ended { session: id }, now);
        }
    }
}

/// When a kept session's time is over.
impl Shard {
    /// When there is something to do for a kept session.
    pub(super) fn next_kept_due(&self) -> Option<Mono> {
        let grace = self.keeping.table.oldest_in_grace();
        let grace = grace.map(|at| self.since(at) + self.limits.presence_grace_ms);
        let oldest = self.keeping.table.oldest();
        let window = oldest.map(|(at, _)| self.since(at) + self.limits.resume_window_ms);
        [grace, window].into_iter().flatten().min()
    }

    /// Since when the absence of who was cut off `at` counts: while the server itself was away,
    /// nobody could come back.
    fn since(&self, at: Mono) -> Mono {
        at.max(self.amnesty_at)
    }

    /// Does what is due for kept sessions, as far as the budget goes.
    pub(super) fn expire_kept(&mut self, budget: &mut usize, now: Now) {
        while *budget > 0 {
            let grace_ms = self.limits.presence_grace_ms;
            let in_grace = self.keeping.table.oldest_in_grace();
            let oldest = self.keeping.table.oldest();
            if in_grace.is_some_and(|at| self.since(at) + grace_ms <= now.mono) {
                self.end_grace(now);
            } else if let Some((at, id)) = oldest
                && self.since(at) + self.limits.resume_window_ms <= now.mono
            {
                self.give_up(id, now);
            } else {
                return;
            }
            *budget -= 1;
        }
    }

    fn end_grace(&mut self, now: Now) {
        let Some(kept) = self.keeping.table.end_grace().filter(|kept| !kept.absent) else {
            return;
        };
        kept.absent = true;
        let (user, address) = (kept.user.clone(), kept.address);
        let rooms: Vec<Name> = kept.rooms.iter().map(|kept| kept.room.clone()).collect();
        self.tell_absent(user, address, rooms, now);
    }

    fn make_absent(&mut self, kept: &mut Kept, now: Now) {
        if !kept.absent {
            kept.absent = true;
            let rooms = kept.rooms.iter().map(|kept| kept.room.clone()).collect();
            self.tell_absent(kept.user.clone(), kept.address, rooms, now);
        }
    }

    fn tell_absent(&mut self, user: Name, session: Address, rooms: Vec<Name>, now: Now) {
        for room in &rooms {
            let home = self.home_of(self.hasher.hash(room));
            self.send(home, Mail::Absent { room: room.clone(), user: user.clone() }, now);
        }
        let home = self.home_of(self.hasher.hash(&user));
        self.send(home, Mail::Away { user, session, rooms: rooms.into() }, now);
    }

    /// Forgets a kept session, which nobody can resume from here on.
    fn give_up(&mut self, id: SessionId, now: Now) {
        let Some(mut kept) = self.keeping.table.take(id) else {
            return;
        };
        self.make_absent(&mut kept, now);
        self.counters.sessions_expired += 1;
        let home = self.home_of(self.hasher.hash(&kept.user));
        self.send(home, Mail::Expired { user: kept.user, identity: id }, now);
    }
}
