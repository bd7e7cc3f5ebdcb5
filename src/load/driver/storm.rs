//! How all connections are lost at once, and come back.
//!
//! Owns the storm and its aftermath: what is said meanwhile, the sessions that are resumed,
//! when each has heard what it missed, and the bare connections that are opened to compare. Never
//! opens a socket itself: the pump ([`coming`](super::coming)) does.

use super::coming::Pump;
use super::{Alive, Driver};
use crate::load::agenda::Task;
use crate::load::links::Sent;
use crate::load::peer::Stage;
use crate::load::shared::Note;
use crate::load::speech::Welcomed;
use crate::load::violation::Violation;

/// Messages to each room while all others are cut off.
///
/// None is said before: what has reached the kernel at this end has arrived for all that the server
/// can know, and the reset throws it away unread.
const SAID_MEANWHILE: u32 = 4;

impl Driver {
    /// Drops everything that is not spared, and opens it again in the following turns.
    pub(super) fn begin_storm(&mut self, at: u64) {
        self.storm_at = Some(at);
        self.measures.answer.clear();
        self.drop_unspared();
        if self.shared.is_last_to_drop() {
            self.shared.tell(Note::Away { storm_at: at });
        }
        self.pump = Some(Pump { next: 0, paced_from: None });
    }

    /// Drops once more what is not spared, for the bare connections of that instant.
    pub(super) fn make_way(&mut self, at: u64) {
        self.count_those_left_behind();
        self.bare_at = Some(at);
        self.drop_unspared();
        self.agenda.add(at, 0, Task::Bare);
    }

    /// Opens the bare connections in the following turns.
    pub(super) fn open_bare(&mut self) {
        self.pump = Some(Pump { next: 0, paced_from: None });
    }

    /// Whether a storm leaves this connection alone.
    pub(super) fn is_spared(&self, local: u32) -> bool {
        self.shared.plan.is_spared(self.index(local))
    }

    fn drop_unspared(&mut self) {
        for local in 0..self.staying() {
            if !self.is_spared(local) {
                self.drop_link(local, false);
            }
        }
    }

    /// All threads have dropped what is not spared, and those that are speak. That is planned
    /// before the storm, whose latencies are of those that come back.
    pub(super) fn speak_to_rooms(&mut self, storm_at: u64) {
        for local in 0..self.staying() {
            if self.is_spared(local) {
                self.speak(local, storm_at - 1_000, SAID_MEANWHILE);
            }
        }
    }

    /// Whether a connection asks for its room.
    pub(super) fn wants_room(&self, local: u32) -> bool {
        self.bare_at.is_none() && self.room(local).is_some()
    }

    /// The session that a connection goes on with.
    pub(super) fn session(&self, local: u32) -> Option<Welcomed> {
        let cut_off = self.storm_at.is_some() && self.bare_at.is_none();
        let welcomed = *self.welcomed.get(local as usize)?;
        (cut_off && !self.is_spared(local)).then_some(welcomed)
    }

    /// The server has answered one that wants to go on with its session.
    pub(super) fn was_resumed(&mut self, local: u32, welcomed: Welcomed, now: u64) -> Alive {
        let index = self.index(local);
        let room = self.room(local);
        if welcomed.resumed {
            self.measures.counts.resumed += 1;
            match room {
                Some(_) => self.look_whether_caught_up(local, now),
                None => self.arrived(local, now),
            }
            return true;
        }
        self.violation(Violation::Forgotten, 1, || format!("connection {index}"));
        let Some(room) = room else {
            self.arrived(local, now);
            return true;
        };
        self.out.clear();
        self.voice.join(&mut self.out, index, &self.shared.room_names[room as usize]);
        if self.links.send(local, &self.out) == Sent::Broken {
            self.ended(local, &super::hearing::BROKEN_PIPE);
            return false;
        }
        true
    }

    /// One that was resumed is where it was when it has heard all that was said meanwhile.
    pub(super) fn look_whether_caught_up(&mut self, local: u32, now: u64) {
        let peer = self.links.peer(local);
        if peer.stage() == Stage::Joining
            && peer.heard() >= SAID_MEANWHILE
            && self.session(local).is_some()
        {
            self.links.peer_mut(local).catch_up();
            self.arrived(local, now);
        }
    }

    /// The run is over: who was to resume its session and has not caught up is told.
    fn count_those_left_behind(&mut self) {
        for local in 0..self.staying() {
            let stage = self.links.peer(local).stage();
            if self.session(local).is_some() && stage != Stage::Ready && stage != Stage::Lost {
                let index = self.index(local);
                self.violation(Violation::Unanswered, 1, || {
                    format!("connection {index} was still {stage:?} when the run was over")
                });
            }
        }
    }
}
