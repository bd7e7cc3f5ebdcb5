//! Limits where they meet a kernel: places, addresses, the pace of accepting, and peers that hang.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::{ERROR, GOAWAY, GUARD, Native, OK, PONG, WELCOME};
use common::{eventually, frame, hello, publish};
use corebeat::base::counters::{CloseReason, Counters};
use corebeat::base::limits::{Limits, REFUSALS_HELD_MAX, REFUSED_RECONNECT_AFTER_MS};
use corebeat::base::pressure::Watermarks;
use corebeat::engine::config::ServerConfig;
use corebeat::engine::server::Server;

fn serve(change: impl FnOnce(&mut ServerConfig)) -> (Server, SocketAddr) {
    let mut config = ServerConfig::default();
    change(&mut config);
    // Where other programs take the processors away, it would refuse whoever comes.
    config.limits.overload_lag = Watermarks::OFF;
    let server = Server::start(config).unwrap();
    let address = server.local_addr();
    (server, address)
}

fn serve_within(limits: Limits) -> (Server, SocketAddr) {
    serve(|config| config.limits = limits)
}

fn stop(mut server: Server) -> Counters {
    server.stop();
    server.join().unwrap().counters
}

/// The client is told that it is not taken, and when to come back.
fn expect_refusal(mut client: Native) {
    client.send(&hello("late"));
    assert_eq!(client.expect(ERROR).error_code(), 429);
    let after_ms = u32::from_be_bytes(client.expect(GOAWAY).payload[..4].try_into().unwrap());
    let (earliest, latest) = REFUSED_RECONNECT_AFTER_MS;
    assert!((earliest..=latest).contains(&after_ms), "{after_ms}");
    client.expect_end();
}

/// Whether a client from `source` is welcomed.
fn is_welcome(source: [u8; 4], address: SocketAddr) -> bool {
    let mut client = Native::connect_from(source, address);
    // One that is turned away at once may be reset under this write.
    client.stream.write_all(&hello("next")).is_ok()
        && matches!(client.stream.peek(&mut [0]), Ok(1))
        && client.next().is_some_and(|frame| frame.kind == WELCOME)
}

#[test]
fn who_comes_when_all_places_are_taken_is_told_so() {
    let (server, address) = serve(|config| config.max_connections = Some(2));
    let mut first = Native::greet(address, "first");
    let mut second = Native::greet(address, "second");
    expect_refusal(Native::connect(address));
    let mut browser = TcpStream::connect(address).unwrap();
    browser.set_read_timeout(Some(GUARD)).unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    browser.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "),
        "{answer}"
    );
    let mut person = TcpStream::connect(address).unwrap();
    person.set_read_timeout(Some(GUARD)).unwrap();
    person.write_all(b"hello?\n").unwrap();
    let mut answer = String::new();
    person.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("! 429 ") && answer.lines().count() == 1, "{answer}");
    first.echo(b"not disturbed");
    second.echo(b"not disturbed");
    drop((second, browser, person));
    eventually("the place is free again", || is_welcome([127, 0, 0, 1], address));
    drop(first);
    let counters = stop(server);
    assert!(counters.limited_connections >= 3);
    assert_eq!(counters.turned_away, 0);
}

#[test]
fn beyond_some_that_are_held_to_be_told_the_others_are_closed_at_once() {
    let (server, address) = serve(|config| config.max_connections = Some(1));
    let _first = Native::greet(address, "first");
    let mut mute: Vec<Native> =
        (0..REFUSALS_HELD_MAX + 5).map(|_| Native::connect(address)).collect();
    let mut beyond = mute.split_off(REFUSALS_HELD_MAX);
    for client in &mut beyond {
        client.expect_end();
    }
    for client in mute {
        expect_refusal(client);
    }
    let counters = stop(server);
    assert_eq!(counters.limited_connections, REFUSALS_HELD_MAX as u64 + 5);
    assert_eq!(counters.turned_away, 5);
}

