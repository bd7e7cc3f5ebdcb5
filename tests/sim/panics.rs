//! Workers that panic.
//!
//! Owns which do so in a run and when, what goes with a worker's shard, as the engine's supervisor
//! has it, and what others may lose of it: a room's home or a user's may forget, what was asked of
//! it may have been done or not, and members elsewhere are let in once more. All else is judged as
//! ever, by `oracle`, `stay` and `letters`.

use std::sync::Arc;

use corebeat::base::counters::CloseReason;
use corebeat::chat::hash::{NameHasher, home};
use corebeat::chat::shard::Shard;

use super::dice::Dice;
use super::ledger::{Ledger, Refusal, VisitId};
use super::plan::{EVERYONE, Plan, ROOMS};
use super::stay::RoomView;
use super::visit::{Visit, Wish};
use super::worker::{PHASES_COUNT, Surroundings, Worker, secret};
use super::world::{Phase, World};

/// Bits of a direct message's number below those that tell the millisecond in which the home began
/// to count.
const DIRECT_ID_SHIFT: u32 = 10;

/// One worker that panics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanicPlan {
    /// The round of the storm.
    pub(crate) round: u64,
    pub(crate) worker: usize,
    /// So many phases of its turn are done.
    pub(crate) behind: usize,
    /// All is quiet shortly before it.
    pub(crate) is_rested: bool,
}

/// Which workers panic: in a quarter of the runs some do, now and then two at once. It has dice of
/// its own.
pub(crate) fn draw_panics(seed: u64, shards: u16, rounds: u64) -> Vec<PanicPlan> {
    let mut dice = Dice::new(seed ^ 0x0BAD_7E57_0FA1_1E4D);
    if !dice.chance(250) {
        return Vec::new();
    }
    let mut panics: Vec<PanicPlan> = Vec::new();
    for _ in 0..dice.pick(&[1, 1, 2, 3, 5]) {
        let last = panics.last().map(|panic| panic.round).filter(|_| dice.chance(400));
        let round = match last {
            Some(round) => round + dice.number(0..=8),
            None => dice.number(5..=rounds),
        };
        panics.push(PanicPlan {
            round,
            worker: dice.within(0..=usize::from(shards) - 1),
            behind: dice.within(0..=PHASES_COUNT),
            is_rested: dice.chance(200),
        });
    }
    panics
}

/// What panics of a room's home mean for one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HomePanics {
    /// How often it may be let in once more, and be told as a replay what it missed.
    replays: u32,
    /// The last messages of an epoch may be lost, and one GAP stands for all of them.
    pub(crate) lose_tails: bool,
    /// There was one.
    pub(crate) were_any: bool,
}

impl HomePanics {
    /// The home panicked, and forgot all that is not stored.
    fn note(&mut self, keeps: bool) {
        self.replays += 1;
        self.lose_tails |= !keeps;
        self.were_any = true;
    }

    /// A replay begins behind what is live. Returns whether a panic may be why.
    pub(crate) fn explain_replay(&mut self) -> bool {
        let is_due = self.replays > 0;
        self.replays = self.replays.saturating_sub(1);
        is_due
    }
}

/// A worker that panicked.
#[derive(Debug)]
struct Panic {
    hasher: NameHasher,
    shards: u16,
    worker: usize,
    /// Direct messages that it numbered as a home have lower numbers.
    floor: u64,
}

impl Panic {
    fn was_home_of(&self, name: &str) -> bool {
        home(self.hasher.hash(name), self.shards).index() == self.worker
    }
}

/// All panics so far.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    all: Vec<Panic>,
}

impl Panics {
    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Direct messages to `user` with lower numbers were numbered before its home panicked last.
    pub(crate) fn floor(&self, user: &str) -> u64 {
        let its = self.all.iter().filter(|panic| panic.was_home_of(user));
        its.map(|panic| panic.floor).max().unwrap_or(0)
    }
}

