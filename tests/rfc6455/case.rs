//! What a case is made of, and how it is run.

use std::net::SocketAddr;

use crate::common::process::Corebeat;
use crate::common::web::{CLOSE, FIN, Heard, PING, Web, close, frame};

/// One thing that happens on the connection of a case.
pub(crate) enum Act {
    /// The client sends these bytes in one write.
    Send(Vec<u8>),
    /// The server says exactly this next.
    Hear(Heard),
    /// The server has said this much of a message that goes on.
    HearPart(Vec<u8>),
    /// The server has said nothing: the pong of a ping is what comes next.
    Silence,
}

/// How a case ends. Behind it the server closes the connection and says nothing more.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The client closes with 1000, and the server answers with the same.
    Clean,
    /// The client has closed, and the server answers with this code.
    Answered(Option<u16>),
    /// The server fails the connection with this code.
    Failed(u16),
}

/// A case of the catalogue.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) acts: Vec<Act>,
    pub(crate) end: End,
}

/// A case: frames, how they are cut into writes, what is heard, and how it ends.
pub(crate) fn case(
    id: impl Into<String>,
    cut: Cut,
    frames: &[Vec<u8>],
    heard: impl IntoIterator<Item = Heard>,
    end: End,
) -> Case {
    let hear = heard.into_iter().map(Act::Hear);
    Case { id: id.into(), acts: cut.writes(frames).chain(hear).collect(), end }
}

/// How frames are cut into writes. To the server it must make no difference.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// All in one write.
    Once,
    /// A write for each frame.
    Frames,
    /// A write for so many bytes.
    Chops(usize),
}

/// A write for each byte.
pub(crate) const OCTETS: Cut = Cut::Chops(1);

impl Cut {
    pub(crate) fn writes(self, frames: &[Vec<u8>]) -> impl Iterator<Item = Act> {
        let writes: Vec<Vec<u8>> = match self {
            Cut::Once => vec![frames.concat()],
            Cut::Frames => frames.to_vec(),
            Cut::Chops(length) => frames.concat().chunks(length).map(<[u8]>::to_vec).collect(),
        };
        writes.into_iter().map(Act::Send)
    }
}

/// A message that is sent in one frame and comes back.
pub(crate) fn echoed(id: impl Into<String>, cut: Cut, opcode: u8, payload: &[u8]) -> Case {
    case(id, cut, &[frame(FIN | opcode, payload)], [heard(opcode, payload)], End::Clean)
}

/// A message as the server returns it.
pub(crate) fn heard(opcode: u8, payload: &[u8]) -> Heard {
    if opcode == crate::common::web::TEXT {
        Heard::Text(payload.to_vec())
    } else {
        Heard::Binary(payload.to_vec())
    }
}

/// Runs the cases of a section, each on a connection of its own.
pub(crate) fn run(cases: Vec<Case>, expected: usize) {
    assert_eq!(cases.len(), expected, "the section has so many cases");
    let server = Corebeat::start(&["--workers", "2"]);
    cases.into_iter().for_each(|case| run_one(server.address, case));
}

fn run_one(address: SocketAddr, Case { id, acts, end }: Case) {
    let mut web = Web::open(address, "/echo", "");
    for act in acts {
        match act {
            Act::Send(bytes) => web.send(&bytes),
            Act::Hear(expected) => assert_eq!(web.next(), expected, "case {id}"),
            Act::HearPart(expected) => {
                assert_eq!(web.part(expected.len()), expected, "case {id}");
            }
            Act::Silence => {
                web.send(&frame(FIN | PING, b"anything?"));
                assert_eq!(web.next(), Heard::Pong(b"anything?".to_vec()), "case {id}");
            }
        }
    }
    finish(web, end, &id);
}

/// Ends the connection of a case.
pub(crate) fn finish(mut web: Web, end: End, id: &str) {
    let code = match end {
        End::Clean => {
            web.send(&close(1000, ""));
            Some(1000)
        }
        End::Answered(code) => code,
        End::Failed(code) => Some(code),
    };
    assert_eq!(web.next(), Heard::Close(code), "case {id}");
    // What comes behind the close is not to be looked at, and does not disturb the end.
    web.send(&frame(FIN | PING, b"too late"));
    web.send(&frame(FIN | CLOSE, b""));
    assert_eq!(web.next(), Heard::End, "case {id}");
}
