//! Mail from other shards.
//!
//! Owns what a letter does when it arrives: requests go on to the home's work
//! ([`homes`](super::homes)), answers go to the connection that waits for them. Called by the shell
//! through [`Shard::mail`].

use crate::base::ids::{ConnId, Epoch, Ref, Seq, ShardId};
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::{Code, Event, Names, OkFlags};

use super::batch::Dialect;
use super::catch_up::Feed;
use super::homes::{Joiner, Said};
use super::kept::Claim;
use super::mail::{Asked, Mail, Replay};
use super::membership::{Place, RoomKey, Stay};
use super::room::News;
use super::session::State;
use super::shard::Shard;

/// What a home tells a member that it let in.
struct LetIn {
    reference: Ref,
    epoch: Epoch,
    seq: Seq,
    total: u32,
    replay: Option<Box<Replay>>,
}

impl Shard {
    /// Mail arrived from shard `from`.
    pub fn mail(&mut self, from: ShardId, mail: Mail, now: Now) {
        self.counters.mail_in += 1;
        if self.lives.are_disturbed() && !self.is_to_be_heard(from, &mail, now) {
            return;
        }
        self.questions.note_answered(from, &mail);
        self.take_letter(from, mail, now);
    }

    /// Does what a letter says, whether it came from another shard or is this one's own.
    pub(super) fn take_letter(&mut self, from: ShardId, mail: Mail, now: Now) {
        match mail {
            Mail::Join { room, user, member, reference, stay, again, returns, since } => {
                let joiner = Joiner { user, member, reference, stay, again, returns, since };
                self.home_join(room, joiner, now);
            }
            Mail::NextPage { room, member, round, after } => {
                self.home_next_page(room, member, round, after, now);
            }
            Mail::History { room, origin, reference, extent } => {
                self.home_history(room, origin, reference, extent, now);
            }
            Mail::Leave { room, user, stay } => self.home_leave(from, &room, user, stay, now),
            Mail::Suspend { room, stay } => self.home_suspend(from, &room, stay, now),
            Mail::Absent { room, user } => self.home_absent(from, &room, user, now),
            Mail::Rename { room, from, to, member, stay } => {
                self.home_rename(&room, (from, to), (member, stay), now);
            }
            Mail::Publish { room, from, origin, reference, echo, body } => {
                let said = Said { from: &from, origin, reference, echo, body: &body };
                self.home_publish(&room, self.hasher.hash(&room), &said, now);
            }
            Mail::Who { room, origin, reference } => self.home_who(room, origin, reference, now),
            mail @ (Mail::Ask { .. } | Mail::Answer { .. }) => self.take_letter_of_room(mail, now),
            Mail::Online { user, session, identity, coming } => {
                self.home_online(user, (session, identity), coming, now);
            }
            Mail::Away { user, session, rooms } => self.home_away(user, session, rooms, now),
            Mail::Back { user, session, rooms } => self.home_back(user, session, rooms, now),
            Mail::Whereabouts(whereabouts) => self.hear_whereabouts(whereabouts),
            Mail::Deposit(kept) => self.take_deposit(kept, now),
            Mail::Ended { session } => self.take_ended(session, now),
            Mail::Claim { session, claimer, user } => {
                self.take_claim(session, Claim { claimer, user }, now);
            }
            Mail::Evict { session, conn, user } => self.evict(session, conn, user, now),
            Mail::Stays { session } => self.take_stays(session, now),
            Mail::Granted { conn, kept } => self.granted(conn, kept, now),
            Mail::Denied { conn } => self.denied(conn, now),
            Mail::Offline { user, session, identity, ending } => {
                self.home_offline(&user, session, identity, ending, now);
            }
            mail @ (Mail::Direct { .. }
            | Mail::Expired { .. }
            | Mail::Ack { .. }
            | Mail::NextDirects { .. }
            | Mail::DirectsMissed { .. }
            | Mail::LastDirects { .. }
            | Mail::DirectsEnded { .. }) => self.take_letter_of_directs(mail, now),
            Mail::Deliver(batch) => self.hear_batch(batch),
            Mail::Gap { room, epoch, from, to } => {
                self.hear_gap(&room, News::Gap { epoch, from, to });
            }
            Mail::Presence { room, presence } => self.hear_presence(&room, presence),
            Mail::Life(mail) => self.take_life_mail(from, mail, now),
            Mail::AskStats => self.tell_stats(from, now),
            Mail::Stats(stats) => self.take_stats(stats, now),
            answer => self.take_answer(answer, now),
        }
    }

    fn take_letter_of_room(&mut self, mail: Mail, now: Now) {
        match mail {
            Mail::Ask { user, session, purpose } => self.home_ask(user, session, purpose, now),
            Mail::Answer { conn, user, purpose, has_room } => {
                self.take_answer_of_home(conn, user, (purpose, has_room), now);
            }
            other => unreachable!("{other:?} is not about room for a session"),
        }
    }

