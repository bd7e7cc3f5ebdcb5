//! A client's core and a server in one thread, under a seed: bytes dribble, connections are cut
//! anywhere, time passes.
//!
//! Owns what happens, and what the program heard. What must be true is asserted at the end.

use std::collections::BTreeMap;

use corebeat::client::core::{Command, Core, Moment};
use corebeat::client::{Answer, Config, Event, JoinOptions, RequestError, Resend, Ticket};

use super::server::{Line, Server};

/// What came of something that was published: its epoch and place in it.
type Outcome = Result<(u32, u64), RequestError>;

/// Different things that the client says.
const BODIES: u8 = 3;

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) server: Server,
    line: Option<Line>,
    dice: fastrand::Rng,
    now: Moment,
    /// Bodies of messages of the room, in the order in which they were told.
    pub(crate) heard: Vec<(u32, u64, String)>,
    pub(crate) directs: Vec<String>,
    /// Places that were told to be missing.
    pub(crate) gaps: Vec<(u32, u64, u64)>,
    asked: BTreeMap<Ticket, String>,
    /// Bodies that were published, and what came of each.
    pub(crate) outcomes: Vec<(String, Outcome)>,
    said: u64,
    pub(crate) cuts: u64,
    join: Ticket,
    /// The room's epoch and last message when it was joined first.
    pub(crate) joined: Option<(u32, u64)>,
}

impl World {
    pub(crate) fn new(seed: u64, resend: Resend) -> World {
        let mut config = Config::new("one,two", "ann").unwrap();
        config.resend = resend;
        let mut core = Core::new(config, seed).unwrap();
        let now = Moment { us: 1, wall_ms: 1 };
        core.start(now);
        let join = core.join("den", JoinOptions::default(), now).unwrap();
        World {
            join,
            joined: None,
            core,
            server: Server::new(7),
            line: None,
            dice: fastrand::Rng::with_seed(seed),
            now,
            heard: Vec::new(),
            directs: Vec::new(),
            gaps: Vec::new(),
            asked: BTreeMap::new(),
            outcomes: Vec::new(),
            said: 0,
            cuts: 0,
        }
    }

    /// Of how many messages nobody knows what came of them.
    pub(crate) fn uncertain(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count()
    }

    /// One thing happens.
    pub(crate) fn step(&mut self, calm: bool) {
        self.now.us += self.dice.u64(0..20_000);
        match self.dice.u8(0..100) {
            0..3 if !calm => self.cut(),
            3..5 => self.now.us += self.dice.u64(0..3_000_000),
            5..15 if !calm => {
                self.said += 1;
                self.server.say(format!("bob {}", self.said).as_bytes(), self.line.as_mut());
            }
            15..20 if !calm => {
                self.said += 1;
                self.server.whisper(format!("psst {}", self.said).as_bytes(), self.line.as_mut());
            }
            20..28 if !calm => {
                // Bodies repeat, so that only places tell them apart.
                let body = format!("ann {}", self.dice.u8(0..BODIES));
                if let Ok(ticket) = self.core.publish("den", body.as_bytes(), false, self.now) {
                    self.asked.insert(ticket, body);
                }
            }
            28..60 => self.client_to_server(calm),
            _ => self.server_to_client(),
        }
        if self.core.deadline_us().is_some_and(|due| due <= self.now.us) {
            self.core.expire(self.now);
        }
        self.obey();
        self.listen();
    }

    fn obey(&mut self) {
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Dial(_) => {
                    self.line = None;
                    if self.dice.u8(0..4) == 0 {
                        self.core.disconnected("nobody listens", self.now);
                    } else {
                        self.line = Some(Line::default());
                        self.core.connected(self.now);
                    }
                }
                Command::HangUp => self.line = None,
            }
        }
    }

    /// The connection is lost, with all that was under way.
    fn cut(&mut self) {
        if self.line.take().is_some() {
            self.cuts += 1;
            self.core.disconnected("cut", self.now);
        }
    }

    pub(crate) fn restart(&mut self) {
        self.cut();
        self.server.forget_sessions();
    }

    fn client_to_server(&mut self, calm: bool) {
        let Some(line) = &mut self.line else {
            return;
        };
        let bytes = self.core.outgoing();
        let count = self.dice.usize(0..=bytes.len());
        let bytes = bytes[..count].to_vec();
        self.core.wrote(count);
        // A proxy may have taken what the server never gets.
        if !calm && self.dice.u8(0..200) == 0 {
            return self.cut();
        }
        self.server.receive(&bytes, line);
    }

    fn server_to_client(&mut self) {
        let Some(line) = &mut self.line else {
            return;
        };
        let count = self.dice.usize(0..=line.output.len());
        let bytes: Vec<u8> = line.output.drain(..count).collect();
        self.core.receive(&bytes, self.now);
    }

    fn listen(&mut self) {
        while let Some(event) = self.core.poll_event(self.now) {
            match event {
                Event::Message(message) => {
                    let body = String::from_utf8(message.body).unwrap();
                    let place = message.place;
                    self.heard.push((place.epoch.0, place.seq.0, body));
                }
                Event::Direct(direct) => self.directs.push(String::from_utf8(direct.body).unwrap()),
                Event::Gap(gap) => self.gaps.push((gap.epoch.0, gap.from.0, gap.to.0)),
                Event::Answered(ticket, Ok(Answer::Joined(place))) => {
                    assert_eq!(ticket, self.join);
                    self.joined = Some((place.epoch.0, place.seq.0));
                }
                Event::Answered(ticket, answer) => {
                    let Some(body) = self.asked.remove(&ticket) else {
                        continue;
                    };
                    let outcome = answer.map(|answer| match answer {
                        Answer::Sent(receipt) => (receipt.place.epoch.0, receipt.place.seq.0),
                        other => panic!("a publish was answered by {other:?}"),
                    });
                    self.outcomes.push((body, outcome));
                }
                _ => {}
            }
        }
    }

    /// Lets all that is under way arrive.
    pub(crate) fn rest(&mut self) {
        for _ in 0..2_000 {
            self.core.wake(self.now);
            for _ in 0..20 {
                self.step(true);
            }
            let quiet = self.line.as_ref().is_some_and(|line| line.output.is_empty());
            if quiet && self.asked.is_empty() && self.core.outgoing().is_empty() {
                break;
            }
        }
        assert!(self.asked.is_empty(), "every request is answered: {:?}", self.asked);
    }
}
