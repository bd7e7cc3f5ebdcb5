//! The conversations that are held over WebSockets, in JSON and in native frames.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::{Message, Utf8Bytes};

use crate::common::{GUARD, MESSAGE, Native, PING, eventually, frame, hello, publish};
use crate::web_client::{Heard, Kind, Web, event};
use crate::{Contestant, Server};

pub(crate) fn two_members_talk(contestant: Contestant) {
    for kind in Kind::ALL {
        let server = Server::start(contestant, &["--workers", "2"]);
        let mut ann = Web::greet(server.address, kind, "ann");
        ann.say(&json!({"op": "join", "ref": 1, "room": "tea"}));
        assert_eq!(ann.heard_ok(), (1, 0));
        let mut bob = Native::enter(server.address, "bob", "tea");
        ann.say(&json!({"op": "publish", "ref": 2, "room": "tea", "body": "one"}));
        assert_eq!(ann.heard_ok(), (2, 1));
        assert_eq!(bob.expect(MESSAGE).message(), (1, "ann".into(), b"one".to_vec()));
        bob.send(&publish(0, "tea", b"two"));
        assert_eq!(ann.heard_message(), (2, "bob".into(), "two".into()));
        ann.echo("its own message did not come before this");
        ann.say(&json!({"op": "publish", "room": "tea", "body": "three", "echo": true}));
        assert_eq!(ann.heard_message(), (3, "ann".into(), "three".into()));
        assert_eq!(bob.expect(MESSAGE).message().0, 3);
        ann.say(&json!({"op": "publish", "ref": 2, "room": "tea", "body": "one"}));
        let again = ann.expect("ok");
        assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
        ann.say(&json!({"op": "leave", "ref": 4, "room": "tea"}));
        assert_eq!(ann.heard_ok().0, 4);
        bob.send(&publish(0, "tea", b"four"));
        bob.echo(b"the message is on its way");
        ann.echo("who left hears no more");
        ann.say(&json!({"op": "leave", "ref": 5, "room": "nowhere"}));
        let error = ann.expect("error");
        assert_eq!((&error["ref"], &error["code"]), (&json!(5), &json!(404)));
    }
}

pub(crate) fn members_of_all_dialects_hear_one_order(contestant: Contestant) {
    const EACH: u64 = 50;
    let server = Server::start(contestant, &["--workers", "2"]);
    let mut native = Native::enter(server.address, "native", "tea");
    let mut members: Vec<Web> = (0..6)
        .map(|n| Web::enter(server.address, Kind::ALL[n % 2], &format!("member-{n}"), "tea"))
        .collect();
    for round in 0..EACH {
        for member in &mut members {
            let body = format!("round {round}");
            member.say(&json!({"op": "publish", "room": "tea", "body": body}));
        }
    }
    let order: Vec<_> = (1..=6 * EACH)
        .map(|seq| {
            let (found, from, body) = native.expect(MESSAGE).message();
            assert_eq!(found, seq, "no gap, no repetition");
            (seq, from, String::from_utf8(body).unwrap())
        })
        .collect();
    for (n, member) in members.iter_mut().enumerate() {
        let name = format!("member-{n}");
        for expected in order.iter().filter(|(_, from, _)| *from != name) {
            assert_eq!(member.heard_message(), *expected);
        }
    }
}

pub(crate) fn a_joiner_misses_nothing_behind_its_seam(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "2"]);
    let mut speaker = Native::enter(server.address, "speaker", "tea");
    for stay in 0..20 {
        for _ in 0..10 {
            speaker.send(&publish(0, "tea", b"x"));
        }
        let kind = Kind::ALL[stay as usize % 2];
        let mut joiner = Web::greet(server.address, kind, &format!("joiner-{stay}"));
        joiner.say(&json!({"op": "join", "ref": 1, "room": "tea"}));
        speaker.send(&publish(0, "tea", b"x"));
        let (_, head) = joiner.heard_ok();
        speaker.send(&publish(0, "tea", b"last"));
        let mut expected = head + 1;
        loop {
            let (seq, _, body) = joiner.heard_message();
            assert_eq!(seq, expected);
            expected += 1;
            if body == "last" {
                break;
            }
        }
        assert_eq!(expected - 1, (stay + 1) * 12);
    }
}

pub(crate) fn presence_is_told(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "2", "--presence-max", "3"]);
    for kind in Kind::ALL {
        let room = format!("{kind:?}");
        let mut ann = Web::greet(server.address, kind, "ann");
        ann.say(&json!({"op": "join", "ref": 1, "room": room, "notify": true}));
        assert_eq!(ann.heard_ok().0, 1);
        let mut told = |kind: &str, total: u32, user: &str| {
            let presence = ann.expect("presence");
            assert_eq!((&presence["kind"], &presence["total"]), (&json!(kind), &json!(total)));
            assert_eq!(presence["user"], user);
        };
        let bob = Web::enter(server.address, kind, "bob", &room);
        told("joined", 2, "bob");
        drop(bob);
        told("left", 1, "bob");
        let _crowd: Vec<Web> = (0..5)
            .map(|n| Web::enter(server.address, kind, &format!("guest-{n}"), &room))
            .collect();
        told("joined", 2, "guest-0");
        told("joined", 3, "guest-1");
        // One total, or several where it takes them long to come.
        let mut total = 0;
        while total != 6 {
            let many = ann.expect("presence");
            assert_eq!((&many["kind"], &many["user"]), (&json!("many"), &json!("")));
            let grown = many["total"].as_u64().unwrap();
            assert!((4..=6).contains(&grown) && grown > total, "{many}");
            total = grown;
        }
    }
}

