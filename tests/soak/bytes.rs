//! Bytes that are wrong, too many, or come one by one.

use std::io::Read;

use fastrand::Rng;

use super::common::web::{self, BINARY, FIN, TEXT, Web};
use super::common::{ECHO, HELLO, Native, PUBLISH, frame, hello};
use super::patience::greeted_web;
use super::peer::{connect, each, hear_out, pour, pour_drop_by_drop};
use super::stage::{Outcome, Scenario, Stage};

/// Bytes by chance, in every state of a connection.
pub(crate) const RANDOM: Scenario =
    Scenario { name: "random-bytes", server: Default::default, run: random };
/// Whole conversations, each byte in a packet of its own.
pub(crate) const ONE_BY_ONE: Scenario =
    Scenario { name: "one-byte-writes", server: Default::default, run: one_by_one };
/// Lengths of 2^31 and more, wherever there is a length.
pub(crate) const LENGTHS: Scenario =
    Scenario { name: "lengths", server: Default::default, run: lengths };

/// How one that speaks nonsense may end. It says nothing more behind it, so whoever finds no fault
/// in it takes that for a goodbye.
const NONSENSE: [&str; 8] = [
    "malformed",
    "too_large",
    "refused",
    "unserved_dialect",
    "peer_closed",
    "reset",
    "served",
    "bye",
];

fn random(stage: &Stage) -> Outcome {
    let count = stage.size.of(600, 20_000);
    let address = stage.server.address;
    each(count, |number| {
        let mut rng = Rng::with_seed(number as u64);
        let noise: Vec<u8> = (0..rng.usize(1..4_000)).map(|_| rng.u8(..)).collect();
        let stream = match number % 8 {
            0 => connect(number, address),
            1 => behind(connect(number, address), &[0xFB, HELLO]),
            2 => behind(connect(number, address), b"GET /ws HTTP/1.1\r\n"),
            3 => behind(connect(number, address), b"/nick n\n"),
            4 => Native::greet(address, "noise").stream,
            5 => Web::open(address, "/ws", "").stream,
            6 => greeted_web(address, "noise"),
            _ => {
                // Whole frames whose insides are noise.
                let stream = Native::greet(address, "noise").stream;
                pour(&stream, &frame(rng.u8(..), &noise));
                stream
            }
        };
        pour(&stream, &noise);
        hear_out(stream);
    });
    Outcome { ends: vec![(count as u64, NONSENSE.to_vec())], ..Outcome::default() }
}

fn behind(stream: std::net::TcpStream, bytes: &[u8]) -> std::net::TcpStream {
    pour(&stream, bytes);
    stream
}

fn one_by_one(stage: &Stage) -> Outcome {
    let each_kind = stage.size.of(15, 400);
    let address = stage.server.address;
    let bye = frame(4, &[0, 0, 0, 0]);
    let echo = frame(ECHO, b"byte by byte");
    let heard_as = |number, said: &[u8], last: &[u8]| {
        let mut stream = connect(number, address);
        pour_drop_by_drop(&stream, said);
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("an orderly end");
        let heard_last = heard.windows(last.len()).any(|part| part == last);
        assert!(heard_last, "{} does not have {}", heard.escape_ascii(), last.escape_ascii());
    };
    each(each_kind, |number| {
        let native = [&hello("patient")[..], &echo, &bye].concat();
        heard_as(number, &native, &echo);
        heard_as(number, b"/nick patient\n/ping\n/quit\n", b"pong\n");
        let request = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
        heard_as(number, request, b"ok");
        let mut web = Web::open(address, "/ws", "");
        let say = |text: &str| web::frame(FIN | TEXT, text.as_bytes());
        let said = [say(r#"{"op":"hello","user":"patient"}"#), say(r#"{"op":"ping","seq":7}"#)];
        pour_drop_by_drop(&web.stream, &said.concat());
        assert!(matches!(web.next(), web::Heard::Text(_)));
        let web::Heard::Text(pong) = web.next() else { panic!("no pong") };
        assert!(String::from_utf8(pong).unwrap().contains("\"pong\""));
        pour_drop_by_drop(&web.stream, &web::close(1000, ""));
        assert_eq!(web.next(), web::Heard::Close(Some(1000)));
    });
    let kinds = each_kind as u64;
    Outcome { ends: vec![(3 * kinds, vec!["bye"]), (kinds, vec!["served"])], ..Outcome::default() }
}

/// The lengths that are tried where a length has 32 bits.
const LENGTHS_32: [u32; 4] = [1 << 31, (1 << 31) + 1, u32::MAX - 12, u32::MAX];
/// And where it has 64. The first bit of a WebSocket's must not be set.
const LENGTHS_64: [u64; 6] = [1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX - 14, u64::MAX];

fn lengths(stage: &Stage) -> Outcome {
    let each_kind = stage.size.of(4, 300);
    let address = stage.server.address;
    let native = |kind: u8, length: u32| {
        [&[0xFB, kind, 0, 0][..], &length.to_be_bytes(), &[0; 100]].concat()
    };
    let of_web = |first: u8, length: u64| {
        [&[first, 0x80 | 127][..], &length.to_be_bytes(), &web::MASK, &[0; 100]].concat()
    };
    let ended = each(each_kind, |number| {
        let mut ended = 0;
        let mut end = |stream: std::net::TcpStream, bytes: &[u8]| {
            pour(&stream, bytes);
            hear_out(stream);
            ended += 1;
        };
        for length in LENGTHS_32 {
            end(connect(number, address), &native(HELLO, length));
            end(Native::greet(address, "large").stream, &native(PUBLISH, length));
            // In a message of a WebSocket there are native frames again.
            let inner = web::frame(FIN | BINARY, &native(PUBLISH, length));
            end(greeted_web(address, "large"), &inner);
        }
        for length in LENGTHS_64 {
            end(Web::open(address, "/ws", "").stream, &of_web(FIN | TEXT, length));
            end(greeted_web(address, "large"), &of_web(FIN | BINARY, length));
            end(greeted_web(address, "large"), &of_web(FIN | web::PING, length));
            end(Web::open(address, "/echo", "").stream, &of_web(FIN | BINARY, length));
            let fragments = [web::frame(BINARY, &[0; 10]), of_web(FIN, length)].concat();
            end(greeted_web(address, "large"), &fragments);
            let head =
                format!("POST /ws HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n");
            end(connect(number, address), head.as_bytes());
        }
        end(connect(number, address), &[b'a'; 200_000]);
        ended
    });
    let wrong = vec!["too_large", "malformed", "refused"];
    Outcome { ends: vec![(ended.iter().sum(), wrong)], ..Outcome::default() }
}
