//! A server that the test plays, over a real socket: one connection, its answers written down
//! beforehand, so that what comes first is no matter of luck.
//!
//! Owns the socket's other end, and what the client has said there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::client::PresenceKind;
use corebeat::wire::message::{Event, OkFlags, Request, Welcome};
use corebeat::wire::native;

pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn open() -> (Listener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Listener(listener), address)
    }

    /// Takes one client, and welcomes it.
    pub(crate) fn welcome(&self) -> Played {
        let (stream, _) = self.0.accept().unwrap();
        let mut played = Played { stream, input: Vec::new() };
        assert_eq!(played.hear(), Some(Heard::Other), "a hello");
        played.say(&Event::Welcome(Welcome {
            version: 1,
            node: NodeId(1),
            session: 5,
            resume_key: 6,
            heartbeat_s: 30,
            timeout_s: 90,
            max_frame: 1 << 16,
            resumed: false,
            user: "ann",
        }));
        played
    }
}

/// The server's end of a connection.
pub(crate) struct Played {
    stream: TcpStream,
    input: Vec<u8>,
}

/// What the client said, as far as tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Join(Ref),
    Publish(Ref),
    Ack(u64),
    Bye,
    Other,
}

impl Played {
    /// The next thing that the client says; none behind its end.
    pub(crate) fn hear(&mut self) -> Option<Heard> {
        let mut buffer = [0; 4_096];
        loop {
            if let Some((frame, length)) = native::frame(&self.input, 1 << 20).unwrap() {
                let heard = match native::request(&frame).unwrap().unwrap() {
                    Request::Join { reference, .. } => Heard::Join(reference),
                    Request::Publish { reference, .. } => Heard::Publish(reference),
                    Request::Ack { id } => Heard::Ack(id),
                    Request::Bye { .. } => Heard::Bye,
                    _ => Heard::Other,
                };
                self.input.drain(..length);
                return Some(heard);
            }
            match self.stream.read(&mut buffer) {
                Ok(count @ 1..) => self.input.extend_from_slice(&buffer[..count]),
                // Whoever ends with bytes unread resets the connection.
                _ => return None,
            }
        }
    }

    /// The ref of the next message that is published, before anything else that tests look at but
    /// rooms, which can be joined.
    pub(crate) fn hear_publish(&mut self) -> Ref {
        loop {
            match self.hear().expect("a message") {
                Heard::Publish(reference) => return reference,
                Heard::Join(reference) => self.ok(reference),
                Heard::Other => {}
                heard => panic!("{heard:?} comes first"),
            }
        }
    }

    /// All that the client says until it ends.
    pub(crate) fn hear_out(mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.hear()).filter(|heard| *heard != Heard::Other).collect()
    }

    pub(crate) fn say(&mut self, event: &Event<'_>) {
        let mut bytes = Vec::new();
        native::encode_event(&mut bytes, event, false);
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn ok(&mut self, reference: Ref) {
        let (flags, epoch, seq) = (OkFlags::default(), Epoch(7), Seq(1));
        self.say(&Event::Ok { reference, flags, epoch, seq });
    }

    pub(crate) fn direct(&mut self, id: u64, body: &[u8]) {
        self.say(&Event::Direct { id, time_ms: 1, from: "bob", body, replay: false });
    }

    pub(crate) fn presence(&mut self) {
        let (room, user) = ("lobby", "bob");
        self.say(&Event::Presence { kind: PresenceKind::Joined, total: 2, room, user });
    }
}
