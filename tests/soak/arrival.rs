//! How an honest client comes, in each dialect.
//!
//! Owns the hello and the joins, over blocking streams, and that each is answered. Never talks: the
//! [`crowd`](super::crowd) does, over the streams that this gives it.

use std::net::{SocketAddr, TcpStream};

use super::common::web::{BINARY, FIN, Heard, TEXT, Web, frame as web_frame};
use super::common::{self, Native, OK, Text};
use super::crowd::ROOMS;
use super::speech::Dialect;

/// The blocking stream of a client who has said hello and joined every room.
pub(crate) fn arrive(address: SocketAddr, dialect: Dialect, name: &str) -> TcpStream {
    match dialect {
        Dialect::Native => {
            let mut client = Native::greet(address, name);
            for room in ROOMS {
                client.send(&common::join(1, room));
                client.expect(OK);
            }
            client.stream
        }
        Dialect::Text => {
            let mut client = Text::greet(address, name);
            client.say("/leave");
            for room in ROOMS {
                client.say(&format!("/join {room}"));
                let joined = format!("* you are in {room}");
                while !client.next().expect("an answer").starts_with(&joined) {}
            }
            client.into_stream()
        }
        Dialect::Json => {
            let mut client = Web::open(address, "/ws", "");
            let mut say = |text: &str, answer: &str| {
                client.send(&web_frame(FIN | TEXT, text.as_bytes()));
                let told = match client.next() {
                    Heard::Text(told) => String::from_utf8(told).unwrap(),
                    other => panic!("{other:?}"),
                };
                assert!(told.contains(answer), "{told}");
            };
            say(&format!(r#"{{"op":"hello","user":"{name}"}}"#), "welcome");
            for room in ROOMS {
                say(&format!(r#"{{"op":"join","ref":1,"room":"{room}"}}"#), "ok");
            }
            client.stream
        }
        Dialect::Binary => {
            let protocol = "Sec-WebSocket-Protocol: corebeat.v1.bin\r\n";
            let mut client = Web::open(address, "/ws", protocol);
            let joins = ROOMS.map(|room| common::join(1, room));
            for request in [common::hello(name)].iter().chain(&joins) {
                client.send(&web_frame(FIN | BINARY, request));
                assert!(matches!(client.next(), Heard::Binary(_)));
            }
            client.stream
        }
    }
}
