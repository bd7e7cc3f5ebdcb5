//! One connection from its client's side.
//!
//! Owns what the client has still to write, what it has read and not understood yet, and all that
//! it asked and was told. Knows nothing of the server but the bytes that came. How frames are read
//! is in `frames`, how lines are in `lines`.

use std::collections::{BTreeMap, VecDeque};

use corebeat::base::ids::NodeId;
use corebeat::base::time::Mono;
use corebeat::wire::message::{Code, Heartbeat, Request};
use corebeat::wire::native;

use super::ledger::{Ledger, MessageId, VisitId};
use super::letters::Post;
use super::network::{Link, LinkId};
use super::plan::{EVERYONE, ROOMS, Speech};
use super::stay::RoomView;
use super::web::WebSide;

/// What a ref stands for.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// The move of this number in this room.
    Join(usize, usize),
    Leave(usize, usize),
    /// These messages, of which at most one is delivered.
    Publish(Vec<MessageId>),
    /// These direct messages, of which at most one is delivered.
    Direct(Vec<usize>),
    Who(usize),
    /// What was said in this room: at most so many messages behind this one.
    List(usize, u64, u16),
    /// Something that is answered with ERROR, by one of these codes.
    Refusal(&'static [Code]),
}

/// A request with a ref, and how often it was sent and answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) wish: Wish,
    pub(crate) requests: u32,
    pub(crate) answers: u32,
    /// The place that it was told.
    pub(crate) spot: Option<(u32, u64)>,
    /// Answers without the flag `duplicate`.
    pub(crate) firsts: u32,
    /// It was asked before, on a connection that was lost.
    pub(crate) again: bool,
    /// The last place of each epoch of the room that anybody had been told of by then.
    pub(crate) heads: Vec<(u32, u64)>,
}

/// A roster that was told.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) room: usize,
    pub(crate) total: u32,
    pub(crate) users: Vec<String>,
}

/// One connection from its client's side.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) id: VisitId,
    pub(crate) link: LinkId,
    /// How often the server had started again when it came.
    pub(crate) life: u64,
    pub(crate) speech: Speech,
    /// The name that the server calls it.
    pub(crate) user: String,
    pub(crate) welcomed: bool,
    pub(crate) timeout_ms: u64,
    outgoing: VecDeque<u8>,
    written: u64,
    pub(crate) inbox: Vec<u8>,
    pub(crate) last_ref: u32,
    pub(crate) asked: BTreeMap<u32, Asked>,
    pub(crate) rooms: Vec<RoomView>,
    /// Bytes that are to come back.
    pub(crate) echoes: VecDeque<Vec<u8>>,
    /// Pings of its own that were not answered, by number.
    pub(crate) pings: Vec<Heartbeat>,
    pub(crate) rosters: Vec<Roster>,
    /// Messages that `/history` may have shown again, at most.
    pub(crate) recalled: usize,
    /// It has typed `/history`.
    pub(crate) has_recalled: bool,
    /// Joins that asked for the past and listings, and those of them that were told of a gap.
    pub(crate) recalls: usize,
    pub(crate) recall_gaps: usize,
    /// Questions of who is in a room that were refused, because too much was under way.
    pub(crate) unasked: usize,
    /// It was told that some line of its came too fast.
    pub(crate) hasty: bool,
    /// Codes of errors about the connection, or about a request with ref 0.
    pub(crate) errors: Vec<Code>,
    /// It was told that the server goes away.
    pub(crate) told_to_go: bool,
    /// It does not answer any more.
    pub(crate) mute: bool,
    /// It sent what is not allowed.
    pub(crate) hostile: bool,
    /// It never spoke a dialect that is served.
    pub(crate) foreign: bool,
    /// It stopped reading for a while at some time.
    pub(crate) stopped: bool,
    /// It said goodbye, hung up or saw the end.
    pub(crate) over: bool,
    /// It will send no more requests.
    pub(crate) finished: bool,
    /// When it last put something into its outgoing queue.
    pub(crate) spoke_at: Mono,
    pub(crate) received: u64,
    /// Its WebSocket, if that is what it speaks on.
    pub(crate) web: Option<Box<WebSide>>,
    /// What is known of how much rooms keep.
    pub(crate) keeping: Keeping,
    /// Its session and the key to it, as the welcome told.
    pub(crate) session: Option<(u64, u64)>,
    /// What it says that its session is.
    pub(crate) claims: Option<(u64, u64)>,
    /// Whether that is the truth.
    pub(crate) claims_rightly: bool,
    /// It went on with a session.
    pub(crate) resumed: bool,
    /// Messages that the connection before did not hear of.
    pub(crate) unanswered: Vec<(u32, Wish)>,
    /// The connection whose session it wants to go on with.
    pub(crate) goes_on: Option<VisitId>,
    /// The round in which it was welcomed.
    pub(crate) greeted_round: Option<u64>,
    /// The round in which its client gave it up, or saw its end.
    pub(crate) gone_round: Option<u64>,
    /// Users of whom it was told that they are online, or not.
    pub(crate) whereabouts: Vec<(String, bool)>,
    /// What it was told of direct messages.
    pub(crate) post: Post,
}

