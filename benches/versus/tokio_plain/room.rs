//! Rooms, shared by all connections.
//!
//! Owns each room's order, members and roster under one lock a room, and the table of rooms. A
//! message is encoded once for each dialect, while the lock is held, and every member's queue gets
//! a count of it; so all members see one order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use corebeat::base::ids::{Epoch, Seq};
use corebeat::base::limits::{Limits, PRESENCE_PERIOD_MS, ROOM_IDLE_MS, ROSTER_MAX};
use corebeat::base::name::Name;
use corebeat::base::time::{Mono, Now};
use corebeat::wire::message::{Event, Names, PresenceKind};

use super::common::dialect::DIALECTS;
use super::parcel::Parcel;
use super::peer::{Identity, Peer, PeerId};

/// A room's head, as OK tells it.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The life of the room's history.
    pub epoch: Epoch,
    /// The last message.
    pub seq: Seq,
}

/// One room.
#[derive(Debug)]
pub struct Room {
    name: Name,
    presence_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    head: Head,
    members: HashMap<PeerId, Member>,
    /// Users and their sessions: one with several is one.
    roster: HashMap<Name, u32>,
    owes_total: bool,
    last_active: Mono,
}

#[derive(Debug)]
struct Member {
    peer: Arc<Peer>,
    notify: bool,
}

/// What is told, rendered when the first member of a dialect is reached.
struct Rendering<'a> {
    event: Event<'a>,
    /// By dialect; the inner `None` is of one that has no words for it.
    parcels: [Option<Option<Parcel>>; DIALECTS],
}

impl<'a> Rendering<'a> {
    fn new(event: Event<'a>) -> Rendering<'a> {
        Rendering { event, parcels: Default::default() }
    }

    fn deliver(&mut self, peer: &Peer, identity: &Identity) {
        let event = &self.event;
        let parcel = self.parcels[identity.dialect as usize]
            .get_or_insert_with(|| Parcel::of(identity.dialect, event));
        if let Some(parcel) = parcel {
            peer.deliver(parcel.clone());
        }
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a message its place and hands it to every member.
    pub fn publish(&self, from: &Peer, user: &Name, body: &[u8], echo: bool, now: Now) -> Head {
        let mut state = self.lock();
        state.head.seq = Seq(state.head.seq.0 + 1);
        state.last_active = now.mono;
        let head = state.head;
        let mut rendering = Rendering::new(Event::Message {
            epoch: head.epoch,
            seq: head.seq,
            time_ms: now.wall_ms,
            room: &self.name,
            from: user,
            body,
            replay: false,
        });
        for (id, member) in &state.members {
            if *id != from.id || echo {
                rendering.deliver(&member.peer, identity(&member.peer));
            }
        }
        head
    }

    /// Makes `peer` a member, or says whether it wants presence from now on. `seam` tells it the
    /// head and the number of members, before it gets any further message.
    pub fn join(
        self: &Arc<Room>,
        peer: &Arc<Peer>,
        notify: bool,
        now: Now,
        seam: impl FnOnce(Head, u32),
    ) {
        let user = &identity(peer).user;
        let mut state = self.lock();
        let member = Member { peer: Arc::clone(peer), notify };
        let again = state.members.insert(peer.id, member).is_some();
        state.last_active = now.mono;
        let mut newcomer = false;
        if !again {
            let sessions = state.roster.entry(user.clone()).or_default();
            *sessions += 1;
            newcomer = *sessions == 1;
        }
        seam(state.head, state.roster.len() as u32);
        if newcomer {
            self.tell_presence(&mut state, PresenceKind::Joined, user);
        }
    }

    /// Ends the membership of `peer`.
    pub fn leave(self: &Arc<Room>, peer: &Peer, now: Now) {
        let user = &identity(peer).user;
        let mut state = self.lock();
        if state.members.remove(&peer.id).is_none() {
            return;
        }
        state.last_active = now.mono;
        if let Some(sessions) = state.roster.get_mut(user) {
            *sessions -= 1;
            if *sessions == 0 {
                state.roster.remove(user);
                self.tell_presence(&mut state, PresenceKind::Left, user);
            }
        }
    }

    /// How many users there are, and the names of as many as fit.
    pub fn roster(&self, bytes_max: usize) -> (u32, Vec<u8>) {
        let state = self.lock();
        let mut names = Vec::new();
        for user in state.roster.keys().take(ROSTER_MAX) {
            if names.len() + 1 + user.len() > bytes_max {
                break;
            }
            Names::push(&mut names, user);
        }
        (state.roster.len() as u32, names)
    }

    /// Tells who wants to know of a join or leave or, in a crowded room, owes them a total.
    fn tell_presence(self: &Arc<Room>, state: &mut State, kind: PresenceKind, user: &Name) {
        let total = state.roster.len() as u32;
        if total as usize <= self.presence_max && !state.owes_total {
            return self.spread_presence(state, kind, total, user);
        }
        if !state.owes_total {
            state.owes_total = true;
            let room = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(PRESENCE_PERIOD_MS)).await;
                let mut state = room.lock();
                state.owes_total = false;
                let total = state.roster.len() as u32;
                room.spread_presence(&state, PresenceKind::Many, total, "");
            });
        }
    }

    fn spread_presence(&self, state: &State, kind: PresenceKind, total: u32, user: &str) {
        let mut rendering = Rendering::new(Event::Presence { kind, total, room: &self.name, user });
        for member in state.members.values().filter(|member| member.notify) {
            let identity = identity(&member.peer);
            if &*identity.user != user {
                rendering.deliver(&member.peer, identity);
            }
        }
    }
}

