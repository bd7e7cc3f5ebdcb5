//! What must be true.
//!
//! Owns the judgement of a run from outside: of silence in every round, of every stream of messages
//! and of presence when all is quiet, and of what is left at the end. It panics where something is
//! not as the contract has it.

use std::collections::BTreeSet;

use corebeat::base::counters::{CloseReason, Counters};
use corebeat::base::limits::{LINGER_MS, PAST_EPOCHS_MAX};
use corebeat::base::time::Mono;
use corebeat::chat::holdings::Holdings;
use corebeat::wire::message::Code;

use super::ledger::{Ledger, Spot};
use super::letters;
use super::network::{ClientEnd, Link, ServerEnd};
use super::panics::judge_panics;
use super::plan::{EVERYONE, Plan, ROOMS};
use super::stay::{Item, Stay};
use super::visit::{Visit, Wish};
use super::world::World;

/// How much later than at its time-out a connection may be gone: ticks, turns, the last words.
const REAPING_MS: u64 = LINGER_MS + 2_500;

/// Numbers of all shards may be so late where letters are slow or mailboxes small.
const NUMBERS_MS: u64 = 30_000;
/// From one turn of a worker to its next: rounds of 10 ms on average, of which a worker may have no
/// more than three in ten, and twice that because chance is not even.
const TURN_MS: u64 = 70;

/// How often something was compared, so that a test can tell that it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) rosters: usize,
    pub(crate) totals: usize,
    pub(crate) letters: usize,
    /// Direct messages of the storm.
    pub(crate) directs: usize,
    /// Clients that were away for too long, and in time, while others watched.
    pub(crate) absences: usize,
    pub(crate) blinks: usize,
}

/// Judges that whoever is silent for too long is gone.
pub(crate) fn judge_silence(world: &World) {
    for client in &world.clients {
        let Some(visit) = client.visit.map(|id| &world.visits[id]) else {
            continue;
        };
        let link = &world.network.links[visit.link];
        let worker = &world.workers[link.worker];
        let gone = link.server != ServerEnd::Open || link.client == ClientEnd::Reset;
        if gone || visit.hostile && !visit.foreign || !worker.is_attentive(world.now) {
            continue;
        }
        // It may have asked for numbers, whose letters stand behind all others.
        let asks_for_numbers = worker.shard.holdings().stats_askers > 0;
        let is_slow = world.plan.slow_mail > 0 || world.plan.mailbox_capacity < 1_000;
        let numbers_ms = match visit.foreign && asks_for_numbers && is_slow {
            true => NUMBERS_MS,
            false => 0,
        };
        let limits = &world.plan.limits;
        let timeout_ms = match () {
            () if visit.foreign => 3 * limits.handshake_timeout_ms,
            () if !visit.welcomed => continue,
            () if visit.is_text() => limits.text_idle_timeout_ms,
            () => visit.timeout_ms,
        };
        // One of its requests may wait for another shard that is held up.
        let held_up = world.workers.iter().map(|worker| worker.starved_until).max();
        let waited = held_up.filter(|_| visit.foreign).unwrap_or_default();
        let since = link.heard_at.max(worker.disturbed_at).max(world.jumped_at).max(waited);
        let silent_ms = world.now.mono.since_ms(since);
        // A turn takes so many timers and no more, and all others of the worker may be due before
        // this one's: at its time-out, and again when it has lingered.
        let turns = 2 * worker.shard.connections() / limits.timer_budget;
        let budget_ms = turns as u64 * TURN_MS;
        assert!(
            silent_ms <= timeout_ms + REAPING_MS + budget_ms + numbers_ms,
            "visit {} ({:?}, foreign: {}) was silent for {silent_ms} ms and is not closed",
            visit.id,
            visit.speech,
            visit.foreign
        );
    }
}

/// Judges every stream of messages, when all is quiet.
pub(crate) fn judge_streams(world: &World) {
    judge_epochs(world);
    let present = world.present();
    for visit in &world.visits {
        let here = present.contains(&visit.id) && !visit.finished;
        for room in 0..ROOMS.len() {
            judge_room(world, visit, room, here);
        }
        judge_answers(world, visit, here);
    }
}

