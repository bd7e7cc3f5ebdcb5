//! The task that reads from one connection, and all that the connection asks for.
//!
//! Owns the receiving half of the socket, the heartbeat's timer, and which rooms the connection is
//! in. Never writes: what it has to say goes through its [`Peer`]'s queue, like everything else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corebeat::base::ids::Ref;
use corebeat::base::limits::{LINGER_MS, Limits};
use corebeat::base::name::{self, Name};
use corebeat::base::time::{Mono, Now};
use corebeat::chat::batch::Dialect;
use corebeat::chat::heartbeat::{Beat, Tempo, beat};
use corebeat::chat::refs::RefWindow;
use corebeat::wire::message::{Code, Event, Heartbeat, Hello, Names, Request};
use corebeat::wire::sniff::Sniffed;
use corebeat::wire::{http, native};
use futures_util::StreamExt;
use tokio::io::{copy, sink};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::FramedRead;

use super::codec::{Broken, Codec, Inbound};
use super::common::conversation::{self, Conversation};
use super::hub::Hub;
use super::peer::{Identity, Peer};
use super::room::Room;
use super::writer;

/// Bytes of a ROSTER payload before the names.
const ROSTER_HEADER: usize = 4 + 4 + 2;
/// Bytes that one read takes at first, and the memory that an idle connection keeps for it.
const READ_BUFFER: usize = 1 << 10;

/// What a connection does when its timer fires.
enum Stage {
    /// It must say hello before its time is over.
    Handshake,
    /// It is pinged when it is silent.
    Native { tempo: Tempo, probes: u8 },
    /// It must type a line now and then.
    Text,
    /// It takes part no more.
    Over,
}

/// A connection's own state.
struct Connection {
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    stage: Stage,
    heard: Mono,
    pings: u32,
    /// Whether bytes were sent that told the dialect.
    greeted: bool,
    rooms: HashMap<Name, Arc<Room>>,
    refs: Option<Box<RefWindow>>,
    current_room: Option<Name>,
}

/// Serves `stream` until it ends.
pub async fn serve(stream: TcpStream, hub: Arc<Hub>) {
    let (read_half, write_half) = stream.into_split();
    let (outbound, queue) = unbounded_channel();
    let peer = hub.admit(outbound);
    let writer = tokio::spawn(writer::write(write_half, queue, Arc::clone(&peer)));
    let codec = Codec::new(hub.service.limits.max_frame);
    let mut frames = FramedRead::with_capacity(read_half, codec, READ_BUFFER);
    let mut connection = Connection::new(Arc::clone(&hub), Arc::clone(&peer));
    connection.converse(&mut frames).await;
    connection.depart();
    peer.end();
    let linger = Duration::from_millis(LINGER_MS);
    let mut writer = writer;
    let farewell = async {
        let _ = (&mut writer).await;
        discard(frames.into_inner()).await;
    };
    if timeout(linger, farewell).await.is_err() {
        writer.abort();
    }
    hub.dismiss(&peer);
}

/// Reads on until the client hangs up: what was left unread would turn the close into a reset, and
/// a reset takes the last words away from the peer.
async fn discard(mut half: OwnedReadHalf) {
    let _ = copy(&mut half, &mut sink()).await;
}

impl Connection {
    fn new(hub: Arc<Hub>, peer: Arc<Peer>) -> Connection {
        let heard = hub.service.clock.now().mono;
        Connection {
            hub,
            peer,
            stage: Stage::Handshake,
            heard,
            pings: 0,
            greeted: false,
            rooms: HashMap::new(),
            refs: None,
            current_room: None,
        }
    }

    async fn converse(&mut self, frames: &mut FramedRead<OwnedReadHalf, Codec>) {
        let peer = Arc::clone(&self.peer);
        let handshake = Duration::from_millis(self.hub.service.limits.handshake_timeout_ms);
        let timer = sleep(handshake);
        let bell = peer.reader_bell.notified();
        tokio::pin!(timer, bell);
        while !matches!(self.stage, Stage::Over) && !peer.has_overflowed() {
            let paused = peer.must_pause();
            tokio::select! {
                biased;
                inbound = frames.next(), if !paused => match inbound {
                    None => return,
                    Some(inbound) => {
                        let handshake = matches!(self.stage, Stage::Handshake);
                        self.take(inbound);
                        if handshake {
                            timer.as_mut().reset(self.first_alarm());
                        }
                    }
                },
                () = &mut bell => {
                    bell.set(peer.reader_bell.notified());
                    if peer.is_dismissed() {
                        return;
                    }
                    // It reads: that is a sign of life of one whose PONGs lie behind its requests.
                    self.hear(self.now());
                }
                () = &mut timer => {
                    if let Some(again) = self.alarm() {
                        timer.as_mut().reset(again);
                    }
                }
            }
        }
    }

