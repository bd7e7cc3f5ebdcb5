//! How a native client reads what it is sent.
//!
//! Owns the check of every frame against what the client asked for. Decodes with the codec of the
//! contract, which knows nothing of the server's state.

use corebeat::base::ids::{Epoch, Seq};
use corebeat::wire::message::{Code, Event, Heartbeat, OkFlags, PresenceKind};
use corebeat::wire::native::{self, Flags, Frame};

use super::ledger::{Ledger, number_of};
use super::plan::ROOMS;
use super::stay::{RoomView, Told};
use super::visit::{Roster, Visit, Wish, room_index};

impl Visit {
    /// Reads all whole frames; returns the pings among them.
    pub(crate) fn read_frames(&mut self, ledger: &mut Ledger, round: u64) -> Vec<Heartbeat> {
        let inbox = std::mem::take(&mut self.inbox);
        let mut pings = Vec::new();
        let mut used = 0;
        while let Some((frame, length)) =
            native::frame(&inbox[used..], usize::MAX).expect("the server sends whole frames")
        {
            self.check_crc(&frame);
            let event = native::event(&frame).expect("the server keeps the contract");
            used += length;
            match event.expect("the server sends what version 1 defines") {
                Event::Ping(ping) => pings.push(ping),
                event => self.hear(&event, ledger, round),
            }
        }
        self.inbox = inbox[used..].to_vec();
        pings
    }

    /// Judges whether a frame has a checksum, or none, as the client asked.
    pub(crate) fn check_crc(&self, frame: &Frame<'_>) {
        let crc = frame.flags.contains(Flags::CRC);
        let wanted = self.speech.has_crc();
        assert!(crc == wanted || !self.welcomed, "a checksum was or was not asked for");
    }

    /// Judges an event against what the client asked for.
    pub(crate) fn hear(&mut self, event: &Event<'_>, ledger: &mut Ledger, round: u64) {
        let greeting = matches!(event, Event::Welcome(_) | Event::Error { .. });
        // Whoever is refused because of a limit or of pressure is told when to come back.
        let is_refused = matches!(self.errors[..], [Code::TooMany | Code::Unavailable]);
        let refusal = matches!(event, Event::GoAway { .. }) && is_refused;
        assert!(self.welcomed || greeting || refusal, "{event:?} came before WELCOME");
        match *event {
            Event::Welcome(welcome) => {
                self.timeout_ms = u64::from(welcome.timeout_s) * 1_000;
                self.greeted((welcome.session, welcome.resume_key), welcome.resumed);
                self.welcome(welcome.user, round, ledger);
            }
            Event::Ok { reference, flags, epoch, seq } => {
                self.ok(reference.0, flags, (epoch, seq), ledger, round);
            }
            Event::Error { reference, code, text } => self.error(reference.0, code, text, ledger),
            Event::Message { epoch, seq, time_ms, room, from, body, replay } => {
                self.hear_message((epoch.0, seq.0, time_ms), room, (from, body, replay), ledger);
            }
            Event::Gap { epoch, from, to, room: "" } => {
                assert_eq!(epoch, Epoch(0), "direct messages have no epoch");
                self.hear_direct_gap((from.0, to.0), ledger, round);
            }
            Event::Gap { epoch, from, to, room } => {
                self.rooms[room_index(room)].gap(epoch.0, from.0, to.0);
            }
            Event::Presence { kind, total, room, user } => {
                self.hear_presence(kind, total, room, user);
            }
            Event::Roster { reference, total, users, .. } => {
                let users: Vec<String> = users.iter().map(str::to_owned).collect();
                assert!(users.len() as u32 <= total, "{total} members, {users:?}");
                let Wish::Who(room) = self.answer(reference.0) else {
                    panic!("a roster answers {reference:?}");
                };
                self.rosters.push(Roster { room, total, users });
            }
            Event::Direct { id, time_ms, from, body, replay } => {
                self.hear_direct((id, time_ms, replay), (from, body), ledger, round);
            }
            Event::Echo(bytes) => {
                let expected = self.echoes.pop_front();
                assert_eq!(expected.as_deref(), Some(bytes), "another echo than was asked for");
            }
            Event::Pong(pong) => {
                let sent = |ping: &Heartbeat| (ping.seq, ping.time_ms) == (pong.seq, pong.time_ms);
                let place = self.pings.iter().position(sent);
                self.pings.remove(place.expect("a pong answers a ping"));
            }
            Event::GoAway { .. } => self.told_to_go = true,
            Event::Tempo { timeout_s, .. } => self.timeout_ms = u64::from(timeout_s) * 1_000,
            Event::Bye { .. } | Event::Ping(_) => {
                panic!("{event:?} is not said by this server");
            }
        }
    }

