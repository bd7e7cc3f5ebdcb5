//! A server as the contract describes it, small enough to be obviously right: one room with a
//! history, sessions that can be resumed, direct messages that wait until they are acknowledged.
//!
//! Owns the truth of a run. Never sees a socket: bytes of each connection go in and come out.

use std::collections::{BTreeMap, VecDeque};

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::wire::message::{Code, Event, OkFlags, Request, Welcome};
use corebeat::wire::native;

/// One message of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) from: String,
    pub(crate) body: Vec<u8>,
    /// The session that said it, and does not hear it.
    session: u64,
}

#[derive(Clone, Debug, Default)]
struct Session {
    user: String,
    refs: BTreeMap<u32, u64>,
    member: bool,
}

/// One open connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    input: Vec<u8>,
    /// What the client has not read yet.
    pub(crate) output: VecDeque<u8>,
    session: u64,
    member: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) epoch: u32,
    /// The room's messages in their order: number 1 stands first.
    pub(crate) room: Vec<Said>,
    /// Messages before this index are no longer kept.
    pub(crate) kept_from: usize,
    pub(crate) directs: VecDeque<(u64, Vec<u8>)>,
    next_direct: u64,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
    pub(crate) resumes: bool,
    pub(crate) resumed: u64,
}

const ROOM: &str = "den";

impl Server {
    pub(crate) fn new(epoch: u32) -> Server {
        Server {
            epoch,
            room: Vec::new(),
            kept_from: 0,
            directs: VecDeque::new(),
            next_direct: 1,
            sessions: BTreeMap::new(),
            next_session: 1,
            resumes: true,
            resumed: 0,
        }
    }

