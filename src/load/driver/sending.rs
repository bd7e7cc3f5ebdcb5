//! What is sent, and when.
//!
//! Owns the senders: their schedules in an open loop, their debts in a closed one. Never waits:
//! what the kernel does not take is kept by the links, and the next message is due when the plan
//! says so.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::hearing::BROKEN_PIPE;
use super::{Driver, Life};
use crate::load::agenda::Task;
use crate::load::body::Stamp;
use crate::load::config::Traffic;
use crate::load::links::Sent;
use crate::load::plan::Schedule;
use crate::load::shared::Timetable;
use crate::load::violation::Violation;

/// A connection that sends.
#[derive(Debug)]
pub(super) struct Sender {
    /// Messages sent so far.
    index: u32,
    schedule: Schedule,
    /// Messages that it may send at once, in a closed loop.
    owed: u32,
    /// When each echo on its way was planned, in microseconds.
    echoes: VecDeque<u64>,
}

impl Sender {
    /// Messages sent so far.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Echoes that have not come back.
    pub(super) fn outstanding(&self) -> u64 {
        self.echoes.len() as u64
    }

    /// The oldest echo on its way has come back: its number, and when it was planned.
    pub(super) fn came_back(&mut self) -> Option<(u32, u64)> {
        let index = self.index - self.echoes.len() as u32;
        self.echoes.pop_front().map(|planned_us| (index, planned_us))
    }
}

impl Driver {
    /// Makes this thread's senders and notes when each first sends.
    pub(super) fn begin_sending(&mut self, timetable: Timetable) {
        let traffic = self.shared.plan.config().traffic;
        if traffic == Traffic::Silent {
            return;
        }
        for local in 0..self.staying() {
            let index = self.index(local);
            if !self.shared.plan.sends(index) {
                continue;
            }
            let schedule = self.shared.plan.schedule(index);
            let sender = Sender { index: 0, schedule, owed: 0, echoes: VecDeque::new() };
            self.senders.insert(local, sender);
            match traffic {
                Traffic::Closed { in_flight } => {
                    for _ in 0..in_flight {
                        self.owe(local);
                    }
                }
                _ => self.plan_next(local, timetable),
            }
        }
    }

    fn plan_next(&mut self, local: u32, timetable: Timetable) {
        let Some(sender) = self.senders.get_mut(&local) else { return };
        if let Some(at) = sender.schedule.next().map(|at| timetable.start + at)
            && at < timetable.until
        {
            self.agenda.add(at, local, Task::Send);
        }
    }

    /// A message is due.
    pub(super) fn send_planned(&mut self, local: u32, at: u64) {
        self.note_lateness(at);
        self.out.clear();
        self.compose(local, at);
        self.write(local, 1, self.is_measured(at));
        if let Some(timetable) = self.timetable {
            self.plan_next(local, timetable);
        }
    }

    /// A sender of a closed loop may send one more.
    pub(super) fn owe(&mut self, local: u32) {
        let Some(sender) = self.senders.get_mut(&local) else { return };
        sender.owed += 1;
        if sender.owed == 1 {
            self.eager.push(local);
        }
    }

    /// Closed loop: sends what may be sent, each sender's share in one write. Whether there was
    /// any.
    pub(super) fn send_eagerly(&mut self) -> bool {
        let Some(timetable) = self.timetable else { return false };
        if self.eager.is_empty() || self.life != Life::Running {
            return false;
        }
        let now = self.now();
        if now < timetable.start {
            return false;
        }
        let mut eager = std::mem::take(&mut self.eager);
        for local in eager.drain(..) {
            let Some(sender) = self.senders.get_mut(&local) else { continue };
            let count = std::mem::take(&mut sender.owed);
            if now >= timetable.until {
                continue;
            }
            self.out.clear();
            for _ in 0..count {
                self.compose(local, now / 1_000 * 1_000);
            }
            self.write(local, count, self.is_measured(now));
        }
        // Emptied, and kept for its room.
        self.eager = eager;
        true
    }

    /// The last thing said: one message to each room, to see that everybody is there.
    pub(super) fn prove(&mut self) {
        if let Some(timetable) = &mut self.timetable {
            timetable.until = timetable.until.min(self.shared.clock.now_ns());
        }
        for local in 0..self.staying() {
            if !self.shared.plan.publishes(self.index(local)) {
                continue;
            }
            // The first publisher of a room is the member with the room's own number.
            if Some(self.index(local)) != self.room(local) {
                continue;
            }
            // A microsecond later nothing is measured any more.
            self.speak(local, self.now() + 1_000, 1);
        }
    }

    /// Sends `count` messages that nobody measures.
    pub(super) fn speak(&mut self, local: u32, planned_ns: u64, count: u32) {
        let schedule = self.shared.plan.schedule(self.index(local));
        let fresh = || Sender { index: 0, schedule, owed: 0, echoes: VecDeque::new() };
        self.senders.entry(local).or_insert_with(fresh);
        self.out.clear();
        for _ in 0..count {
            self.compose(local, planned_ns / 1_000 * 1_000);
        }
        self.write(local, count, false);
    }

    /// Appends the next message of a sender to what is to be written.
    fn compose(&mut self, local: u32, planned_ns: u64) {
        let index = self.index(local);
        let config = self.shared.plan.config();
        let Some(sender) = self.senders.get_mut(&local) else { return };
        let planned_us = planned_ns / 1_000;
        let stamp = Stamp { run: config.run, publisher: index, index: sender.index, planned_us };
        self.body.clear();
        stamp.write(&mut self.body, config.size);
        match self.shared.plan.room(index) {
            Some(room) => {
                if let Some(flights) = &self.shared.flights {
                    flights.depart(index, sender.index);
                }
                self.shared.published[room as usize].fetch_add(1, Ordering::AcqRel);
                let name = &self.shared.room_names[room as usize];
                self.voice.publish(&mut self.out, index, name, &self.body);
            }
            None => {
                sender.echoes.push_back(planned_us);
                self.voice.echo(&mut self.out, index, &self.body);
            }
        }
        sender.index += 1;
    }

    /// Writes `count` messages in one call.
    fn write(&mut self, local: u32, count: u32, measured: bool) {
        let counts = &mut self.measures.counts;
        counts.sent += u64::from(count);
        if measured {
            counts.sent_measured += u64::from(count);
            counts.writes_measured += 1;
        }
        match self.links.send(local, &self.out) {
            Sent::Taken => {}
            Sent::Full | Sent::TooEarly => {
                let index = self.index(local);
                self.violation(Violation::Unsent, count, || {
                    format!("connection {index}: the server does not read what it is sent")
                });
            }
            Sent::Broken => self.ended(local, &BROKEN_PIPE),
        }
    }

    pub(super) fn note_lateness(&mut self, planned: u64) {
        if self.is_measured(planned) {
            let late = self.now().saturating_sub(planned);
            self.measures.lateness.record(late);
        }
    }
}