impl Plan {
    /// Whether what a home has told outlives its worker's panic.
    pub(crate) fn keeps_through_panics(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.keeps_what_it_told())
    }
}

impl Worker {
    /// It panicked: everybody is told to come back, and another shard begins in its place, with the
    /// same mailbox and backlog.
    fn begin_anew(&mut self, lives: Vec<u32>, around: &mut Surroundings<'_>) {
        // Whose end was decided in this turn is written down before all is dropped.
        self.note_closings();
        let mut counted = *self.shard.counters();
        counted.worker_panics += 1;
        let slots: Vec<usize> = self.sockets.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if self.send_away(slot, around) {
                counted.count_close(CloseReason::WorkerPanicked);
            }
        }
        let mut config = self.config.clone();
        config.seed = around.dice.bits();
        let store = around.store.as_deref_mut();
        let recovered = store.map(|store| store.reload(self.id, config.secret));
        self.shard = Shard::begin_anew(config, lives, counted, around.now);
        if let Some(recovered) = recovered {
            self.shard.recover(recovered, around.now);
        }
        self.refused_records = None;
        self.busy = true;
        self.is_pressed(self.pressure);
        if let Some(plan) = &self.drain {
            self.shard.drain(Arc::clone(plan), around.now);
        }
    }

    /// Says the last words to a connection and drops its socket. Returns whether its end was not
    /// decided before.
    fn send_away(&mut self, slot: usize, around: &mut Surroundings<'_>) -> bool {
        let socket = self.sockets.remove(slot);
        let (conn, now) = (socket.conn, around.now);
        let words = self.shard.last_words(conn, 2_500, now);
        let closing = self.shard.closing_of(conn, CloseReason::WorkerPanicked, now);
        assert_ne!(closing.is_some(), socket.closing.is_some(), "{conn:?} has one reason to end");
        let reason = socket.closing.unwrap_or(CloseReason::WorkerPanicked);
        let link = &mut around.network.links[socket.link];
        link.server_panics(&words, reason, now.mono, around.dice);
        self.past.push(conn);
        closing.is_some()
    }
}

impl World {
    /// Which workers panic in this round, in their next turns.
    pub(super) fn prepare_panics(&mut self) {
        let due = self.plan.panics.iter().filter(|panic| panic.round == self.round);
        let due: Vec<PanicPlan> = due.copied().collect();
        for PanicPlan { worker, behind, is_rested, .. } in due {
            if is_rested && !self.draining {
                self.rest_in_storm();
            }
            self.workers[worker].panics_behind = Some(behind);
        }
    }

    /// A worker begins a turn and panics in it.
    pub(super) fn panic(&mut self, index: usize, behind: usize) {
        self.lives[index] += 1;
        let lives = self.lives.clone();
        self.with_worker(index, |worker, around| {
            worker.begin_turn(behind, around);
            worker.begin_anew(lives, around);
        });
        self.note_panic(index);
    }

    /// Notes what may be lost, and what may be told once more.
    fn note_panic(&mut self, index: usize) {
        let panic = Panic {
            hasher: NameHasher::new(secret(&self.plan, self.life)),
            shards: self.plan.shards,
            worker: index,
            floor: self.now.wall_ms << DIRECT_ID_SHIFT,
        };
        let keeps = self.plan.keeps_through_panics();
        for (room, _) in ROOMS.iter().enumerate().filter(|(_, name)| panic.was_home_of(name)) {
            // What is said to everybody is kept nowhere.
            let keeps = keeps && room != EVERYONE;
            self.forgetful[room] |= !keeps;
            for visit in &mut self.visits {
                visit.rooms[room].home_panicked(keeps);
            }
        }
        let links = &self.network.links;
        for visit in &mut self.visits {
            let names = &self.ledger.names[visit.id];
            if panic.was_home_of(&visit.user) || names.iter().any(|name| panic.was_home_of(name)) {
                visit.post.home_panicked();
            }
            visit.doubt_what_is_asked(&panic, &mut self.ledger);
        }
        let were_there = |visit: &&Visit| links[visit.link].worker == index;
        let authors: Vec<VisitId> = self.visits.iter().filter(were_there).map(|it| it.id).collect();
        self.doubt_acks_of(&authors);
        if self.store.as_ref().is_some_and(|store| store.has_leaked) {
            self.ledger.doubt_what_leaked();
        }
        self.ledger.letters.panics.all.push(panic);
        self.ledger.letters.are_kept = keeps;
        self.ledger.letters.bar_settled();
    }

