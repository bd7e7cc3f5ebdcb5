//! Direct messages: what was written, and what each connection was told of it.
//!
//! Owns one record for every direct message that a client ever tried to send, what all clients
//! together know of its number, and the judgement of what is missing. What comes twice, or in
//! another order, or although it was acknowledged, is judged at once.
//!
//! Numbers mean something for one user only: a message is at a [`Place`].

use std::collections::{BTreeMap, BTreeSet};

use corebeat::base::counters::CloseReason;
use corebeat::base::time::Mono;
use corebeat::wire::message::{Code, OkFlags};

use super::ledger::{Ledger, Refusal, VisitId, number_of};
use super::network::{ClientEnd, Link};
use super::panics::Panics;
use super::plan::{ABSENT, Plan};
use super::visit::{Visit, Wish};
use super::world::World;

/// Whose message, and its number.
pub(crate) type Place = (String, u64);

/// Most messages to one user of which none that was told live can have been forgotten.
const FEW: usize = 100;

/// A direct message that a client tried to send.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) visit: VisitId,
    pub(crate) user: String,
    pub(crate) body: Vec<u8>,
    /// The round in which it was written.
    pub(crate) round: u64,
    pub(crate) refused: Refusal,
    /// Its number and time, where a receiver was told.
    told: Option<(u64, u64)>,
    pub(crate) received_by: Vec<VisitId>,
}

/// All direct messages.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub(crate) all: Vec<Letter>,
    /// Which message receivers saw at a place.
    seen: BTreeMap<Place, usize>,
    /// Places that senders were told, and the rounds in which they first asked.
    accepted: BTreeMap<Place, u64>,
    /// Those of which the sender was told that the user is offline.
    queued: BTreeSet<Place>,
    /// Those that a receiver was told live, and the round in which the first one was.
    live: BTreeMap<Place, u64>,
    /// What receivers were told to be missing.
    gaps: Vec<(VisitId, Place, u64)>,
    /// Somebody came for those who never come.
    pub(crate) is_collected: bool,
    /// What sessions, by their first visits, acknowledged.
    acks: Vec<(VisitId, Place)>,
    /// In which of the server's lives senders were first told of places.
    lives: BTreeMap<Place, u64>,
    /// The present life of the server, and the first one of which nothing is missing.
    life: u64,
    whole_since: u64,
    /// What was acknowledged when all was quiet, and hence written.
    settled: BTreeSet<Place>,
    /// The same of earlier lives: it never comes again.
    barred: BTreeSet<Place>,
    /// The workers that panicked.
    pub(crate) panics: Panics,
    /// Whether what is queued outlives them.
    pub(crate) are_kept: bool,
}

impl Letters {
    /// Notes a message to be sent, and gives it its body. Returns its number.
    pub(crate) fn write(
        &mut self,
        visit: VisitId,
        user: &str,
        padding: &[u8],
        round: u64,
    ) -> usize {
        let id = self.all.len();
        let mut body = format!("d{id}.").into_bytes();
        body.extend_from_slice(padding);
        let user = user.to_owned();
        let (refused, told, received_by) = (Refusal::None, None, Vec::new());
        self.all.push(Letter { visit, user, body, round, refused, told, received_by });
        id
    }

    /// A receiver was told the number and the time of a message, perhaps live in some round: the
    /// same as all others?
    fn witness(&mut self, number: usize, (id, time_ms): (u64, u64), live_in: Option<u64>) {
        let letter = &mut self.all[number];
        assert!(!letter.refused.holds(), "letter {number} was refused and yet delivered");
        let told = *letter.told.get_or_insert((id, time_ms));
        assert_eq!(told, (id, time_ms), "letter {number} has two places");
        let place = (letter.user.clone(), id);
        let other = *self.seen.entry(place.clone()).or_insert(number);
        assert_eq!(other, number, "two letters were seen at {place:?}");
        if let Some(round) = live_in {
            assert!(!self.queued.contains(&place), "{place:?} was queued and came live");
            self.live.entry(place).or_insert(round);
        }
    }

