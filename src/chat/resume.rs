//! Sessions that survive their connection.
//!
//! Owns how a connection claims a session, and when a kept one is told absent and given up. Never
//! takes a session off its connection ([`detach`](super::detach) does) and never replays: the homes
//! do, from the positions that are kept. Called by a HELLO that names a session, by mail and by the
//! timers.
//!
//! ```text
//!  host ──────── Deposit ────▶ birth shard ◀─── Claim ──── another connection
//!   ▲                          keeps, or waits for Deposit           ▲
//!   └───────────── Evict ───────────┘ └─────── Granted / Denied ─────┘
//! ```
//!
//! Its birth shard, which the id names, knows where a session is: on the connection where it
//! began, in the table, or away. A session is deposited only when all that was under way for it has
//! arrived: the answers to its requests, because a repetition of them must be
//! answered in the same way, and the homes' answers to joins, because the birth shard may tell a
//! home that the session is absent, and must not be heard there before the join is.

use std::collections::BTreeMap;

use crate::base::counters::CloseReason;
use crate::base::ids::{Address, ConnId, Position, Ref, SessionId};
use crate::base::name::Name;
use crate::base::time::{Mono, Now};
use crate::wire::message::Hello;

use super::batch::Dialect;
use super::detach::Unsettled;
use super::kept::{Abode, Claim, Kept, KeptRoom, KeptTable};
use super::mail::{Mail, Since};
use super::membership::{Membership, Stay};
use super::reader::Coming;
use super::room::Audience;
use super::session::{Marks, State};
use super::shard::Shard;

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
    /// It is on its connection still, and the room's home has begun anew.
    pub is_home_new: bool,
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
        session.state = State::AwaitingWelcome(greeting.dialect);
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

    pub(super) fn deny(&mut self, claim: &Claim, now: Now) {
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
        let State::AwaitingWelcome(dialect) = session.state else {
            return;
        };
        let user = session.user.take();
        self.counters.resumes_denied += 1;
        self.begin_session(conn, Greeting { dialect, user }, now);
        let state = self.sessions.get(conn).map(|session| session.state);
        if !state.is_some_and(State::awaits_shards) {
            self.go_on_after_answer(conn);
        }
    }

    /// The birth shard gives a session to the connection, which goes on with it.
    pub(super) fn granted(&mut self, conn: ConnId, kept: Box<Kept>, now: Now) {
        let session = self.sessions.get_mut(conn);
        let Some((State::AwaitingWelcome(dialect), session)) = session.map(|it| (it.state, it))
        else {
            return self.send(kept.id.birth().shard(), Mail::Deposit(kept), now);
        };
        let Kept { id, user, rooms, refs, undelivered_bytes, absent, .. } = *kept;
        let extra = session.extra();
        extra.identity = Some(id);
        extra.refs = refs.map(|refs| *refs).unwrap_or_default();
        self.counters.resumed += 1;
        let despite = self.strain.pressure.refuses_newcomers();
        self.counters.overload_resumed += u64::from(despite);
        self.go_on_after_answer(conn);
        self.admit(conn, user.clone(), dialect, now);
        self.welcome(conn, dialect, &user, true, now);
        let coming = Coming::Resumed { undelivered: undelivered_bytes };
        self.come_online(conn, coming, now);
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
        self.rooms.subscriptions += 1;
        session.extra().rejoining.push(Rejoining {
            stay,
            last,
            undelivered_bytes,
            is_home_new: false,
        });
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

/// When a kept session's time is over.
impl Shard {
    /// A session ended for good: its birth shard need not know any more where it is.
    pub(super) fn end_session(&mut self, id: SessionId, now: Now) {
        let birth = id.birth();
        if birth.shard() == self.id {
            self.take_ended(id, now);
        } else {
            self.send(birth.shard(), Mail::Ended { session: id }, now);
        }
    }

    /// When there is something to do for a kept session.
    #[inline]
    pub(super) fn next_kept_due(&self) -> Option<Mono> {
        if self.keeping.table.is_empty() {
            return None;
        }
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
        while *budget > 0 && !self.keeping.table.is_empty() {
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