    fn hear_message(
        &mut self,
        (epoch, seq, time_ms): (u32, u64, u64),
        room: &str,
        (from, body, replay): (&str, &[u8], bool),
        ledger: &mut Ledger,
    ) {
        self.received += 1;
        let id = number_of(body, b'm').expect("bodies begin with their number");
        let room = room_index(room);
        ledger.witness(id, (room, epoch, seq), from, time_ms);
        ledger.note_life((room, epoch, seq), self.life);
        let message = &ledger.messages[id];
        assert!(message.body == body, "message {id} was changed on its way");
        let own = message.visit == self.id && !message.echo;
        assert!(!own || replay, "its own message {id} came back");
        self.rooms[room].message(epoch, seq, replay);
    }

    /// Counts an answer to `reference`; returns what was asked.
    fn answer(&mut self, reference: u32) -> Wish {
        let asked = self.asked.get_mut(&reference);
        let asked = asked.unwrap_or_else(|| panic!("ref {reference} was never used"));
        asked.answers += 1;
        assert!(asked.answers <= asked.requests, "ref {reference} was answered too often");
        if !asked.again {
            self.post.answered(reference);
        }
        asked.wish.clone()
    }

    fn ok(
        &mut self,
        reference: u32,
        flags: OkFlags,
        (epoch, seq): (Epoch, Seq),
        ledger: &mut Ledger,
        round: u64,
    ) {
        let OkFlags { gap, queued, .. } = flags;
        let wish = self.answer(reference);
        let known = self.asked[&reference].heads.iter().find(|known| known.0 == epoch.0);
        let is_behind = known.is_some_and(|known| known.1 > seq.0);
        assert!(!is_behind, "{wish:?} was told {epoch:?} {seq:?}, and {known:?} was known");
        let about_past = matches!(wish, Wish::Join(..) | Wish::List(..));
        assert!(!gap || about_past, "a flag that belongs to what is kept");
        assert!(!queued || matches!(wish, Wish::Direct(_)), "a flag of direct messages");
        match wish {
            Wish::Join(room, number) => {
                let told = Told { epoch: epoch.0, head: seq.0, gap, round };
                self.rooms[room].joined(number, told);
                if let Some(since) = self.rooms[room].moves[number].since {
                    self.recalls += 1;
                    self.recall_gaps += usize::from(gap);
                    if since.epoch == 0 || since.epoch == epoch.0 {
                        self.keeping.judge_gap(since.seq, seq.0, gap);
                    }
                }
            }
            Wish::List(room, since, limit) => {
                let listing = self.rooms[room].listed(epoch.0, seq.0);
                self.recalls += 1;
                self.recall_gaps += usize::from(gap);
                judge_listing(&listing, (since, limit), (epoch.0, seq.0), gap);
                self.keeping.judge_gap(since, seq.0, gap);
            }
            Wish::Leave(room, number) => self.rooms[room].left(number),
            Wish::Publish(ids) => {
                self.note_spot(reference, (epoch.0, seq.0), flags.duplicate);
                let room = ledger.messages[ids[0]].room.expect("native clients name the room");
                ledger.acknowledge((room, epoch.0, seq.0), self.id, reference);
                ledger.note_life((room, epoch.0, seq.0), self.life);
            }
            Wish::Direct(ids) => {
                assert_eq!(epoch, Epoch(0), "direct messages have no epoch");
                self.note_spot(reference, (epoch.0, seq.0), flags.duplicate);
                ledger.letters.acknowledge(&ids, seq.0, flags, self.life);
            }
            wish => panic!("OK answers {wish:?}"),
        }
    }

    /// A request was told where its message is: where the others with its ref were told.
    fn note_spot(&mut self, reference: u32, spot: (u32, u64), duplicate: bool) {
        let asked = self.asked.get_mut(&reference).expect("it was just answered");
        let first = *asked.spot.get_or_insert(spot);
        assert_eq!(first, spot, "ref {reference} was told two places");
        asked.firsts += u32::from(!duplicate);
        let is_known = asked.firsts == 1 || asked.again && asked.firsts == 0;
        assert!(is_known, "one OK, the first, is no duplicate");
    }

