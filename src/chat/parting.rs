//! How a shard parts from the former life of another one that has begun anew.
//!
//! Owns what there is to do at that [instant](super::lives): as a home it forgets the members and
//! sessions of the old life; as the birth shard of sessions, those that lived there. For its own
//! connections it asks again what can be asked again, refuses the rest, and has them go on in the
//! rooms and be known to the users that have their home there, as if they had lost and resumed
//! their sessions. Owns also the last words to the connections of a shard that is thrown away.
//! Never decides when: [`lives`](super::lives) does.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Epoch, Position, Ref, Seq, ShardId};
use crate::base::name::{EVERYONE, Name};
use crate::base::time::Now;
use crate::wire::http::{Exchange, Status, append_retry};
use crate::wire::message::{Code, Event};
use crate::wire::websocket;

use super::awaited::Awaited;
use super::batch::Dialect;
use super::catch_up::Feed;
use super::lives::LifeMail;
use super::mail::{Asked, Ending, Mail, Replay, Since};
use super::membership::{Membership, Place, RoomKey, Stay};
use super::reader::Coming;
use super::resume::Rejoining;
use super::room::News;
use super::session::State;
use super::shard::Shard;
use super::web::Farewell;

/// Why a request was not done.
const LOST: &str = "the part of the server that had to do this has begun anew: try again";
/// What its connections are told.
const PANICKED: &str = "this part of the server failed and begins anew: come back";

impl Shard {
    /// Does what there is to do when `lost` has begun anew.
    pub(super) fn part_from(&mut self, lost: ShardId, now: Now) {
        let questions = self.questions.take(lost);
        // Whoever is closed leaves its rooms, and the new life knows of nobody that leaves before
        // all are asked for anew.
        self.lives.is_parting = true;
        self.forget_members_of(lost, now);
        self.forget_sessions_of(lost, now);
        let conns: Vec<ConnId> = (0..self.sessions.slots())
            .filter_map(|slot| self.sessions.conn_in_slot(slot))
            .collect();
        for conn in &conns {
            self.come_online_anew(*conn, lost, now);
            self.rejoin_rooms_of(*conn, lost, now);
            self.refuse_refs_of(*conn, lost, now);
        }
        self.tell_everyone_lost(lost);
        self.settle_unsettled(lost, now);
        for question in questions {
            self.ask_again(question, lost, now);
        }
        self.lives.is_parting = false;
        self.relieve_behind_parting(now);
        for conn in conns {
            self.close_if_answered(conn, now);
        }
    }
}

/// What the connections of a shard are told whose worker panicked.
impl Shard {
    /// The last words to a connection of a shard that is not to be called any more for anything
    /// else, and when to come back: as far as what it speaks is known, and behind the rest of a
    /// frame that was begun. Nothing, where nothing can be said.
    pub fn last_words(&self, conn: ConnId, reconnect_after_ms: u32, now: Now) -> Vec<u8> {
        let Some(session) = self.sessions.get(conn) else { return Vec::new() };
        let mut out = Vec::new();
        if let Some(outbox) = &session.outbox {
            out.extend_from_slice(outbox.begun());
        }
        // Text clients have no other words for when.
        let text = &*format!("{PANICKED} in {reconnect_after_ms} ms");
        let (reference, code) = (Ref::NONE, Code::Unavailable);
        let error = Event::Error { reference, code, text };
        if let Some(dialect) = session.state.dialect() {
            dialect.encode(&mut out, &error);
            if dialect != Dialect::Text {
                let (reason, address) = (text, "");
                dialect.encode(&mut out, &Event::GoAway { reconnect_after_ms, reason, address });
            }
        }
        if session.state.is_web() {
            let Farewell { code, reason } = Farewell::of(CloseReason::WorkerPanicked, Some(&error));
            websocket::append_close(&mut out, code, reason);
        }
        let asks = matches!(session.state, State::AwaitingRequest | State::AwaitingNumbers);
        if asks && session.outbox.is_none() {
            let body = format!("{text}\n");
            let (after_ms, exchange) = (reconnect_after_ms.into(), Exchange::last(now.wall_ms));
            append_retry(&mut out, Status::ServiceUnavailable, &body, after_ms, exchange);
        }
        out
    }
}

/// As the home of rooms and users, and the birth shard of sessions.
impl Shard {
    fn forget_members_of(&mut self, lost: ShardId, now: Now) {
        let everyone = self.homes.find(EVERYONE, self.hasher.hash(EVERYONE));
        let keys: Vec<_> = self.homes.keys().collect();
        for key in keys {
            let home = self.homes.get_mut(key);
            if Some(key) == everyone {
                // Every shard always hears it.
                home.link(lost).lost = None;
            } else {
                home.links.retain(|link| link.shard != lost);
                self.list_if_idle(key, now);
            }
        }
        self.homes.forget_refused_of(lost);
    }

