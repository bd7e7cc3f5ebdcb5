//! Somebody who comes and goes.
//!
//! Owns one client's habits: when it comes, reads, writes, stops reading, falls silent and leaves.
//! It judges nothing; what it reads is judged where it is read.

use corebeat::base::time::Mono;

use super::ledger::VisitId;
use super::network::{ClientEnd, ServerEnd};
use super::plan::{Character, Speech, USERS};
use super::visit::Visit;
use super::wishes::Wisher;
use super::world::{Phase, World};

/// What a browser asks for that then stays and asks for nothing more.
const GETS: &str = "GET /page HTTP/1.1\r\nHost: sim\r\n\r\nGET /stats HTTP/1.1\r\nHost: sim\r\n\r\n\
                    GET /nowhere HTTP/1.1\r\nHost: sim\r\n\r\n";
/// The same, and a second request that never ends.
const HALF: &str = "HEAD /page HTTP/1.1\r\nHost: sim\r\n\r\nGET /page HTTP/1.1\r\nHo";

/// Somebody who comes and goes.
pub(crate) struct Client {
    pub(crate) character: Character,
    user: &'static str,
    pub(crate) visit: Option<VisitId>,
    away_until: Mono,
    stopped_until: Mono,
    /// The worker that it was connected to last.
    worker: usize,
    /// The visit whose connection was lost, and its session perhaps not.
    lost: Option<VisitId>,
}

impl Client {
    /// A client that has not come yet.
    pub(crate) fn new(character: Character, number: usize) -> Client {
        Client {
            character,
            user: USERS[number % USERS.len()],
            visit: None,
            away_until: Mono(0),
            stopped_until: Mono(0),
            worker: 0,
            lost: None,
        }
    }

    /// What the client does in one round.
    pub(crate) fn act(&mut self, world: &mut World) {
        let Some(visit) = self.visit else {
            if world.is_open() && world.now.mono >= self.away_until {
                self.come(world);
            }
            return;
        };
        self.read(visit, world);
        if world.network.links[world.visits[visit].link].at_end() {
            return self.see_the_end(visit, world);
        }
        match world.phase {
            Phase::Storm => self.live(visit, world),
            Phase::Rest => self.keep_up(visit, world),
        }
        if self.visit.is_some() {
            self.write(visit, world);
        }
    }

    /// Connects; the visit has not said anything.
    fn connect(&mut self, world: &mut World) -> VisitId {
        // Who comes back to the same worker gets a slot that was just given back.
        if world.dice.chance(600) {
            self.worker = world.dice.within(0..=world.workers.len() - 1);
        }
        let link = world.network.connect(self.worker, world.now.mono, &mut world.dice);
        let (id, keeping) = (world.visits.len(), world.plan.keeping());
        let speech = self.character.speech;
        let mut visit = Visit::new(id, link, speech, keeping, world.now.mono);
        visit.life = world.life;
        let may_renew = world.plan.may_renew_epochs();
        for (view, forgets) in visit.rooms.iter_mut().zip(world.forgetful) {
            view.may_renew_epochs = may_renew || forgets;
            view.home_panics.lose_tails = forgets;
        }
        self.visit = Some(visit.id);
        world.visits.push(visit);
        world.ledger.names.push(Vec::new());
        world.ledger.authors.push(id);
        id
    }

    fn come(&mut self, world: &mut World) {
        let visit = self.connect(world);
        let link = world.visits[visit].link;
        if self.character.hostile > 0 && world.dice.chance(150) {
            let first = world.dice.pick(&[
                "GET / HTTP/1.1\r\n\r\n",
                "\u{16}\u{3}",
                "OPT",
                "",
                "GE",
                GETS,
                HALF,
            ]);
            world.network.links[link].fetches = true;
            world.network.links[link].every_byte_counts = true;
            world.visits[visit].foreign = true;
            world.visits[visit].babble(first.as_bytes());
            return;
        }
        if self.character.speech.is_web() {
            world.network.links[link].every_byte_counts = true;
            self.wisher(visit, world).open_websocket();
        }
        let user = if world.dice.chance(850) { self.user } else { "" };
        let lost = self.lost.take().filter(|_| world.dice.chance(850));
        let Some(lost) = lost else {
            return self.wisher(visit, world).greet(user);
        };
        let key_is_right = world.dice.chance(900);
        self.go_on(visit, lost, key_is_right, world);
    }