pub(crate) fn pings_fragments_and_many_frames_are_understood(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "1"]);
    for kind in Kind::ALL {
        let mut ann = Web::greet(server.address, kind, "ann");
        ann.socket.send(Message::Ping("what a browser never sends".into())).unwrap();
        assert_eq!(ann.next_but_pings(), Heard::Pong(b"what a browser never sends".to_vec()));
        let whole = ann.message(&json!({"op": "echo", "body": "in three parts"}));
        let opcode = if whole.is_text() { Data::Text } else { Data::Binary };
        let bytes = whole.into_data();
        for (range, opcode, last) in [
            (0..3, opcode, false),
            (3..10, Data::Continue, false),
            (10..bytes.len(), Data::Continue, true),
        ] {
            let part = Frame::message(bytes.slice(range), OpCode::Data(opcode), last);
            ann.socket.send(Message::Frame(part)).unwrap();
            if !last {
                ann.socket.send(Message::Ping("in between".into())).unwrap();
                assert_eq!(ann.next_but_pings(), Heard::Pong(b"in between".to_vec()));
            }
        }
        assert_eq!(ann.expect("echo")["body"], "in three parts");
    }
    let mut ann = Web::connect(server.address, Kind::Bin);
    let both = [hello("ann"), frame(crate::common::ECHO, b"in one message")].concat();
    ann.socket.send(Message::binary(both)).unwrap();
    ann.expect("welcome");
    assert_eq!(ann.expect("echo")["body"], "in one message");
    let mut bob = Web::greet(server.address, Kind::Json, "bob");
    bob.say(&json!({"op": "ping", "seq": 5, "time_ms": 77}));
    let pong = bob.expect("pong");
    assert_eq!((&pong["seq"], &pong["time_ms"]), (&json!(5), &json!(77)));
}

