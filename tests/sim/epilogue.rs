//! What is tried when all is quiet.
//!
//! Owns two trials whose outcome is known to the last detail, on shards that a storm has been over:
//! somebody asks for all that is kept for each user, and a client is cut off and comes back while
//! all others watch. Never judges what the storm brought: the oracle does.

use super::client::Client;
use super::ledger::VisitId;
use super::letters;
use super::network::ServerEnd;
use super::oracle::{Checked, Members};
use super::plan::{ABSENT, Character, EVERYONE, ROOMS, Speech, USERS};
use super::visit::Visit;
use super::world::World;

/// How often somebody is to hear that a user went or came: at least, and at most.
type Times = (usize, usize);

/// A client that comes when it is called, reads all and does nothing by itself.
fn caller() -> Character {
    Character {
        speech: Speech::Native,
        wish: 0,
        pipeline: 1,
        write_max: 100_000,
        read_max: 100_000,
        stop: 0,
        stop_ms: 0,
        vanish: 0,
        impatient: 0,
        mute: 0,
        hostile: 0,
        echo: 0,
        reference: 1_000,
        hop: 0,
        recall: 0,
        body_max: 8,
    }
}

impl World {
    /// Asks for all that is kept for each user, and judges what is missing of direct messages.
    pub(crate) fn collect(&mut self, checked: &mut Checked) {
        for absent in ABSENT.into_iter().cycle().take(4) {
            if let Some(&(index, id)) = self.able_clients().first() {
                self.with_client(index, |client, world| {
                    client.wisher(id, world).write_late(absent);
                });
            }
            (0..40).for_each(|_| self.pass_time());
        }
        self.ledger.letters.is_collected = true;
        let users: Vec<&'static str> = USERS.into_iter().chain(ABSENT).collect();
        let mut called = Vec::new();
        for user in users {
            let mut client = Client::new(caller(), self.clients.len());
            called.push((user, client.call(self, user)));
            self.clients.push(client);
        }
        self.calm_down();
        let is_called = |id: VisitId| called.iter().any(|(_, called)| *called == id);
        if let Some((index, id)) = self.able_clients().into_iter().find(|it| is_called(it.1)) {
            self.with_client(index, |client, world| {
                let rooms = EVERYONE + 1..world.plan.rooms;
                let mut wisher = client.wisher(id, world);
                rooms.for_each(|room| wisher.list_behind(room, 0, 0));
            });
            self.calm_down();
        }
        // A bound on connections may have kept some out.
        called.retain(|(user, id)| self.visits[*id].user == *user && self.is_able(*id));
        checked.directs = letters::judge(self, &called);
    }

    /// Cuts a client off and lets it come back, once too late and once in time, and judges who
    /// is told.
    pub(crate) fn cut_off(&mut self, checked: &mut Checked) {
        let Some((index, id)) = self.draw_loser() else {
            return;
        };
        let user = self.visits[id].user.clone();
        let rooms: Vec<usize> =
            (0..ROOMS.len()).filter(|room| self.visits[id].is_in(*room) == Some(true)).collect();
        let is_alone =
            self.present().iter().filter(|id| self.visits[**id].user == user).count() == 1;
        // Nobody is told of a user who has another session.
        let mut watchers =
            if is_alone { self.watchers_of(&user, &rooms) } else { self.nobody_of(&user) };
        let others = self.others_than(id);
        self.forget_whereabouts();
        self.lose(index);
        self.calm_down();
        let is_same = |world: &World, id| world.others_than(id) == others;
        if is_alone && !is_same(self, id) {
            // How many are in its rooms has changed: somebody may be told, or not.
            watchers.clear();
        }
        self.judge_told(&watchers, &user, (true, false));
        let Some(back) = self.return_of(index) else {
            return;
        };
        self.calm_down();
        if !self.visits[back].resumed {
            return;
        }
        if is_alone && !is_same(self, back) {
            watchers.clear();
        }
        self.judge_told(&watchers, &user, (true, true));
        checked.absences += usize::from(!watchers.is_empty());
        self.forget_whereabouts();
        let lost_at = self.now.mono;
        self.lose(index);
        let Some(back) = self.return_of(index) else {
            return;
        };
        while self.visits[back].session.is_none() && self.now.mono.since_ms(lost_at) < 100_000 {
            self.pass_time();
        }
        let took_ms = self.now.mono.since_ms(lost_at);
        self.calm_down();
        if self.visits[back].resumed && took_ms < self.plan.limits.presence_grace_ms {
            self.judge_told(&[], &user, (false, false));
            checked.blinks += 1;
        }
    }

    /// A client whose session can be resumed, and of whose user no other connection is mute.
    fn draw_loser(&mut self) -> Option<(usize, VisitId)> {
        let limits = &self.plan.limits;
        if limits.resume_window_ms < 20_000 || limits.max_kept_sessions < 100 {
            return None;
        }
        let present = self.present();
        let are_able = |visit: &Visit| {
            let mut same = present.iter().filter(|id| self.visits[**id].user == visit.user);
            same.all(|id| self.is_able(*id))
        };
        let fits = |id: &VisitId| {
            let visit = &self.visits[*id];
            let is_sure = (0..ROOMS.len()).all(|room| visit.is_in(room).is_some());
            visit.session.is_some() && self.is_able(*id) && is_sure && are_able(visit)
        };
        let losers: Vec<(usize, VisitId)> = self
            .clients
            .iter()
            .enumerate()
            .filter_map(|(index, client)| Some((index, client.visit?)))
            .filter(|(_, id)| present.contains(id) && fits(id))
            .collect();
        (!losers.is_empty()).then(|| self.dice.pick(&losers))
    }

