//! The drain: how connections are sent on, one after the other.
//!
//! Owns the order, the pace, and the times at which clients are asked to come back. Never decides
//! that a drain begins: the shell does. Called by [`timers`](super::timers), once a turn.
//!
//! Connections are taken in the order of their slots, evenly over the time of the plan; until it is
//! its turn, a connection is served as ever. Then it is told GOAWAY, has a moment in which what was
//! accepted is still delivered, and is closed. One whose hello is still on its way is passed by: it
//! is sent on when the hello comes, and given up where none does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::counters::CloseReason;
use crate::base::ids::ConnId;
use crate::base::limits::{DRAIN_HELLO_MS, DRAIN_SETTLE_MS, RECONNECT_AFTER_MS};
use crate::base::time::{Mono, Now};
use crate::wire::message::Event;

use super::session::State;
use super::shard::Shard;

/// How a drain is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// What clients are told as the reason.
    pub reason: Box<str>,
    /// Where they are to go; empty: come back to the same address.
    pub address: Box<str>,
    /// The time over which they are told, evenly; 0: all at once.
    pub over_ms: u64,
    /// The time over which they come back, evenly and in the order in which they were told. Not
    /// shorter than [`DrainPlan::over_ms`], so that whoever is told last never comes first.
    pub return_over_ms: u64,
}

impl DrainPlan {
    /// Everybody is told within `over_ms`, and comes back at the same pace, or more slowly where
    /// that would be a rush.
    pub fn over(over_ms: u64, reason: &str, address: &str) -> DrainPlan {
        let (earliest, latest) = RECONNECT_AFTER_MS;
        DrainPlan {
            reason: reason.into(),
            address: address.into(),
            over_ms,
            return_over_ms: over_ms.max(u64::from(latest - earliest)),
        }
    }

    /// Everybody is told at once.
    pub fn at_once(reason: &str) -> DrainPlan {
        DrainPlan::over(0, reason, "")
    }

    /// How many of `count` are to have been told when `elapsed_ms` are over.
    fn due(&self, count: usize, elapsed_ms: u64) -> usize {
        if elapsed_ms >= self.over_ms {
            return usize::MAX;
        }
        let share = count as u128 * u128::from(elapsed_ms) / u128::from(self.over_ms);
        share as usize + 1
    }

    /// When the one of that rank is to be told, after the beginning.
    fn told_at_ms(&self, rank: usize, count: usize) -> u64 {
        let told_at = (u128::from(self.over_ms) * rank as u128).div_ceil(count.max(1) as u128);
        (told_at as u64).min(self.over_ms)
    }

    /// When the one of that rank is to come back, after the beginning. Each has a span of its own,
    /// behind those of lower ranks; `dice` chooses the place in it.
    fn returns_at_ms(&self, rank: usize, count: usize, dice: u32) -> u64 {
        let count = count.max(1) as u128;
        let place = (rank as u128).min(count - 1) << 32 | u128::from(dice);
        let after = (u128::from(self.return_over_ms) * place).div_ceil(count << 32);
        u64::from(RECONNECT_AFTER_MS.0) + after as u64
    }
}

/// How far a drain has come.
#[derive(Debug)]
pub struct Drain {
    plan: Arc<DrainPlan>,
    began: Mono,
    /// The connections when it began.
    count: usize,
    /// Those whose turn has come.
    told: usize,
    /// The next slot whose turn comes.
    next_goaway: usize,
    /// The slots before which all were told, and when they are to be closed.
    settling: VecDeque<(Mono, usize)>,
    /// The next slot to be closed.
    next_close: usize,
    /// Those whose hello came after their turn, and when they are to be closed.
    late: VecDeque<(Mono, ConnId)>,
    /// The same, to be found.
    are_late: BTreeSet<ConnId>,
    /// When hellos that have not come are given up; none before everybody had their turn.
    hellos_until: Option<Mono>,
    /// The next slot to be asked for its hello then.
    next_hello: usize,
    slots: usize,
}