    /// A sender was told where one of the messages that it sent with one ref is.
    pub(crate) fn acknowledge(&mut self, numbers: &[usize], id: u64, flags: OkFlags, life: u64) {
        let OkFlags { queued, duplicate, .. } = flags;
        let first = &self.all[numbers[0]];
        let place = (first.user.clone(), id);
        let absent = ABSENT.contains(&&*place.0) && !self.is_collected;
        if queued {
            assert!(!self.live.contains_key(&place), "{place:?} came live and was queued");
            self.queued.insert(place.clone());
        }
        // A repetition is not told whether the first one was queued.
        assert!(queued || duplicate || !absent, "{place:?} was not queued, and nobody was there");
        let round = self.accepted.entry(place.clone()).or_insert(first.round);
        *round = first.round.min(*round);
        self.lives.entry(place.clone()).or_insert(life);
        if let Some(seen) = self.seen.get(&place) {
            assert!(numbers.contains(seen), "{place:?} was given to {numbers:?} and {seen}");
        }
    }

    /// A sender was told that its message is not taken.
    pub(crate) fn refuse(&mut self, number: usize, code: Code, leaked: Option<bool>) {
        let letter = &mut self.all[number];
        letter.refused.refuse(code, leaked);
        let holds = letter.refused.holds();
        assert!(letter.told.is_none() || !holds, "letter {number} was refused too late");
    }

    /// All is quiet: what sessions of this life of the server acknowledged has been read, and its
    /// striking written.
    pub(crate) fn note_settled(&mut self, visits: &[Visit], life: u64) {
        for visit in visits.iter().filter(|visit| visit.life == life) {
            let ids = visit.post.struck.iter();
            self.settled.extend(ids.map(|id| (visit.user.clone(), *id)));
        }
    }

    /// The server began a life. If the end of the last one was torn, nothing told so far is sure.
    pub(crate) fn end_life(&mut self, life: u64, is_torn: bool) {
        self.life = life;
        let settled = std::mem::take(&mut self.settled);
        if is_torn {
            self.whole_since = life;
        } else {
            self.barred.extend(settled);
        }
    }

    /// A worker panicked: what was acknowledged when all was quiet stays so.
    pub(crate) fn bar_settled(&mut self) {
        self.barred.extend(std::mem::take(&mut self.settled));
    }

    /// Whether what a sender was told of a place still binds: of what was told live nothing is
    /// written, and it ends with the life of the server, or of the user's home.
    fn is_promised(&self, place: &Place) -> bool {
        let life = self.lives.get(place).copied().unwrap_or(0);
        let is_queued = self.queued.contains(place);
        (life == self.life || life >= self.whole_since && is_queued)
            && (!self.is_of_lost_home(place) || self.are_kept && is_queued)
    }

    /// Whether the user's home panicked since it numbered a message.
    fn is_of_lost_home(&self, place: &Place) -> bool {
        place.1 < self.panics.floor(&place.0)
    }

    /// The places of a user that senders were told, and the rounds in which they asked.
    fn places<'a>(&'a self, user: &str) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let all = (user.to_owned(), 0)..=(user.to_owned(), u64::MAX);
        self.accepted.range(all).map(|((_, id), round)| (*id, *round))
    }

    fn received_by(&self, place: &Place) -> &[VisitId] {
        self.seen.get(place).map_or(&[], |number| &self.all[*number].received_by)
    }

    fn is_gone(&self, place: &Place, to: impl Fn(VisitId) -> bool) -> bool {
        let covers = |(visit, (user, from), last): &(VisitId, Place, u64)| {
            to(*visit) && *user == place.0 && (*from..=*last).contains(&place.1)
        };
        self.gaps.iter().any(covers)
    }

    /// How many gaps were told.
    pub(crate) fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// How many places were acknowledged.
    pub(crate) fn acks(&self) -> usize {
        self.acks.len()
    }
}

/// What one connection was told of direct messages, and said.
#[derive(Debug, Default)]
pub(crate) struct Post {
    /// The last one that came.
    pub(crate) latest: u64,
    /// One came that is no replay.
    live: bool,
    /// The first and the last ones that were said to be gone.
    gone: Vec<u64>,
    /// What its session has heard.
    heard: BTreeSet<u64>,
    /// What it acknowledged of that, and the last ref that it had used then.
    acks: Vec<(u32, BTreeSet<u64>)>,
    /// What the server has read that its session has.
    struck: BTreeSet<u64>,
    /// The round in which its session was first told anything.
    since: Option<u64>,
    /// How often the user's home panicked, and may tell as a replay what came behind.
    replays: u32,
}

impl Post {
    /// What a connection begins with whose session goes on.
    pub(crate) fn inherit(&self) -> Post {
        let (heard, struck) = (self.heard.clone(), self.struck.clone());
        Post { heard, struck, since: self.since, ..Post::default() }
    }

