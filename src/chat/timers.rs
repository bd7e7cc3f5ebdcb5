//! Heartbeats and time-outs.
//!
//! Owns what happens when a connection's timer fires and what else is due at some time. Never
//! touches the wheel for a sign of life: that is a store to the session, and the timer finds out.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Ref};
use crate::base::limits::{STARVED_MS, TRIM_PERIOD_MS};
use crate::base::time::{Mono, Now, TICK_MS, Tick};
use crate::wire::message::{Code, Event, Heartbeat};

use super::agenda::Item;
use super::batch::Dialect;
use super::heartbeat::{Beat, Tempo, beat};
use super::session::{Marks, State};
use super::shard::{Progress, Shard, Verdict};

impl Shard {
    /// Does what is due, as much of it as the budget allows.
    pub fn expire(&mut self, now: Now) -> Progress {
        let slowed = self.expire_slowed(now);
        self.resume_paused(now);
        self.drain_step(now);
        self.notice_starvation(now);
        self.trim_pools(now);
        let mut budget = self.limits.timer_budget;
        let agenda = self.expire_agenda(&mut budget, now);
        self.expire_patience(&mut budget, now);
        let late_acks = self.send_late_acks(now);
        self.expire_directs(&mut budget, now);
        self.expire_kept(&mut budget, now);
        while budget > 0 {
            let Some((tick, conn)) = self.wheel.pop_due(now.mono.tick()) else {
                let is_done = [slowed, agenda, late_acks].iter().all(|it| *it == Progress::Done);
                return if is_done { Progress::Done } else { Progress::More };
            };
            self.fire(conn, tick, now);
            budget -= 1;
        }
        Progress::More
    }

    /// Forgives all silence where a timer comes so late that the server must have been away.
    fn notice_starvation(&mut self, now: Now) {
        let timers = self.wheel.next_due().map(Tick::starts_at);
        let due = [timers, self.agenda.next(), self.next_kept_due()].into_iter().flatten().min();
        if due.is_some_and(|due| now.mono.since_ms(due) > STARVED_MS) {
            self.amnesty_at = now.mono;
            self.counters.amnesties += 1;
        }
    }

    /// Trims the pools now and then. Nobody is woken for it: an idle worker keeps what its last
    /// turns needed until its next one.
    fn trim_pools(&mut self, now: Now) {
        if now.mono.since_ms(self.trimmed_at) >= TRIM_PERIOD_MS {
            self.trimmed_at = now.mono;
            self.outboxes.trim();
            self.agenda.trim();
            self.questions.trim();
        }
    }

    fn resume_paused(&mut self, now: Now) {
        for conn in std::mem::take(&mut self.resuming) {
            let Some(session) = self.sessions.get_mut(conn) else {
                continue;
            };
            let waits_for_more = session.state.awaits_shards() || self.meters.is_slowed(conn);
            if waits_for_more || !session.marks.has(Marks::RESUMING) {
                // It comes here again behind what it waits for, or has come before.
                continue;
            }
            session.marks.clear(Marks::RESUMING);
            if session.marks.has(Marks::PAUSED) {
                continue;
            }
            self.resume_input(conn, now);
            if self.wants_input(conn) {
                self.verdicts.push_back(Verdict::Resume(conn));
            }
        }
    }

    fn expire_agenda(&mut self, budget: &mut usize, now: Now) -> Progress {
        while *budget > 0 {
            match self.agenda.pop_due(now.mono) {
                Some(Item::Handshake { conn, opened }) => self.expire_handshake(conn, opened, now),
                Some(Item::Total(key)) => self.tell_total(key, now),
                Some(Item::IdleRoom(key)) => self.sweep_idle_room(key, now),
                Some(Item::History { key, listing }) => self.sweep_history(key, listing, now),
                None => {
                    self.drop_done_handshakes();
                    return Progress::Done;
                }
            }
            *budget -= 1;
        }
        Progress::More
    }

    /// The time for a connection's hello is over.
    fn expire_handshake(&mut self, conn: ConnId, opened: Mono, now: Now) {
        if !self.awaits_hello(conn) {
            return;
        }
        if self.is_upgraded_since(conn, opened) {
            return;
        }
        if opened < self.amnesty_at {
            // Behind younger ones, and so late by as much as they are younger; that harms nobody.
            let due = self.amnesty_at + self.limits.handshake_timeout_ms;
            if let Some(session) = self.sessions.get_mut(conn) {
                session.heard(self.amnesty_at);
            }
            return self.agenda.await_hello(conn, self.amnesty_at, due);
        }
        if self.sessions.get(conn).is_some_and(|session| session.state == State::AwaitingRequest) {
            return self.time_out_request(conn, CloseReason::HandshakeTimeout, now);
        }
        self.time_out(conn, CloseReason::HandshakeTimeout, now);
    }

