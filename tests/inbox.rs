//! A user's inbox against a naive model: every message with everybody who ever had to do with it.
//!
//! The model knows nothing of cursors and lists. It holds, of each message, which sessions were
//! told it and which acknowledged it, and from that alone what must, may and must not be told next.

use std::collections::{BTreeMap, BTreeSet};

use corebeat::base::ids::{Address, ConnId, SessionId, ShardId};
use corebeat::base::limits::TOLD_MAX;
use corebeat::base::name::Name;
use corebeat::base::time::Mono;
use corebeat::chat::changes::{Change, Changes};
use corebeat::chat::direct::Direct;
use corebeat::chat::inbox::{Inbox, QueueBounds, Route, Terms};
use corebeat::chat::mail::Ending;

/// A message as the model has it.
#[derive(Debug, Default)]
struct Fact {
    /// It is promised: its sender was told that it waits, or it came back from a broken session.
    promised: bool,
    /// Handed to these, live or in a page, in the connection that they have.
    told_to: BTreeSet<u32>,
    /// Some session that had ever been told it named it, or a later one, in an ACK.
    is_excused: bool,
    /// Acknowledged by these.
    acked_by: BTreeSet<u32>,
}

/// A session as the model has it.
#[derive(Debug)]
struct Session {
    address: Address,
    is_live: bool,
    last_paged: u64,
    /// What it was told in this connection.
    heard: BTreeSet<u64>,
}

struct Model {
    inbox: Inbox,
    changes: Changes,
    bounds: QueueBounds,
    head: u64,
    facts: BTreeMap<u64, Fact>,
    /// What a copy of the queue made of the changes holds.
    copy: BTreeSet<u64>,
    sessions: BTreeMap<u32, Session>,
    kept: BTreeMap<u32, Address>,
    /// Messages that the inbox dropped and is to say so.
    dropped: BTreeSet<u64>,
    /// Those, and the ones that were said.
    ever_dropped: BTreeSet<u64>,
    next_session: u32,
    next_address: usize,
}

impl Model {
    fn new(bounds: QueueBounds) -> Model {
        Model {
            inbox: Inbox::new(Name::new("bob"), std::iter::empty(), 0),
            changes: Changes { gathers: true, ..Changes::default() },
            bounds,
            head: 0,
            facts: BTreeMap::new(),
            copy: BTreeSet::new(),
            sessions: BTreeMap::new(),
            kept: BTreeMap::new(),
            dropped: BTreeSet::new(),
            ever_dropped: BTreeSet::new(),
            next_session: 0,
            next_address: 0,
        }
    }

