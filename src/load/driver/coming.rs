//! How connections come and go.
//!
//! Owns the ramp, the comings and goings of churn, and the hello. Never reads what is answered.

use std::fmt;
use std::io;

use super::Driver;
use super::hearing::BROKEN_PIPE;
use crate::load::agenda::Task;
use crate::load::config::Traffic;
use crate::load::links::Sent;
use crate::load::peer::Stage;
use crate::load::plan::Role;
use crate::load::shared::Timetable;
use crate::load::speech;
use crate::load::violation::Violation;
use crate::load::websocket::{Fault, Key, append_handshake};

/// Connections opened in one turn before sockets are looked at again.
const OPENED_PER_TURN: u32 = 32;

/// Opens connections one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pump {
    pub(super) next: u32,
    /// When the ramp began; none for a storm, where all are due at once.
    pub(super) paced_from: Option<u64>,
}

impl Driver {
    pub(super) fn begin_ramp(&mut self, at: u64) {
        self.pump = Some(Pump { next: 0, paced_from: Some(at) });
    }

    /// Makes all that traffic needs: senders, and the first coming of each that comes and goes.
    pub(super) fn begin_traffic(&mut self, timetable: Timetable) {
        self.timetable = Some(timetable);
        self.begin_sending(timetable);
        for local in self.staying()..self.links.len() {
            let life = self.shared.plan.life(self.index(local), 0);
            if timetable.start + life.start < timetable.until {
                self.agenda.add(timetable.start + life.start, local, Task::Come(0));
            }
        }
        if self.links.len() > self.staying() {
            self.measures.answer.clear();
        }
    }

    /// When the pump has something to do; never while too many connections are half open.
    pub(super) fn pump_due(&self, pump: &Pump) -> Option<u64> {
        let window = self.shared.plan.config().ramp_window.div_ceil(self.shared.threads);
        match pump.paced_from {
            None => Some(0),
            Some(_) if self.half_open >= window.max(1) => None,
            Some(from) => Some(from + self.shared.plan.connect_at_ns(self.index(pump.next))),
        }
    }

    /// Opens what is due. Whether anything was.
    pub(super) fn pump_connections(&mut self, now: u64) -> bool {
        let mut worked = false;
        for _ in 0..OPENED_PER_TURN {
            let Some(pump) = self.pump else { break };
            if pump.next >= self.staying() {
                self.pump = None;
                break;
            }
            if self.pump_due(&pump).is_none_or(|due| due > now) {
                break;
            }
            worked = true;
            self.pump = Some(Pump { next: pump.next + 1, ..pump });
            if pump.paced_from.is_none() && self.is_spared(pump.next) {
                continue;
            }
            self.open(pump.next);
            if self.storm_at.is_some() && self.bare_at.is_none() {
                let now = self.now();
                self.measures.counts.reconnects += 1;
                let asked = &mut self.measures.counts.storm_asked_ns;
                *asked = Some(asked.map_or((now, now), |(first, _)| (first, now)));
            }
        }
        worked
    }

    /// One that comes and goes comes, and its going is noted.
    pub(super) fn come(&mut self, local: u32, life: u32, at: u64) {
        let Some(timetable) = self.timetable else { return };
        self.note_lateness(at);
        self.lives.insert(local, life);
        if self.is_measured(at) {
            self.measures.counts.reconnects += 1;
        }
        self.open(local);
        let index = self.index(local);
        let stay = self.shared.plan.life(index, life);
        self.agenda.add(timetable.start + stay.end, local, Task::Go(life));
        let next = timetable.start + self.shared.plan.life(index, life + 1).start;
        if next < timetable.until {
            self.agenda.add(next, local, Task::Come(life + 1));
        }
    }

    /// One that comes and goes goes.
    pub(super) fn go(&mut self, local: u32, life: u32) {
        if self.lives.get(&local) != Some(&life) {
            return;
        }
        if !matches!(self.links.peer(local).stage(), Stage::Ready | Stage::Lost) {
            self.measures.counts.unfinished += 1;
            let index = self.index(local);
            self.violation(Violation::Unanswered, 1, || {
                format!("connection {index} was not in its room when its time was up")
            });
        }
        self.drop_link(local, false);
    }

    fn open(&mut self, local: u32) {
        let index = self.index(local);
        let (source, slow) = (self.shared.plan.source(index), self.is_slow(local));
        let now = self.now();
        self.links.peer_mut(local).ask(now);
        match self.links.open(self.seat.poll.registry(), local, source, slow) {
            Ok(()) => {
                self.open += 1;
                self.half_open += 1;
                // On one machine the other side has often answered by now.
                self.greet(local);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.links.peer_mut(local).leave(true);
                if self.storm_at.is_none() && self.role(local) != Role::Churner {
                    self.broken = Some(self.nobody_listens());
                }
                self.violation(Violation::Closed, 1, || format!("connection {index} was refused"));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                self.links.peer_mut(local).leave(true);
                self.broken = Some(format!(
                    "connection {index} found no free port; other programs on this machine hold \
                     too many (see `ss -s`)"
                ));
            }
            Err(error) => {
                self.links.peer_mut(local).leave(true);
                self.broken = Some(format!("connection {index} cannot be opened: {error}"));
            }
        }
    }