    fn now(&self) -> Now {
        self.hub.service.clock.now()
    }

    fn take(&mut self, inbound: Result<Inbound, Broken>) {
        match inbound {
            Ok(inbound) => match inbound.parts() {
                Ok(frame) => match native::request(&frame) {
                    Ok(request) => self.take_request(request.as_ref()),
                    Err(error) => self.fail_native(error.code(), error.text()),
                },
                Err(line) => self.take_line(line),
            },
            Err(Broken::Wire(error)) => self.fail_native(error.code(), error.text()),
            Err(Broken::Unserved(Sniffed::Http)) => {
                self.peer.deliver_own(http::encode_not_served);
                self.stage = Stage::Over;
            }
            Err(Broken::Unserved(_) | Broken::Socket) => self.stage = Stage::Over,
        }
    }

    fn take_request(&mut self, request: Option<&Request<'_>>) {
        let now = self.now();
        match request {
            Some(Request::Hello(hello)) if !self.greeted => self.hello(hello, now),
            Some(request) if self.greeted => {
                self.hear(now);
                conversation::request(self, request);
            }
            Some(_) => self.fail_native(Code::Malformed, "the first frame must be HELLO"),
            None => self.hear(now),
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        let now = self.now();
        let text = std::str::from_utf8(line);
        match text {
            Ok(text) if self.greeted => {
                self.hear(now);
                conversation::command(self, text);
            }
            Ok(text) => self.greet(text, now),
            Err(_) if self.greeted => {
                self.hear(now);
                conversation::refuse(self, Ref::NONE, Code::Malformed, "the line is not UTF-8");
            }
            Err(_) => {
                let text = "the line is not UTF-8";
                let error = Event::Error { reference: Ref::NONE, code: Code::Malformed, text };
                self.peer.deliver_own(|out| Dialect::Text.encode(out, &error));
                self.stage = Stage::Over;
            }
        }
    }

    fn hear(&mut self, now: Now) {
        self.heard = now.mono;
        if let Stage::Native { probes, .. } = &mut self.stage {
            *probes = 0;
        }
    }

    fn hello(&mut self, hello: &Hello<'_>, now: Now) {
        let dialect = if hello.crc { Dialect::NativeCrc } else { Dialect::Native };
        let user = match hello.user {
            "" => self.hub.name_guest(),
            user => match name::check(user) {
                Ok(()) => Name::new(user),
                Err(error) => {
                    let text = format!("the user name {}", error.text());
                    return self.fail_native(conversation::code_of(error), &text);
                }
            },
        };
        let tempo = self.hub.service.policy.grant(hello.heartbeat_s);
        self.admit(user.clone(), dialect, Stage::Native { tempo, probes: 0 }, now);
        let welcome = self.hub.service.welcome(&user, self.peer.id, tempo, now);
        self.tell(&welcome);
        if hello.session != 0 {
            conversation::refuse(self, Ref::NONE, Code::Unavailable, "not available");
        }
    }

    fn greet(&mut self, first_line: &str, now: Now) {
        let nick = conversation::nick(first_line);
        let user = nick.clone().ok().flatten().unwrap_or_else(|| self.hub.name_guest());
        self.admit(user.clone(), Dialect::Text, Stage::Text, now);
        if let Err(error) = nick {
            conversation::refuse_name(self, error);
        }
        let welcome = self.hub.service.welcome(&user, self.peer.id, Tempo::default(), now);
        self.tell(&welcome);
        conversation::first_line(self, first_line);
    }

    fn admit(&mut self, user: Name, dialect: Dialect, stage: Stage, now: Now) {
        let known = self.peer.identity.set(Identity { user, dialect });
        assert!(known.is_ok(), "a connection is greeted once");
        self.greeted = true;
        self.stage = stage;
        self.hear(now);
    }

    fn fail_native(&mut self, code: Code, text: &str) {
        let dialect = self.peer.identity.get().map_or(Dialect::Native, |known| known.dialect);
        let error = Event::Error { reference: Ref::NONE, code, text };
        self.peer.deliver_own(|out| dialect.encode(out, &error));
        self.stage = Stage::Over;
    }

    /// When the timer fires first, after the greeting.
    fn first_alarm(&self) -> Instant {
        let limits = &self.hub.service.limits;
        let wait_ms = match &self.stage {
            Stage::Native { tempo, .. } => {
                fastrand::u64(tempo.earliest_ping_ms()..=tempo.interval_ms())
            }
            Stage::Text => limits.text_idle_timeout_ms,
            Stage::Handshake | Stage::Over => limits.handshake_timeout_ms,
        };
        Instant::now() + Duration::from_millis(wait_ms)
    }

    /// The timer fired. Returns when it fires next, unless the connection ends.
    fn alarm(&mut self) -> Option<Instant> {
        let now = self.now();
        let silent_ms = now.mono.since_ms(self.heard);
        let wait_ms = match &mut self.stage {
            Stage::Over => return None,
            Stage::Handshake => return self.time_out("the hello came too late"),
            Stage::Text => {
                let left = self.hub.service.limits.text_idle_timeout_ms.checked_sub(silent_ms);
                match left.filter(|left_ms| *left_ms > 0) {
                    Some(left_ms) => left_ms,
                    None => return self.time_out("nothing was typed for too long"),
                }
            }
            Stage::Native { tempo, probes } => match beat(*tempo, silent_ms, *probes) {
                Beat::Wait { from_ms, to_ms } => fastrand::u64(from_ms..=to_ms) - silent_ms,
                Beat::Hold { again_in_ms } => again_in_ms,
                Beat::Ping { again_in_ms } => {
                    *probes += 1;
                    self.pings = self.pings.wrapping_add(1);
                    let ping = self.hub.service.ping(self.pings, now);
                    self.tell(&ping);
                    again_in_ms
                }
                Beat::GiveUp if self.peer.is_paused() => {
                    self.peer.overflow();
                    return None;
                }
                Beat::GiveUp => return self.time_out("heartbeat timeout"),
            },
        };
        Some(Instant::now() + Duration::from_millis(wait_ms))
    }

    fn time_out(&mut self, text: &str) -> Option<Instant> {
        self.fail_native(Code::Timeout, text);
        None
    }

    /// Leaves all rooms: a closed connection gets nothing more.
    fn depart(&mut self) {
        let now = self.now();
        for (_, room) in self.rooms.drain() {
            room.leave(&self.peer, now);
        }
    }
}

impl Conversation for Connection {
    fn limits(&self) -> &Limits {
        &self.hub.service.limits
    }

