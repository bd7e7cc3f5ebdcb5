//! Connections that mean no good, or do not know better.
//!
//! Owns how they come in numbers: from many addresses, by many hands, and what they do until they
//! are ended. Never judges; a [`stage`](super::stage) does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::common::{GUARD, eventually};

/// Threads that attack at a time.
const HANDS: usize = 4;
/// Addresses that connections come from: each has only so many ports.
const SOURCES: usize = 200;

/// Connects from one of many addresses, by its number.
pub(crate) fn connect(number: usize, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    let source = [127, 0, 1, 1 + (number % SOURCES) as u8];
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("a loopback address");
    socket.connect(&address.into()).expect("the server listens");
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_write_timeout(Some(GUARD)).unwrap();
    stream
}

/// Does something for each number below `count`, by several hands, and gives back what came of it.
pub(crate) fn each<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let act = &act;
    thread::scope(|scope| {
        let hand = |hand: usize| move || (hand..count).step_by(HANDS).map(act).collect();
        let hands: Vec<_> = (0..HANDS).map(|number| scope.spawn(hand(number))).collect();
        let done: Vec<Vec<T>> = hands.into_iter().map(|hand| hand.join().unwrap()).collect();
        done.into_iter().flatten().collect()
    })
}

/// Ends with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends as far as the server takes it, which may have ended the connection already.
pub(crate) fn pour(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Sends each byte by itself.
pub(crate) fn pour_drop_by_drop(mut stream: &TcpStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).expect("the server reads");
    }
}

/// Says nothing more, and reads until the server ends it too, in whatever way.
pub(crate) fn hear_out(mut stream: TcpStream) -> Vec<u8> {
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("the server does not end it")
        }
        // A reset is an end too.
        _ => heard,
    }
}

/// Sends a byte on each connection again and again, until the server has ended them all.
pub(crate) fn drip(mut streams: Vec<TcpStream>) {
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    let mut chunk = [0; 4 << 10];
    eventually("the server loses patience with every one", || {
        streams.retain(|mut stream| {
            let _ = stream.write(b"a");
            match stream.read(&mut chunk) {
                Ok(count) => count > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        });
        streams.is_empty()
    });
}