    fn take_letter_of_directs(&mut self, mail: Mail, now: Now) {
        match mail {
            Mail::Direct { user, from, origin, reference, body } => {
                self.home_direct(&user, &from, (origin, reference), &body, now);
            }
            Mail::Expired { user, identity } => self.home_expired(&user, identity, now),
            Mail::Ack { user, session, id } => self.home_ack(&user, session, id, now),
            Mail::NextDirects { user, session } => self.send_directs(&user, session, true, now),
            Mail::DirectsMissed { user, session, from, to } => {
                self.home_missed(&user, session, (from, to), now);
            }
            // No answer to a request: it comes while the connection is on its way out.
            Mail::LastDirects { conn, user } => self.end_of_directs(conn, user, now),
            Mail::DirectsEnded { user, session } => self.home_left(&user, session, now),
            other => unreachable!("{other:?} is not about direct messages"),
        }
    }

    fn take_answer(&mut self, mail: Mail, now: Now) {
        let conn = match mail {
            Mail::Joined { room, conn, reference, stay, epoch, seq, total, replay } => {
                let let_in = LetIn { reference, epoch, seq, total, replay };
                self.joined(conn, &room, stay, let_in, now);
                conn
            }
            Mail::Page { room, conn, round, total, replay } => {
                self.take_next_page(conn, &room, round, total, *replay, now);
                conn
            }
            Mail::Listed { conn, room, reference, head, replay } => {
                self.take_listing(conn, &room, reference, head, *replay, now);
                conn
            }
            Mail::Published { conn, reference, epoch, seq } => {
                self.published(conn, reference, epoch, seq, now);
                conn
            }
            Mail::Roster { conn, room, reference, total, names } => {
                self.question_answered(conn);
                self.tell_roster(conn, reference, &room, total, &names, now);
                conn
            }
            Mail::DirectTo { conn, user, direct } => {
                self.take_direct(conn, user, &direct, now);
                conn
            }
            Mail::Directs(page) => self.take_directs(*page, now),
            Mail::DirectDone { conn, reference, id, queued_for } => {
                self.direct_done(conn, reference, id, queued_for, now);
                conn
            }
            Mail::Refused { conn, reference, request, code, text } => {
                self.refused(conn, reference, request, (code, text), now);
                conn
            }
            request => unreachable!("{request:?} is no answer"),
        };
        self.close_if_answered(conn, now);
        self.deposit_if_settled(conn, now);
    }

    /// The home let a member in. Its stay begins: it gets what follows the head that it is told, or
    /// first of all what it asked for of the past.
    fn joined(&mut self, conn: ConnId, room: &Name, stay: Stay, let_in: LetIn, now: Now) {
        let LetIn { reference, epoch, seq, total, replay } = let_in;
        if self.settle_join(conn, stay, false) {
            return;
        }
        let rejoining = self.rejoining(conn, stay);
        let goes_on = self.end_rejoining(conn, stay);
        let key = self.rooms.find(room, self.hasher.hash(room));
        let membership = key.and_then(|key| self.sessions.get(conn)?.membership(key).copied());
        let membership = membership.filter(|membership| membership.stay() == stay);
        if let Some(key) = key.filter(|_| membership.is_some()) {
            self.rooms.get_mut(key).total = total;
        }
        match membership.map(|membership| (membership, membership.place.index())) {
            Some((membership, None)) => {
                if self.end_replay(conn, Feed::Room(membership.room)) {
                    self.question_answered(conn);
                }
                if replay.is_none() {
                    self.rooms.get_mut(membership.room).note_heard(epoch, seq);
                    self.begin_stay(conn, membership.room, total);
                }
            }
            // Asked again: what precedes the head that is told must have been delivered before.
            Some((membership, Some(place))) => {
                self.question_answered(conn);
                self.finish_deliveries(conn, &membership, now);
                if replay.is_none() {
                    self.move_behind_news(conn, membership.room, place);
                } else {
                    self.suspend_stay(conn, membership.room, place);
                }
            }
            // Left meanwhile: nothing begins, but the request was done and is answered.
            None => self.question_answered(conn),
        }
        if reference.wants_answer() {
            let gap = replay.as_ref().is_some_and(|replay| replay.gap);
            let flags = OkFlags { gap, ..OkFlags::default() };
            self.tell(conn, &Event::Ok { reference, flags, epoch, seq }, now);
        }
        let Some(membership) = membership else {
            return;
        };
        if let (Some(rejoining), Some(replay)) = (rejoining, &replay) {
            self.tell_epoch_lost((conn, membership.room), rejoining, (epoch, replay), now);
        }
        if let Some(replay) = replay {
            self.take_first_page(conn, membership.room, total, *replay, now);
        }
        if goes_on && self.is_let_in(conn, membership.room) {
            self.tell_total_at_seam(conn, membership.room, total, now);
        }
        if !goes_on {
            self.tell_text_joined(conn, room, total, now);
        }
    }

    fn is_let_in(&self, conn: ConnId, key: RoomKey) -> bool {
        let membership = self.sessions.get(conn).and_then(|session| session.membership(key));
        membership.is_some_and(|membership| membership.place != Place::PENDING)
    }