    fn with<R>(&mut self, operation: impl FnOnce(&mut Inbox, &mut Terms<'_>) -> R) -> R {
        let (bounds, head) = (self.bounds, self.head);
        let (now_ms, kept_until) = (self.head, Mono(1_000_000));
        let changes = &mut self.changes;
        let mut terms = Terms { bounds, now_ms, head, kept_until, changes };
        let result = operation(&mut self.inbox, &mut terms);
        for change in self.changes.list.drain(..) {
            match change {
                Change::Queued(direct) => {
                    assert!(self.copy.insert(direct.id()), "queued twice");
                    self.facts.get_mut(&direct.id()).expect("it was sent").promised = true;
                }
                Change::Struck { id, reason } => {
                    assert!(self.copy.remove(&id), "struck, and was not there");
                    if reason == corebeat::chat::changes::Strike::Dropped {
                        self.dropped.insert(id);
                        self.ever_dropped.insert(id);
                    }
                }
                Change::Missing(_) => {}
            }
        }
        assert_eq!(self.copy.len(), self.inbox.queued(), "the changes tell the whole queue");
        result
    }

    fn send(&mut self) {
        self.head += 1;
        let direct = Direct::new(self.head, self.head, "ann", b"psst");
        self.facts.insert(self.head, Fact::default());
        let live: Vec<u32> =
            self.sessions.iter().filter(|(_, s)| s.is_live).map(|(n, _)| *n).collect();
        match self.inbox.route(true) {
            route @ (Route::Queue | Route::Behind) => {
                assert_eq!(route == Route::Queue, self.sessions.is_empty());
                assert!(live.is_empty(), "somebody live is not told");
                self.with(|inbox, terms| inbox.queue(direct, terms));
            }
            Route::Tell => {
                assert!(!live.is_empty());
                assert_eq!(self.inbox.live().count(), live.len());
                self.with(|inbox, _| inbox.tell(direct, true));
                let head = self.head;
                for number in live {
                    self.hear(number, head);
                }
            }
        }
    }

    /// A session is handed a message. Never twice in one connection, and never once acknowledged.
    fn hear(&mut self, number: u32, id: u64) {
        let fact = self.facts.get_mut(&id).unwrap();
        assert!(!fact.acked_by.contains(&number), "{number} had acknowledged {id}");
        fact.told_to.insert(number);
        let session = self.sessions.get_mut(&number).unwrap();
        assert!(session.heard.insert(id), "{number} was told {id} twice in one connection");
    }

    fn address(&mut self) -> Address {
        self.next_address += 1;
        Address::new(ShardId(0), ConnId::new(self.next_address, 0))
    }

    fn begin(&mut self) {
        let address = self.address();
        self.next_session += 1;
        let identity = identity(self.next_session);
        self.with(|inbox, terms| inbox.greet(identity, address, 0, terms));
        self.add(self.next_session, address);
    }

    fn resume(&mut self, number: u32) {
        let address = self.address();
        self.kept.remove(&number);
        self.with(|inbox, terms| inbox.resume(identity(number), address, usize::MAX, terms));
        self.add(number, address);
    }

    fn add(&mut self, number: u32, address: Address) {
        let session = Session { address, is_live: false, last_paged: 0, heard: BTreeSet::new() };
        self.sessions.insert(number, session);
    }

    /// One page, of a few messages.
    fn page(&mut self, number: u32, budget: usize) {
        let session = &self.sessions[&number];
        let (address, mut last) = (session.address, session.last_paged);
        let was_live = session.is_live;
        let mut page = Vec::new();
        let missing =
            self.with(|inbox, terms| inbox.page(address, budget, terms, |d| page.push(d.id())));
        if let Some(missing) = missing {
            self.dropped.retain(|id| !(missing.from..=missing.to).contains(id));
        }
        for id in &page {
            assert!(*id > last, "pages are in order");
            last = *id;
            self.hear(number, *id);
        }
        let session = self.sessions.get_mut(&number).unwrap();
        session.last_paged = last;
        session.is_live |= page.is_empty();
        if page.is_empty() && !was_live {
            // At the seam it has been told all that was promised and is still kept, and all that
            // others were told and nobody took.
            let heard = &self.sessions[&number].heard;
            let missed: Vec<_> = self.due().difference(heard).copied().collect();
            assert!(missed.is_empty(), "{number} was not told {missed:?}");
        }
    }

    /// What waits for somebody to take it.
    fn due(&self) -> BTreeSet<u64> {
        let told = self.facts.range(self.oldest_sure()..).filter(|(id, fact)| {
            !fact.is_excused && fact.acked_by.is_empty() && !self.ever_dropped.contains(id)
        });
        told.map(|(id, _)| *id).chain(self.copy.iter().copied()).collect()
    }

    /// From this message on none can have been more than is kept of live ones.
    fn oldest_sure(&self) -> u64 {
        self.head.saturating_sub(TOLD_MAX as u64) + 1
    }

    fn ack(&mut self, number: u32, id: u64) {
        let session = &self.sessions[&number];
        let address = session.address;
        let before = self.copy.clone();
        self.with(|inbox, terms| inbox.ack(address, id, terms));
        for struck in before.difference(&self.copy) {
            let told = self.facts[struck].told_to.contains(&number);
            assert!(told, "{number} struck {struck} without having been told");
            self.facts.get_mut(struck).unwrap().acked_by.insert(number);
        }
        let heard = self.sessions[&number].heard.clone();
        for (fact_id, fact) in self.facts.range_mut(..=id) {
            fact.is_excused |= fact.told_to.contains(&number);
            if heard.contains(fact_id) {
                fact.acked_by.insert(number);
                // What gave way although it was told is not missed by who took it.
                self.dropped.remove(fact_id);
                assert!(!self.copy.contains(fact_id), "{fact_id} was acknowledged");
            }
        }
    }

    fn end(&mut self, number: u32, ending: Ending) {
        let session = self.sessions.remove(&number).unwrap();
        let asks = self.with(|inbox, terms| inbox.end(session.address, ending, terms));
        assert!(!asks || ending == Ending::Orderly);
        if asks {
            self.with(|inbox, _| inbox.left(session.address));
        }
        match ending {
            Ending::Kept => drop(self.kept.insert(number, session.address)),
            Ending::Cut => {}
            // It took what it was told.
            Ending::Orderly => {
                for id in session.heard {
                    self.facts.get_mut(&id).unwrap().acked_by.insert(number);
                }
            }
        }
        if self.sessions.is_empty() {
            self.check_nothing_is_lost();
        }
    }

    /// While nobody is there, the queue has all that nobody took, but for what was dropped, and for
    /// what was more than is kept of live messages.
    fn check_nothing_is_lost(&self) {
        for (id, fact) in self.facts.range(self.oldest_sure()..) {
            let safe = self.copy.contains(id) || self.ever_dropped.contains(id);
            let is_taken = fact.is_excused || !fact.acked_by.is_empty();
            assert!(safe || is_taken, "{id} was lost: {fact:?}");
        }
    }

    /// A new session is told exactly what waits, in order.
    fn check_replay(&mut self) {
        self.begin();
        let number = self.next_session;
        while !self.sessions[&number].is_live {
            self.page(number, 200);
        }
        let (heard, due) = (&self.sessions[&number].heard, self.due());
        let sure = |id: &&u64| **id >= self.oldest_sure() || self.copy.contains(id);
        assert!(due.iter().eq(heard.iter().filter(sure)), "{due:?} {heard:?}");
        assert!(self.dropped.is_empty(), "dropped and not said: {:?}", self.dropped);
        self.end(number, Ending::Orderly);
    }
}

fn identity(number: u32) -> SessionId {
    SessionId::born_at(Address::new(ShardId(1), ConnId::new(number as usize, 0)))
}

fn run(seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let count = *dice.choice(&[3, 20, 1_000]).unwrap();
    let mut model = Model::new(QueueBounds { count, bytes: 1 << 20 });
    for _ in 0..600 {
        let present: Vec<u32> = model.sessions.keys().copied().collect();
        let kept: Vec<u32> = model.kept.keys().copied().collect();
        match (dice.u8(0..20), dice.choice(&present).copied(), dice.choice(&kept).copied()) {
            (0..=5, ..) => model.send(),
            (6, ..) if present.len() < 4 => model.begin(),
            (7..=10, Some(number), _) => model.page(number, dice.usize(1..300)),
            (11..=13, Some(number), _) => {
                let heard: Vec<u64> = model.sessions[&number].heard.iter().copied().collect();
                if let Some(id) = dice.choice(&heard) {
                    model.ack(number, *id);
                }
            }
            (14, Some(number), _) => model.ack(number, u64::MAX),
            (15, Some(number), _) => model.end(number, Ending::Orderly),
            (16, Some(number), _) => model.end(number, Ending::Cut),
            (17, Some(number), _) => model.end(number, Ending::Kept),
            (18, _, Some(number)) => model.resume(number),
            (19, ..) => model.check_replay(),
            _ => {}
        }
    }
    for number in model.sessions.keys().copied().collect::<Vec<u32>>() {
        model.end(number, Ending::Orderly);
    }
    for number in std::mem::take(&mut model.kept).into_keys() {
        model.with(|inbox, _| inbox.forget_session(identity(number)));
    }
    model.check_replay();
    let address = model.address();
    model.with(|inbox, terms| inbox.greet(identity(u32::MAX >> 9), address, 0, terms));
    model.with(|inbox, terms| inbox.page(address, usize::MAX, terms, |_| ()));
    model.with(|inbox, terms| inbox.page(address, usize::MAX, terms, |_| ()));
    model.with(|inbox, terms| inbox.ack(address, u64::MAX, terms));
    assert!(model.inbox.is_empty(), "seed {seed}: {:?}", model.inbox);
}

#[test]
fn an_inbox_does_what_a_list_of_facts_says() {
    for seed in 0..500 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
