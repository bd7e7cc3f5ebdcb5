//! One run: everything in it, and the order in which it happens.
//!
//! Owns the clock, the rounds and the phases: a storm in which clients do as they like, a rest in
//! which all is compared with the truth, and an end after which nothing may be left. What is true
//! is judged by `oracle`.

use std::cell::Cell;
use std::sync::Arc;

use corebeat::base::counters::Counters;
use corebeat::base::pressure::{Level, Pressure};
use corebeat::base::time::{Mono, Now};
use corebeat::chat::drain::DrainPlan;

use super::client::Client;
use super::dice::Dice;
use super::epilogue;
use super::ledger::{Ledger, VisitId};
use super::mailroom::Mailroom;
use super::network::{Link, Network, ServerEnd};
use super::oracle;
use super::plan::{Finale, Plan, ROOMS};
use super::store::{End, Store};
use super::visit::Visit;
use super::worker::{Surroundings, Worker};

/// Rounds after which a storm must have calmed down.
const CALM_ROUNDS: u64 = 200_000;
/// Rest is at least so long: what is owed with a delay is told by then.
const CALM_MS: u64 = 1_500;

/// What the clients are up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// As they like.
    Storm,
    /// They read and write all they have, and ask for nothing by themselves.
    Rest,
}

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) now: Now,
    pub(crate) round: u64,
    pub(crate) phase: Phase,
    pub(crate) network: Network,
    pub(super) mailroom: Mailroom,
    pub(crate) store: Option<Store>,
    /// How often the server has started again.
    pub(crate) life: u64,
    /// How often each worker of this life has begun anew.
    pub(super) lives: Vec<u32>,
    /// Rooms whose home forgot them in a panic.
    pub(crate) forgetful: [bool; ROOMS.len()],
    /// What the workers of earlier lives counted.
    pub(crate) past: Counters,
    pub(crate) workers: Vec<Worker>,
    pub(crate) visits: Vec<Visit>,
    pub(crate) ledger: Ledger,
    pub(crate) clients: Vec<Client>,
    /// When it began, and when each round was played.
    pub(crate) began: Mono,
    pub(crate) clock: Vec<Mono>,
    /// When the clock last jumped.
    pub(crate) jumped_at: Mono,
    pub(super) draining: bool,
    /// Decides about pressure alone.
    weather: Dice,
}

/// What a run came to, for comparing and for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) fingerprint: u64,
    pub(crate) rounds: u64,
    pub(crate) visits: usize,
    pub(crate) messages: usize,
    pub(crate) received: u64,
    pub(crate) gaps: usize,
    pub(crate) dropped: u64,
    pub(crate) recalls: usize,
    pub(crate) recall_gaps: usize,
    pub(crate) resumes: usize,
    pub(crate) directs: usize,
    pub(crate) direct_gaps: usize,
    pub(crate) acks: usize,
    pub(crate) checked: oracle::Checked,
    pub(crate) lives: u64,
    pub(crate) commits: u64,
    pub(crate) failures: u64,
    pub(crate) panics: usize,
}

/// Runs `seed`, and panics with the seed and the round where the contract is broken.
pub(crate) fn run(seed: u64) -> Outcome {
    run_plan(Plan::draw(seed))
}

/// Runs a plan of its own, and panics as [`run`] does.
pub(crate) fn run_plan(plan: Plan) -> Outcome {
    let kill = plan.store.as_ref().and_then(|store| store.kill_at_commit);
    let _whereabouts = Whereabouts { seed: plan.seed, kill };
    Whereabouts::note(0);
    let mut world = World::new(plan);
    world.storm();
    world.phase = Phase::Rest;
    world.workers.iter_mut().for_each(|worker| worker.is_pressed(Pressure::default()));
    world.bury_the_dead();
    let mut checked = oracle::Checked::default();
    if !world.draining {
        world.calm_down();
        oracle::judge_streams(&world);
        world.clear_up();
        world.compare(&mut checked);
        epilogue::judge_counts(&world);
        world.cut_off(&mut checked);
        world.collect(&mut checked);
    }
    world.finish();
    oracle::judge_end(&world);
    world.outcome(checked)
}