    pub(super) fn begin_stay(&mut self, conn: ConnId, key: RoomKey, total: u32) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let membership = session.membership_mut(key).expect("the caller found it");
        let room = self.rooms.get_mut(key);
        membership.place = room.enter(conn.slot(), membership.notify());
        room.joining -= 1;
        if let Some(untold) = &mut room.untold_total {
            // It will be told this total, and not of its own join: it must count in it.
            *untold = total;
        }
    }

    /// Takes a member, which has been given all queued news, out of its place until its replay has
    /// come to the head.
    fn suspend_stay(&mut self, conn: ConnId, key: RoomKey, place: usize) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if let Some(membership) = session.membership_mut(key) {
            membership.place = Place::PENDING;
            self.rooms.get_mut(key).joining += 1;
            self.vacate(key, place);
        }
    }

    /// Moves a member, which has been given all queued news, behind the end of it.
    pub(super) fn move_behind_news(&mut self, conn: ConnId, key: RoomKey, place: usize) {
        let is_member = self.sessions.get(conn).is_some_and(|s| s.membership(key).is_some());
        if !is_member || self.rooms.get(key).queued() == 0 {
            return;
        }
        self.vacate(key, place);
        let session = self.sessions.get_mut(conn).expect("it was just there");
        let membership = session.membership_mut(key).expect("it was just there");
        membership.place = self.rooms.get_mut(key).enter(conn.slot(), membership.notify());
    }

    /// The home gave a message its place.
    fn published(&mut self, conn: ConnId, reference: Ref, epoch: Epoch, seq: Seq, now: Now) {
        let Some(refs) = self.refs_of(conn) else {
            return;
        };
        let repetitions = refs.complete(reference, epoch, seq);
        for repetition in 0..=repetitions {
            let flags = OkFlags { duplicate: repetition > 0, ..OkFlags::default() };
            self.tell_urgently(conn, &Event::Ok { reference, flags, epoch, seq }, now);
        }
    }

    /// A home could not do what was asked.
    pub(super) fn refused(
        &mut self,
        conn: ConnId,
        reference: Ref,
        request: Asked,
        (code, text): (Code, &str),
        now: Now,
    ) {
        let mut repetitions = 0;
        if matches!(request, Asked::Publish | Asked::Direct)
            && reference.wants_answer()
            && let Some(refs) = self.refs_of(conn)
        {
            repetitions = refs.forget(reference);
        }
        if let Asked::Join { stay } = request
            && self.settle_join(conn, stay, true)
        {
            return;
        }
        let mut lost_room = None;
        match request {
            Asked::Join { stay } => {
                let was_rejoining = self.end_rejoining(conn, stay);
                let Some(session) = self.sessions.get_mut(conn) else {
                    return;
                };
                let pending = session.memberships().find(|m| m.stay() == stay).copied();
                if let Some(membership) = pending.filter(|m| m.place == Place::PENDING) {
                    session.remove_membership(membership.room);
                    self.rooms.subscriptions -= 1;
                    let user = session.user.clone().expect("a member has a user");
                    if was_rejoining {
                        // It did not ask, and takes itself for a member still.
                        let room = &self.rooms.get(membership.room).name;
                        lost_room = Some(format!("you are no longer in {room}: {text}"));
                    }
                    self.leave_room(&membership, user, now);
                    self.forget_current_room(conn, membership.room);
                } else {
                    self.question_answered(conn);
                }
            }
            Asked::Publish | Asked::Direct if reference.wants_answer() => {}
            Asked::History => self.listing_answered(conn),
            Asked::Who | Asked::Direct => self.question_answered(conn),
            Asked::Publish => {}
        }
        for _ in 0..=repetitions {
            self.refuse(conn, reference, code, lost_room.as_deref().unwrap_or(text), now);
        }
    }

    pub(super) fn question_answered(&mut self, conn: ConnId) {
        if let Some(extra) = self.sessions.get_mut(conn).and_then(|s| s.extra.as_mut()) {
            extra.questions = extra.questions.saturating_sub(1);
        }
    }

    /// Closes a connection that will send no more, once all it asked for is answered.
    pub(super) fn close_if_answered(&mut self, conn: ConnId, now: Now) {
        if let Some(session) = self.sessions.get(conn)
            && session.asks_no_more()
            && !session.awaits_answers()
        {
            self.part(conn, now);
        }
    }

    /// Answers a question for a roster. Text clients have no refs and always want the answer.
    fn tell_roster(
        &mut self,
        conn: ConnId,
        reference: Ref,
        room: &Name,
        total: u32,
        names: &[u8],
        now: Now,
    ) {
        let state = self.sessions.get(conn).map(|session| session.state);
        if reference.wants_answer() || state == Some(State::Live(Dialect::Text)) {
            let users = Names::new(names);
            self.tell(conn, &Event::Roster { reference, room, total, users }, now);
        }
    }

    fn tell_text_joined(&mut self, conn: ConnId, room: &Name, total: u32, now: Now) {
        let live_text =
            self.sessions.get(conn).map(|s| s.state) == Some(State::Live(Dialect::Text));
        if live_text {
            self.announce_room(conn, room, total, now);
        }
    }
}
