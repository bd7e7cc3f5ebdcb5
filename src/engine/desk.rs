//! The desk at which an operator's commands are taken.
//!
//! Owns the admin socket and the conversations on it: lines in, lines of JSON out. Never knows what
//! a request means, and never waits: the steward asks it for requests and gives it the answers.
//!
//! A conversation is one request after the other, each a line. The answer is lines of JSON, and an
//! empty line ends it. A conversation that says nothing or does not read is ended in time, one that
//! waits for its answer is not.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use mio::event::Source;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use crate::base::limits::{
    ADMIN_ACCEPT_REST_MS, ADMIN_ANSWER_BYTES, ADMIN_CLIENTS_MAX, ADMIN_PATIENCE_MS,
    ADMIN_READ_BYTES, ADMIN_REQUEST_BYTES, DESCRIPTORS_AT_ONCE,
};
use crate::base::time::Mono;
use crate::net::admin_socket::AdminSocket;
use crate::net::descriptors;

/// The socket's token; those of conversations follow it.
const DOOR: usize = 1;

/// One conversation. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker(u64);

/// Whose turn it is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Theirs.
    Asking,
    /// Ours.
    Answering,
    /// Nobody's: it ends when the answer is out.
    Over,
}

struct Conversation {
    asker: Asker,
    stream: UnixStream,
    /// What came of a request, or of several.
    heard: Vec<u8>,
    /// Whether more can come.
    hung_up: bool,
    /// What is to be said.
    words: Vec<u8>,
    /// What goes with the first words.
    descriptors: Vec<OwnedFd>,
    turn: Turn,
    /// It is ended at this time, unless it moves on.
    deadline: Mono,
}

/// See the [module](self).
pub(super) struct Desk {
    socket: AdminSocket,
    conversations: Vec<Conversation>,
    begun: u64,
    /// Somebody may wait whom the kernel could not give, for want of a descriptor or memory: it is
    /// asked again then.
    asks_again_at: Option<Mono>,
}

impl Desk {
    /// A desk behind `socket`, of whose events `registry` tells.
    ///
    /// # Errors
    /// What the kernel says to the registration.
    pub(super) fn new(mut socket: AdminSocket, registry: &Registry) -> io::Result<Desk> {
        socket.register(registry, Token(DOOR))?;
        Ok(Desk { socket, conversations: Vec::new(), begun: 0, asks_again_at: None })
    }

    /// Moves everything on as far as it goes: accepts, reads and writes.
    pub(super) fn turn(&mut self, registry: &Registry, now: Mono) {
        self.accept(registry, now);
        for conversation in &mut self.conversations {
            conversation.read(now);
            conversation.write(now);
        }
        self.conversations.retain_mut(|conversation| !conversation.is_over(now));
    }

    /// Accepts whoever waits. Where the kernel has nothing to do so with it is asked again after a
    /// rest: no event comes for those who wait already.
    fn accept(&mut self, registry: &Registry, now: Mono) {
        if self.asks_again_at.is_some_and(|at| now < at) {
            return;
        }
        self.asks_again_at = loop {
            match self.socket.accept() {
                Ok(Some(stream)) => self.begin(stream, registry, now),
                Ok(None) => break None,
                Err(_) => break Some(now + ADMIN_ACCEPT_REST_MS),
            }
        };
    }