#[test]
fn one_address_does_not_take_the_places_of_others() {
    let (server, address) = serve(|config| {
        config.limits.max_connections_per_address = 2;
        config.exempt = vec!["127.0.0.9".parse().unwrap()];
    });
    let greet = |source| {
        let mut client = Native::connect_from(source, address);
        client.send(&hello("ann"));
        client.expect(WELCOME);
        client
    };
    let mut first = greet([127, 0, 0, 2]);
    let second = greet([127, 0, 0, 2]);
    expect_refusal(Native::connect_from([127, 0, 0, 2], address));
    first.echo(b"not disturbed");
    let _other = greet([127, 0, 0, 3]);
    let _exempt = [(); 3].map(|()| greet([127, 0, 0, 9]));
    drop(second);
    eventually("the place is free again", || is_welcome([127, 0, 0, 2], address));
    let counters = stop(server);
    assert!(counters.limited_addresses >= 1);
    assert_eq!(counters.limited_connections, 0);
}

#[test]
fn the_machine_itself_is_exempt() {
    let (_server, address) = serve(|config| config.limits.max_connections_per_address = 1);
    for _ in 0..3 {
        let mut client = Native::greet(address, "ann");
        client.echo(b"welcome");
        std::mem::forget(client);
    }
}

#[test]
fn a_crowd_waits_in_the_kernel_and_nobody_of_it_is_refused() {
    let (server, address) = serve_within(Limits { accept_rate: 50, ..Limits::default() });
    let mut crowd: Vec<Native> = (0..80).map(|_| Native::connect(address)).collect();
    for client in &mut crowd {
        client.send(&hello(""));
    }
    for client in &mut crowd {
        client.expect(WELCOME);
    }
    drop(crowd);
    let counters = stop(server);
    assert_eq!((counters.opened, counters.turned_away), (80, 0));
    assert!(counters.limited_accepts > 0);
}

#[test]
fn half_a_frame_is_not_waited_for_longer_than_it_may_take() {
    let (server, address) = serve_within(Limits { frame_timeout_ms: 300, ..Limits::default() });
    let mut slow = Native::greet(address, "slow");
    let mut other = Native::greet(address, "other");
    slow.send(&frame(PONG, &[0; 17])[..7]);
    assert_eq!(slow.expect(ERROR).error_code(), 408);
    slow.expect_end();
    other.echo(b"not disturbed");
    drop(slow);
    assert_eq!(stop(server).closed_for(CloseReason::FrameTimeout), 1);
}

#[test]
fn a_reader_that_takes_no_byte_is_closed_long_before_its_heartbeat_ends() {
    let limits = Limits { write_timeout_ms: 400, max_outbound: 64 << 20, ..Limits::default() };
    let (server, address) = serve_within(limits);
    let mut stuck = Native::connect_narrow(address);
    stuck.send(&hello("stuck"));
    stuck.expect(WELCOME);
    stuck.send(&common::join(1, "lobby"));
    stuck.expect(OK);
    let mut speaker = Native::enter(address, "speaker", "lobby");
    let body = vec![b'x'; 60_000];
    // More than the kernel's buffers take on both sides.
    for reference in 1..=200 {
        speaker.send(&publish(reference, "lobby", &body));
        speaker.expect(OK);
    }
    speaker.echo(b"not disturbed");
    eventually("the stuck one is gone from the room", || {
        speaker.send(&frame(0x16, b"\0\0\0\x01\x05lobby"));
        let roster = speaker.next_but_pings().expect("a roster");
        roster.payload[4..8] == 1_u32.to_be_bytes()
    });
    drop((stuck, speaker));
    assert_eq!(stop(server).closed_for(CloseReason::StalledReader), 1);
}

#[test]
fn whoever_sends_too_fast_is_told_or_slowed_down_and_loses_nothing_that_was_taken() {
    let limits = Limits { message_rate: 100, message_burst: 20, ..Limits::default() };
    let (server, address) = serve_within(limits);
    let mut ann = Native::greet(address, "ann");
    let run: Vec<u8> = (1..=200).flat_map(|reference| publish(reference, "attic", b"hi")).collect();
    ann.send(&run);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..200 {
        match ann.next_but_pings().expect("an answer to each") {
            answer if answer.kind == OK => taken += 1,
            answer => {
                assert_eq!(answer.error_code(), 429);
                refused += 1;
            }
        }
    }
    assert!(taken >= 20 && refused > 0, "{taken} and {refused}");
    ann.echo(b"it lives");
    drop(ann);
    let counters = stop(server);
    assert_eq!((counters.published, counters.limited_messages), (taken, refused));
}
