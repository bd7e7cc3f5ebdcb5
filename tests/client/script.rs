//! A client's core whose server is played by the test, line by line.
//!
//! Owns the clock, and the reading of what the client says.

use corebeat::base::ids::{Epoch, NodeId, Ref, Seq};
use corebeat::client::core::{Command, Core, Moment};
use corebeat::client::{Config, Event, JoinOptions, State};
use corebeat::wire::message::{self as wire, Heartbeat, OkFlags, Request, Welcome};
use corebeat::wire::native;

pub(crate) struct Script {
    pub(crate) core: Core,
    pub(crate) now: Moment,
}

impl Script {
    /// A client that was started.
    pub(crate) fn new(addresses: &str) -> Script {
        let mut core = Core::new(Config::new(addresses, "ann").unwrap(), 1).unwrap();
        let now = Moment { us: 1_000, wall_ms: 1 };
        core.start(now);
        Script { core, now }
    }

    /// A client in the lobby, whose last message is `head`.
    pub(crate) fn in_lobby(head: u64) -> Script {
        let mut script = Script::new("one,two");
        script.core.join("lobby", JoinOptions::default(), script.now).unwrap();
        script.welcome(false);
        let reference = script.reference_of_join();
        script.ok(reference, 7, head);
        script.events();
        script
    }

    /// Where the client wants to be connected to.
    pub(crate) fn dialed(&mut self) -> Option<String> {
        let mut dialed = None;
        while let Some(command) = self.core.poll_command() {
            dialed = match command {
                Command::Dial(endpoint) => Some(endpoint.to_string()),
                Command::HangUp => None,
            };
        }
        dialed
    }

    pub(crate) fn hung_up(&mut self) -> bool {
        self.core.poll_command() == Some(Command::HangUp)
    }

    /// Connects it, and welcomes it.
    pub(crate) fn welcome(&mut self, resumed: bool) {
        self.dialed().expect("it wants to connect");
        self.core.connected(self.now);
        assert!(matches!(self.said()[0], Said::Hello { .. }));
        self.say(&wire::Event::Welcome(Welcome {
            version: 1,
            node: NodeId(1),
            session: 5,
            resume_key: 6,
            heartbeat_s: 30,
            timeout_s: 90,
            max_frame: 1 << 16,
            resumed,
            user: "ann",
        }));
    }

    pub(crate) fn say(&mut self, event: &wire::Event<'_>) {
        let mut bytes = Vec::new();
        native::encode_event(&mut bytes, event, false);
        self.core.receive(&bytes, self.now);
    }

    pub(crate) fn ok(&mut self, reference: u32, epoch: u32, seq: u64) {
        let (reference, flags) = (Ref(reference), OkFlags::default());
        self.say(&wire::Event::Ok { reference, flags, epoch: Epoch(epoch), seq: Seq(seq) });
    }

    pub(crate) fn message(&mut self, seq: u64, replay: bool) {
        let (epoch, seq, body) = (Epoch(7), Seq(seq), &b"x"[..]);
        let (room, from) = ("lobby", "bob");
        self.say(&wire::Event::Message { epoch, seq, time_ms: 1, room, from, body, replay });
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now.us += ms * 1_000;
        if self.core.deadline_us().is_some_and(|due| due <= self.now.us) {
            self.core.expire(self.now);
        }
    }

    pub(crate) fn lose(&mut self) {
        self.core.disconnected("cut", self.now);
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.poll_event(self.now)).collect()
    }

    /// Places of the room's messages that were told.
    pub(crate) fn told(&mut self) -> Vec<u64> {
        let place = |event: Event| match event {
            Event::Message(message) => Some(message.place.seq.0),
            _ => None,
        };
        self.events().into_iter().filter_map(place).collect()
    }

    /// How long it waits before the next try, and whether it is the quiet period.
    pub(crate) fn waits(&self) -> Option<(u64, bool)> {
        match self.core.state() {
            State::Waiting { until_us, quiet, .. } => {
                Some((until_us.saturating_sub(self.now.us), *quiet))
            }
            _ => None,
        }
    }

    /// All that the client has said since.
    pub(crate) fn said(&mut self) -> Vec<Said> {
        let bytes = self.core.outgoing().to_vec();
        self.core.wrote(bytes.len());
        let (mut said, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((frame, length)) = native::frame(rest, 1 << 20).unwrap() {
            said.push(Said::of(&native::request(&frame).unwrap().unwrap()));
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "whole frames");
        said
    }

    /// The ref of the JOIN that it has just said.
    pub(crate) fn reference_of_join(&mut self) -> u32 {
        let said = self.said();
        let join = said.iter().find_map(|said| match said {
            Said::Join { reference, .. } => Some(*reference),
            _ => None,
        });
        join.unwrap_or_else(|| panic!("no JOIN in {said:?}"))
    }
}

/// What the client said, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Hello { session: u64, key: u64 },
    Ping(u32),
    Pong(Heartbeat),
    Join { reference: u32, epoch: u32, since: u64 },
    Publish { reference: u32, body: Vec<u8> },
    History { reference: u32 },
    Ack(u64),
    Bye,
    Other,
}

impl Said {
    fn of(request: &Request<'_>) -> Said {
        match *request {
            Request::Hello(hello) => Said::Hello { session: hello.session, key: hello.resume_key },
            Request::Ping(ping) => Said::Ping(ping.seq),
            Request::Pong(pong) => Said::Pong(pong),
            Request::Join { reference, epoch, since, .. } => {
                Said::Join { reference: reference.0, epoch: epoch.0, since: since.0 }
            }
            Request::Publish { reference, body, .. } => {
                Said::Publish { reference: reference.0, body: body.to_vec() }
            }
            Request::History { reference, .. } => Said::History { reference: reference.0 },
            Request::Ack { id } => Said::Ack(id),
            Request::Bye { .. } => Said::Bye,
            _ => Said::Other,
        }
    }
}