/// Judges that a room of which something is kept goes on in its epoch, also where the server began
/// anew meanwhile. Those of `*` go on for ever.
fn judge_epochs(world: &World) {
    let keeps = world.plan.keeping().exactly.is_some_and(|count| count > 0);
    let is_young = world.now.mono.since_ms(world.began) < world.plan.limits.history_age_ms;
    let has_place = world.plan.limits.max_rooms >= ROOMS.len();
    if keeps && is_young && has_place {
        for (room, name) in ROOMS.iter().enumerate().filter(|(room, _)| !world.forgetful[*room]) {
            let epochs = world.ledger.epochs(room);
            assert!(epochs.len() <= 1, "{name} began other epochs: {epochs:?}");
        }
    }
}

fn judge_answers(world: &World, visit: &Visit, here: bool) {
    if here && world.is_able(visit.id) {
        assert!(visit.is_answered(), "visit {} waits for an answer: {visit:#?}", visit.id);
    }
    for asked in visit.asked.values() {
        let Wish::Publish(ids) = &asked.wish else {
            continue;
        };
        if world.ledger.is_doubtful(&asked.wish) {
            continue;
        }
        let seen: Vec<_> = ids.iter().filter_map(|id| world.ledger.messages[*id].spot).collect();
        assert!(seen.len() <= 1, "a repeated request was delivered twice: {ids:?}");
        if let (Some(spot), Some(told)) = (seen.first(), asked.spot) {
            assert_eq!((spot.1, spot.2), told, "it was delivered at another place than told");
        }
    }
}

fn judge_room(world: &World, visit: &Visit, room: usize, here: bool) {
    let view = &visit.rooms[room];
    let mut unexplained = 0;
    for stay in view.stays().filter(|stay| !stay.is_unclear) {
        let goes_on = view.stay.as_ref().is_some_and(|last| std::ptr::eq(last, stay));
        let member = visit.is_text() || room == EVERYONE || view.is_member() == Some(true);
        let present = here && goes_on && member;
        unexplained += if visit.is_text() {
            judge_lines(world, visit, room, stay, present)
        } else {
            judge_stay(world, visit, room, stay, present)
        };
        judge_beginning(world, visit, room, stay, present);
    }
    let excuse = if unexplained > 0 { world.ledger.unplaced(visit.id, room) } else { 0 };
    assert!(
        unexplained <= excuse,
        "visit {} misses {unexplained} messages of {}, and {excuse} may be its own",
        visit.id,
        ROOMS[room]
    );
}

/// Judges one stay of a native client; returns how many missing messages nobody knows.
fn judge_stay(world: &World, visit: &Visit, room: usize, stay: &Stay, present: bool) -> usize {
    let Some(epoch) = stay.epoch else {
        return 0;
    };
    let mut unexplained = 0;
    let is_past = |seq| stay.recall.is_some_and(|recall| seq <= recall.head);
    let mut explain = |after: Option<u64>, before: u64| {
        for seq in after.map_or(before, |after| after + 1)..before {
            match world.ledger.withheld_from((room, epoch, seq), visit.id) {
                Some(true) if !is_past(seq) => {}
                None if !is_past(seq) => unexplained += 1,
                _ => {
                    panic!(
                        "visit {} misses message {seq} of {} in {stay:?} after {:?}",
                        visit.id, ROOMS[room], visit.rooms[room].moves
                    )
                }
            }
        }
    };
    judge_gaps(world, visit, room, stay, epoch);
    let mut last = stay.begins_after();
    for item in &stay.items {
        let (first, next) = match *item {
            Item::Message(seq) => (seq, seq),
            Item::Gap(from, to) => (from, to),
            Item::Line(_) | Item::GapOf(_) => unreachable!("native clients are told seqs"),
        };
        explain(last, first);
        last = Some(next);
    }
    // Where the room's history began anew meanwhile, the client learns it by the next message.
    let of_room = world.ledger.seen.range((room, 0, 0)..(room + 1, 0, 0));
    let is_anew = stay.resumed.is_some() && of_room.into_iter().any(|(spot, _)| spot.1 != epoch);
    // A replay that had not come to an epoch, which was forgotten before it did, tells nothing of
    // it but that something is gone of the one that it had come to.
    let may_be_untold = stay.is_ahead_of_its_replay() || stay.may_have_lost_its_rest();
    let is_untold = may_be_untold && may_forget_epochs(world, room);
    let is_whole = present && !is_anew || stay.is_outlived && !is_untold;
    // A GAP stands for all that was lost with the room's home, however much that was.
    let is_cut_off = visit.rooms[room].home_panics.lose_tails && stay.ends_with_a_gap();
    let last_told = || world.ledger.last_seq_in(room, epoch, visit.life);
    let end = stay.end.or_else(|| (is_whole && !is_cut_off).then(last_told));
    if let Some(end) = end {
        explain(last, end + 1);
    }
    unexplained
}