    fn forget_sessions_of(&mut self, lost: ShardId, now: Now) {
        for claim in self.keeping.table.forget_at(lost) {
            self.deny(&claim, now);
        }
        for (user, session, identity) in self.directory.at(lost) {
            self.home_offline(&user, session, identity, Ending::Cut, now);
        }
        // What they were told and did not acknowledge nobody can say any more.
        for (user, session) in self.inboxes.leaving_at(lost) {
            self.home_missed(&user, session, (0, u64::MAX), now);
            self.home_left(&user, session, now);
        }
    }
}

/// For its own connections.
impl Shard {
    /// Tells the new life of a user's home, and of a session's birth shard, that a session is here.
    fn come_online_anew(&mut self, conn: ConnId, lost: ShardId, now: Now) {
        let Some(session) = self.sessions.get(conn) else { return };
        let (State::Live(_), Some(user)) = (session.state, &session.user) else { return };
        let home = self.home_of(self.hasher.hash(user));
        let (id, address) = (self.identity(conn), self.address(conn));
        if id.birth().shard() == lost {
            let mail = LifeMail::LivesAt { session: id, address };
            self.send(lost, Mail::Life(mail), now);
        }
        if home == lost {
            if let Some(replay) = self.catch_ups.take((conn, Feed::Directs)) {
                self.release_page(replay.page);
                if let Some(source) = replay.source {
                    self.chunks.release_batch(source);
                }
            }
            let last = self.last_direct(conn);
            self.come_online(conn, Coming::Again { last }, now);
        }
    }

    /// What was said to everybody and has not come, if anything, nobody knows any more: the room
    /// `*` keeps nothing. Its home goes on in another epoch.
    fn tell_everyone_lost(&mut self, lost: ShardId) {
        let everyone = self.rooms.find(EVERYONE, self.hasher.hash(EVERYONE));
        let heard = everyone.map(|key| self.rooms.get(key).heard()).unwrap_or_default();
        if self.everyone_home() == lost && heard.epoch != Epoch(0) {
            let next = Seq(heard.seq.0 + 1);
            let gap = News::Gap { epoch: heard.epoch, from: next, to: next };
            self.hear_gap(&Name::new(EVERYONE), gap);
        }
    }

    /// Has a session go on in the rooms whose home has begun anew, from where it is in them.
    fn rejoin_rooms_of(&mut self, conn: ConnId, lost: ShardId, now: Now) {
        let Some(session) = self.sessions.get(conn) else { return };
        let its = |membership: &&Membership| self.rooms.get(membership.room).home == lost;
        let keys: Vec<RoomKey> = session.memberships().filter(its).map(|it| it.room).collect();
        for key in keys {
            let membership = self.sessions.get(conn).and_then(|it| it.membership(key)).copied();
            let Some(membership) = membership else { continue };
            self.finish_deliveries(conn, &membership, now);
            if let Some((last, undelivered_bytes)) = self.suspend_for_rejoin(conn, &membership) {
                self.rejoin_room(conn, key, last, undelivered_bytes, now);
            }
        }
    }

    /// Takes a member out of its place, in which it was handed all news. Returns how far it has
    /// come, and how many bytes up to there may not have arrived; none where it was never let in.
    fn suspend_for_rejoin(
        &mut self,
        conn: ConnId,
        membership: &Membership,
    ) -> Option<(Position, u32)> {
        let (key, stay) = (membership.room, membership.stay());
        if let Some(rejoining) = self.rejoining(conn, stay) {
            self.end_rejoining(conn, stay);
            return Some((rejoining.last, rejoining.undelivered_bytes));
        }
        // What it was handed ahead of its turn is still in the queue, for the others.
        let last = match membership.place.index() {
            Some(_) => self.rooms.get(key).heard(),
            None => self.position_of(conn, membership)?,
        };
        self.end_replay(conn, Feed::Room(key));
        if let Some(place) = membership.place.index() {
            self.vacate(key, place);
            self.rooms.get_mut(key).joining += 1;
        }
        Some((last, 0))
    }

    fn rejoin_room(
        &mut self,
        conn: ConnId,
        key: RoomKey,
        last: Position,
        undelivered_bytes: u32,
        now: Now,
    ) {
        self.last_stay = self.last_stay.next();
        let stay = self.last_stay;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user = session.user.clone().expect("a member has a user");
        let membership = session.membership_mut(key).expect("the caller found it");
        *membership = Membership::pending(key, stay, membership.notify());
        let rejoining = Rejoining { stay, last, undelivered_bytes, is_home_new: true };
        session.extra().rejoining.push(rejoining);
        let room = self.rooms.get(key);
        let (home, room) = (room.home, room.name.clone());
        let mail = Mail::Join {
            room,
            user,
            member: self.address(conn),
            reference: Ref::NONE,
            stay,
            again: false,
            returns: true,
            since: Since::Resumed { last, undelivered_bytes },
        };
        self.send(home, mail, now);
    }