    /// The user's home panicked.
    pub(crate) fn home_panicked(&mut self) {
        self.replays += 1;
    }

    /// What was told to be acknowledged, whether or not the server has read that.
    pub(crate) fn acknowledged(&self) -> BTreeSet<u64> {
        let unread = self.acks.iter().flat_map(|(_, ids)| ids);
        self.struck.iter().chain(unread).copied().collect()
    }

    /// The acknowledgements of these may be lost.
    pub(crate) fn doubt(&mut self, ids: &BTreeSet<u64>) {
        self.struck.retain(|id| !ids.contains(id));
    }

    /// It says that it has all up to `id`.
    pub(crate) fn acknowledge(&mut self, last_ref: u32, id: u64) {
        self.acks.push((last_ref, self.heard.range(..=id).copied().collect()));
    }

    /// A request of this connection was answered: what was said before it was read.
    pub(crate) fn answered(&mut self, reference: u32) {
        for (_, ids) in self.acks.extract_if(.., |(last_ref, _)| *last_ref < reference) {
            self.struck.extend(ids);
        }
    }
}

impl Visit {
    /// A direct message came with its number.
    pub(crate) fn hear_direct(
        &mut self,
        (id, time_ms, replay): (u64, u64, bool),
        (from, body): (&str, &[u8]),
        ledger: &mut Ledger,
        round: u64,
    ) {
        let number = number_of(body, b'd').expect("letters begin with their number");
        assert!(ledger.letters.all[number].body == body, "letter {number} was changed");
        ledger.letters.witness(number, (id, time_ms), (!replay).then_some(round));
        let place = (self.user.clone(), id);
        let is_barred = self.life == ledger.letters.life && ledger.letters.barred.contains(&place);
        assert!(!is_barred, "{place:?} was ACKed in an earlier life of the server, and came again");
        let is_of_lost_home = ledger.letters.is_of_lost_home(&place);
        let post = &mut self.post;
        if replay && post.live && post.replays > 0 {
            post.replays -= 1;
            post.live = false;
        }
        assert!(id > post.latest, "direct message {id} came after {}", post.latest);
        assert!(!replay || !post.live, "direct message {id} is replayed behind what is live");
        let is_struck = post.struck.contains(&id) && !is_of_lost_home;
        assert!(!is_struck, "direct message {id} was ACKed, and came again");
        assert!(!post.gone.contains(&id), "direct message {id} was said to be gone");
        post.latest = id;
        post.live |= !replay;
        post.since.get_or_insert(round);
        let is_new = post.heard.insert(id);
        assert!(replay || is_new, "direct message {id} came live twice");
        self.letter(from, number, ledger);
    }

    /// Direct messages are gone.
    pub(crate) fn hear_direct_gap(
        &mut self,
        (from, to): (u64, u64),
        ledger: &mut Ledger,
        round: u64,
    ) {
        assert!(from <= to, "a gap from {from} to {to}");
        self.post.gone.extend([from, to]);
        self.post.since.get_or_insert(round);
        ledger.letters.gaps.push((self.id, (self.user.clone(), from), to));
    }

    /// A direct message came. Only to a text client that went by a name before may one come twice:
    /// what was on its way when it took another name is replayed as at a hello.
    pub(crate) fn letter(&self, from: &str, number: usize, ledger: &mut Ledger) {
        let names = ledger.names[self.id].clone();
        let letter = &mut ledger.letters.all[number];
        assert!(!letter.refused.holds(), "letter {number} was refused and yet delivered");
        assert!(names.contains(&letter.user), "a letter to {} came to {names:?}", letter.user);
        let times = letter.received_by.iter().filter(|id| **id == self.id).count();
        let named = names.iter().filter(|name| **name == letter.user).count();
        let may_come = times == 0 || self.is_text() && times < named;
        assert!(may_come, "letter {number} came {times} times before");
        letter.received_by.push(self.id);
        let sender = letter.visit;
        assert!(ledger.goes_by(sender, from), "letter {number} came from {from}");
    }

    /// Notes what it acknowledges: all that came on this connection, or a part of it.
    pub(crate) fn note_ack(&mut self, id: u64, ledger: &mut Ledger) {
        self.post.acknowledge(self.last_ref, id);
        let place = (self.user.clone(), id);
        ledger.letters.acks.push((ledger.authors[self.id], place));
    }
}