    /// Who is to be told of `user`, who is in `rooms`, and how often. Those of whom that is not
    /// known are left out.
    fn watchers_of(&self, user: &str, rooms: &[usize]) -> Vec<(VisitId, Times)> {
        let members = Members::of_rooms(self);
        let most = self.plan.limits.presence_max;
        // Where letters have no room, presence is shed.
        let is_shed = self.plan.limits.max_mail_staged < 1_000;
        let times = |id: &VisitId| {
            let visit = &self.visits[*id];
            let (mut least, mut greatest) = (0, 0);
            for room in rooms.iter().copied().filter(|room| *room != EVERYONE) {
                let certain = members[room].unsure.is_empty() && visit.is_in(room).is_some();
                let wants = visit.is_text().then_some(true).or(visit.rooms[room].presence());
                let wants = wants.filter(|_| certain)?;
                let total = members[room].sure.len();
                if !wants || visit.is_in(room) != Some(true) || total > most + 1 {
                    continue;
                }
                greatest = 1;
                least = least.max(usize::from(total <= most && !is_shed));
            }
            (visit.user != user).then_some((*id, (least, greatest)))
        };
        self.present().iter().filter_map(times).collect()
    }

    fn nobody_of(&self, user: &str) -> Vec<(VisitId, Times)> {
        let others = self.present().into_iter().filter(|id| self.visits[*id].user != user);
        others.map(|id| (id, (0, 0))).collect()
    }

    /// Who is there beside one of them.
    fn others_than(&self, id: VisitId) -> Vec<VisitId> {
        self.present().into_iter().filter(|other| *other != id).collect()
    }

    fn forget_whereabouts(&mut self) {
        self.visits.iter_mut().for_each(|visit| visit.whereabouts.clear());
    }

    fn lose(&mut self, index: usize) {
        let mut clients = std::mem::take(&mut self.clients);
        clients[index].is_cut_off(self);
        self.clients = clients;
    }

    /// Has a client come back to its session.
    fn return_of(&mut self, index: usize) -> Option<VisitId> {
        let mut clients = std::mem::take(&mut self.clients);
        clients[index].comes_back(self);
        self.clients = clients;
        self.clients[index].visit
    }

    /// Judges who was told that `user` went, and came.
    fn judge_told(&self, watchers: &[(VisitId, Times)], user: &str, (went, came): (bool, bool)) {
        for id in self.present() {
            let visit = &self.visits[id];
            let told = |online: bool| {
                visit.whereabouts.iter().filter(|it| it.0 == user && it.1 == online).count()
            };
            let known = watchers.iter().find(|(watcher, _)| *watcher == id).map(|it| it.1);
            let (least, most) = if went { known.unwrap_or((0, 1)) } else { (0, 0) };
            let place = format!("visit {id} of {user}, who went: {went}, and came: {came}");
            assert!((least..=most).contains(&told(false)), "{place}: {:?}", visit.whereabouts);
            let (least, most) = if came { (least, most) } else { (0, 0) };
            assert!((least..=most).contains(&told(true)), "{place}: {:?}", visit.whereabouts);
        }
    }
}

/// Judges that nobody was told more often that a user went, or came, than that can have been.
pub(crate) fn judge_counts(world: &World) {
    for visit in &world.visits {
        for (user, online) in &visit.whereabouts {
            let same = |it: &&(String, bool)| it.0 == *user && it.1 == *online;
            let told = visit.whereabouts.iter().filter(same).count();
            let may = world.visits.iter().filter(|lost| may_be_told(world, lost, user, *online));
            let most = may.count();
            assert!(
                told <= most,
                "visit {} heard {told} times that {user} is online: {online}, and {most} may be",
                visit.id
            );
        }
    }
}

/// Whether it may be told that a user went with this connection, or came back after it.
fn may_be_told(world: &World, lost: &Visit, user: &str, online: bool) -> bool {
    // Whoever was not welcomed before it was lost does not know its name.
    let named = lost.user == user
        || world.ledger.names[lost.id].iter().any(|name| name == user)
        || !lost.welcomed && user.starts_with("guest-");
    let link = &world.network.links[lost.link];
    let ended = link.server != ServerEnd::Open || link.dropped_at.is_some();
    let next = world.visits.iter().find(|next| next.goes_on == Some(lost.id));
    let next = next.filter(|next| next.resumed || !next.welcomed);
    let is_blink = next.is_some_and(|next| {
        let back_at = next.greeted_round.map(|round| world.clock[round as usize]);
        match (link.dropped_at.filter(|_| link.failed), back_at) {
            (Some(lost_at), Some(back_at)) => {
                back_at.since_ms(lost_at) < world.plan.limits.presence_grace_ms
            }
            _ => false,
        }
    });
    let came = next.is_some() || !online;
    named && !lost.is_text() && ended && !is_blink && came
}