/// Who a member is; none is a member before its hello.
fn identity(peer: &Peer) -> &Identity {
    peer.identity.get().expect("a member has said hello")
}

/// The table of rooms.
#[derive(Debug)]
pub struct Rooms {
    table: RwLock<HashMap<Name, Arc<Room>>>,
    last_epoch: AtomicU32,
    rooms_max: usize,
    presence_max: usize,
}

impl Rooms {
    /// An empty table.
    pub fn new(limits: &Limits) -> Rooms {
        Rooms {
            table: RwLock::default(),
            last_epoch: AtomicU32::new(0),
            rooms_max: limits.max_rooms,
            presence_max: limits.presence_max,
        }
    }

    /// The room called `name`.
    pub fn find(&self, name: &str) -> Option<Arc<Room>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The room called `name`, made if there is none. `None` where there are too many.
    pub fn find_or_add(&self, name: &str, now: Now) -> Option<Arc<Room>> {
        if let Some(room) = self.find(name) {
            return Some(room);
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = table.get(name) {
            return Some(Arc::clone(room));
        }
        if table.len() >= self.rooms_max {
            return None;
        }
        let epoch = self.last_epoch.load(Ordering::Relaxed).saturating_add(1);
        let epoch = epoch.max((now.wall_ms / 1_000) as u32);
        self.last_epoch.store(epoch, Ordering::Relaxed);
        let name = Name::new(name);
        let room = Arc::new(Room {
            name: name.clone(),
            presence_max: self.presence_max,
            state: Mutex::new(State {
                head: Head { epoch: Epoch(epoch), seq: Seq(0) },
                members: HashMap::new(),
                roster: HashMap::new(),
                owes_total: false,
                last_active: now.mono,
            }),
        });
        table.insert(name, Arc::clone(&room));
        Some(room)
    }

    /// Forgets rooms without members that were silent for long. A room that anybody else holds is
    /// in use; the table's lock keeps others from getting hold of it meanwhile.
    pub fn sweep(&self, now: Now) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, room| {
            Arc::strong_count(room) > 1 || {
                let state = room.lock();
                !state.members.is_empty() || now.mono.since_ms(state.last_active) < ROOM_IDLE_MS
            }
        });
    }
}
