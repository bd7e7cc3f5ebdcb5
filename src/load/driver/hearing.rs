//! What is heard.
//!
//! Owns the reading of sockets and what follows from each thing that a server says. Every delivery
//! goes to the ledger and to the peer; what either objects to is a violation.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use mio::event::Event;

use super::{Alive, Driver, Life};
use crate::load::body::Stamp;
use crate::load::links::{Arrival, Sent};
use crate::load::peer::{Hearing, Stage};
use crate::load::plan::Role;
use crate::load::speech::{self, Heard, Welcomed};
use crate::load::violation::Violation;
use crate::load::websocket;

/// What is told of a connection that takes no bytes.
pub(super) const BROKEN_PIPE: io::ErrorKind = io::ErrorKind::BrokenPipe;

impl Driver {
    /// The kernel has something to tell of a connection.
    pub(super) fn link_event(&mut self, local: u32, event: &Event) {
        if event.is_writable() {
            if self.links.peer(local).stage() == Stage::Connecting {
                self.greet(local);
            } else if self.links.is_blocked(local) && self.links.flush(local) == Sent::Broken {
                self.ended(local, &BROKEN_PIPE);
            }
        }
        // The kernel tells of an end once, together with what came before it perhaps: then only a
        // read that finds nothing else shows it.
        let has_ended = event.is_read_closed() || event.is_error();
        if (has_ended || event.is_readable()) && !self.leaves_unread(local) {
            self.read(local, has_ended);
        }
    }

    /// Whether this is a slow reader at the time when those do not read.
    fn leaves_unread(&self, local: u32) -> bool {
        self.timetable.is_some() && self.life == Life::Running && self.is_slow(local)
    }

    /// Reads what slow readers left, to see what became of them.
    pub(super) fn read_slow_ones(&mut self) {
        for local in 0..self.staying() {
            if self.is_slow(local) {
                self.links.widen(local);
                // The kernel may have told of an end while nobody looked.
                self.read(local, true);
            }
        }
    }

    /// Whether every slow reader was ended or has caught up.
    pub(super) fn slow_ones_are_through(&self) -> bool {
        self.shared.plan.config().slow_share <= 0.0
            || (0..self.staying()).filter(|&local| self.is_slow(local)).all(|local| {
                let published = |room| {
                    let count: &AtomicU32 = &self.shared.published[room as usize];
                    count.load(Ordering::Acquire)
                };
                let peer = self.links.peer(local);
                !peer.is_open() || peer.missing(self.room(local).map_or(0, published), 0) == 0
            })
    }