    /// Says hello with the session of the visit `lost`.
    fn go_on(&mut self, visit: VisitId, lost: VisitId, key_is_right: bool, world: &mut World) {
        let (before, after) = world.visits.split_at_mut(visit);
        after[0].inherit(&before[lost], key_is_right);
        if before[lost].life == world.life {
            world.ledger.authors[visit] = world.ledger.authors[lost];
        }
        let user = if world.dice.chance(500) { "" } else { before[lost].user.as_str() };
        let user = user.to_owned();
        world.ledger.names[visit] = world.ledger.names[lost].clone();
        self.wisher(visit, world).greet(&user);
    }

    /// Comes as `user`, whatever the others do.
    pub(crate) fn call(&mut self, world: &mut World, user: &str) -> VisitId {
        let visit = self.connect(world);
        self.wisher(visit, world).greet(user);
        visit
    }

    /// Loses its connection, which the server is told of.
    pub(crate) fn is_cut_off(&mut self, world: &mut World) {
        if let Some(id) = self.visit {
            let visit = &mut world.visits[id];
            visit.over = true;
            world.network.links[visit.link].client_reset();
            self.go_away(world);
        }
    }

    /// Comes back to the session that it lost.
    pub(crate) fn comes_back(&mut self, world: &mut World) {
        if let Some(lost) = self.lost.take() {
            let visit = self.connect(world);
            if self.character.speech.is_web() {
                world.network.links[world.visits[visit].link].every_byte_counts = true;
                self.wisher(visit, world).open_websocket();
            }
            self.go_on(visit, lost, true, world);
        }
    }

    /// The parts of the world that asking for something needs.
    pub(crate) fn wisher<'a>(&'a self, visit: VisitId, world: &'a mut World) -> Wisher<'a> {
        let visit = &mut world.visits[visit];
        Wisher {
            link: &mut world.network.links[visit.link],
            visit,
            ledger: &mut world.ledger,
            dice: &mut world.dice,
            plan: &world.plan,
            character: &self.character,
            round: world.round,
            now: world.now,
        }
    }

    fn read(&mut self, id: VisitId, world: &mut World) {
        let calm = world.phase == Phase::Rest;
        if !calm && world.now.mono < self.stopped_until {
            return;
        }
        let visit = &mut world.visits[id];
        let most = if calm { usize::MAX } else { self.character.read_max };
        let bytes = world.network.client_read(visit.link, most);
        if bytes.is_empty() {
            return;
        }
        if visit.foreign {
            return;
        }
        visit.inbox.extend_from_slice(&bytes);
        let pings = visit.understand(&mut world.ledger, world.round);
        if visit.mute || visit.finished {
            return;
        }
        for ping in pings {
            visit.answer_ping(&ping, &mut world.network.links[visit.link], world.now.mono);
        }
    }

    /// The server sent the end: most clients hang up too, some forget to.
    fn see_the_end(&mut self, id: VisitId, world: &mut World) {
        let visit = &mut world.visits[id];
        visit.over = true;
        let link = &mut world.network.links[visit.link];
        if link.server == ServerEnd::Finished && world.dice.chance(800) {
            link.client_finish();
        }
        self.go_away(world);
    }

    fn go_away(&mut self, world: &mut World) {
        if let Some(id) = self.visit.take() {
            world.visits[id].gone_round = Some(world.round);
            let visit = &world.visits[id];
            let link = &world.network.links[visit.link];
            let has_session = visit.session.is_some() && !visit.is_text() && !visit.hostile;
            // What it dropped it cannot miss.
            self.lost = Some(id).filter(|_| has_session && !link.is_abandoned());
        }
        let away_ms = if world.dice.chance(500) { 0 } else { world.dice.number(0..=3_000) };
        self.away_until = world.now.mono + away_ms;
    }