    /// Begins a conversation. One too many is over at once, as the command will see.
    fn begin(&mut self, mut stream: UnixStream, registry: &Registry, now: Mono) {
        if self.conversations.len() == ADMIN_CLIENTS_MAX {
            let _ = stream.write(b"{\"error\":\"too many commands at a time; try again\"}\n\n");
            return;
        }
        self.begun += 1;
        let token = Token(DOOR + self.begun as usize);
        if stream.register(registry, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        self.conversations.push(Conversation {
            asker: Asker(self.begun),
            stream,
            heard: Vec::new(),
            hung_up: false,
            words: Vec::new(),
            descriptors: Vec::new(),
            turn: Turn::Asking,
            deadline: now + ADMIN_PATIENCE_MS,
        });
    }

    /// The next request, which is to be answered by any number of [`Desk::say`] and one
    /// [`Desk::finish`].
    pub(super) fn next_request(&mut self) -> Option<(Asker, String)> {
        self.conversations.iter_mut().find_map(Conversation::next_request)
    }

    /// Says one line of an answer; nothing where the asker is gone.
    pub(super) fn say(&mut self, asker: Asker, line: &serde_json::Value) {
        let Some(conversation) = self.of(asker) else { return };
        if conversation.words.len() < ADMIN_ANSWER_BYTES {
            conversation.words.extend_from_slice(line.to_string().as_bytes());
            conversation.words.push(b'\n');
        }
    }

    /// Ends an answer: the asker may ask again.
    pub(super) fn finish(&mut self, asker: Asker, now: Mono) {
        let Some(conversation) = self.of(asker) else { return };
        conversation.words.push(b'\n');
        conversation.deadline = now + ADMIN_PATIENCE_MS;
        conversation.turn = if conversation.hung_up && !conversation.heard.contains(&b'\n') {
            Turn::Over
        } else {
            Turn::Asking
        };
        conversation.write(now);
    }

    /// Sends descriptors along with what is said next.
    pub(super) fn send_along(&mut self, asker: Asker, descriptors: Vec<OwnedFd>) {
        if let Some(conversation) = self.of(asker) {
            conversation.descriptors = descriptors;
        }
    }

    /// Gives an asker until then to ask again.
    pub(super) fn wait_until(&mut self, asker: Asker, deadline: Mono) {
        if let Some(conversation) = self.of(asker) {
            conversation.deadline = deadline;
        }
    }

    /// Whether an asker is still there.
    pub(super) fn has(&self, asker: Asker) -> bool {
        self.conversations.iter().any(|conversation| conversation.asker == asker)
    }

    /// Says why there is no answer.
    pub(super) fn refuse(&mut self, asker: Asker, why: &str, now: Mono) {
        self.say(asker, &serde_json::json!({ "error": why }));
        self.finish(asker, now);
    }

    /// When a conversation is to be ended that does not move on, or the door is to be looked at.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let waits = |conversation: &&Conversation| conversation.turn != Turn::Answering;
        let waiting = self.conversations.iter().filter(waits);
        waiting.map(|conversation| conversation.deadline).chain(self.asks_again_at).min()
    }

    fn of(&mut self, asker: Asker) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|conversation| conversation.asker == asker)
    }
}

impl Conversation {
    /// Takes in what has come, up to the bound of a request.
    fn read(&mut self, now: Mono) {
        let mut chunk = [0; ADMIN_READ_BYTES];
        while !self.hung_up && self.heard.len() < ADMIN_REQUEST_BYTES {
            let room = (ADMIN_REQUEST_BYTES - self.heard.len()).min(chunk.len());
            match self.stream.read(&mut chunk[..room]) {
                Ok(0) => self.hung_up = true,
                Ok(count) => {
                    self.heard.extend_from_slice(&chunk[..count]);
                    self.deadline = now + ADMIN_PATIENCE_MS;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.hung_up = true;
                    self.words.clear();
                }
            }
        }
        if self.hung_up && self.turn == Turn::Asking && !self.heard.contains(&b'\n') {
            self.turn = Turn::Over;
        }
    }

    fn next_request(&mut self) -> Option<(Asker, String)> {
        if self.turn != Turn::Asking {
            return None;
        }
        let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') else {
            if self.heard.len() == ADMIN_REQUEST_BYTES {
                self.words.extend_from_slice(b"{\"error\":\"the request is too long\"}\n\n");
                self.turn = Turn::Over;
            }
            return None;
        };
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        self.turn = Turn::Answering;
        Some((self.asker, String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// Writes what there is to say, as far as the kernel takes it.
    fn write(&mut self, now: Mono) {
        while !self.words.is_empty() {
            match self.write_some() {
                Ok(count) => {
                    self.words.drain(..count);
                    self.deadline = now + ADMIN_PATIENCE_MS;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.words.clear();
                    self.hung_up = true;
                    self.turn = Turn::Over;
                }
            }
        }
    }

    /// Writes once; descriptors go with a byte of their own each time, until all are sent.
    fn write_some(&mut self) -> io::Result<usize> {
        if self.descriptors.is_empty() {
            return self.stream.write(&self.words);
        }
        let count = self.descriptors.len().min(DESCRIPTORS_AT_ONCE);
        let some: Vec<_> = self.descriptors[..count].iter().map(AsFd::as_fd).collect();
        let sent = descriptors::send(&self.stream, &self.words[..1], &some)?;
        self.descriptors.drain(..count);
        Ok(sent)
    }

    /// Whether it has come to its end. One that took too long is told so.
    fn is_over(&mut self, now: Mono) -> bool {
        if self.turn == Turn::Over && self.words.is_empty() {
            return true;
        }
        let is_late = self.turn != Turn::Answering && now >= self.deadline;
        if is_late && self.words.is_empty() {
            let _ = self.stream.write(b"{\"error\":\"that took too long\"}\n\n");
        }
        is_late
    }
}
