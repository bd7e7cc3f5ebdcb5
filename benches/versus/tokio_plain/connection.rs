//! The task that reads from one connection, and all that the connection asks for.
//!
//! Owns the receiving half of the socket until it becomes a WebSocket, the heartbeat's timer, and
//! which rooms the connection is in. Never writes: what it has to say goes through its [`Peer`]'s
//! queue, like everything else.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use corebeat::base::ids::Ref;
use corebeat::base::limits::{LINGER_MS, Limits};
use corebeat::base::name::{self, Name};
use corebeat::base::time::{Mono, Now};
use corebeat::chat::heartbeat::{Beat, Tempo, beat};
use corebeat::chat::refs::RefWindow;
use corebeat::wire::http::append_switching;
use corebeat::wire::message::{Code, Event, Heartbeat, Hello, Names, Request};
use corebeat::wire::native::{self, Frame};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, copy, sink};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::codec::FramedRead;

use super::codec::{Broken, Codec, Inbound};
use super::common::conversation::{self, Conversation};
use super::common::dialect::Dialect;
use super::common::websocket::{self, Answer, Complaint, Data};
use super::hub::Hub;
use super::parcel::Parcel;
use super::peer::{Identity, Outbound, Peer};
use super::room::Room;
use super::{web, writer};

/// Bytes of a ROSTER payload before the names.
const ROSTER_HEADER: usize = 4 + 4 + 2;
/// Bytes that one read takes at first, and the memory that an idle connection keeps for it.
const READ_BUFFER: usize = 1 << 10;

/// What a connection does when its timer fires.
enum Stage {
    /// It must say hello before its time is over.
    Handshake,
    /// It is pinged when it is silent.
    Probed { tempo: Tempo, probes: u8 },
    /// It must type a line now and then.
    Text,
    /// It takes part no more.
    Over,
}

/// A connection's own state.
pub struct Connection {
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    /// What it is told things in, as far as that is known before its hello.
    dialect: Dialect,
    stage: Stage,
    heard: Mono,
    pings: u32,
    /// Whether bytes were sent that told the dialect.
    greeted: bool,
    /// What it becomes, once its request was answered.
    upgrade: Option<Dialect>,
    /// What the close frame says.
    close_code: u16,
    rooms: HashMap<Name, Arc<Room>>,
    refs: Option<Box<RefWindow>>,
    current_room: Option<Name>,
}

