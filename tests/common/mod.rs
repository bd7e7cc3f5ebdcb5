//! Clients for tests that need a kernel, written from the wire contract alone.
//!
//! Owns a native and a text client over blocking sockets, and the guard that turns a hang into a
//! failure. Never uses the server's own codecs: what both got wrong would look right.

// Each test program uses its own part of this.
#![allow(dead_code, unreachable_pub)]

pub mod preload;
pub mod process;
pub mod web;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

/// Nothing that is to be read takes so long to come unless something hangs. Less than what lies
/// between two PINGs of a usual heartbeat, which would keep it from striking.
pub const GUARD: Duration = Duration::from_secs(25);
/// And nothing that takes a server several steps takes so long, not even on a slow machine that
/// does other things meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(50);

pub const HELLO: u8 = 0x01;
pub const PING: u8 = 0x02;
pub const PONG: u8 = 0x03;
pub const ECHO: u8 = 0x05;
pub const JOIN: u8 = 0x10;
pub const PUBLISH: u8 = 0x12;
pub const WELCOME: u8 = 0x81;
pub const OK: u8 = 0x90;
pub const ERROR: u8 = 0x91;
pub const MESSAGE: u8 = 0x92;
pub const GOAWAY: u8 = 0x96;
pub const GAP: u8 = 0x97;

/// A native frame without checksum.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFB, kind, 0, 0];
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn str8(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// HELLO of `user`, without wishes.
pub fn hello(user: &str) -> Vec<u8> {
    resume(user, &[0; 16])
}

/// HELLO of `user` that goes on with a session, named as [`Frame::session`] has it.
pub fn resume(user: &str, session: &[u8; 16]) -> Vec<u8> {
    let mut payload = vec![1, 0, 0];
    payload.extend_from_slice(session);
    str8(&mut payload, user);
    payload.extend_from_slice(&[0, 0]);
    frame(HELLO, &payload)
}

/// JOIN of `room`, live messages only.
pub fn join(reference: u32, room: &str) -> Vec<u8> {
    let mut payload = reference.to_be_bytes().to_vec();
    payload.extend_from_slice(&[0; 12]);
    str8(&mut payload, room);
    frame(JOIN, &payload)
}

/// PUBLISH of `body` to `room`.
pub fn publish(reference: u32, room: &str, body: &[u8]) -> Vec<u8> {
    let mut payload = reference.to_be_bytes().to_vec();
    str8(&mut payload, room);
    payload.extend_from_slice(body);
    frame(PUBLISH, &payload)
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u16,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of an ERROR.
    pub fn error_code(&self) -> u16 {
        assert_eq!(self.kind, ERROR, "{self:?}");
        u16::from_be_bytes(self.payload[4..6].try_into().unwrap())
    }

    /// The session of a WELCOME and its key, and whether it was resumed.
    pub fn session(&self) -> ([u8; 16], bool) {
        assert_eq!(self.kind, WELCOME, "{self:?}");
        (self.payload[5..21].try_into().unwrap(), self.payload[29] & 1 == 1)
    }

    /// Whether a MESSAGE comes from the history.
    pub fn is_replay(&self) -> bool {
        self.flags & 8 != 0
    }

    /// Place, sender and body of a MESSAGE.
    pub fn message(&self) -> (u64, String, Vec<u8>) {
        assert_eq!(self.kind, MESSAGE, "{self:?}");
        let seq = u64::from_be_bytes(self.payload[4..12].try_into().unwrap());
        let room_length = usize::from(self.payload[20]);
        let rest = &self.payload[21 + room_length..];
        let (from, body) = rest[1..].split_at(usize::from(rest[0]));
        (seq, String::from_utf8(from.to_vec()).unwrap(), body.to_vec())
    }
}

/// A client that speaks native frames. It answers PINGs by itself while it waits for something.
pub struct Native {
    pub stream: TcpStream,
}

impl Native {
    /// Connects, and says nothing.
    pub fn connect(address: SocketAddr) -> Native {
        let stream = TcpStream::connect(address).expect("the server listens");
        Native::over(stream)
    }

    /// Connects with a receive buffer so small that the server's writes are taken in parts.
    pub fn connect_narrow(address: SocketAddr) -> Native {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&address.into()).expect("the server listens");
        Native::over(socket.into())
    }

    /// Connects from this address of the machine, and says nothing.
    pub fn connect_from(source: [u8; 4], address: SocketAddr) -> Native {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("a loopback address");
        socket.connect(&address.into()).expect("the server listens");
        Native::over(socket.into())
    }

    fn over(stream: TcpStream) -> Native {
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        Native { stream }
    }

    /// Connects and says hello.
    pub fn greet(address: SocketAddr, user: &str) -> Native {
        let mut client = Native::connect(address);
        client.send(&hello(user));
        client.expect(WELCOME);
        client
    }

    /// Connects, says hello and joins `room`.
    pub fn enter(address: SocketAddr, user: &str, room: &str) -> Native {
        let mut client = Native::greet(address, user);
        client.send(&join(1, room));
        client.expect(OK);
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next frame; `None` at the end of the stream, which must lie between frames.
    pub fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 8];
        if self.stream.read(&mut header[..1]).expect("a frame or the end in time") == 0 {
            return None;
        }
        self.stream.read_exact(&mut header[1..]).expect("a whole header");
        assert_eq!(header[0], 0xFB, "a frame begins with the magic byte");
        let length = u32::from_be_bytes(header[4..8].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).expect("a whole payload");
        let flags = u16::from_be_bytes([header[2], header[3]]);
        Some(Frame { kind: header[1], flags, payload })
    }

    /// The next frame; `None` where the connection ends, in whatever way.
    pub fn try_next(&mut self) -> Option<Frame> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).ok()?;
        assert_eq!(header[0], 0xFB, "a frame begins with the magic byte");
        let length = u32::from_be_bytes(header[4..8].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let flags = u16::from_be_bytes([header[2], header[3]]);
        Some(Frame { kind: header[1], flags, payload })
    }

    /// The next frame that is no PING; answers those.
    pub fn next_but_pings(&mut self) -> Option<Frame> {
        let start = Instant::now();
        loop {
            match self.next() {
                Some(ping) if ping.kind == PING => {
                    assert!(start.elapsed() < GUARD, "nothing comes but pings");
                    self.send(&frame(PONG, &ping.payload));
                }
                other => return other,
            }
        }
    }

    /// The next frame, which must be of this kind.
    pub fn expect(&mut self, kind: u8) -> Frame {
        let frame = self.next_but_pings().expect("a frame before the end");
        assert_eq!(frame.kind, kind, "{frame:?}");
        frame
    }

    /// Says something that comes back: whatever was sent before has been dealt with then.
    pub fn echo(&mut self, body: &[u8]) {
        self.send(&frame(ECHO, body));
        assert_eq!(self.expect(ECHO).payload, body);
    }

    /// The stream must end here, in an orderly way.
    pub fn expect_end(&mut self) {
        assert_eq!(self.next_but_pings(), None);
    }

    /// Acknowledges all that has come, which the kernel else may put off.
    pub fn acknowledge(&self) {
        SockRef::from(&self.stream).set_tcp_quickack(true).unwrap();
    }

    /// From here on nothing that the server sends arrives, and the server is told nothing.
    pub fn cut_the_wire(&self) {
        cut_the_wire(&self.stream);
    }

    /// Vanishes with a reset, at once: that of a close waits for the last process that has the
    /// socket, and one that another test is about to start has it for a moment.
    pub fn reset(self) {
        rustix::net::connect_unspec(&self.stream).unwrap();
    }

    /// Ends, and takes nothing more, at once: see [`Native::reset`].
    pub fn close(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}