/// Whether a room may have forgotten an epoch that had ended: it keeps so many, and none where it
/// keeps no message, or dropped all that it had at once.
fn may_forget_epochs(world: &World, room: usize) -> bool {
    let limits = &world.plan.limits;
    world.ledger.epochs(room).len() > PAST_EPOCHS_MAX + 1
        || limits.history_count == 0
        || world.now.mono.since_ms(world.began) > limits.history_age_ms
        || sum_of(world).histories_dropped > 0
}

/// A gap names what was dropped and nothing else: never what the client itself said. Where messages
/// are lost between shards, or histories are replayed in part, nobody knows whose those were.
fn judge_gaps(world: &World, visit: &Visit, room: usize, stay: &Stay, epoch: u32) {
    let is_replayed = visit.rooms[room].home_panics.were_any;
    if stay.recall.is_some() || stay.resumed.is_some() || is_replayed || sum_of(world).shed > 0 {
        return;
    }
    for item in &stay.items {
        let Item::Gap(from, to) = *item else {
            continue;
        };
        // What was said in a session that it asked for in vain is not its own.
        let asked_in_vain = visit.goes_on.is_some() && !visit.resumed;
        let said_it = |spot| {
            let said = world.ledger.seen.get(&spot).map(|id| &world.ledger.messages[*id]);
            said.is_some_and(|said| said.visit == visit.id)
        };
        for spot in (from..=to).map(|seq| (room, epoch, seq)) {
            let is_withheld = world.ledger.withheld_from(spot, visit.id) == Some(true);
            let is_own = is_withheld && (!asked_in_vain || said_it(spot));
            assert!(!is_own, "{} of {from} to {to} is {}'s own", spot.2, visit.id);
        }
    }
}

/// Judges one stay of a text client. Where native clients told the places of what it saw, the
/// messages between must be its own.
fn judge_lines(world: &World, visit: &Visit, room: usize, stay: &Stay, present: bool) -> usize {
    let ledger = &world.ledger;
    let mut last: Option<(u32, u64)> = None;
    // Messages since then that were seen, or announced as not sent, but whose place is unknown.
    let mut between = 0;
    let (mut unexplained, told) = (0, spots_told(ledger, stay));
    let mut explain = |epoch: u32, after: u64, before: u64, between: u64| {
        let withheld = |spot: &Spot| ledger.withheld_from(*spot, visit.id);
        let spots = (after + 1..before).map(|seq| (room, epoch, seq));
        let missing = spots.filter(|spot| !told.contains(spot) && withheld(spot) != Some(true));
        let (known, unknown): (Vec<Spot>, _) = missing.partition(|spot| withheld(spot).is_some());
        let missing = (known.len() + unknown.len()) as u64;
        if missing > between {
            let rest = (missing - between) as usize;
            assert!(
                rest <= unknown.len(),
                "visit {} misses some of {known:?} of {} in {stay:?}",
                visit.id,
                ROOMS[room]
            );
            unexplained += rest;
        }
        // What was shown again may stand behind a line that follows it: that one is still to count.
        if visit.has_recalled { between.saturating_sub(missing) } else { 0 }
    };
    for item in &stay.items {
        match *item {
            Item::GapOf(count) => between += count,
            Item::Line(id) => match ledger.messages[id].spot {
                None => between += 1,
                Some((_, epoch, seq)) => {
                    let renewed = visit.rooms[room].may_renew_epochs;
                    if let Some((last_epoch, last_seq)) =
                        last.filter(|(last_epoch, _)| !renewed || *last_epoch == epoch)
                    {
                        assert_eq!(last_epoch, epoch, "the epoch changed within a stay");
                        if seq < last_seq && visit.has_recalled {
                            // It was shown again, and not told in its time: a gap, or before.
                            continue;
                        }
                        assert!(seq > last_seq, "message {id} came after {last_seq}");
                        between = explain(epoch, last_seq, seq, between);
                    } else if !visit.has_recalled {
                        // Only where nothing was shown again is the first one that is known not
                        // older than those before it.
                        between = 0;
                    }
                    last = Some((epoch, seq));
                }
            },
            Item::Message(_) | Item::Gap(..) => unreachable!("text clients are told no seqs"),
        }
    }
    let is_cut_off = visit.rooms[room].home_panics.lose_tails && has_gap_at_end(ledger, stay);
    if let Some((epoch, seq)) = last.filter(|_| present && !is_cut_off) {
        let seq = seq.max(lost_before(world, visit, room, epoch));
        explain(epoch, seq, ledger.last_seq(room, epoch) + 1, between);
    }
    unexplained
}