    /// Reads until nothing is left, or up to the end of the stream where that has come.
    fn read(&mut self, local: u32, has_ended: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            match self.links.read(local, &mut scratch) {
                Arrival::Bytes { len, more } => {
                    let now = self.now();
                    if self.is_measured(now) {
                        self.measures.counts.reads_measured += 1;
                        self.measures.counts.bytes_in_measured += len as u64;
                    }
                    let Some(used) = self.understand(local, &scratch[..len], now) else { break };
                    self.links.keep(local, &scratch[used..len]);
                    if used == 0 && more {
                        self.malformed(local, &"a frame without end");
                    }
                    if !more && !has_ended {
                        break;
                    }
                }
                Arrival::Nothing => break,
                Arrival::End => {
                    self.ended(local, &"the server closed it");
                    break;
                }
                Arrival::Failure(kind) => {
                    self.ended(local, &kind);
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    /// Takes everything that is whole. Gives back how many bytes that was, or nothing where the
    /// connection is gone.
    fn understand(&mut self, local: u32, bytes: &[u8], now: u64) -> Option<usize> {
        let dialect = self.shared.plan.config().dialect;
        let mut used = 0;
        if self.links.peer(local).stage() == Stage::Upgrading {
            used = self.understand_handshake(local, bytes)?;
            if self.links.peer(local).stage() == Stage::Upgrading {
                return Some(0);
            }
        }
        while used < bytes.len() {
            let mut alive = true;
            let heard = speech::hear(dialect, &bytes[used..], |heard| {
                alive = self.react(local, heard, now);
                alive
            });
            match heard {
                _ if !alive => return None,
                Ok(None) => break,
                Ok(Some(length)) => used += length,
                Err(fault) => {
                    self.malformed(local, &fault);
                    return None;
                }
            }
        }
        Some(used)
    }

    /// Takes the answer to the request for a WebSocket, once it is whole, and says hello. Gives
    /// back how many bytes it had, or nothing where the connection is gone.
    fn understand_handshake(&mut self, local: u32, bytes: &[u8]) -> Option<usize> {
        let config = self.shared.plan.config();
        let key = websocket::Key::of(config.run, self.index(local));
        match websocket::handshake(bytes, config.dialect.subprotocol()?, &key) {
            Ok(None) => return Some(0),
            Ok(Some(length)) => {
                self.enter(local);
                return self.links.peer(local).is_open().then_some(length);
            }
            Err(fault) => self.not_upgraded(local, fault),
        }
        None
    }

    fn malformed(&mut self, local: u32, what: &dyn fmt::Display) {
        let index = self.index(local);
        self.violation(Violation::Malformed, 1, || format!("connection {index}: {what}"));
        self.drop_link(local, true);
    }

    /// Sends what was put together in answer to a ping.
    fn answer(&mut self, local: u32) -> Alive {
        self.measures.counts.pings += 1;
        if self.links.send(local, &self.out) == Sent::Broken {
            self.ended(local, &BROKEN_PIPE);
            return false;
        }
        true
    }

    fn react(&mut self, local: u32, heard: Heard<'_>, now: u64) -> Alive {
        match heard {
            Heard::Message { seq, body, replay } => {
                self.take_message(local, seq, body, replay, now);
                self.look_whether_caught_up(local, now);
            }
            Heard::Echo(body) => self.take_echo(local, body, now),
            Heard::Ping(ping) => {
                let index = self.index(local);
                self.out.clear();
                self.voice.pong(&mut self.out, index, ping);
                return self.answer(local);
            }
            Heard::PingFrame(payload) => {
                let index = self.index(local);
                self.out.clear();
                self.voice.pong_frame(&mut self.out, index, payload);
                return self.answer(local);
            }
            Heard::Closed(code) => {
                let code = code.map_or("no code".to_owned(), |code| code.to_string());
                self.ended(local, &format_args!("the server closed it with {code}"));
                return false;
            }
            Heard::Welcome(welcomed) => return self.welcomed(local, welcomed, now),
            Heard::Joined { head } => return self.joined(local, head, now),
            Heard::Inside(room) => {
                let wanted = self.room(local).map(|room| &self.shared.room_names[room as usize]);
                if wanted.is_some_and(|wanted| wanted == room) {
                    // Before any message was sent the head of the room is known all the same.
                    let head = self.timetable.is_none().then_some(0);
                    return self.joined(local, head, now);
                }
            }
            Heard::Gap(count) => {
                self.take_gap(local, count);
                self.look_whether_caught_up(local, now);
            }
            Heard::Refused(code) => self.refused(local, code),
            Heard::GoAway | Heard::Other => {}
        }
        true
    }

    fn welcomed(&mut self, local: u32, welcomed: Welcomed, now: u64) -> Alive {
        let wants_room = self.wants_room(local);
        self.was_welcomed(local, now);
        if !self.links.peer_mut(local).welcome(wants_room) {
            self.malformed(local, &"a second WELCOME");
            return false;
        }
        if self.session(local).is_some() {
            return self.was_resumed(local, welcomed, now);
        }
        if let Some(kept) = self.welcomed.get_mut(local as usize) {
            *kept = welcomed;
        }
        if !wants_room {
            self.arrived(local, now);
        }
        true
    }

    fn joined(&mut self, local: u32, head: Option<u32>, now: u64) -> Alive {
        if !self.links.peer_mut(local).join(head) {
            self.malformed(local, &"let in twice");
            return false;
        }
        self.arrived(local, now);
        true
    }

    fn take_message(&mut self, local: u32, seq: Option<u32>, body: &[u8], replay: bool, now: u64) {
        let index = self.index(local);
        let Some(room) = self.room(local) else {
            return self.violation(Violation::Foreign, 1, || {
                format!("connection {index} is in no room and got a message")
            });
        };
        let (seq, stamp) = match self.ledger.message(room, seq, body) {
            Ok(entry) => entry,
            Err(kind) => {
                self.violation(kind, 1, || {
                    format!("connection {index}, room {room}, message {seq:?}")
                });
                // One objection is enough: what follows is in its place.
                if let Some(seq) = seq {
                    let _ = self.links.peer_mut(local).hear(seq, u32::MAX);
                }
                return;
            }
        };
        let own = match self.shared.plan.publishes(index) {
            true => self.senders.get(&local).map_or(0, super::Sender::index),
            false => 0,
        };
        match self.links.peer_mut(local).hear(seq, own) {
            Hearing::Next => self.measures.counts.replayed += u64::from(replay),
            Hearing::Missing(count) => self.violation(Violation::Lost, count, || {
                format!("connection {index}, room {room}: {count} before message {seq}")
            }),
            // The server cannot know what had arrived when it was cut off.
            Hearing::Again if replay && self.storm_at.is_some() => {
                self.measures.counts.repeated += 1;
                return;
            }
            Hearing::Again => {
                return self.violation(Violation::Duplicate, 1, || {
                    format!("connection {index}, room {room}: message {seq}")
                });
            }
        }
        self.count_delivery(local, stamp.publisher, stamp.index, stamp.planned_us, now);
    }

    fn count_delivery(&mut self, local: u32, publisher: u32, index: u32, planned: u64, now: u64) {
        self.measures.counts.delivered += 1;
        self.measures.counts.delivered_measured += u64::from(self.is_measured(now));
        if self.is_slow(local) {
            return;
        }
        let planned = planned * 1_000;
        let latency = now.saturating_sub(planned);
        if self.is_measured(planned) {
            self.measures.delivery.record(latency);
        }
        self.recent.record(latency);
        if self.role(local) != Role::Member {
            return;
        }
        self.due_delivered += 1;
        if let (Some(flights), Some(landings)) = (&self.shared.flights, &mut self.landings)
            && landings.land(flights, publisher, index)
        {
            self.landed(publisher);
        }
    }

    /// A message has reached everybody: its publisher may send another.
    fn landed(&mut self, publisher: u32) {
        let (threads, owner) = (self.shared.threads, publisher % self.shared.threads);
        if owner == self.id {
            self.owe(publisher / threads);
        } else {
            let post = &self.shared.posts[owner as usize];
            // The mailbox has room for every message in flight.
            let _ = post.try_send(super::Note::Landed(publisher));
        }
    }

    fn take_echo(&mut self, local: u32, body: Option<&[u8]>, now: u64) {
        let index = self.index(local);
        let came_back = self.senders.get_mut(&local).and_then(super::Sender::came_back);
        let Some((expected, planned_us)) = came_back else {
            return self.violation(Violation::Duplicate, 1, || {
                format!("connection {index}: an echo of nothing")
            });
        };
        if let Some(body) = body {
            let run = self.shared.plan.config().run;
            let stamp = Stamp::read(body, run);
            let kind = match stamp {
                Ok(stamp) if stamp.publisher != index => Some(Violation::Foreign),
                Ok(stamp) if stamp.index != expected => Some(Violation::Order),
                Ok(_) => None,
                Err(_) => Some(Violation::Corrupt),
            };
            if let Some(kind) = kind {
                self.violation(kind, 1, || format!("connection {index}: echo {expected}"));
            }
        }
        let planned = planned_us * 1_000;
        let latency = now.saturating_sub(planned);
        let measured = self.is_measured(now);
        self.measures.counts.delivered += 1;
        self.measures.counts.delivered_measured += u64::from(measured);
        if self.is_measured(planned) {
            self.measures.echo.record(latency);
        }
        self.recent.record(latency);
        if self.shared.flights.is_some() {
            self.owe(local);
        }
    }

    fn take_gap(&mut self, local: u32, count: u32) {
        self.links.peer_mut(local).pass_over(count);
        if self.is_slow(local) {
            self.dealt_with.insert(local);
            return;
        }
        let index = self.index(local);
        self.violation(Violation::Shed, count, || format!("connection {index}: {count} messages"));
    }

    fn refused(&mut self, local: u32, code: u16) {
        if self.is_slow(local) {
            return;
        }
        let index = self.index(local);
        self.violation(Violation::Refused, 1, || format!("connection {index}: ERROR {code}"));
    }
}