    fn error(&mut self, reference: u32, code: Code, text: &str, ledger: &mut Ledger) {
        if reference == 0 {
            // It may be a room that has no place any more for a session that goes on.
            if code == Code::Unavailable || code == Code::TooMany {
                self.rooms.iter_mut().for_each(RoomView::doubt_legacy);
            }
            return self.errors.push(code);
        }
        match self.answer(reference) {
            Wish::Join(room, number) | Wish::Leave(room, number) => {
                let expected = [Code::TooMany, Code::Unavailable, Code::NotFound];
                assert!(expected.contains(&code), "{code:?} {text}");
                self.rooms[room].refused(number);
            }
            Wish::Publish(ids) => {
                let expected = [Code::TooLarge, Code::Unavailable, Code::Forbidden, Code::TooMany];
                assert!(expected.contains(&code), "{code:?} {text}");
                let again = self.asked.get(&reference).is_some_and(|asked| asked.again);
                if let ([id], false) = (&ids[..], again) {
                    let (id, leaked) = (*id, ledger.has_leaked(self.life));
                    let message = &mut ledger.messages[id];
                    message.refused.refuse(code, leaked);
                    let is_late = message.refused.holds() && message.spot.is_some();
                    assert!(!is_late, "message {id} was refused too late");
                }
            }
            Wish::Direct(ids) => {
                let expected = [Code::TooLarge, Code::Unavailable, Code::TooMany];
                assert!(expected.contains(&code), "{code:?} {text}");
                let again = self.asked.get(&reference).is_some_and(|asked| asked.again);
                if let ([id], false) = (&ids[..], again) {
                    let leaked = ledger.has_leaked(self.life);
                    ledger.letters.refuse(*id, code, leaked);
                }
            }
            Wish::List(..) => {
                let expected = [Code::NotFound, Code::TooMany, Code::Unavailable];
                assert!(expected.contains(&code), "{code:?} {text}");
            }
            Wish::Who(_) => {
                let expected = [Code::NotFound, Code::Unavailable, Code::TooMany];
                assert!(expected.contains(&code), "{code:?} {text}");
                self.unasked += usize::from(code != Code::NotFound);
            }
            Wish::Refusal(codes) => {
                let is_expected = codes.contains(&code) || code == Code::TooMany;
                assert!(is_expected, "{code:?} {text}");
            }
        }
    }

    fn hear_presence(&mut self, kind: PresenceKind, total: u32, room: &str, user: &str) {
        if matches!(kind, PresenceKind::Online | PresenceKind::Offline) {
            assert_eq!((total, room), (0, ""), "{user} is told of in no room");
            assert_ne!(user, self.user, "it was told of itself");
            let asked = self.rooms.iter().any(|view| view.moves.iter().any(|m| m.notify));
            assert!(asked, "presence, and nobody asked for it");
            return self.whereabouts.push((user.to_owned(), kind == PresenceKind::Online));
        }
        let room = room_index(room);
        let moves = &self.rooms[room].moves;
        let asked = moves.iter().any(|m| m.join && m.notify);
        assert!(asked, "visit {} is told of {}, after {moves:?}", self.id, ROOMS[room]);
        match kind {
            PresenceKind::Joined | PresenceKind::Left => {
                assert_ne!(user, self.user, "it was told of itself");
                self.presence(room, user, kind == PresenceKind::Joined);
            }
            PresenceKind::Many => self.crowd(room),
            PresenceKind::Online | PresenceKind::Offline => unreachable!("they are of no room"),
        }
        self.rooms[room].total = Some(total);
    }
}

/// Judges what was listed behind `since`, at most `limit` messages of a room whose last one is
/// `head`. What is kept of earlier epochs comes only to who asks from the beginning.
fn judge_listing(
    listing: &[(u32, u64)],
    (since, limit): (u64, u16),
    (epoch, head): (u32, u64),
    gap: bool,
) {
    let place = format!("{listing:?} behind {since}, at most {limit}, of {epoch} {head} {gap}");
    let own = listing.iter().position(|(told, _)| *told == epoch).unwrap_or(listing.len());
    let (earlier, own) = listing.split_at(own);
    assert!(own.iter().all(|(told, seq)| *told == epoch && *seq <= head), "{place}");
    let follows = |one: &(u32, u64), next: &(u32, u64)| {
        if one.0 == next.0 { one.1 + 1 == next.1 } else { next.1 == 1 }
    };
    assert!(listing.is_sorted_by(follows), "{place}");
    assert!(limit == 0 || listing.len() <= usize::from(limit), "{place}");
    if !earlier.is_empty() {
        return assert_eq!(since, 0, "{place}");
    }
    match own.first() {
        Some((_, first)) => assert!((*first > since + 1) == gap && *first > since, "{place}"),
        None => assert_eq!(since != head, gap, "{place}"),
    }
}
