//! What needs a kernel: a whole server in this process, and clients at the other end of sockets.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use common::{ECHO, ERROR, GOAWAY, GUARD, MESSAGE, Native, OK, Text, WELCOME};
use common::{eventually, frame, hello, join, publish};
use corebeat::base::counters::CloseReason;
use corebeat::base::limits::Limits;
use corebeat::base::pressure::Watermarks;
use corebeat::engine::config::ServerConfig;
use corebeat::engine::server::Server;
use corebeat::engine::steward::Stopped;

fn serve(workers: u16) -> (Server, SocketAddr) {
    serve_with(ServerConfig { workers, ..ServerConfig::default() })
}

fn serve_with(mut config: ServerConfig) -> (Server, SocketAddr) {
    // Where other programs take the processors away, it would refuse whoever comes.
    config.limits.overload_lag = Watermarks::OFF;
    let server = Server::start(config).unwrap();
    let address = server.local_addr();
    (server, address)
}

/// Waits until nobody listens any more. A worker of another test that starts at this moment, and
/// takes a file table of its own, has whatever is open here until it has let go of it.
fn await_silence(address: SocketAddr) {
    eventually("nobody listens", || TcpStream::connect(address).is_err());
}

fn stop(mut server: Server) -> Stopped {
    server.stop();
    server.join().unwrap()
}

#[test]
fn two_text_clients_chat() {
    let (server, address) = serve(1);
    let mut ann = Text::greet(address, "ann");
    let mut bob = Text::greet(address, "bob");
    assert_eq!(ann.next().unwrap(), "* bob joined lobby");
    bob.say("good morning");
    assert_eq!(ann.next().unwrap(), "[lobby] bob: good morning");
    ann.say("morning");
    assert_eq!(bob.next().unwrap(), "[lobby] ann: morning");
    bob.say("/quit");
    assert_eq!(bob.next().unwrap(), "* bye");
    assert_eq!(bob.next(), None);
    assert_eq!(ann.next().unwrap(), "* bob left lobby");
    drop((ann, bob));
    assert_eq!(stop(server).cut, 0);
}

#[test]
fn all_members_on_all_workers_see_one_order_in_either_dialect() {
    const EACH: usize = 8;
    let (server, address) = serve(4);
    let mut observer = Native::enter(address, "observer", "lobby");
    let mut natives: Vec<Native> =
        (0..EACH).map(|n| Native::enter(address, &format!("n{n}"), "lobby")).collect();
    let mut texts: Vec<Text> = (0..EACH).map(|n| Text::greet(address, &format!("t{n}"))).collect();
    for round in 0..10 {
        for native in &mut natives {
            native.send(&publish(0, "lobby", format!("round {round}").as_bytes()));
        }
        for text in &mut texts {
            text.say(&format!("round {round}"));
        }
    }
    let order: Vec<(String, String)> = (1..=2 * EACH as u64 * 10)
        .map(|expected| {
            let (seq, from, body) = observer.expect(MESSAGE).message();
            assert_eq!(seq, expected, "no gap, no repetition");
            (from, String::from_utf8(body).unwrap())
        })
        .collect();
    let without = |name: String| order.iter().filter(move |(from, _)| *from != name).cloned();
    for (number, native) in natives.iter_mut().enumerate() {
        for (from, body) in without(format!("n{number}")) {
            let (_, its_from, its_body) = native.expect(MESSAGE).message();
            assert_eq!((its_from, String::from_utf8(its_body).unwrap()), (from, body));
        }
    }
    for (number, text) in texts.iter_mut().enumerate() {
        for (from, body) in without(format!("t{number}")) {
            assert_eq!(text.next_said(), format!("[lobby] {from}: {body}"));
        }
    }
    drop((observer, natives, texts));
    let stopped = stop(server);
    assert!(stopped.counters.mail_out > 0, "the clients were on several workers");
    assert_eq!(stopped.cut, 0);
}

#[test]
fn frames_arrive_whole_however_they_are_cut() {
    let (_server, address) = serve(1);
    let mut listener = Native::enter(address, "bob", "den");
    let mut client = Native::connect(address);
    let said = [hello("ann"), join(1, "den"), publish(2, "den", b"byte by byte")].concat();
    for byte in said {
        client.send(&[byte]);
    }
    client.expect(WELCOME);
    client.expect(OK);
    client.expect(OK);
    assert_eq!(listener.expect(MESSAGE).message().2, b"byte by byte");
}

#[test]
fn a_slow_reader_gets_every_byte_although_writes_are_partial() {
    const FRAMES: u32 = 64;
    let (_server, address) = serve(1);
    let mut client = Native::connect_narrow(address);
    client.send(&hello("ann"));
    client.expect(WELCOME);
    let body = |number: u32| -> Vec<u8> {
        (0..15_000_u32).flat_map(|at| (at ^ number.rotate_left(16)).to_be_bytes()).collect()
    };
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        // Far more than the server holds for one client: it must stop reading, and go on later.
        for number in 0..FRAMES {
            writer.write_all(&frame(ECHO, &body(number))).unwrap();
        }
    });
    for number in 0..FRAMES {
        let echo = client.expect(ECHO);
        assert!(echo.payload == body(number), "frame {number} came back changed");
    }
    writing.join().unwrap();
}