    /// Forgets the handshakes at the head of the list that are done, so that nobody is woken for
    /// them and the list stays as short as the handshakes are.
    fn drop_done_handshakes(&mut self) {
        while let Some(conn) = self.agenda.first_handshake()
            && !self.awaits_hello(conn)
        {
            self.agenda.drop_first_handshake();
        }
    }

    pub(super) fn awaits_hello(&self, conn: ConnId) -> bool {
        let awaits = |state: State| {
            let speaks = matches!(state, State::AwaitingHello(_) | State::AwaitingLine);
            let resumes = matches!(state, State::AwaitingWelcome(_));
            speaks || resumes || matches!(state, State::Sniffing | State::AwaitingRequest)
        };
        self.sessions.get(conn).is_some_and(|session| awaits(session.state))
    }

    /// Whether a connection became a WebSocket after the instant at which its time began to count:
    /// it is on the list once more, and has its time from there.
    fn is_upgraded_since(&self, conn: ConnId, began: Mono) -> bool {
        self.sessions.get(conn).is_some_and(|session| {
            let awaits_web_hello = match session.state {
                State::AwaitingHello(dialect) | State::AwaitingWelcome(dialect) => dialect.is_web(),
                _ => false,
            };
            awaits_web_hello && session.last_heard != began.low()
        })
    }

    /// Arms a connection's timer for `at`. An entry armed before becomes stale.
    pub(super) fn arm_at(&mut self, conn: ConnId, now: Now, at: Mono) {
        self.wheel.advance(now.mono.tick());
        if let Some(session) = self.sessions.get_mut(conn) {
            session.armed = self.wheel.arm(conn, at.tick_at_or_after());
        }
    }

    /// Arms a connection's timer for one of the emptier ticks of a window.
    fn arm_between(&mut self, conn: ConnId, now: Now, from: Mono, to: Mono) {
        self.wheel.advance(now.mono.tick());
        if let Some(session) = self.sessions.get_mut(conn) {
            let (from, to) = (from.tick_at_or_after(), to.tick_at_or_after());
            session.armed = self.wheel.arm_levelled(conn, from, to.max(from), self.dice.u64(..));
        }
    }