impl World {
    fn new(plan: Plan) -> World {
        let now = Now { mono: Mono(1_000), wall_ms: 1_790_000_000_000 };
        let workers: Vec<Worker> =
            (0..plan.shards).map(|shard| Worker::new(&plan, shard, 0, now)).collect();
        let characters = plan.clients.iter().enumerate();
        World {
            dice: Dice::new(plan.seed),
            now,
            round: 0,
            phase: Phase::Storm,
            network: Network::new(workers.len(), plan.kernel_bytes),
            mailroom: Mailroom::new(&plan),
            store: plan.store.as_ref().map(|store| Store::new(store.clone(), workers.len())),
            life: 0,
            lives: vec![0; workers.len()],
            forgetful: [false; ROOMS.len()],
            past: Counters::default(),
            workers,
            visits: Vec::new(),
            ledger: Ledger::default(),
            clients: characters.map(|(number, c)| Client::new(c.clone(), number)).collect(),
            began: now.mono,
            clock: vec![now.mono],
            jumped_at: Mono(0),
            draining: false,
            weather: Dice::new(!plan.seed),
            plan,
        }
    }

    fn outcome(&self, checked: oracle::Checked) -> Outcome {
        Outcome {
            fingerprint: self.network.fingerprint,
            rounds: self.round,
            visits: self.visits.len(),
            messages: self.ledger.seen.len(),
            received: self.visits.iter().map(|visit| visit.received).sum(),
            gaps: oracle::count_gaps(self),
            dropped: oracle::count_dropped(&oracle::sum_of(self)),
            recalls: self.visits.iter().map(|visit| visit.recalls).sum(),
            resumes: self.visits.iter().filter(|visit| visit.resumed).count(),
            directs: self.ledger.letters.all.len(),
            direct_gaps: self.ledger.letters.gaps(),
            acks: self.ledger.letters.acks(),
            recall_gaps: self.visits.iter().map(|visit| visit.recall_gaps).sum(),
            checked,
            lives: self.life + 1,
            commits: self.store.as_ref().map_or(0, |store| store.commits),
            failures: self.store.as_ref().map_or(0, |store| store.failures),
            panics: self.ledger.letters.panics.count(),
        }
    }

    /// The server is told of clients that went away without a word.
    fn bury_the_dead(&mut self) {
        for link in &mut self.network.links {
            if link.is_dead() {
                link.client_reset();
            }
        }
    }