#[test]
fn a_reader_who_is_too_slow_is_closed_and_nobody_else_notices() {
    const MESSAGES: u32 = 400;
    // Whoever is closed has left at once.
    let limits = Limits { resume_window_ms: 0, presence_grace_ms: 0, ..Limits::default() };
    let (server, address) =
        serve_with(ServerConfig { workers: 2, limits, ..ServerConfig::default() });
    let mut slow = Native::connect_narrow(address);
    slow.send(&[hello("slow"), join(1, "den")].concat());
    slow.expect(WELCOME);
    slow.expect(OK);
    let mut quick = Native::enter(address, "quick", "den");
    let mut loud = Native::greet(address, "loud");
    let body = vec![b'x'; 60_000];
    for number in 1..=MESSAGES {
        loud.send(&publish(number, "den", &body));
        loud.expect(OK);
        assert_eq!(quick.expect(MESSAGE).message().0, u64::from(number));
        // It reads as soon as it was closed: its last words wait for two seconds.
        loud.send(&frame(0x16, b"\0\0\0\x01\x03den"));
        let roster = loud.next_but_pings().expect("a roster");
        if roster.payload[4..8] == 1_u32.to_be_bytes() {
            break;
        }
    }
    // What the kernel had taken comes, then perhaps the last word, and then the end: no reset.
    let mut seen = 0;
    let last = loop {
        match slow.next_but_pings() {
            Some(frame) if frame.kind == MESSAGE => seen += 1,
            other => break other,
        }
    };
    assert!(seen < MESSAGES);
    if let Some(error) = last {
        assert_eq!(error.error_code(), 431);
        slow.expect_end();
    }
    drop((slow, quick, loud));
    assert_eq!(stop(server).counters.closed_for(CloseReason::SlowReader), 1);
}

#[test]
fn a_reset_in_the_middle_of_a_frame_is_a_departure() {
    let (server, address) = serve(2);
    let mut ann = Text::greet(address, "ann");
    let mut bob = Native::enter(address, "bob", "lobby");
    ann.wait_for("* bob joined lobby");
    let half = publish(0, "lobby", b"never finished");
    bob.send(&half[..half.len() - 1]);
    bob.reset();
    ann.wait_for("* bob left lobby");
    drop(ann);
    assert_eq!(stop(server).counters.closed_for(CloseReason::Reset), 1);
}

#[test]
fn who_closes_only_the_sending_side_still_gets_the_answers() {
    let (_server, address) = serve(2);
    let mut client = Native::connect(address);
    client.send(&[hello("ann"), join(1, "den"), frame(ECHO, b"last")].concat());
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.expect(WELCOME);
    let mut answer = || client.next_but_pings().unwrap().kind;
    let answers = [answer(), answer()];
    assert!(answers == [OK, ECHO] || answers == [ECHO, OK], "{answers:?}");
    client.expect_end();

    let mut ann = Text::greet(address, "ann");
    ann.say("/ping");
    ann.hang_up();
    assert_eq!(ann.next().unwrap(), "pong");
    assert_eq!(ann.next(), None);
}

#[test]
fn malformed_bytes_get_an_error_and_an_orderly_end() {
    let (server, address) = serve(1);
    let mut client = Native::greet(address, "ann");
    // Far more than one read takes: if any of it were left unread, the close would be a reset.
    let garbage = vec![0x2A; 300_000];
    client.send(&garbage);
    assert_eq!(client.expect(ERROR).error_code(), 400);
    client.expect_end();
    drop(client);

    let mut web = TcpStream::connect(address).unwrap();
    web.set_read_timeout(Some(GUARD)).unwrap();
    web.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    web.write_all(&garbage).unwrap();
    let mut answer = String::new();
    web.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drop(web);
    assert_eq!(stop(server).counters.closed_for(CloseReason::Malformed), 2);
}

#[test]
fn a_stopped_server_says_goodbye_and_gives_its_port_back() {
    let (mut server, address) = serve(3);
    let mut clients: Vec<Native> =
        (0..30).map(|n| Native::enter(address, &format!("c{n}"), "lobby")).collect();
    let mut ann = Text::greet(address, "ann");
    server.stop();
    let joining = std::thread::spawn(|| server.join().unwrap());
    for client in &mut clients {
        client.expect(GOAWAY);
        client.expect_end();
    }
    while let Some(line) = ann.next() {
        assert!(!line.starts_with('!'), "{line}");
    }
    drop((clients, ann));
    let stopped = joining.join().unwrap();
    assert_eq!(stopped.cut, 0);
    assert_eq!(stopped.counters.closed_for(CloseReason::Draining), 31);
    await_silence(address);
    let (_next, again) = serve_with(ServerConfig { listen: address, ..ServerConfig::default() });
    assert_eq!(again, address);
}

#[test]
fn a_dropped_server_stops_at_once() {
    let (server, address) = serve(2);
    let mut client = Native::greet(address, "ann");
    drop(server);
    client.expect_end();
    await_silence(address);
}