    /// What sessions acknowledged through the worker may not have been posted.
    fn doubt_acks_of(&mut self, visits: &[VisitId]) {
        for id in visits {
            let struck = self.visits[*id].post.acknowledged();
            let author = self.ledger.authors[*id];
            for visit in &mut self.visits {
                if self.ledger.authors[visit.id] == author {
                    visit.post.doubt(&struck);
                }
            }
        }
    }

    /// All comes to rest, and then there is a storm for a moment.
    pub(super) fn rest_in_storm(&mut self) {
        self.phase = Phase::Rest;
        let begun = self.round;
        while !self.is_quiet() && self.round < begun + 400 {
            self.pass_time();
        }
        if self.is_quiet() {
            self.ledger.letters.note_settled(&self.visits, self.life);
        }
        self.phase = Phase::Storm;
        for _ in 0..self.dice.number(0..=60) {
            self.pass_time_in_storm();
            self.play_round();
        }
    }
}

impl RoomView {
    /// The room's home panicked.
    fn home_panicked(&mut self, keeps: bool) {
        self.home_panics.note(keeps);
        self.may_renew_epochs |= !keeps;
        if let Some(stay) = self.stay.as_mut().filter(|_| !keeps) {
            stay.note_lost_past();
        }
    }
}

impl Visit {
    /// What was asked of a home that panicked, and not answered, may have been done or not, and
    /// whoever is told so asks again.
    fn doubt_what_is_asked(&self, panic: &Panic, ledger: &mut Ledger) {
        let asked = self.asked.values().filter(|asked| asked.answers < asked.requests);
        let unanswered = self.unanswered.iter().map(|(_, wish)| wish);
        for wish in asked.map(|asked| &asked.wish).chain(unanswered) {
            match wish {
                Wish::Publish(ids) => {
                    for id in ids {
                        let message = &mut ledger.messages[*id];
                        let room = message.room.expect("native clients name the room");
                        message.refused.doubt_if(panic.was_home_of(ROOMS[room]));
                    }
                }
                Wish::Direct(numbers) => {
                    for number in numbers {
                        let letter = &mut ledger.letters.all[*number];
                        letter.refused.doubt_if(panic.was_home_of(&letter.user));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Refusal {
    fn doubt_if(&mut self, is_so: bool) {
        if is_so && *self == Refusal::None {
            *self = Refusal::Doubtful;
        }
    }
}

impl Ledger {
    /// A shard is gone before it could take back what a failed commit left on the disk.
    fn doubt_what_leaked(&mut self) {
        let letters = self.letters.all.iter_mut().map(|letter| &mut letter.refused);
        let messages = self.messages.iter_mut().map(|message| &mut message.refused);
        let all = messages.chain(letters).filter(|refused| **refused == Refusal::Unavailable);
        all.for_each(|refused| *refused = Refusal::Doubtful);
    }
}

/// Judges that everybody who was there when a worker panicked, and nobody else, was told so, and
/// that all of it is counted.
pub(crate) fn judge_panics(world: &World) {
    let counters = super::oracle::sum_of(world);
    assert_eq!(counters.worker_panics, world.ledger.letters.panics.count() as u64);
    let fate = Some(CloseReason::WorkerPanicked);
    let sent_away = world.network.links.iter().filter(|link| link.fate == fate).count();
    let counted = counters.closed[CloseReason::WorkerPanicked as usize];
    assert_eq!(counted, sent_away as u64, "those who were sent away");
}