/// The last place of an epoch that may have been lost with the server's former life, from behind
/// something that the visit may have been shown again.
fn lost_before(world: &World, visit: &Visit, room: usize, epoch: u32) -> u64 {
    match visit.life.checked_sub(1).filter(|_| visit.has_recalled) {
        Some(former) if world.plan.may_renew_epochs() => {
            world.ledger.last_seq_in(room, epoch, former)
        }
        _ => 0,
    }
}

/// Whether a gap stands behind the last line whose place is known. What follows the gap may be of
/// the next epoch.
fn has_gap_at_end(ledger: &Ledger, stay: &Stay) -> bool {
    let has_no_place = |item: &&Item| match item {
        Item::Line(id) => ledger.messages[*id].spot.is_none(),
        _ => false,
    };
    let last = stay.items.iter().rev().find(|item| !has_no_place(item));
    matches!(last, Some(Item::GapOf(_)))
}

/// The places of what a text client was told. What came live may be shown among older messages
/// later, and stands where it first came.
fn spots_told(ledger: &Ledger, stay: &Stay) -> BTreeSet<Spot> {
    let spot_of = |item: &Item| match *item {
        Item::Line(id) => ledger.messages[id].spot,
        _ => None,
    };
    stay.items.iter().filter_map(spot_of).collect()
}

/// Judges that a stay without a known head did not begin too late: what was said after the client
/// knew that it was in must be in it.
fn judge_beginning(world: &World, visit: &Visit, room: usize, stay: &Stay, present: bool) {
    let Some(known_since) = stay.known_since.filter(|_| stay.head.is_none()) else {
        return;
    };
    // A worker that had not heard of the epoch cannot say what was lost of it.
    if room == EVERYONE && visit.rooms[room].home_panics.lose_tails {
        return;
    }
    let ledger = &world.ledger;
    let first = match stay.items.first() {
        None if present => None,
        Some(Item::Message(seq)) => stay.epoch.map(|epoch| (epoch, *seq)),
        Some(Item::Line(id)) => match ledger.messages[*id].spot {
            Some((_, epoch, seq)) => Some((epoch, seq)),
            None => return,
        },
        None | Some(Item::Gap(..) | Item::GapOf(_)) => return,
    };
    for (spot, id) in ledger.seen.iter().filter(|(spot, _)| spot.0 == room) {
        let message = &ledger.messages[*id];
        let before = first.is_none_or(|(epoch, seq)| spot.1 == epoch && spot.2 < seq);
        let own = message.visit == visit.id && !message.echo;
        assert!(
            !before || own || message.round <= known_since,
            "visit {} was in {} since {known_since} and misses {spot:?}",
            visit.id,
            ROOMS[room]
        );
    }
}

/// Who is in a room.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    pub(crate) sure: BTreeSet<&'a str>,
    /// Users of clients that fell silent before they could clear up whether they are in.
    pub(crate) unsure: BTreeSet<&'a str>,
}