impl Drain {
    fn new(plan: Arc<DrainPlan>, count: usize, slots: usize, now: Mono) -> Drain {
        Drain {
            plan,
            began: now,
            count,
            told: 0,
            next_goaway: 0,
            settling: VecDeque::new(),
            next_close: 0,
            late: VecDeque::new(),
            are_late: BTreeSet::new(),
            hellos_until: None,
            next_hello: 0,
            slots,
        }
    }

    /// When there is something to do for it.
    pub fn next_step(&self) -> Option<Mono> {
        let told_at = || self.began + self.plan.told_at_ms(self.told, self.count);
        let goaway = (self.next_goaway < self.slots).then(told_at);
        let close = self.settling.front().map(|&(at, _)| at);
        let late = self.late.front().map(|&(at, _)| at);
        let hellos = self.hellos_until.filter(|_| self.next_hello < self.slots);
        [goaway, close, late, hellos].into_iter().flatten().min()
    }

    /// Notes that all before `next_goaway` were told by now.
    fn settle(&mut self, now: Mono) {
        let at = now + DRAIN_SETTLE_MS;
        match self.settling.back_mut() {
            Some(last) if last.0 == at => last.1 = self.next_goaway,
            _ => self.settling.push_back((at, self.next_goaway)),
        }
    }

    fn returns_after_ms(&self, dice: u32, now: Mono) -> u32 {
        let rank = self.told.min(self.count.saturating_sub(1));
        let at = self.plan.returns_at_ms(rank, self.count, dice);
        let after = at.saturating_sub(now.since_ms(self.began));
        u32::try_from(after).unwrap_or(u32::MAX).max(RECONNECT_AFTER_MS.0)
    }
}

impl Shard {
    /// Starts draining by `plan`. [`Shard::expire`] goes on with it.
    pub fn drain(&mut self, plan: Arc<DrainPlan>, now: Now) {
        if self.drain.is_none() {
            let (count, slots) = (self.sessions.len(), self.sessions.slots());
            self.drain = Some(Box::new(Drain::new(plan, count, slots, now.mono)));
            self.readiness = Readiness::Draining;
        }
    }