/// From here on nothing that is sent to this socket arrives, and the sender is told nothing.
pub fn cut_the_wire(stream: &TcpStream) {
    // A program of one instruction: of each packet, keep no byte.
    let drop_all = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(stream).attach_filter(&[drop_all]).unwrap();
}

/// A client that types lines.
pub struct Text {
    reader: BufReader<TcpStream>,
}

impl Text {
    /// Connects and takes a name.
    pub fn greet(address: SocketAddr, user: &str) -> Text {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Text { reader: BufReader::new(stream) };
        client.say(&format!("/nick {user}"));
        assert_eq!(client.next().as_deref(), Some(format!("* welcome {user}").as_str()));
        let room = client.next().expect("the room it is in");
        assert!(room.starts_with("* you are in lobby"), "{room}");
        client
    }

    pub fn say(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the server reads");
    }

    /// The next line without its end; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).expect("a line or the end in time") {
            0 => None,
            _ => Some(line.strip_suffix('\n').expect("a whole line").to_owned()),
        }
    }

    /// The next line that tells of no coming and going.
    pub fn next_said(&mut self) -> String {
        loop {
            let line = self.next().expect("a line before the end");
            if !line.starts_with("* ") {
                return line;
            }
        }
    }

    /// Reads on until this line comes.
    pub fn wait_for(&mut self, wanted: &str) {
        while self.next().expect("the line before the end") != wanted {}
    }

    /// Waits for so long, in which nothing must come.
    pub fn stay_silent(&mut self, time: Duration) {
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(time)).unwrap();
        let error = stream.peek(&mut [0]).expect_err("silence");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(GUARD)).unwrap();
    }

    /// The bare stream; a line that was read and not asked for goes.
    pub fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }

    /// Closes its sending side.
    pub fn hang_up(&self) {
        self.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    }
}

/// Waits until `condition` holds, which it must before long.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