    /// All sessions are gone; the room and the direct messages are not.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions.clear();
    }

    /// The room begins anew, and nothing of it is kept.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.room.clear();
        self.kept_from = 0;
    }

    /// Somebody else says something in the room.
    pub(crate) fn say(&mut self, body: &[u8], line: Option<&mut Line>) {
        self.room.push(Said { from: "bob".into(), body: body.to_vec(), session: 0 });
        if let Some(line) = line.filter(|line| line.member) {
            self.send_message(self.room.len(), false, line);
        }
    }

    /// Somebody else says something to the user alone.
    pub(crate) fn whisper(&mut self, body: &[u8], line: Option<&mut Line>) {
        let id = self.next_direct;
        self.next_direct += 1;
        self.directs.push_back((id, body.to_vec()));
        if let Some(line) = line.filter(|line| line.session != 0) {
            send_direct(id, body, false, line);
        }
    }

    /// Bytes from the client.
    pub(crate) fn receive(&mut self, bytes: &[u8], line: &mut Line) {
        line.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut line.input);
        let mut at = 0;
        while let Some((frame, length)) = native::frame(&input[at..], 1 << 20).expect("a frame") {
            let request = native::request(&frame).expect("a request").expect("a known one");
            self.answer(&request, line);
            at += length;
        }
        line.input = input[at..].to_vec();
    }

    fn answer(&mut self, request: &Request<'_>, line: &mut Line) {
        match *request {
            Request::Hello(hello) => {
                self.welcome(hello.session, hello.resume_key, hello.user, line);
            }
            Request::Ping(ping) => send(&Event::Pong(ping), line),
            Request::Join { reference, epoch, since, room, .. } => {
                assert_eq!(room, ROOM);
                self.join(reference, epoch, since, line);
            }
            Request::Publish { reference, room, body, echo } => {
                assert_eq!((room, echo), (ROOM, false));
                let session = line.session;
                let known = self.sessions[&session].refs.get(&reference.0).copied();
                let seq = known.unwrap_or_else(|| {
                    let from = self.sessions[&session].user.clone();
                    self.room.push(Said { from, body: body.to_vec(), session });
                    self.room.len() as u64
                });
                let told = self.sessions.get_mut(&session).expect("a session");
                told.refs.insert(reference.0, seq);
                let flags = OkFlags { duplicate: known.is_some(), ..OkFlags::default() };
                send_ok(reference, flags, self.epoch, seq, line);
            }
            Request::Ack { id } => self.directs.retain(|direct| direct.0 > id),
            Request::History { reference, since, limit, .. } => {
                let first = self.kept_from.max(since.0 as usize);
                let most = if limit == 0 { usize::MAX } else { usize::from(limit) };
                for number in (first + 1..=self.room.len()).take(most) {
                    self.send_message(number, true, line);
                }
                send_ok(reference, OkFlags::default(), self.epoch, self.room.len() as u64, line);
            }
            Request::Who { reference, .. } => {
                let text = "nobody asks";
                send(&Event::Error { reference, code: Code::NotFound, text }, line);
            }
            Request::Bye { .. } | Request::Pong(_) => {}
            ref other => panic!("unexpected {other:?}"),
        }
    }

    fn welcome(&mut self, session: u64, key: u64, user: &str, line: &mut Line) {
        let resumed = self.resumes && self.sessions.contains_key(&session) && key == session * 3;
        self.resumed += u64::from(resumed);
        line.session = if resumed { session } else { self.next_session };
        if !resumed {
            self.next_session += 1;
            let session = Session { user: user.to_owned(), ..Session::default() };
            self.sessions.insert(line.session, session);
        }
        let welcome = Welcome {
            version: 1,
            node: NodeId(1),
            session: line.session,
            resume_key: line.session * 3,
            heartbeat_s: 30,
            timeout_s: 90,
            max_frame: 1 << 16,
            resumed,
            user,
        };
        send(&Event::Welcome(welcome), line);
        if resumed && self.sessions[&line.session].member {
            // It thinks that all it wrote has arrived but the last two, so it is wrong at times.
            line.member = true;
            let from = self.room.len().saturating_sub(2).max(self.kept_from);
            for number in from + 1..=self.room.len() {
                self.send_message(number, true, line);
            }
        }
        for (id, body) in &self.directs {
            send_direct(*id, body, true, line);
        }
    }

    fn join(&mut self, reference: Ref, epoch: Epoch, since: Seq, line: &mut Line) {
        line.member = true;
        self.sessions.get_mut(&line.session).expect("a session").member = true;
        let head = self.room.len();
        let first = match since {
            Seq(0) => head,
            _ if epoch.0 != self.epoch => 0,
            Seq(seq) => seq as usize,
        };
        let foreign = since.0 != 0 && epoch.0 != self.epoch;
        let gap = foreign || first < self.kept_from.min(head) || first > head;
        let flags = OkFlags { gap, ..OkFlags::default() };
        send_ok(reference, flags, self.epoch, head as u64, line);
        for number in first.max(self.kept_from) + 1..=head {
            self.send_message(number, true, line);
        }
    }

    /// Sends message `number`, which counts from 1. Live ones do not go to who said them.
    fn send_message(&self, number: usize, replay: bool, line: &mut Line) {
        let said = &self.room[number - 1];
        if !replay && said.session == line.session {
            return;
        }
        let event = Event::Message {
            epoch: Epoch(self.epoch),
            seq: Seq(number as u64),
            time_ms: 1,
            room: ROOM,
            from: &said.from,
            body: &said.body,
            replay,
        };
        send(&event, line);
    }
}

fn send(event: &Event<'_>, line: &mut Line) {
    let mut bytes = Vec::new();
    native::encode_event(&mut bytes, event, false);
    line.output.extend(bytes);
}

fn send_ok(reference: Ref, flags: OkFlags, epoch: u32, seq: u64, line: &mut Line) {
    send(&Event::Ok { reference, flags, epoch: Epoch(epoch), seq: Seq(seq) }, line);
}

fn send_direct(id: u64, body: &[u8], replay: bool, line: &mut Line) {
    send(&Event::Direct { id, time_ms: 1, from: "bob", body, replay }, line);
}