/// A letter written at rest comes to every connection of its user. Returns whether it was taken.
pub(crate) fn judge_letter(world: &World, number: usize) -> bool {
    let letter = &world.ledger.letters.all[number];
    if letter.refused != Refusal::None
        || world.visits[letter.visit].is_text() && was_refused(world, letter)
    {
        return false;
    }
    let is_meant = |id: &VisitId| {
        let visit = &world.visits[*id];
        visit.welcomed && visit.user == letter.user
    };
    let received: BTreeSet<VisitId> = letter.received_by.iter().copied().collect();
    let expected: BTreeSet<VisitId> = world.present().into_iter().filter(is_meant).collect();
    assert_eq!(received, expected, "a letter to {}", letter.user);
    true
}

fn was_refused(world: &World, letter: &Letter) -> bool {
    world.visits[letter.visit].unasked > 0
}

/// Judges what is missing of direct messages, when all is quiet and somebody has just asked for
/// all that is kept: each of `called` for one user. Returns how many messages it looked for.
pub(crate) fn judge(world: &World, called: &[(&str, VisitId)]) -> usize {
    for visit in &world.visits {
        judge_repetitions(world, visit);
    }
    let present = world.present();
    let sessions: Vec<_> = present.iter().filter_map(|id| world.visits[*id].session).collect();
    let different: BTreeSet<_> = sessions.iter().collect();
    assert_eq!(different.len(), sessions.len(), "a session lives on two connections");
    let mut looked_for = 0;
    for (user, id) in called {
        let asked = &world.visits[*id];
        for id in world.present() {
            judge_session(world, &world.visits[id], user);
        }
        looked_for += judge_user(world, user);
        judge_again(world, asked);
        judge_kept(world, asked);
        let is_whole = letters_of(world).whole_since == 0;
        let is_young = world.now.mono.since_ms(world.began) < age_ms(world);
        let letters = letters_of(world);
        let is_whole = is_whole && (letters.are_kept || letters.panics.floor(user) == 0);
        if ABSENT.contains(user) && is_young && is_whole {
            judge_absent(world, asked);
        }
    }
    looked_for
}

fn letters_of(world: &World) -> &Letters {
    &world.ledger.letters
}

/// What was queued and nobody acknowledged comes to who asks for all that is kept, also if somebody
/// has been told of it before.
fn judge_kept(world: &World, asked: &Visit) {
    let letters = letters_of(world);
    let user = asked.user.as_str();
    let acked = letters.acks.iter().filter(|(_, place)| place.0 == user);
    let acked = acked.map(|(_, place)| place.1).max().unwrap_or(0);
    // What a text client is told counts as acknowledged.
    if world.visits.iter().any(|visit| visit.is_text() && is_named(world, visit, user)) {
        return;
    }
    for (id, round) in letters.places(user).filter(|(id, _)| *id > acked) {
        let place = (user.to_owned(), id);
        let is_due = letters.queued.contains(&place) && letters.is_promised(&place);
        let came = letters.received_by(&place).contains(&asked.id);
        let is_there = came || letters.is_gone(&place, |_| true);
        assert!(!is_due || !is_young(world, round) || is_there, "{place:?} is not kept");
    }
}

fn age_ms(world: &World) -> u64 {
    world.plan.limits.offline_age_ms
}

/// Whether what was asked for in `round` cannot have been too old so far.
fn is_young(world: &World, round: u64) -> bool {
    world.now.mono.since_ms(world.clock[round as usize]) < age_ms(world)
}

/// What a session had and acknowledged does not come to who asks for all that is kept.
fn judge_again(world: &World, asked: &Visit) {
    let letters = &world.ledger.letters;
    let all = (asked.user.clone(), 0)..=(asked.user.clone(), u64::MAX);
    for ((user, id), number) in letters.seen.range(all) {
        let is_acked = |visit: &&Visit| {
            // What an earlier life of the server had not written when it ended counts for nothing.
            let counts = visit.life == world.life && !letters.is_of_lost_home(&(user.clone(), *id));
            counts && visit.user == *user && visit.post.struck.contains(id)
        };
        let came = letters.all[*number].received_by.contains(&asked.id);
        let by = world.visits.iter().find(is_acked).filter(|_| came);
        assert!(by.is_none(), "{user}'s {id} was acknowledged by {:?}, and came", by.map(|v| v.id));
    }
}