/// What is known of how much rooms keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// So many messages, where nothing else bounds it.
    pub(crate) exactly: Option<u64>,
}

impl Keeping {
    /// Judges whether a gap was told if, and only if, part of what follows `since` was gone when
    /// `head` was the last message.
    pub(crate) fn judge_gap(self, since: u64, head: u64, gap: bool) {
        if let Some(count) = self.exactly {
            let gone = since > head || head - since > count;
            assert_eq!(gap, gone, "what follows {since} of {head} where {count} are kept");
        }
    }
}

impl Visit {
    /// A connection that has not said hello.
    pub(crate) fn new(
        id: VisitId,
        link: LinkId,
        speech: Speech,
        keeping: Keeping,
        now: Mono,
    ) -> Visit {
        Visit {
            id,
            link,
            life: 0,
            speech,
            user: String::new(),
            welcomed: false,
            timeout_ms: 0,
            outgoing: VecDeque::new(),
            written: 0,
            inbox: Vec::new(),
            last_ref: 0,
            asked: BTreeMap::new(),
            rooms: std::iter::repeat_with(RoomView::default).take(ROOMS.len()).collect(),
            echoes: VecDeque::new(),
            pings: Vec::new(),
            rosters: Vec::new(),
            recalled: 0,
            has_recalled: false,
            recalls: 0,
            recall_gaps: 0,
            unasked: 0,
            hasty: false,
            errors: Vec::new(),
            told_to_go: false,
            mute: false,
            hostile: false,
            foreign: false,
            stopped: false,
            over: false,
            finished: false,
            spoke_at: now,
            received: 0,
            keeping,
            session: None,
            claims: None,
            claims_rightly: false,
            resumed: false,
            unanswered: Vec::new(),
            goes_on: None,
            greeted_round: None,
            gone_round: None,
            whereabouts: Vec::new(),
            post: Post::default(),
            web: speech.is_web().then(|| Box::new(WebSide::new(id as u64 ^ now.0 << 20))),
        }
    }

    /// Whether it speaks lines.
    pub(crate) fn is_text(&self) -> bool {
        self.speech == Speech::Text
    }

