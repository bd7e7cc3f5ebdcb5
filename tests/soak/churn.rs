//! Connections that come and go, in every way.

use std::net::Shutdown;

use super::common::web::{self, FIN, TEXT, Web};
use super::common::{JOIN, Native, OK, WELCOME, frame, hello, join};
use super::patience::greeted_web;
use super::peer::{connect, each, hear_out, pour, reset};
use super::stage::{Outcome, Scenario, Stage};

/// Connections one after the other, of all dialects, that end in all ways.
pub(crate) const CHURN: Scenario = Scenario { name: "churn", server: Default::default, run: churn };
/// Connections that are reset, in every state.
pub(crate) const RESETS: Scenario =
    Scenario { name: "reset-flood", server: Default::default, run: resets };

fn churn(stage: &Stage) -> Outcome {
    let count = stage.size.of(1_600, 200_000);
    let address = stage.server.address;
    each(count, |number| {
        let user = format!("passer-by-{}", number % 5_000);
        match number % 8 {
            0 | 1 => {
                let mut client = native(number, address, &user);
                client.send(&join(1, "lobby"));
                client.expect(OK);
                if number % 8 == 0 {
                    client.send(&frame(4, &[0, 0, 0, 0]));
                    hear_out(client.stream);
                }
            }
            2 => native(number, address, &user).reset(),
            3 => {
                let stream = connect(number, address);
                pour(&stream, format!("/nick {user}\nhi\n/quit\n").as_bytes());
                hear_out(stream);
            }
            4 => {
                let stream = connect(number, address);
                pour(&stream, b"GET /healthz HTTP/1.0\r\n\r\n");
                hear_out(stream);
            }
            5 => {
                let mut web = Web::open(address, "/ws", "");
                let hello = format!(r#"{{"op":"hello","user":"{user}"}}"#);
                web.send(&web::frame(FIN | TEXT, hello.as_bytes()));
                assert!(matches!(web.next(), web::Heard::Text(_)));
                web.send(&web::close(1001, ""));
                assert_eq!(web.next(), web::Heard::Close(Some(1001)));
            }
            6 => drop(connect(number, address)),
            _ => {
                // Half a hello.
                let stream = connect(number, address);
                pour(&stream, &hello(&user)[..10]);
                let _ = stream.shutdown(Shutdown::Write);
                hear_out(stream);
            }
        }
    });
    let reasons = vec!["bye", "peer_closed", "reset", "served", "malformed"];
    Outcome { ends: vec![(count as u64, reasons)], ..Outcome::default() }
}

/// A client that was welcomed, from one of many addresses.
fn native(number: usize, address: std::net::SocketAddr, user: &str) -> Native {
    let mut client = Native { stream: connect(number, address) };
    client.send(&hello(user));
    client.expect(WELCOME);
    client
}

fn resets(stage: &Stage) -> Outcome {
    let count = stage.size.of(900, 40_000);
    let address = stage.server.address;
    each(count, |number| {
        let stream = match number % 6 {
            0 => connect(number, address),
            1 => {
                let stream = connect(number, address);
                pour(&stream, &hello("fleeting")[..12]);
                stream
            }
            2 => {
                let client = native(number, address, "fleeting");
                // What is answered lies unread, or is on its way.
                pour(&client.stream, &join(1, "lobby"));
                client.stream
            }
            3 => {
                let client = native(number, address, "fleeting");
                pour(&client.stream, &frame(JOIN, &[0; 500])[..200]);
                client.stream
            }
            4 => Web::open(address, "/ws", "").stream,
            _ => greeted_web(address, "fleeting"),
        };
        reset(stream);
    });
    Outcome { ends: vec![(count as u64, vec!["reset"])], ..Outcome::default() }
}