    /// What `/readyz` is to tell from now on.
    pub fn note_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }

    /// Goes on with the drain, each kind of step as far as the budget goes.
    pub(super) fn drain_step(&mut self, now: Now) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        drain.slots = self.sessions.slots();
        self.send_on(&mut drain, now);
        self.close_settled(&mut drain, now);
        self.close_late(&mut drain, now);
        self.give_up_hellos(&mut drain, now);
        self.drain = Some(drain);
    }

    /// Tells those whose turn has come.
    fn send_on(&mut self, drain: &mut Drain, now: Now) {
        let due = drain.plan.due(drain.count, now.mono.since_ms(drain.began));
        let until = drain.slots.min(drain.next_goaway.saturating_add(self.limits.timer_budget));
        let before = drain.next_goaway;
        while drain.next_goaway < until && drain.told < due {
            if let Some(conn) = self.sessions.conn_in_slot(drain.next_goaway) {
                self.tell_go_away(conn, drain, now);
                drain.told += 1;
            }
            drain.next_goaway += 1;
        }
        if drain.next_goaway > before {
            drain.settle(now.mono);
            let all_told = drain.next_goaway == drain.slots;
            drain.hellos_until = all_told.then_some(now.mono + DRAIN_HELLO_MS);
        }
    }

    /// Closes those who were told a while ago.
    fn close_settled(&mut self, drain: &mut Drain, now: Now) {
        let mut budget = self.limits.timer_budget;
        while let Some(&(at, until)) = drain.settling.front()
            && at <= now.mono
        {
            while drain.next_close < until {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                if let Some(conn) = self.sessions.conn_in_slot(drain.next_close)
                    && !self.awaits_hello(conn)
                    && !drain.are_late.contains(&conn)
                {
                    self.close(conn, CloseReason::Draining, None, now);
                }
                drain.next_close += 1;
            }
            drain.settling.pop_front();
        }
    }

    /// Closes those whose hello came late.
    fn close_late(&mut self, drain: &mut Drain, now: Now) {
        for _ in 0..self.limits.timer_budget {
            let Some(&(_, conn)) = drain.late.front().filter(|&&(at, _)| at <= now.mono) else {
                return;
            };
            drain.late.pop_front();
            drain.are_late.remove(&conn);
            self.close(conn, CloseReason::Draining, None, now);
        }
    }

    /// Closes those whose hello did not come, and those that became something else meanwhile which
    /// is told nothing, such as an echo.
    fn give_up_hellos(&mut self, drain: &mut Drain, now: Now) {
        if drain.hellos_until.is_none_or(|at| now.mono < at) {
            return;
        }
        let until = drain.slots.min(drain.next_hello + self.limits.timer_budget);
        while drain.next_hello < until {
            if let Some(conn) = self.sessions.conn_in_slot(drain.next_hello)
                && !drain.are_late.contains(&conn)
            {
                self.close(conn, CloseReason::Draining, None, now);
            }
            drain.next_hello += 1;
        }
    }

    fn tell_go_away(&mut self, conn: ConnId, drain: &Drain, now: Now) {
        if self.sessions.get(conn).is_some_and(|s| matches!(s.state, State::Live(_))) {
            let reconnect_after_ms = drain.returns_after_ms(self.dice.u32(..), now.mono);
            let DrainPlan { reason, address, .. } = &*drain.plan;
            self.counters.goaways += 1;
            self.tell(conn, &Event::GoAway { reconnect_after_ms, reason, address }, now);
        }
    }

    /// Sends a client on whose hello came when its turn was over.
    pub(super) fn send_on_if_draining(&mut self, conn: ConnId, now: Now) {
        if self.drain.as_ref().is_none_or(|drain| conn.slot() >= drain.next_goaway) {
            return;
        }
        if let Some(mut drain) = self.drain.take() {
            self.tell_go_away(conn, &drain, now);
            if drain.are_late.insert(conn) {
                drain.late.push_back((now.mono + DRAIN_SETTLE_MS, conn));
            }
            self.drain = Some(drain);
        }
    }
}

/// What `/readyz` tells those who choose where clients go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not all of the server turns yet.
    Starting,
    /// Clients are welcome.
    Ready,
    /// The server ends, or is about to.
    Draining,
}

impl Readiness {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_evenly_and_all_at_the_end() {
        let plan = DrainPlan::over(10_000, "", "");
        let due: Vec<usize> = [0, 1, 999, 1_000, 9_999].map(|ms| plan.due(100, ms)).to_vec();
        assert_eq!(due, [1, 1, 10, 11, 100]);
        assert_eq!(plan.due(100, 10_000), usize::MAX);
        assert_eq!(DrainPlan::at_once("").due(100, 0), usize::MAX);
        for (over_ms, count) in [(10_000, 100), (2_000, 60), (7, 1_000), (1_000, 7)] {
            let plan = DrainPlan::over(over_ms, "", "");
            for rank in 0..count {
                let at = plan.told_at_ms(rank, count);
                assert!(plan.due(count, at) > rank, "whoever is waited for is due then");
            }
        }
    }

    #[test]
    fn nobody_is_to_come_before_one_who_was_told_earlier() {
        for over_ms in [0, 700, 4_500, 60_000] {
            let plan = DrainPlan::over(over_ms, "", "");
            let mut last = 0;
            for rank in 0..1_000 {
                let earliest = plan.returns_at_ms(rank, 1_000, 0);
                let latest = plan.returns_at_ms(rank, 1_000, u32::MAX);
                assert!(last <= earliest && earliest <= latest);
                let wait = earliest - plan.told_at_ms(rank, 1_000);
                assert!(wait >= u64::from(RECONNECT_AFTER_MS.0), "{over_ms} {rank}: {wait}");
                last = latest;
            }
            let window = over_ms.max(4_500);
            assert!((window..=window + 500).contains(&last), "{last}");
        }
    }
}