    /// Where a member goes on in another epoch than the one in which it was: what the old one had
    /// behind its last message, if anything, nobody knows any more. Nor what it had before, where
    /// bytes of that may not have arrived. Of an epoch that is still known the replay says itself
    /// what is missing.
    pub(super) fn tell_epoch_lost(
        &mut self,
        (conn, key): (ConnId, RoomKey),
        Rejoining { last, undelivered_bytes, is_home_new, .. }: Rejoining,
        (epoch, replay): (Epoch, &Replay),
        now: Now,
    ) {
        let is_told = replay.missing.is_some_and(|missing| missing.epoch == last.epoch);
        if !is_home_new || last.epoch == epoch || !replay.gap || is_told {
            return;
        }
        let room = self.rooms.get(key).name.clone();
        let next = Seq(last.seq.0 + 1);
        let from = if undelivered_bytes > 0 { Seq(1) } else { next };
        let gap = Event::Gap { epoch: last.epoch, from, to: next, room: &room };
        self.tell(conn, &gap, now);
    }

    fn refuse_refs_of(&mut self, conn: ConnId, lost: ShardId, now: Now) {
        let extra = self.sessions.get(conn).and_then(|session| session.extra.as_ref());
        let Some(extra) = extra.filter(|extra| extra.refs.pending() > 0) else { return };
        let pending: Vec<Ref> = extra.refs.pending_at(lost).collect();
        for reference in pending {
            self.refused(conn, reference, Asked::Publish, (Code::Unavailable, LOST), now);
        }
    }

    /// Sessions that lost their connections wait for no answer of a life that is over.
    fn settle_unsettled(&mut self, lost: ShardId, now: Now) {
        let conns: Vec<ConnId> = self.keeping.unsettled.keys().copied().collect();
        for conn in conns {
            let hasher = self.hasher;
            let shards = self.shards;
            let Some(unsettled) = self.keeping.unsettled.get_mut(&conn) else { continue };
            unsettled.forget_joins(|room| super::hash::home(hasher.hash(room), shards) == lost);
            if let Some(refs) = unsettled.kept.refs.as_deref_mut() {
                let pending: Vec<Ref> = refs.pending_at(lost).collect();
                for reference in pending {
                    let _ = refs.forget(reference);
                }
            }
            self.deposit_if_settled(conn, now);
        }
    }

    fn ask_again(&mut self, question: Awaited, lost: ShardId, now: Now) {
        let refusal = (Code::Unavailable, LOST);
        match question {
            Awaited::Join { since: Since::Resumed { .. }, .. } => {}
            Awaited::Join { conn, reference, stay, again, since } => {
                if again || !self.join_again(conn, reference, stay, since, now) {
                    self.question_answered(conn);
                    if reference.wants_answer() && self.is_live(conn) {
                        self.refuse(conn, reference, refusal.0, refusal.1, now);
                    }
                }
            }
            Awaited::Who(conn, reference) if self.is_live(conn) => {
                self.refused(conn, reference, Asked::Who, refusal, now);
            }
            Awaited::History(conn, reference) if self.is_live(conn) => {
                self.refused(conn, reference, Asked::History, refusal, now);
            }
            Awaited::Direct(conn) if self.is_live(conn) => {
                self.refused(conn, Ref::NONE, Asked::Direct, refusal, now);
            }
            Awaited::Who(..) | Awaited::History(..) | Awaited::Direct(_) => {}
            Awaited::Page(..) | Awaited::Directs(_) => self.catch_ups.page_came(),
            Awaited::Room(conn, user, purpose) => {
                if self.awaits_room(conn, purpose) {
                    let session = self.address(conn);
                    self.send(lost, Mail::Ask { user, session, purpose }, now);
                }
            }
            Awaited::Claim(conn) => self.denied(conn, now),
            Awaited::Stats => self.send(lost, Mail::AskStats, now),
        }
    }

    fn is_live(&self, conn: ConnId) -> bool {
        self.sessions.get(conn).is_some_and(|session| matches!(session.state, State::Live(_)))
    }

    /// Makes a join once more that was not answered. False where its stay is over.
    fn join_again(
        &mut self,
        conn: ConnId,
        reference: Ref,
        stay: Stay,
        since: Since,
        now: Now,
    ) -> bool {
        let Some(session) = self.sessions.get(conn) else { return false };
        let pending = |it: &&Membership| it.stay() == stay && it.place == Place::PENDING;
        let (Some(membership), Some(user)) =
            (session.memberships().find(pending).copied(), session.user.clone())
        else {
            return false;
        };
        let room = self.rooms.get(membership.room);
        let (home, room) = (room.home, room.name.clone());
        let (member, again, returns) = (self.address(conn), false, false);
        let join = Mail::Join { room, user, member, reference, stay, again, returns, since };
        self.send(home, join, now);
        true
    }
}