    /// Arms the first ping, somewhere within the interval: a herd that came at once is spread.
    pub(super) fn level_first_ping(&mut self, conn: ConnId, now: Now) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.marks.set(Marks::LEVELLING);
            let interval_ms = session.tempo.interval_ms();
            self.arm_between(conn, now, now.mono + TICK_MS, now.mono + interval_ms);
        }
    }

    /// A connection's timer fired.
    fn fire(&mut self, conn: ConnId, tick: Tick, now: Now) {
        let session = self.sessions.get_mut(conn).filter(|session| session.armed == tick);
        let Some(session) = session else {
            self.counters.stale_timers += 1;
            return;
        };
        let amnesty_ms = now.mono.since_ms(self.amnesty_at);
        let silent_ms = now.mono.since_low_ms(session.last_heard);
        let forgiven = amnesty_ms < silent_ms && self.amnesty_at > Mono(0);
        if forgiven {
            // Once: from here on its silence counts again, and so do the probes that it ignores.
            session.heard(self.amnesty_at);
        }
        let silent_ms = if forgiven { amnesty_ms } else { silent_ms };
        match session.state {
            State::Closing(reason) => self.forget(conn, reason),
            State::Sniffing | State::AwaitingHello(_) | State::AwaitingWelcome(_) => {
                unreachable!("a handshake is on the agenda and not in the wheel")
            }
            State::AwaitingLine | State::AwaitingRequest => {
                unreachable!("a handshake is on the agenda and not in the wheel")
            }
            State::Browsing | State::AwaitingNumbers => self.expire_browsing(conn, silent_ms, now),
            State::Live(_) if session.asks_no_more() => self.part(conn, now),
            State::Live(Dialect::Text) => {
                match self.limits.text_idle_timeout_ms.checked_sub(silent_ms) {
                    None | Some(0) => self.time_out(conn, CloseReason::TextIdle, now),
                    Some(left_ms) => self.arm_at(conn, now, now.mono + left_ms),
                }
            }
            State::Live(_) | State::Echo(_) => self.heartbeat(conn, silent_ms, forgiven, now),
        }
    }

    pub(super) fn time_out(&mut self, conn: ConnId, reason: CloseReason, now: Now) {
        let text = match reason {
            CloseReason::HandshakeTimeout => "the hello came too late",
            CloseReason::TextIdle => "nothing was typed for too long",
            _ => "heartbeat timeout",
        };
        let last = Event::Error { reference: Ref::NONE, code: Code::Timeout, text };
        self.close(conn, reason, Some(&last), now);
    }

    fn heartbeat(&mut self, conn: ConnId, silent_ms: u64, forgiven: bool, now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let tempo = session.tempo;
        let levelling = session.marks.has(Marks::LEVELLING);
        session.marks.clear(Marks::LEVELLING);
        let probes = session.probes();
        match beat(tempo, silent_ms, probes) {
            // Whoever is forgiven was due together with many others: spread them anew.
            Beat::Wait { .. } if forgiven => self.level_first_ping(conn, now),
            // The next look is at the answer: what follows is spread as the first pings were. Had
            // it to wait for the end of the first interval, a herd would be pinged together there.
            Beat::Wait { from_ms, to_ms } if levelling => {
                self.ping(conn, silent_ms, now);
                self.arm_at(conn, now, now.mono + (to_ms - from_ms));
            }
            Beat::Wait { .. } => {
                let tempo = self.adapt_to_loss(conn, silent_ms, tempo, now);
                self.look_again(conn, silent_ms, tempo, now);
            }
            Beat::Ping { again_in_ms } => {
                session.note_probe();
                self.counters.probes += u64::from(probes > 0);
                self.ping(conn, silent_ms, now);
                self.arm_at(conn, now, now.mono + again_in_ms);
            }
            Beat::Hold { again_in_ms } => self.arm_at(conn, now, now.mono + again_in_ms),
            Beat::GiveUp if session.marks.has(Marks::PAUSED) => self.close_slow_reader(conn, now),
            Beat::GiveUp => self.time_out(conn, CloseReason::HeartbeatTimeout, now),
        }
    }

    /// Looks at a connection again when it may have been silent for its interval.
    fn look_again(&mut self, conn: ConnId, silent_ms: u64, tempo: Tempo, now: Now) {
        let heard_at = now.mono - silent_ms;
        let from = heard_at + tempo.earliest_ping_ms();
        self.arm_between(conn, now, from, heard_at + tempo.interval_ms());
    }

    /// The answer to a PING may make a connection's interval longer, or shorter if it came late.
    pub(super) fn adapt_to_answer(&mut self, conn: ConnId, round_trip_ms: u64, now: Now) {
        let Some(pulses) = &mut self.pulses else {
            return;
        };
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let before = session.tempo;
        let next_s = pulses.answered(conn.slot(), round_trip_ms, before.heartbeat_s);
        let after = self.change_tempo(conn, next_s, before, now);
        if after.heartbeat_s < before.heartbeat_s {
            // Its timer is armed for the longer interval.
            self.look_again(conn, 0, after, now);
        }
    }

    /// A PING that was lost, though the connection lives, may make its interval shorter.
    fn adapt_to_loss(&mut self, conn: ConnId, silent_ms: u64, tempo: Tempo, now: Now) -> Tempo {
        let Some(pulses) = &mut self.pulses else {
            return tempo;
        };
        let next_s = pulses.looked_at(conn.slot(), silent_ms, tempo.heartbeat_s, now.mono);
        self.change_tempo(conn, next_s, tempo, now)
    }

    /// Gives a connection another interval, and tells it.
    fn change_tempo(
        &mut self,
        conn: ConnId,
        next_s: Option<u16>,
        before: Tempo,
        now: Now,
    ) -> Tempo {
        let Some(session) = self.sessions.get_mut(conn) else {
            return before;
        };
        let Some(next_s) = next_s.filter(|_| matches!(session.state, State::Live(_))) else {
            return before;
        };
        let after = self.policy.tempo(next_s);
        session.tempo = after;
        if after.heartbeat_s > before.heartbeat_s {
            self.counters.heartbeats_stretched += 1;
        } else {
            self.counters.heartbeats_shortened += 1;
        }
        let Tempo { heartbeat_s, timeout_s } = after;
        self.bound_patience(conn, timeout_s);
        self.tell_urgently(conn, &Event::Tempo { heartbeat_s, timeout_s }, now);
        after
    }

    fn ping(&mut self, conn: ConnId, silent_ms: u64, now: Now) {
        if let Some(pulses) = &mut self.pulses {
            pulses.pinged(conn.slot(), silent_ms, now.mono);
        }
        self.counters.pings += 1;
        self.pings = self.pings.wrapping_add(1);
        let (node, status) = (self.node, self.status());
        let ping = Heartbeat { node, time_ms: now.wall_ms, status, seq: self.pings };
        self.tell_urgently(conn, &Event::Ping(ping), now);
    }
}