    /// Whether clients may come.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Storm && !self.draining
    }

    fn storm(&mut self) {
        let drain_at = match self.plan.finale {
            Finale::DrainInStorm => self.dice.number(1..=self.plan.rounds),
            Finale::Leave | Finale::DrainAtRest => u64::MAX,
        };
        while self.round < self.plan.rounds {
            if self.round == drain_at {
                self.drain();
            }
            if let Some(end) = self.end_due() {
                self.end_life(end);
            }
            self.prepare_panics();
            self.pass_time_in_storm();
            self.change_pressure();
            self.play_round();
        }
        // Whoever had no turn in time lives on.
        self.workers.iter_mut().for_each(|worker| worker.panics_behind = None);
    }

    /// A worker may come under another pressure, or none.
    fn change_pressure(&mut self) {
        if !self.weather.chance(self.plan.pressure) {
            return;
        }
        let worker = self.weather.within(0..=self.workers.len() - 1);
        let mut pressure = Pressure::default();
        if self.weather.chance(600) {
            let mut level =
                || self.weather.pick(&[Level::Calm, Level::Strained, Level::Overloaded]);
            pressure = Pressure { descriptors: level(), memory: level(), lag: level() };
        }
        self.workers[worker].is_pressed(pressure);
    }

    pub(super) fn pass_time_in_storm(&mut self) {
        let ms = match self.dice.within(0..=99) {
            0..=29 => 0,
            30..=96 => self.dice.number(1..=20),
            _ => self.dice.number(50..=250),
        };
        self.now = self.now.plus_ms(ms);
        if self.dice.chance(self.plan.jump) {
            self.now = self.now.plus_ms(self.dice.number(1..=self.plan.jump_ms));
            self.jumped_at = self.now.mono;
        }
        if self.dice.chance(self.plan.starve) {
            let worker = self.dice.within(0..=self.workers.len() - 1);
            let starved_ms = self.dice.number(100..=8_000);
            self.workers[worker].starved_until = self.now.mono + starved_ms;
        }
    }

    pub(super) fn play_round(&mut self) {
        self.round += 1;
        self.clock.push(self.now.mono);
        Whereabouts::note(self.round);
        for index in self.dice.order(self.clients.len()) {
            let mut clients = std::mem::take(&mut self.clients);
            clients[index].act(self);
            self.clients = clients;
        }
        for index in self.dice.order(self.workers.len()) {
            self.maybe_turn(index);
        }
        let in_storm = self.phase == Phase::Storm;
        if let Some(store) = self.store.as_mut()
            && store.work(&mut self.dice, !in_storm)
            && in_storm
        {
            self.crash(End::Killed);
        }
        oracle::judge_silence(self);
    }

    fn maybe_turn(&mut self, index: usize) {
        let worker = &self.workers[index];
        let resting = self.phase == Phase::Rest;
        if !resting && self.now.mono < worker.starved_until {
            return;
        }
        let chance = if resting { 900 } else { self.plan.turn };
        let store = self.store.as_ref();
        let awake = worker.is_awake(&self.network, &self.mailroom, store, self.round, self.now)
            || worker.panics_behind.is_some();
        if !self.dice.chance(if awake { chance } else { self.plan.spurious_turn }) {
            return;
        }
        if let Some(behind) = self.workers[index].panics_behind.take() {
            return self.panic(index, behind);
        }
        self.with_worker(index, Worker::turn);
    }

    pub(super) fn with_worker(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Worker, &mut Surroundings<'_>),
    ) {
        let mut around = Surroundings {
            network: &mut self.network,
            mailroom: &mut self.mailroom,
            store: self.store.as_mut(),
            dice: &mut self.dice,
            round: self.round,
            now: self.now,
        };
        act(&mut self.workers[index], &mut around);
    }

    /// Goes on until nothing but time could change anything.
    pub(crate) fn calm_down(&mut self) {
        let (start, first_round) = (self.now.mono, self.round);
        while self.now.mono.since_ms(start) < CALM_MS || !self.is_quiet() {
            assert!(self.round < first_round + CALM_ROUNDS, "no calm: {}", self.unrest());
            self.pass_time();
        }
    }

    /// One round at rest.
    pub(crate) fn pass_time(&mut self) {
        self.now = self.now.plus_ms(self.dice.number(0..=20));
        self.play_round();
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.mailroom.is_empty()
            && self.store.as_ref().is_none_or(Store::is_quiet)
            && self.network.links.iter().all(|link| link.is_quiet())
            && self.workers.iter().all(|w| w.is_quiet(&self.network, &self.mailroom, self.now))
            && self.present().iter().all(|id| {
                let visit = &self.visits[*id];
                visit.mute || visit.unwritten() == 0
            })
    }

    /// What keeps it from being quiet.
    fn unrest(&self) -> String {
        let links = self.network.links.iter().enumerate();
        let links: Vec<_> = links.filter(|(_, link)| !link.is_quiet()).collect();
        let awake = |worker: &&Worker| !worker.is_quiet(&self.network, &self.mailroom, self.now);
        let workers: Vec<_> = self.workers.iter().filter(awake).map(|w| w.unrest()).collect();
        let present = self.present();
        let unwritten: Vec<_> = present.iter().map(|id| self.visits[*id].unwritten()).collect();
        format!("{links:?}, {workers:?}, {unwritten:?}, mail {}", !self.mailroom.is_empty())
    }

    /// Visits whose connection is open on both sides.
    pub(crate) fn present(&self) -> Vec<VisitId> {
        let present = |id: &VisitId| {
            let visit = &self.visits[*id];
            self.network.links[visit.link].server == ServerEnd::Open && !visit.foreign
        };
        self.clients.iter().filter_map(|client| client.visit).filter(present).collect()
    }

    /// Whether a visit may still ask for something.
    pub(crate) fn is_able(&self, id: VisitId) -> bool {
        let visit = &self.visits[id];
        visit.welcomed && !visit.mute && !visit.hostile && !visit.finished && !visit.over
    }

    /// Clients whose visits may still ask for something.
    pub(crate) fn able_clients(&self) -> Vec<(usize, VisitId)> {
        let present = self.present();
        let clients = self.clients.iter().enumerate();
        clients
            .filter_map(|(index, client)| Some((index, client.visit?)))
            .filter(|(_, id)| present.contains(id) && self.is_able(*id))
            .collect()
    }

    /// Has clients ask anew where refs of 0 left open what they are members of.
    fn clear_up(&mut self) {
        loop {
            let mut open = 0;
            for (index, id) in self.able_clients() {
                for room in 0..ROOMS.len() {
                    let view = &self.visits[id].rooms[room];
                    if view.is_member().is_some() {
                        continue;
                    }
                    open += 1;
                    // Whoever was refused may be in, or not: after a leave it is out.
                    let refused = view.moves.last().is_some_and(|m| m.done == Some(false));
                    let wanted = view.is_wanted() && !refused;
                    self.with_client(index, |client, world| {
                        let mut wisher = client.wisher(id, world);
                        if wanted { wisher.join(room, true) } else { wisher.leave(room, true) }
                    });
                }
            }
            self.calm_down();
            if open == 0 {
                return;
            }
        }
    }

    pub(crate) fn with_client(&mut self, index: usize, act: impl FnOnce(&Client, &mut World)) {
        let clients = std::mem::take(&mut self.clients);
        act(&clients[index], self);
        self.clients = clients;
    }

    /// Has clients ask who is where, and compares. Whoever times out meanwhile makes it begin anew.
    fn compare(&mut self, checked: &mut oracle::Checked) {
        for _ in 0..50 {
            if self.has_fresh_loss() {
                self.calm_down();
                continue;
            }
            let before = self.present();
            // Whoever was cut off is in the rosters until it is told absent.
            let holdings = || self.workers.iter().map(|worker| worker.shard.holdings());
            let certain = holdings().all(|held| !held.in_grace && held.unsettled_sessions == 0);
            let letters = self.ask_all();
            self.calm_down();
            if certain && self.present() == before {
                return oracle::judge_rest(self, &letters, checked);
            }
        }
    }

    /// Whether a connection ended so lately that its session may still be in rosters: it stays
    /// there for the grace.
    fn has_fresh_loss(&self) -> bool {
        let is_fresh = |link: &Link| match (link.server, link.dropped_at) {
            (ServerEnd::Open, _) => false,
            (_, Some(at)) => self.now.mono.since_ms(at) < CALM_MS,
            (_, None) => true,
        };
        self.network.links.iter().any(is_fresh)
    }

    /// Every client that can asks who is in every room; text clients write letters, too.
    fn ask_all(&mut self) -> Vec<usize> {
        let mut letters = Vec::new();
        for visit in &mut self.visits {
            visit.rosters.clear();
            visit.unasked = 0;
        }
        for (index, id) in self.able_clients() {
            let user = self.visits[id].user.clone();
            self.with_client(index, |client, world| {
                let rooms = world.plan.rooms;
                let is_text = world.visits[id].is_text();
                let mut wisher = client.wisher(id, world);
                if is_text {
                    wisher.type_who();
                    letters.push(wisher.write_letter(&user));
                } else {
                    (1..rooms).for_each(|room| wisher.who(room));
                    letters.push(wisher.write_to(&user, b"psst", true));
                }
            });
        }
        letters
    }

    fn drain(&mut self) {
        self.draining = true;
        let plan = Arc::new(DrainPlan::over(self.plan.drain_over_ms, "maintenance", ""));
        for index in 0..self.workers.len() {
            let plan = Arc::clone(&plan);
            self.with_worker(index, |worker, around| worker.drain(plan, around));
        }
    }

    /// Sends everybody away and waits until all that is remembered is forgotten.
    fn finish(&mut self) {
        if self.plan.finale == Finale::DrainAtRest {
            self.drain();
        }
        let first_round = self.round;
        while self.workers.iter().any(|worker| worker.shard.connections() > 0)
            || self.workers.iter().any(|worker| worker.shard.next_deadline().is_some())
            || !self.is_quiet()
        {
            assert!(self.round < first_round + CALM_ROUNDS, "{}", oracle::leftovers(self));
            if !self.draining && self.dice.chance(100) {
                self.send_one_away();
            }
            let hurry = self.workers.iter().all(|worker| worker.shard.connections() == 0);
            let ms = if hurry { self.dice.number(0..=300) } else { self.dice.number(0..=20) };
            self.now = self.now.plus_ms(ms);
            self.play_round();
        }
    }

    fn send_one_away(&mut self) {
        let index = self.dice.within(0..=self.clients.len() - 1);
        let mut clients = std::mem::take(&mut self.clients);
        if let Some(id) = clients[index].visit {
            clients[index].leave(id, self);
        }
        self.clients = clients;
    }
}

thread_local! {
    static ROUND: Cell<u64> = const { Cell::new(0) };
}

/// Says where a run was when it failed.
struct Whereabouts {
    seed: u64,
    kill: Option<u64>,
}

impl Whereabouts {
    fn note(round: u64) {
        ROUND.set(round);
    }
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, round) = (self.seed, ROUND.get());
            let kill = self.kill.map_or(String::new(), |commit| format!("CB_KILL={commit} "));
            eprintln!("the simulation failed at seed {seed}, step {round}");
            eprintln!("again: CB_SEED={seed} {kill}cargo test --test sim one_seed -- --nocapture");
        }
    }
}