impl<'a> Members<'a> {
    /// The users who are in each room.
    pub(crate) fn of_rooms(world: &'a World) -> Vec<Members<'a>> {
        let present: Vec<&Visit> = world.present().iter().map(|id| &world.visits[*id]).collect();
        let in_room = |room: usize| {
            let users = |is_in: Option<bool>| {
                let there = present.iter().filter(|visit| visit.is_in(room) == is_in);
                there.map(|visit| visit.user.as_str()).collect()
            };
            Members { sure: users(Some(true)), unsure: users(None) }
        };
        (0..ROOMS.len()).map(in_room).collect()
    }

    fn judge_names(&self, told: &BTreeSet<&str>, place: &str) {
        let known = told.iter().all(|user| self.sure.contains(user) || self.unsure.contains(user));
        assert!(known && self.sure.is_subset(told), "{place}: {told:?} told, {self:?} true");
    }

    fn judge_total(&self, total: u32, place: &str) {
        let most = self.sure.union(&self.unsure).count();
        let range = self.sure.len()..=most;
        assert!(range.contains(&(total as usize)), "{place}: {total} told, {self:?} true");
    }

    fn judge_user(&self, user: &str, here: bool, place: &str) {
        let sure = self.sure.contains(user);
        let right = sure == here || self.unsure.contains(user);
        assert!(right, "{place}: {user} is here: {here} was told, {self:?} true");
    }
}

/// Judges rosters, presence and letters, when all is quiet.
pub(crate) fn judge_rest(world: &World, written: &[usize], checked: &mut Checked) {
    judge_streams(world);
    let members = Members::of_rooms(world);
    for visit in world.present().iter().map(|id| &world.visits[*id]) {
        for roster in &visit.rosters {
            let told: BTreeSet<&str> = roster.users.iter().map(String::as_str).collect();
            let place = format!("visit {} asked who is in {}", visit.id, ROOMS[roster.room]);
            members[roster.room].judge_names(&told, &place);
            assert_eq!(told.len(), roster.total as usize, "{place}");
            checked.rosters += 1;
        }
        for room in (0..ROOMS.len()).filter(|room| visit.is_in(*room) == Some(true)) {
            judge_presence(world, visit, room, &members[room], checked);
        }
        judge_asked_rooms(world, visit, &members);
    }
    for number in written {
        checked.letters += usize::from(letters::judge_letter(world, *number));
    }
}

/// Whoever asked who is in a room that has members was told.
fn judge_asked_rooms(world: &World, visit: &Visit, members: &[Members<'_>]) {
    if visit.is_text() || !world.is_able(visit.id) {
        return;
    }
    for room in (EVERYONE + 1..world.plan.rooms).filter(|room| !members[*room].sure.is_empty()) {
        let told = visit.rosters.iter().any(|roster| roster.room == room) || visit.unasked > 0;
        assert!(told, "visit {} was not told who is in {}", visit.id, ROOMS[room]);
    }
}

fn judge_presence(
    world: &World,
    visit: &Visit,
    room: usize,
    members: &Members<'_>,
    checked: &mut Checked,
) {
    let view = &visit.rooms[room];
    if !visit.is_text() && !view.wants_presence() {
        return;
    }
    let place = format!("visit {} in {}", visit.id, ROOMS[room]);
    // Whoever changed its name is not told how that changed the total.
    let renamed = world.ledger.names[visit.id].len() > 1;
    if let Some(total) = view.total.filter(|_| !renamed) {
        members.judge_total(total, &place);
        checked.totals += 1;
    }
    for (user, here) in &view.users {
        // Whoever changed its name, or has a namesake, is not told all of its own name.
        if !world.ledger.goes_by(visit.id, user) {
            members.judge_user(user, *here, &place);
        }
    }
}

/// Judges what is left when everybody is gone.
pub(crate) fn judge_end(world: &World) {
    let mut counters = Counters::default();
    for worker in &world.workers {
        let holdings = worker.shard.holdings();
        assert_eq!(holdings, Holdings::default(), "something is left behind");
        let mut own = Counters::default();
        own.add(worker.shard.counters());
        assert_eq!(own.opened, worker.opened);
        assert_eq!(own.bytes_out, worker.bytes_written, "bytes to the kernel were miscounted");
        assert_eq!(own.bytes_in, worker.bytes_read, "bytes from the kernel were miscounted");
        assert_eq!(own.closed.iter().sum::<u64>(), own.opened, "closed as often as opened");
        counters.add(&own);
    }
    // Those of a shard that is thrown away, and those to it, are lost.
    let lost = counters.mail_out - counters.mail_in;
    assert!(lost == 0 || world.lives.iter().any(|life| *life > 0), "{lost} letters were lost");
    counters.add(&world.past);
    judge_panics(world);
    let received: u64 = world.visits.iter().map(|visit| visit.received).sum();
    let handed = counters.delivered + counters.replayed;
    let dropped = count_dropped(&counters);
    assert!(received + dropped <= handed, "{received} received, {dropped} dropped of {handed}");
    let was_starved = world.workers.iter().any(|worker| worker.was_starved);
    if world.plan.steady() && world.plan.limits.timer_budget > 10 && !was_starved {
        assert_eq!(counters.amnesties, 0, "nothing was late and yet silence was forgiven");
    }
    judge_refusals(world, &counters);
    if let Some(store) = &world.store {
        // The last place in the room `*`, which is never forgotten.
        assert!(store.keys() <= 1, "{} keys are left in the store", store.keys());
    }
    for visit in &world.visits {
        let link = &world.network.links[visit.link];
        judge_farewell(visit, link, world.plan.limits.max_sessions_per_user);
        judge_errors(world, visit);
    }
}

/// Whoever has the key of a session is refused only if there is no such session any more.
fn judge_refusals(world: &World, counters: &Counters) {
    let was_refused = |visit: &&Visit| {
        let reason = world.network.links[visit.link].fate;
        reason == Some(CloseReason::Overloaded) && visit.claims_rightly
    };
    let refused = world.visits.iter().filter(was_refused).count() as u64;
    let can_be_resumed = world.plan.limits.resume_window_ms > 0;
    assert!(!can_be_resumed || refused <= counters.resumes_denied, "{refused} were refused");
    assert!(counters.overload_refused == 0 || world.plan.pressure > 0);
}

/// Judges how a connection ended.
fn judge_farewell(visit: &Visit, link: &Link, sessions_max: usize) {
    if visit.foreign || link.crashed {
        return;
    }
    let heard_all = link.shut_down && !link.cut && link.at_end() && link.client != ClientEnd::Reset;
    if heard_all && visit.over && !link.is_abandoned() {
        // What is fetched is no message, and ends where its worker panicked.
        let is_cut_short = link.fate == Some(CloseReason::WorkerPanicked) && visit.is_fetching();
        assert!(is_cut_short || visit.inbox.is_empty(), "half a message came: {visit:#?}");
        visit.judge_close(link.fate);
        let last_word = match link.fate {
            Some(CloseReason::HeartbeatTimeout | CloseReason::TextIdle) => Some(Code::Timeout),
            Some(CloseReason::FrameTimeout) => Some(Code::Timeout),
            Some(CloseReason::SlowReader | CloseReason::StalledReader) => Some(Code::SlowReader),
            Some(CloseReason::OverLimit) if sessions_max == 1 => Some(Code::Conflict),
            Some(CloseReason::OverLimit) => Some(Code::TooMany),
            Some(CloseReason::Overloaded) => Some(Code::Unavailable),
            // Whoever had not said anything that tells what it speaks cannot be told anything.
            Some(CloseReason::WorkerPanicked) if visit.welcomed => Some(Code::Unavailable),
            Some(CloseReason::Malformed) => Some(Code::Malformed),
            Some(CloseReason::TooLarge) => Some(Code::TooLarge),
            _ => None,
        };
        let panicked = link.fate == Some(CloseReason::WorkerPanicked) && !visit.is_text();
        let drained = link.fate == Some(CloseReason::Draining) || panicked;
        let drained = drained && visit.welcomed;
        assert!(visit.told_to_go || !drained, "visit {} was not told to go", visit.id);
        if let Some(code) = last_word {
            // Whoever did not read a page that it asked for is told nothing.
            let told = visit.errors.contains(&code) || visit.is_fetching();
            assert!(told, "visit {} was closed without being told {code:?}", visit.id);
        }
    }
    let reason = link.fate;
    let asked_to = visit.hostile || visit.finished || visit.over;
    let by_end = reason == Some(CloseReason::PeerClosed) && !visit.said_close();
    if by_end && visit.finished && !visit.hostile && !visit.mute {
        judge_last_answers(visit, link);
    }
    let tidy = matches!(reason, Some(CloseReason::Bye | CloseReason::PeerClosed)) && !asked_to;
    assert!(!tidy, "visit {} was closed as {reason:?} and did not ask for it", visit.id);
}

/// Who sends the end after its requests gets the answers first, if they come in time.
fn judge_last_answers(visit: &Visit, link: &Link) {
    let (Some(ended_at), Some(dropped_at)) = (link.ended_at, link.dropped_at) else {
        return;
    };
    let in_time = dropped_at.since_ms(ended_at) < LINGER_MS;
    let heard_all = !link.cut && !link.is_abandoned() && link.client != ClientEnd::Reset;
    if in_time && heard_all && visit.over && visit.welcomed {
        assert!(visit.is_answered(), "visit {} ended without answers: {visit:#?}", visit.id);
    }
}

/// Judges the errors that a client did not provoke.
fn judge_errors(world: &World, visit: &Visit) {
    if visit.hostile {
        return;
    }
    let character = world.clients.iter().map(|client| &client.character);
    let prompt = character
        .filter(|character| character.speech == visit.speech)
        .all(|character| world.plan.is_prompt(character));
    // It stopped reading for longer than the heartbeat that it wished for allows.
    let quick = visit.timeout_ms < u64::from(world.plan.policy.timeout_s) * 1_000;
    let excused = visit.mute || visit.finished || visit.stopped && quick;
    for code in &visit.errors {
        let allowed = match code {
            Code::Timeout if visit.is_text() => {
                excused || !world.plan.steady() || may_be_too_late(world, visit)
            }
            Code::Timeout => excused || !prompt || !visit.welcomed,
            Code::SlowReader => !world.plan.is_roomy() || visit.stopped,
            Code::Malformed | Code::Unauthorized => false,
            Code::Conflict => world.plan.limits.max_sessions_per_user == 1,
            Code::Forbidden => !world.plan.publish_everyone,
            Code::NotFound | Code::TooLarge | Code::TooMany | Code::Unavailable => true,
        };
        assert!(allowed, "visit {} was told {code:?}", visit.id);
    }
}

/// Whether a text client may have been told in place of a welcome that its first line came too
/// late: because it did, or because it names a user of whom another shard is asked, which may
/// answer late where letters are slow or mailboxes small.
fn may_be_too_late(world: &World, visit: &Visit) -> bool {
    let Plan { limits, slow_mail, mailbox_capacity, .. } = &world.plan;
    let link = &world.network.links[visit.link];
    let is_late = |at: Mono| at.since_ms(link.opened_at) >= limits.handshake_timeout_ms;
    let asks = limits.max_sessions_per_user > 0 && !world.ledger.names[visit.id][0].is_empty();
    let is_slow = *slow_mail > 0 || *mailbox_capacity < 1_000;
    !visit.welcomed && (link.first_heard_at.is_none_or(is_late) || asks && is_slow)
}

/// What all workers counted.
pub(crate) fn sum_of(world: &World) -> Counters {
    let mut sum = world.past;
    for worker in &world.workers {
        sum.add(worker.shard.counters());
    }
    sum
}

/// Copies of messages that were dropped because their members did not read.
pub(crate) fn count_dropped(counters: &Counters) -> u64 {
    counters.overflow_drop_oldest + counters.overflow_drop_newest + counters.overflow_latest_only
}

/// How many gaps were told.
pub(crate) fn count_gaps(world: &World) -> usize {
    let views = world.visits.iter().flat_map(|visit| &visit.rooms);
    let items = views.flat_map(|view| view.stays()).flat_map(|stay| &stay.items);
    items.filter(|item| matches!(item, Item::Gap(..) | Item::GapOf(_))).count()
}

/// What is left where nothing should be.
pub(crate) fn leftovers(world: &World) -> String {
    let holdings: Vec<_> = world
        .workers
        .iter()
        .map(|worker| (worker.shard.holdings(), worker.shard.next_deadline()))
        .collect();
    let open = world.network.links.iter().filter(|link| link.server != ServerEnd::Gone);
    let open: Vec<&Link> = open.collect();
    format!("something is left behind: {holdings:?} {open:?}")
}