    /// Says the first words, if the kernel has connected: hello, or the request for a WebSocket.
    pub(super) fn greet(&mut self, local: u32) {
        let config = self.shared.plan.config();
        let Some(subprotocol) = config.dialect.subprotocol() else { return self.enter(local) };
        let key = Key::of(config.run, self.index(local));
        self.out.clear();
        append_handshake(&mut self.out, self.shared.target, subprotocol, &key);
        match self.links.send(local, &self.out) {
            Sent::Taken | Sent::Full => self.links.peer_mut(local).upgrade(),
            Sent::TooEarly => {}
            Sent::Broken => self.ended(local, &BROKEN_PIPE),
        }
    }

    /// Says hello, and asks for the room.
    pub(super) fn enter(&mut self, local: u32) {
        let plan = &self.shared.plan;
        let config = plan.config();
        let index = self.index(local);
        let wants_room = self.wants_room(local);
        let room = plan.room(index).map(|room| self.shared.room_names[room as usize].as_str());
        let room = room.filter(|_| wants_room);
        let user = speech::user_name(config.run, index);
        self.out.clear();
        match self.session(local) {
            Some(session) => {
                self.voice.resume(&mut self.out, index, &user, session, config.heartbeat_s);
            }
            None => self.voice.enter(&mut self.out, index, &user, room, config.heartbeat_s),
        }
        match self.links.send(local, &self.out) {
            Sent::Taken | Sent::Full => self.links.peer_mut(local).greet(),
            Sent::TooEarly => {}
            Sent::Broken => self.ended(local, &BROKEN_PIPE),
        }
    }

    /// The server does not open a WebSocket.
    pub(super) fn not_upgraded(&mut self, local: u32, fault: Fault) {
        if self.timetable.is_none() && self.storm_at.is_none() {
            self.broken = Some(fault.to_string());
        }
        self.ended(local, &fault);
    }

    /// The server has ended a connection, or the kernel has, in this way.
    pub(super) fn ended(&mut self, local: u32, how: &dyn fmt::Display) {
        if !self.links.peer(local).is_open() {
            return;
        }
        if self.is_slow(local) {
            self.dealt_with.insert(local);
        } else {
            let index = self.index(local);
            let stage = self.links.peer(local).stage();
            self.violation(Violation::Closed, 1, || {
                format!("connection {index} was ended while {stage:?}: {how}")
            });
            let ramping = self.timetable.is_none() && self.links.peer(local).heard() == 0;
            if ramping && stage == Stage::Connecting {
                self.broken = Some(self.nobody_listens());
            }
        }
        self.drop_link(local, true);
    }

    /// What the operator is told where the server's port is closed.
    fn nobody_listens(&self) -> String {
        let target = self.shared.target;
        format!("nobody listens on {target}; start a server there, or name another with --target")
    }

    /// Resets a connection and forgets what it was.
    pub(super) fn drop_link(&mut self, local: u32, lost: bool) {
        let stage = self.links.peer(local).stage();
        if !self.links.peer(local).is_open() {
            return;
        }
        self.open -= 1;
        if stage == Stage::Ready {
            self.ready -= u32::from(local < self.staying());
        } else {
            self.half_open -= 1;
        }
        self.links.reset(local);
        self.links.peer_mut(local).leave(lost);
    }

    /// A connection is where it wants to be.
    pub(super) fn arrived(&mut self, local: u32, now: u64) {
        self.half_open -= 1;
        if local < self.staying() {
            self.ready += 1;
        }
        if let Some(at) = self.bare_at {
            self.accepted += 1;
            return self.measures.bare.record(now.saturating_sub(at));
        }
        if let Some(planned) = self.planned_coming(local) {
            self.measures.joined.record(now.saturating_sub(planned));
        }
        if self.storm_at.is_some() {
            self.returned += 1;
            self.measures.counts.storm_done_ns = Some(now);
        }
    }

    /// A connection was welcomed.
    pub(super) fn was_welcomed(&mut self, local: u32, now: u64) {
        if self.bare_at.is_some() {
            return;
        }
        if let Some(planned) = self.planned_coming(local) {
            self.measures.welcome.record(now.saturating_sub(planned));
            self.recent_if_silent(now.saturating_sub(planned));
        }
        if self.timetable.is_none() || self.planned_coming(local).is_some() {
            let answer = self.links.peer(local).age_ns(now);
            self.measures.answer.record(answer);
        }
    }

    /// When a connection was planned to come, where that is measured.
    fn planned_coming(&self, local: u32) -> Option<u64> {
        if local < self.staying() {
            return self.storm_at;
        }
        let life = *self.lives.get(&local)?;
        let start = self.timetable?.start;
        let planned = start + self.shared.plan.life(self.index(local), life).start;
        self.is_measured(planned).then_some(planned)
    }

    /// Where no message flows, the live line shows how long it takes to come in.
    fn recent_if_silent(&mut self, latency: u64) {
        if self.shared.plan.config().traffic == Traffic::Silent {
            self.recent.record(latency);
        }
    }
}