    /// Bytes that are still to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.outgoing.len()
    }

    /// Puts one whole message into the outgoing queue.
    pub(crate) fn say(&mut self, bytes: &[u8], link: &mut Link, now: Mono) {
        self.outgoing.extend(bytes);
        link.expect_message_end(self.written + self.outgoing.len() as u64);
        self.spoke_at = now;
    }

    /// Puts bytes that make no message into the outgoing queue.
    pub(crate) fn babble(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
        self.hostile = true;
    }

    /// Asks for something in native frames or WebSocket messages.
    pub(crate) fn ask(&mut self, request: &Request<'_>, link: &mut Link, now: Mono) {
        if self.speech.is_web() {
            let message = self.web_message(request);
            return self.say(&message, link, now);
        }
        let mut frame = Vec::new();
        native::encode_request(&mut frame, request, self.speech.has_crc());
        self.say(&frame, link, now);
    }

    /// Answers a ping of the server, in the way in which it was asked.
    pub(crate) fn answer_ping(&mut self, ping: &Heartbeat, link: &mut Link, now: Mono) {
        match self.web.as_mut() {
            Some(web) => {
                let pong = web.pong(ping);
                self.say(&pong, link, now);
            }
            None => {
                let pong = Heartbeat { node: NodeId(0), ..*ping };
                self.ask(&Request::Pong(pong), link, now);
            }
        }
    }

    /// Says a line.
    pub(crate) fn type_line(&mut self, line: &str, link: &mut Link, now: Mono) {
        self.say(format!("{line}\n").as_bytes(), link, now);
    }

    /// Writes at most `most` bytes of the outgoing queue.
    pub(crate) fn write(&mut self, link: &mut Link, most: usize) {
        let count = most.min(self.outgoing.len());
        let taken = link.client_write(&self.outgoing.make_contiguous()[..count]);
        self.outgoing.drain(..taken);
        self.written += taken as u64;
    }

    /// A ref for `wish`, or none where `reference` is false.
    pub(crate) fn note(&mut self, wish: Wish, reference: bool) -> u32 {
        if !reference {
            return 0;
        }
        self.last_ref += 1;
        let asked = Asked {
            wish,
            requests: 1,
            answers: 0,
            spot: None,
            firsts: 0,
            again: false,
            heads: Vec::new(),
        };
        self.asked.insert(self.last_ref, asked);
        self.last_ref
    }

    /// Notes that it asks for something with the ref that it had on a connection which was lost.
    pub(crate) fn ask_once_more(&mut self, reference: u32, wish: Wish) {
        let (requests, answers, spot) = (1, 0, None);
        let (again, heads) = (true, Vec::new());
        let asked = Asked { wish, requests, answers, spot, firsts: 0, again, heads };
        self.asked.insert(reference, asked);
    }

    /// Whether, as far as it knows, it is a member of a room. Nobody is one of the room `*`.
    pub(crate) fn is_in(&self, room: usize) -> Option<bool> {
        if !self.welcomed || room == EVERYONE {
            return Some(false);
        }
        let view = &self.rooms[room];
        if self.is_text() { Some(view.stay.is_some()) } else { view.is_member() }
    }

    /// Whether every request was answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.asked.values().all(|asked| asked.answers == asked.requests)
            && self.echoes.is_empty()
            && (self.pings.is_empty() || self.hasty)
            && self.has_its_pongs()
    }

    /// Understands what has arrived; returns the heartbeats that are to be answered.
    pub(crate) fn understand(&mut self, ledger: &mut Ledger, round: u64) -> Vec<Heartbeat> {
        match self.speech {
            Speech::Native | Speech::NativeCrc => self.read_frames(ledger, round),
            Speech::Json | Speech::Bin | Speech::BinCrc => self.read_messages(ledger, round),
            Speech::Text => {
                self.read_lines(ledger, round);
                Vec::new()
            }
        }
    }

    /// The server greeted it.
    pub(crate) fn welcome(&mut self, user: &str, round: u64, ledger: &mut Ledger) {
        assert!(!self.welcomed, "it was welcomed twice");
        self.welcomed = true;
        self.greeted_round = Some(round);
        self.rename(user, ledger);
        // Everybody is in the room `*`.
        self.rooms[EVERYONE].begin_blind(Some(round));
    }

    /// It goes on, or tries to, with the session of a visit that lost its connection. No session
    /// outlives the server, which has new keys then.
    pub(crate) fn inherit(&mut self, lost: &Visit, key_is_right: bool) {
        let (session, key) = lost.session.expect("it was welcomed");
        self.claims = Some((session, if key_is_right { key } else { key ^ 1 }));
        let key_is_right = key_is_right && lost.life == self.life;
        self.claims_rightly = key_is_right;
        self.goes_on = Some(lost.id);
        self.last_ref = lost.last_ref;
        for (room, view) in lost.rooms.iter().enumerate().filter(|(room, _)| *room != EVERYONE) {
            if let Some(legacy) = view.legacy().filter(|_| key_is_right) {
                self.rooms[room] = legacy;
            }
        }
        let unanswered = lost.asked.iter().filter(|(_, asked)| asked.answers == 0);
        let messages = unanswered.filter_map(|(reference, asked)| match &asked.wish {
            Wish::Publish(_) | Wish::Direct(_) => Some((*reference, asked.wish.clone())),
            _ => None,
        });
        self.unanswered = messages.collect();
        self.post = lost.post.inherit();
    }

    /// The server said whether the session goes on that it asked for.
    pub(crate) fn greeted(&mut self, session: (u64, u64), resumed: bool) {
        assert!(!resumed || self.claims_rightly, "a session was given without its key");
        assert!(!resumed || self.claims == Some(session), "another session was given");
        self.session = Some(session);
        self.resumed = resumed;
        self.rooms.iter_mut().for_each(|view| view.settle_legacy(resumed));
        if !resumed {
            self.unanswered.clear();
            self.post = Post::default();
        }
    }

    /// The server calls it by another name from now on.
    pub(crate) fn rename(&mut self, user: &str, ledger: &mut Ledger) {
        let names = &mut ledger.names[self.id];
        if !names.iter().any(|name| name == user) {
            names.push(user.to_owned());
        }
        self.user = user.to_owned();
    }

    /// Presence of a room was told.
    pub(crate) fn presence(&mut self, room: usize, user: &str, here: bool) {
        let view = &mut self.rooms[room];
        view.current();
        view.total = None;
        view.users.insert(user.to_owned(), here);
    }

    /// Only the total of a room was told.
    pub(crate) fn crowd(&mut self, room: usize) {
        let view = &mut self.rooms[room];
        view.current();
        view.users.clear();
    }
}

/// The index of a room's name.
pub(crate) fn room_index(name: &str) -> usize {
    let index = ROOMS.iter().position(|room| *room == name);
    index.unwrap_or_else(|| panic!("nobody ever asked for the room {name:?}"))
}