/// Of what was sent with one ref at most one was delivered, and where its sender was told.
fn judge_repetitions(world: &World, visit: &Visit) {
    let letters = &world.ledger.letters;
    for asked in visit.asked.values() {
        let Wish::Direct(numbers) = &asked.wish else {
            continue;
        };
        let told = numbers.iter().filter_map(|number| letters.all[*number].told);
        let told: Vec<u64> = told.map(|(id, _)| id).collect();
        if world.ledger.is_doubtful(&asked.wish) {
            continue;
        }
        assert!(told.len() <= 1, "a repeated request was delivered twice: {numbers:?}");
        if let (Some(id), Some((_, spot))) = (told.first(), asked.spot) {
            assert_eq!(*id, spot, "it was delivered at another place than told");
        }
    }
}

/// Every message that was taken came to somebody, or is said to be gone.
fn judge_user(world: &World, user: &str) -> usize {
    let letters = &world.ledger.letters;
    let places = letters.places(user).count();
    if may_lose_any(world, user) || places > FEW || world.plan.limits.offline_count == 0 {
        return 0;
    }
    for (id, _) in letters.places(user).filter(|(_, round)| is_young(world, *round)) {
        let place = (user.to_owned(), id);
        let is_there = !letters.received_by(&place).is_empty() || !letters.is_promised(&place);
        assert!(is_there || letters.is_gone(&place, |_| true), "{place:?} was lost");
    }
    places
}

fn is_named(world: &World, visit: &Visit, user: &str) -> bool {
    world.ledger.names[visit.id].iter().any(|name| name == user)
}

/// Whether what some connection of a user took may have got lost.
fn may_lose_any(world: &World, user: &str) -> bool {
    let mut its = world.visits.iter().filter(|visit| is_named(world, visit, user));
    its.any(|visit| may_lose(world, visit))
}

/// Whether what a connection took may have got lost behind it: text clients have no ACK, and who
/// says goodbye need not read what is on its way.
fn may_lose(world: &World, visit: &Visit) -> bool {
    let has_read_all = has_read_all(visit, &world.network.links[visit.link]);
    visit.is_text() || visit.hostile || ended_in_order(world, visit.id) && !has_read_all
}

/// Whether what a connection was told counts as taken, as far as can be known.
fn ended_in_order(world: &World, visit: VisitId) -> bool {
    let visit = &world.visits[visit];
    match world.network.links[visit.link].fate {
        None | Some(CloseReason::PeerClosed | CloseReason::SocketError) => visit.said_close(),
        Some(CloseReason::HeartbeatTimeout | CloseReason::SlowReader) => false,
        Some(CloseReason::Superseded | CloseReason::Draining) => false,
        Some(CloseReason::WorkerPanicked) => false,
        Some(_) => true,
    }
}

fn has_read_all(visit: &Visit, link: &Link) -> bool {
    let whole = link.shut_down && !link.cut && link.at_end();
    whole && visit.over && !link.is_abandoned() && link.client != ClientEnd::Reset
}

/// A session is told all, but for what another session of its user acknowledged, or was told live
/// while this one had no connection: a session that is only kept is not live, and no promise is
/// made to it of what others took meanwhile. Nor is it told what others took, and said goodbye,
/// before it was first told anything.
fn judge_session(world: &World, visit: &Visit, user: &str) {
    if visit.user != user {
        return;
    }
    let since = visit.post.since.unwrap_or(u64::MAX);
    let letters = &world.ledger.letters;
    let author = world.ledger.authors[visit.id];
    let its = |id: VisitId| world.ledger.authors[id] == author;
    let others = letters.acks.iter().filter(|(by, place)| *by != author && place.0 == user);
    let acked = others.map(|(_, place)| place.1).max().unwrap_or(0);
    let shared = world.visits.iter().any(|other| other.is_text() && is_named(world, other, user));
    if shared || !world.is_able(visit.id) || letters.places(user).count() > FEW {
        return;
    }
    let are_all_sure = !may_lose_any(world, user) && world.plan.limits.offline_count > 0;
    let due = letters.places(user).filter(|(id, _)| *id > acked);
    for (id, round) in due.filter(|(_, round)| is_young(world, *round)) {
        let place = (user.to_owned(), id);
        let is_old = round <= since;
        if is_old && !(are_all_sure && letters.is_promised(&place)) {
            continue;
        }
        if letters.is_of_lost_home(&place) && !letters.is_promised(&place) {
            continue;
        }
        let received_by = letters.received_by(&place);
        let is_there = received_by.iter().any(|id| its(*id));
        let is_taken = is_old && received_by.iter().any(|id| ended_in_order(world, *id));
        let is_gone = letters.is_gone(&place, |id| is_old || its(id));
        assert!(
            is_there || is_taken || is_gone || was_away(world, author, &place, round),
            "visit {} was not told {place:?} of round {round}, and knew since {since}",
            visit.id
        );
    }
}