/// Serves `stream` until it ends.
pub async fn serve(stream: TcpStream, hub: Arc<Hub>) {
    let (read_half, write_half) = stream.into_split();
    let (outbound, queue) = unbounded_channel();
    let peer = hub.admit(Outbound::Frames(outbound));
    let mut writer = tokio::spawn(writer::write(write_half, queue, Arc::clone(&peer)));
    let codec = Codec::new(hub.service.limits.max_frame, hub.service.clock);
    let mut frames = FramedRead::with_capacity(read_half, codec, READ_BUFFER);
    let mut connection = Connection::new(Arc::clone(&hub), Arc::clone(&peer), Dialect::Native);
    connection.converse(&mut frames).await;
    connection.end();
    if let Some(dialect) = connection.upgrade
        && let Ok(write_half) = (&mut writer).await
    {
        let part = frames.read_buffer().to_vec();
        if let Ok(stream) = frames.into_inner().reunite(write_half) {
            // A task of its own, because a task is as large as the largest thing it may do.
            tokio::spawn(web::serve(stream, part, dialect, hub, peer));
        }
        return;
    }
    let linger = Duration::from_millis(LINGER_MS);
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
pub async fn discard(mut half: impl AsyncRead + Unpin) {
    let _ = copy(&mut half, &mut sink()).await;
}

impl Connection {
    /// A connection that has said nothing.
    pub fn new(hub: Arc<Hub>, peer: Arc<Peer>, dialect: Dialect) -> Connection {
        let heard = hub.service.clock.now().mono;
        Connection {
            hub,
            peer,
            dialect,
            stage: Stage::Handshake,
            heard,
            pings: 0,
            greeted: false,
            upgrade: None,
            close_code: websocket::GOODBYE,
            rooms: HashMap::new(),
            refs: None,
            current_room: None,
        }
    }

    /// Does what `inbound` brings until it ends, or the connection is to end.
    pub async fn converse<S>(&mut self, inbound: &mut S)
    where
        S: Stream<Item = Result<Inbound, Broken>> + Unpin,
    {
        let peer = Arc::clone(&self.peer);
        let handshake = Duration::from_millis(self.hub.service.limits.handshake_timeout_ms);
        let timer = sleep(handshake);
        let bell = peer.reader_bell.notified();
        tokio::pin!(timer, bell);
        while !matches!(self.stage, Stage::Over) && !peer.has_overflowed() {
            let paused = peer.must_pause();
            tokio::select! {
                biased;
                arrived = inbound.next(), if !paused => match arrived {
                    None => return,
                    Some(arrived) => {
                        let handshake = matches!(self.stage, Stage::Handshake);
                        self.take(arrived);
                        if handshake && !matches!(self.stage, Stage::Handshake) {
                            timer.as_mut().reset(self.first_alarm());
                        }
                    }
                },
                () = &mut bell => {
                    bell.set(peer.reader_bell.notified());
                    if peer.is_dismissed() {
                        self.close_code = websocket::GOING_AWAY;
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

    /// Takes part no more: leaves all rooms, for a closed connection gets nothing more, and lets
    /// the writer end.
    pub fn end(&mut self) {
        let now = self.now();
        for (_, room) in self.rooms.drain() {
            room.leave(&self.peer, now);
        }
        self.peer.end(self.close_code);
    }

    fn now(&self) -> Now {
        self.hub.service.clock.now()
    }

    fn take(&mut self, arrived: Result<Inbound, Broken>) {
        match arrived {
            Ok(Inbound::Frame { kind, flags, payload }) => {
                match native::request(&Frame { kind, flags, payload: &payload }) {
                    Ok(request) => self.take_request(request.as_ref()),
                    Err(error) => self.complain(error.into()),
                }
            }
            Ok(Inbound::Line(line)) => self.take_line(&line),
            Ok(Inbound::Request(answer)) => self.take_answer(&answer),
            Ok(Inbound::Message(message)) => self.take_message(&message),
            Err(Broken::Wire(error)) => self.complain(error.into()),
            Err(Broken::WebSocket(error)) => match Complaint::of(&error) {
                Some(complaint) => self.complain(complaint),
                None => self.stage = Stage::Over,
            },
            Err(Broken::Unserved | Broken::Socket) => self.stage = Stage::Over,
        }
    }

    fn take_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Switch(upgrade, dialect) => {
                self.peer.deliver_raw(|out| append_switching(out, upgrade));
                self.upgrade = Some(*dialect);
            }
            Answer::Refuse(response) => {
                self.peer.deliver_raw(|out| out.extend_from_slice(response));
            }
        }
        self.stage = Stage::Over;
    }

    fn take_message(&mut self, message: &Message) {
        let data = match message {
            Message::Text(text) => Data::Text(text.as_str()),
            Message::Binary(bytes) => Data::Binary(bytes),
            // tungstenite answers pings and closes by itself, when it is next asked for a message.
            _ => return self.hear(self.now()),
        };
        let (dialect, max_frame) = (self.dialect, self.hub.service.limits.max_frame);
        let taken = websocket::requests(dialect, data, max_frame, |request| {
            self.take_request(request);
            match self.stage {
                Stage::Over => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        if let Err(complaint) = taken {
            self.complain(complaint);
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
            Some(_) => self.fail(Code::Malformed, "the first frame must be HELLO"),
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
                self.dialect = Dialect::Text;
                self.fail(Code::Malformed, "the line is not UTF-8");
            }
        }
    }

    fn hear(&mut self, now: Now) {
        self.heard = now.mono;
        if let Stage::Probed { probes, .. } = &mut self.stage {
            *probes = 0;
        }
    }

    fn hello(&mut self, hello: &Hello<'_>, now: Now) {
        if hello.crc {
            self.dialect = self.dialect.with_crc();
        }
        let user = match hello.user {
            "" => self.hub.name_guest(),
            user => match name::check(user) {
                Ok(()) => Name::new(user),
                Err(error) => {
                    let text = format!("the user name {}", error.text());
                    return self.fail(conversation::code_of(error), &text);
                }
            },
        };
        let tempo = self.hub.service.policy.grant(hello.heartbeat_s);
        self.admit(user.clone(), Stage::Probed { tempo, probes: 0 }, now);
        let welcome = self.hub.service.welcome(&user, self.peer.id, tempo, now);
        self.tell(&welcome);
        if hello.session != 0 {
            conversation::refuse(self, Ref::NONE, Code::Unavailable, "not available");
        }
    }

    fn greet(&mut self, first_line: &str, now: Now) {
        let nick = conversation::nick(first_line);
        let user = nick.clone().ok().flatten().unwrap_or_else(|| self.hub.name_guest());
        self.dialect = Dialect::Text;
        self.admit(user.clone(), Stage::Text, now);
        if let Err(error) = nick {
            conversation::refuse_name(self, error);
        }
        let welcome = self.hub.service.welcome(&user, self.peer.id, Tempo::default(), now);
        self.tell(&welcome);
        conversation::first_line(self, first_line);
    }

    fn admit(&mut self, user: Name, stage: Stage, now: Now) {
        let known = self.peer.identity.set(Identity { user, dialect: self.dialect });
        assert!(known.is_ok(), "a connection is greeted once");
        self.greeted = true;
        self.stage = stage;
        self.hear(now);
    }

    fn complain(&mut self, complaint: Complaint) {
        let Complaint { code, text, close } = complaint;
        self.tell(&Event::Error { reference: Ref::NONE, code, text: &text });
        self.close_code = close;
        self.stage = Stage::Over;
    }

    /// When the timer fires first, after the greeting.
    fn first_alarm(&self) -> Instant {
        let limits = &self.hub.service.limits;
        let wait_ms = match &self.stage {
            Stage::Probed { tempo, .. } => {
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
            Stage::Probed { tempo, probes } => match beat(*tempo, silent_ms, *probes) {
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
        self.fail(Code::Timeout, text);
        None
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
        if let Some(parcel) = Parcel::of(self.dialect, event) {
            self.peer.deliver(parcel);
        }
    }

    fn tell_urgently(&mut self, event: &Event<'_>) {
        self.tell(event);
    }

    fn tell_raw(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.peer.deliver_raw(encode);
    }

    fn finish(&mut self) {
        self.stage = Stage::Over;
    }

    fn fail(&mut self, code: Code, text: &str) {
        let text = text.to_owned().into();
        self.complain(Complaint { code, text, close: websocket::close_code(code) });
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
            if self.dialect == Dialect::Text {
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