    fn user(&self) -> &Name {
        &self.identity().user
    }

    fn recent(&mut self) -> &mut RefWindow {
        self.refs.get_or_insert_default()
    }

    fn current_room(&mut self) -> &mut Option<Name> {
        &mut self.current_room
    }

    fn room_count(&self) -> usize {
        self.rooms.len()
    }

    fn is_in(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    fn any_room(&self) -> Option<Name> {
        self.rooms.keys().next().cloned()
    }

    fn tell(&mut self, event: &Event<'_>) {
        let dialect = self.identity().dialect;
        self.peer.deliver_own(|out| dialect.encode(out, event));
    }

    fn tell_urgently(&mut self, event: &Event<'_>) {
        self.tell(event);
    }

    fn tell_raw(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.peer.deliver_own(encode);
    }

    fn finish(&mut self) {
        self.stage = Stage::Over;
    }

    fn pong(&mut self, ping: &Heartbeat) {
        let node = self.hub.service.node;
        self.tell(&Event::Pong(Heartbeat { node, status: 0, ..*ping }));
    }

    fn join(&mut self, reference: Ref, room: &str, notify: bool) {
        let now = self.now();
        let Some(found) = self.hub.rooms.find_or_add(room, now) else {
            let text = "too many rooms on this server";
            return conversation::refuse(self, reference, Code::Unavailable, text);
        };
        let peer = Arc::clone(&self.peer);
        found.join(&peer, notify, now, |head, total| {
            if self.identity().dialect == Dialect::Text {
                conversation::announce_room(self, room, total);
            } else {
                conversation::joined(self, reference, head.epoch, head.seq);
            }
        });
        self.rooms.insert(Name::new(room), found);
    }

    fn leave(&mut self, room: &str) {
        if let Some(room) = self.rooms.remove(room) {
            room.leave(&self.peer, self.now());
        }
    }

    fn publish(&mut self, reference: Ref, room: &str, body: &[u8], echo: bool) {
        let now = self.now();
        let found = match self.rooms.get(room) {
            Some(room) => Some(Arc::clone(room)),
            None => self.hub.rooms.find_or_add(room, now),
        };
        let Some(found) = found else {
            if reference.wants_answer() {
                self.recent().forget(reference);
            }
            let text = "too many rooms on this server";
            return conversation::refuse(self, reference, Code::Unavailable, text);
        };
        let head = found.publish(&self.peer, &self.identity().user, body, echo, now);
        conversation::published(self, reference, head.epoch, head.seq);
    }

    fn who(&mut self, reference: Ref, room: &str) {
        let Some(found) = self.hub.rooms.find(room) else {
            let text = "there is no such room";
            return conversation::refuse(self, reference, Code::NotFound, text);
        };
        let (total, names) = found.roster(self.hub.service.limits.max_frame - ROSTER_HEADER);
        let users = Names::new(&names);
        self.tell(&Event::Roster { reference, room, total, users });
    }
}

impl Connection {
    fn identity(&self) -> &Identity {
        self.peer.identity.get().expect("only who has said hello asks for something")
    }
}