/// Whether the session of `author` may have had no connection when others of its user were told
/// live of a message that was asked for in `round`: between the end of one connection and the
/// welcome of the next.
fn was_away(world: &World, author: VisitId, place: &Place, round: u64) -> bool {
    let Some(told) = letters_of(world).live.get(place) else {
        return false;
    };
    let told_at = world.clock[*told as usize];
    let its = world.visits.iter().filter(|visit| world.ledger.authors[visit.id] == author);
    let mut returns = its.filter(|visit| visit.resumed);
    returns.any(|visit| {
        let before = visit.goes_on.expect("it goes on with a session");
        let is_before_welcome = visit.greeted_round.is_some_and(|greeted| round <= greeted);
        is_before_welcome && told_at >= end_of(world, &world.visits[before])
    })
}

/// When a connection ended, as far as can be known: at the earliest when the server last heard of
/// it, where it was the server that ended it.
fn end_of(world: &World, visit: &Visit) -> Mono {
    let link = &world.network.links[visit.link];
    match (link.fate, visit.gone_round) {
        (
            None
            | Some(CloseReason::PeerClosed | CloseReason::SocketError | CloseReason::Superseded),
            Some(round),
        ) => world.clock[round as usize],
        _ => link.heard_at,
    }
}

/// Of who was never there exactly the oldest messages are gone.
fn judge_absent(world: &World, asked: &Visit) {
    let letters = &world.ledger.letters;
    let Plan { limits, .. } = &world.plan;
    let user = asked.user.as_str();
    let seen = letters.seen.range((user.to_owned(), 0)..=(user.to_owned(), u64::MAX));
    let kept = seen.filter(|(place, _)| !letters.live.contains_key(*place));
    let came: Vec<u64> = kept.map(|((_, id), _)| *id).collect();
    let gaps: Vec<_> = letters.gaps.iter().filter(|(visit, ..)| *visit == asked.id).collect();
    assert!(gaps.len() <= 1, "{user} was told of {gaps:?}");
    let first = came.first().copied().unwrap_or(u64::MAX);
    let gone = gaps.first().map(|(_, (_, from), to)| (*from, *to));
    if let Some((from, to)) = gone {
        assert!(to < first, "{user} was told {came:?} and that {from} to {to} are gone");
        let is_short = world.clients.iter().all(|client| client.character.body_max <= 300);
        // A message that could not be written may have driven out another before that was known.
        let has_failed = world.store.as_ref().is_some_and(|store| store.failures > 0);
        let is_short = is_short && !has_failed;
        let is_full = came.len() >= limits.offline_count;
        assert!(is_full || !is_short, "{user} was told {came:?} and a gap");
    }
    // What came while the others were on their way stands behind them, and may take their places.
    let is_behind = |id: &&u64| {
        let place = (user.to_owned(), **id);
        letters.accepted.contains_key(&place) && !letters.queued.contains(&place)
    };
    let kept = came.len() - came.iter().filter(is_behind).count();
    assert!(kept <= limits.offline_count, "more than is kept: {came:?}");
    let is_live = |id: &u64| letters.live.contains_key(&(user.to_owned(), *id));
    let known = letters.places(user).map(|(id, _)| id).filter(|id| !is_live(id));
    let known: Vec<u64> = known.collect();
    for id in &known {
        let is_gone = gone.is_some_and(|(from, to)| (from..=to).contains(id));
        assert!(came.contains(id) != is_gone, "{user}'s {id}: {came:?} came, {gone:?} is gone");
    }
    // Every message of which a sender knows nothing may be at the ends of the gap, too.
    let unknown =
        letters.all.iter().filter(|letter| letter.user == user && !letter.refused.holds());
    let unknown = unknown.filter(|letter| letter.told.is_none()).count();
    let gone_known = known.iter().filter(|id| !came.contains(id)).count();
    if let Some((from, to)) = gone.filter(|_| unknown == gone_known) {
        let ends = (known.first().copied(), known.iter().rfind(|id| !came.contains(id)).copied());
        assert_eq!(ends, (Some(from), Some(to)), "{user}'s gap, of {known:?}");
    }
}