pub(crate) fn mistakes_have_their_close_codes(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "1", "--max-frame", "4096"]);
    let masked = |first: u8, payload: &[u8]| {
        // A mask of zeros leaves the payload as it is.
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    };
    for kind in Kind::ALL {
        for (bytes, code, close) in [
            (b"\x81\x02{}".to_vec(), 400, 1002),
            (masked(0xC1, b"{}"), 400, 1002),
            (masked(0x83, b"{}"), 400, 1002),
            (masked(0x80, b"{}"), 400, 1002),
            (masked(0x09, b""), 400, 1002),
            (masked(0x81, b"\xFF"), 400, 1007),
            (b"\x82\xFE\xFF\xFF\0\0\0\0".to_vec(), 413, 1009),
        ] {
            let mut client = Web::greet(server.address, kind, "ann");
            client.socket.get_mut().write_all(&bytes).unwrap();
            client.expect_failure(code, close);
        }
    }
    for (kind, message) in [
        (Kind::Json, Message::text("{")),
        (Kind::Json, Message::text(r#"{"op":"sing"}"#)),
        (Kind::Json, Message::binary(&b"{}"[..])),
        (Kind::Bin, Message::text("{}")),
        (Kind::Bin, Message::binary(frame(0x7F, b""))),
        (Kind::Bin, Message::binary(&b"what"[..])),
        (Kind::Bin, Message::binary(frame(PING, b"short"))),
        (Kind::Bin, Message::binary(hello("again"))),
        (Kind::Json, Message::text(r#"{"op":"hello","user":"again"}"#)),
    ] {
        let mut client = Web::greet(server.address, kind, "ann");
        client.socket.send(message).unwrap();
        client.expect_failure(400, 1002);
    }
    for kind in Kind::ALL {
        let mut early = Web::connect(server.address, kind);
        early.say(&json!({"op": "join", "ref": 1, "room": "tea"}));
        early.expect_failure(400, 1002);
    }
}

pub(crate) fn a_silent_peer_is_pinged_and_reaped_and_one_that_answers_is_not(
    contestant: Contestant,
) {
    let options = ["--workers", "1", "--heartbeat", "1s", "--timeout", "3s"];
    let server = Server::start(contestant, &options);
    let members: Vec<_> = Kind::ALL
        .map(|kind| Web::enter(server.address, kind, &format!("{kind:?}"), "tea"))
        .into_iter()
        .map(|mut member| std::thread::spawn(move || member.next_but_pings()))
        .collect();
    let before = Instant::now();
    let silent = Kind::ALL.map(|kind| (kind, Web::greet(server.address, kind, "silent")));
    for (kind, silent) in silent {
        let mut pings = 0;
        let mut heard = silent.unanswered().inspect(|(opcode, payload)| {
            if *opcode == OpCode::Control(Control::Ping) {
                assert_eq!((payload.len(), &payload[..4]), (17, &1_u32.to_be_bytes()[..]));
                pings += 1;
            }
        });
        let ping = OpCode::Control(Control::Ping);
        let (_, last) = heard.find(|(opcode, _)| *opcode != ping).expect("a last word");
        let last = match kind {
            Kind::Json => serde_json::from_slice(&last).unwrap(),
            Kind::Bin => event(&last),
        };
        assert_eq!(last["code"], 408);
        let (opcode, payload) = heard.next().expect("a close frame");
        assert_eq!(opcode, OpCode::Control(Control::Close));
        assert_eq!(payload[..2], 4408_u16.to_be_bytes());
        assert_eq!(heard.next(), None);
        drop(heard);
        assert!(before.elapsed() >= Duration::from_secs(3), "not before the timeout");
        assert!(pings >= 3, "{pings} pings");
    }
    let mut speaker = Native::greet(server.address, "speaker");
    speaker.send(&publish(0, "tea", b"are you there"));
    for member in members {
        let Heard::Event(event) = member.join().unwrap() else {
            panic!("who answers is never closed");
        };
        assert_eq!(event["op"], "message");
    }
}

pub(crate) fn a_reader_that_does_not_read_is_closed(contestant: Contestant) {
    for kind in Kind::ALL {
        let options = ["--workers", "1", "--max-outbound", "128KiB"];
        let server = Server::start(contestant, &options);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&server.address.into()).expect("the server listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let mut slow = Web::over(stream, kind);
        slow.hello("slow");
        slow.say(&json!({"op": "join", "ref": 1, "room": "tea"}));
        slow.expect("ok");
        let mut fast = Web::greet(server.address, kind, "fast");
        fast.say(&json!({"op": "join", "ref": 1, "room": "tea", "notify": true}));
        fast.expect("ok");
        let body = "x".repeat(30_000);
        for reference in 2.. {
            fast.say(&json!({"op": "publish", "ref": reference, "room": "tea", "body": body}));
            let Heard::Event(answer) = fast.next_but_pings() else {
                panic!("the fast one lives");
            };
            if answer["op"] == "presence" {
                break;
            }
        }
        let last = loop {
            match slow.next_but_pings() {
                Heard::Event(event) if event["op"] == "message" => {}
                Heard::Event(event) => break event,
                other => panic!("a last word was expected, not {other:?}"),
            }
        };
        assert_eq!(last["code"], 431);
        assert_eq!(slow.next_but_pings(), Heard::Close(4431));
        assert_eq!(slow.next_but_pings(), Heard::End);
    }
}

pub(crate) fn closes_are_answered(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "1"]);
    let mut observer = Web::greet(server.address, Kind::Json, "observer");
    observer.say(&json!({"op": "join", "ref": 1, "room": "tea", "notify": true}));
    observer.expect("ok");
    for kind in Kind::ALL {
        let mut ann = Web::enter(server.address, kind, "ann", "tea");
        assert_eq!(observer.expect("presence")["kind"], "joined");
        let frame = tungstenite::protocol::CloseFrame {
            code: 4000.into(),
            reason: Utf8Bytes::from_static("that is all"),
        };
        ann.socket.close(Some(frame)).unwrap();
        assert_eq!(ann.next_but_pings(), Heard::Close(4000));
        assert_eq!(ann.next_but_pings(), Heard::End);
        assert_eq!(observer.expect("presence")["kind"], "left");
        let mut bob = Web::greet(server.address, kind, "bob");
        bob.say(&json!({"op": "bye", "code": 0, "reason": ""}));
        assert_eq!(bob.next_but_pings(), Heard::Close(1000));
        assert_eq!(bob.next_but_pings(), Heard::End);
    }
}

pub(crate) fn what_is_no_upgrade_is_refused(contestant: Contestant) {
    let server = Server::start(contestant, &["--workers", "1"]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (request, status) in [
        (format!("GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}\r\n"), "404"),
        ("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "426"),
        (format!("GET /ws HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"), "400"),
        (format!("GET /ws HTTP/1.1\r\n{upgrade}{key}\r\n"), "400"),
        (format!("GET /ws HTTP/1.1\r\nHost: a\r\n{upgrade}{key}\r\n"), "101"),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).expect("a status line");
        assert_eq!(std::str::from_utf8(&line).unwrap(), format!("HTTP/1.1 {status}"));
    }
}

pub(crate) fn a_signal_says_goodbye(contestant: Contestant) {
    let mut server = Server::start(contestant, &["--workers", "2"]);
    let mut members = Kind::ALL.map(|kind| Web::enter(server.address, kind, "ann", "tea"));
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    for member in &mut members {
        member.expect("goaway");
        assert_eq!(member.next_but_pings(), Heard::Close(1001));
        assert_eq!(member.next_but_pings(), Heard::End);
    }
    drop(members);
    let mut status = None;
    eventually("the program ends", || {
        status = server.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}
