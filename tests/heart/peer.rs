//! One client of the small world: its side of the connection, and what it makes of the bytes.
//!
//! Owns the bytes in both directions. Never touches a shard: the world carries the bytes.

use std::collections::VecDeque;

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::ConnId;
use corebeat::chat::closing::Closing;
use corebeat::wire::message::{Event, Request};
use corebeat::wire::native;

use super::ear::Ear;
use super::speech::words;

/// A client of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client(pub(super) usize);

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Both sides talk.
    Open,
    /// The server will send no more.
    HalfClosed,
    /// The server dropped the socket.
    Closed(CloseReason),
}

/// How a client reads what it is sent.
#[derive(Debug)]
pub(super) enum Tongue {
    /// Native frames.
    Native,
    /// Lines.
    Text,
    /// HTTP responses, which a test takes out whole.
    Http,
    /// WebSocket messages.
    Web(Box<Ear>),
}

/// A client as the world keeps it.
pub(super) struct Peer {
    pub(super) shard: usize,
    pub(super) conn: ConnId,
    pub(super) tongue: Tongue,
    pub(super) crc: bool,
    /// Bytes that the server has not read.
    pub(super) upward: VecDeque<u8>,
    /// Nothing follows `upward`.
    pub(super) ended: bool,
    /// The heart wants its bytes left unread.
    pub(super) paused: bool,
    /// What was known of it when its end was decided.
    pub(super) closing: Option<Closing>,
    /// The kernel was asked to give it up after so many seconds.
    pub(super) patience_s: Option<u16>,
    /// The kernel was asked to probe its host.
    pub(super) probed: bool,
    /// Bytes that the client will still read.
    pub(super) window: usize,
    pub(super) blocked: bool,
    /// Its connection fails when it is written to.
    pub(super) breaks: bool,
    /// Bytes that went to it and that its kernel has not acknowledged.
    pub(super) unacknowledged: usize,
    /// Bytes of a frame or line whose end has not come.
    pub(super) half: Vec<u8>,
    /// All bytes since they were last asked for.
    pub(super) raw: Vec<u8>,
    pub(super) heard: Vec<(u64, String)>,
    pub(super) fate: Fate,
    pub(super) answers_pings: bool,
    /// As whom it was welcomed.
    pub(super) user: String,
}

impl Peer {
    pub(super) fn new(shard: usize, conn: ConnId) -> Peer {
        Peer {
            shard,
            conn,
            tongue: Tongue::Native,
            crc: false,
            upward: VecDeque::new(),
            ended: false,
            paused: false,
            closing: None,
            patience_s: None,
            probed: false,
            window: usize::MAX,
            blocked: false,
            breaks: false,
            unacknowledged: 0,
            half: Vec::new(),
            raw: Vec::new(),
            heard: Vec::new(),
            fate: Fate::Open,
            answers_pings: false,
            user: String::new(),
        }
    }

    /// Takes bytes from the server at `now_ms`; returns whether it has something to answer.
    pub(super) fn take(&mut self, bytes: &[u8], now_ms: u64) -> bool {
        assert!(!matches!(self.fate, Fate::Closed(_)), "a closed connection got bytes");
        self.raw.extend_from_slice(bytes);
        self.half.extend_from_slice(bytes);
        match &mut self.tongue {
            Tongue::Native => self.take_frames(now_ms),
            Tongue::Text => self.take_lines(now_ms),
            Tongue::Http => false,
            Tongue::Web(ear) => {
                let pongs = ear.take(&mut self.half, now_ms, &mut self.heard);
                if self.answers_pings {
                    self.upward.extend(&pongs);
                }
                self.answers_pings && !pongs.is_empty()
            }
        }
    }

    /// A request in the client's own tongue.
    pub(super) fn encode(&self, request: &Request<'_>) -> Vec<u8> {
        match &self.tongue {
            Tongue::Web(ear) => ear.encode(request, self.crc),
            _ => {
                let mut bytes = Vec::new();
                native::encode_request(&mut bytes, request, self.crc);
                bytes
            }
        }
    }

    fn take_frames(&mut self, now_ms: u64) -> bool {
        let half = std::mem::take(&mut self.half);
        let mut rest = &half[..];
        let mut answered = false;
        while let Some((frame, used)) = native::frame(rest, usize::MAX).expect("a sound frame") {
            let has_crc = frame.flags.contains(native::Flags::CRC);
            assert_eq!(has_crc, self.crc, "checksums on all frames or on none");
            let event = native::event(&frame).expect("a sound payload").expect("a known type");
            self.heard.push((now_ms, words(&event)));
            if let Event::Welcome(welcome) = &event {
                self.user = welcome.user.to_owned();
            }
            if let Event::Ping(ping) = event
                && self.answers_pings
            {
                let mut pong = Vec::new();
                native::encode_request(&mut pong, &Request::Pong(ping), self.crc);
                self.upward.extend(pong);
                answered = true;
            }
            rest = &rest[used..];
        }
        self.half = rest.to_vec();
        answered
    }

    fn take_lines(&mut self, now_ms: u64) -> bool {
        while let Some(end) = self.half.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.half.drain(..=end).collect();
            let line = String::from_utf8(line).expect("lines are UTF-8");
            self.heard.push((now_ms, line.trim_end_matches('\n').to_owned()));
        }
        false
    }
}