    fn live(&mut self, id: VisitId, world: &mut World) {
        let visit = &mut world.visits[id];
        if visit.finished || visit.mute {
            return;
        }
        if world.dice.chance(self.character.mute) {
            visit.mute = true;
            return;
        }
        if world.dice.chance(self.character.stop) && world.now.mono >= self.stopped_until {
            visit.stopped = true;
            self.stopped_until = world.now.mono + world.dice.number(0..=self.character.stop_ms);
        }
        if world.dice.chance(self.character.vanish) {
            return self.leave(id, world);
        }
        let visit = &world.visits[id];
        let is_waiting = visit.welcomed && !visit.is_text() && !visit.is_answered();
        if is_waiting && world.dice.chance(self.character.impatient) {
            return self.is_cut_off(world);
        }
        if world.dice.chance(self.character.hostile) && !world.visits[id].foreign {
            return self.wisher(id, world).misbehave();
        }
        let visit = &world.visits[id];
        if !visit.hostile && visit.unwritten() < 300 && world.dice.chance(self.character.wish) {
            for _ in 0..world.dice.within(1..=self.character.pipeline) {
                self.wisher(id, world).wish();
            }
        }
        if world.visits[id].resumed && !world.visits[id].unanswered.is_empty() {
            self.wisher(id, world).ask_again();
        }
        self.keep_up(id, world);
    }

    /// A text client types something now and then.
    fn keep_up(&mut self, id: VisitId, world: &mut World) {
        let visit = &world.visits[id];
        let idle_ms = world.now.mono.since_ms(visit.spoke_at);
        let quiet = idle_ms > world.plan.limits.text_idle_timeout_ms / 4;
        let speaks = visit.is_text() && !visit.mute && !visit.finished && !visit.hostile;
        if speaks && quiet {
            self.wisher(id, world).type_ping();
        }
    }

    /// Hangs up, in one of the ways there are.
    pub(crate) fn leave(&mut self, id: VisitId, world: &mut World) {
        let way = world.dice.within(0..=5);
        let visit = &mut world.visits[id];
        let link = &mut world.network.links[visit.link];
        match way {
            0 | 1 => {
                visit.over = true;
                link.client_reset();
                self.go_away(world);
            }
            2 if self.character.speech == Speech::Text && !visit.hostile => {
                visit.type_line("/quit", link, world.now.mono);
                visit.finished = true;
            }
            2 if self.character.speech.is_web() && world.dice.chance(500) && !visit.hostile => {
                let close = visit.web.as_mut().expect("it speaks on a WebSocket").close();
                visit.say(&close, link, world.now.mono);
                visit.finished = true;
            }
            2 if !visit.hostile => {
                let bye = corebeat::wire::message::Request::Bye { code: 0, reason: "done" };
                visit.ask(&bye, link, world.now.mono);
                visit.finished = true;
            }
            5 if world.phase == Phase::Storm && visit.session.is_some() => {
                // Nobody tells the server.
                visit.over = true;
                link.client_dies();
                self.go_away(world);
            }
            3 => {
                // It says the end and is not interested in what still comes.
                link.client_finish();
                link.client_abandon();
                visit.over = true;
                self.go_away(world);
            }
            _ => visit.finished = true,
        }
    }

    fn write(&mut self, id: VisitId, world: &mut World) {
        let calm = world.phase == Phase::Rest;
        let visit = &mut world.visits[id];
        let link = &mut world.network.links[visit.link];
        let most = if calm { usize::MAX } else { self.character.write_max };
        if visit.mute || link.client != ClientEnd::Open {
            return;
        }
        visit.write(link, most);
        if visit.finished && visit.unwritten() == 0 {
            link.client_finish();
        }
    }
}
