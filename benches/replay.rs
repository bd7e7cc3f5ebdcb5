//! A long offline queue beside a live broadcast: `cargo bench --bench replay`.
//!
//! Owns the comparison, in one process and one run: how quickly 100,000 direct messages that waited
//! for a user reach the user's client, how quickly as many messages of the same size that are said
//! in a room reach one member, and what a message that waits takes of memory. The server has one
//! worker on the first core; clients are on the second. Ends with a non-zero exit code where the
//! replay is slower.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use common::figures::Figures;
use common::process::{Thread, memory};
use corebeat::base::ids::{Epoch, Ref, Seq};
use corebeat::base::limits::{FRAME_HEADER, Limits};
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::engine::config::ServerConfig;
use corebeat::engine::server::Server;
use corebeat::wire::message::{Event, Hello, Request};
use corebeat::wire::native;

/// The allocator that the program has.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: usize = 100_000;
const BODY: [u8; 64] = [b'x'; 64];
const ROUNDS: usize = 5;
const ROOM: &str = "room";

fn main() -> ExitCode {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    assert!(cores.len() >= 2, "the worker and the clients need a core each");
    let server = Server::start(config()).expect("the server starts");
    // The server pins its worker to the first core.
    core_affinity::set_for_current(cores[1]);
    let worker = Thread::named("cb-worker-0");
    let (mut replay, mut live) = (Figures::default(), Figures::default());
    let (mut replay_ns, mut live_ns) = (Figures::default(), Figures::default());
    let mut bytes_each = Figures::default();
    for round in 0..ROUNDS {
        let user = format!("user{round}");
        let mut ann = Connection::greet(server.local_addr(), "ann");
        let before = memory(std::process::id()).private_dirty;
        ann.fill_queue(&user);
        let after = memory(std::process::id()).private_dirty;
        if round == 0 {
            // Later ones get back what earlier ones gave to the allocator.
            bytes_each.push(after.saturating_sub(before) as f64 / MESSAGES as f64);
        }

        let busy = worker.run_time_ns();
        let began = Instant::now();
        let mut bob = Connection::greet(server.local_addr(), &user);
        let last = bob.take(direct_len());
        replay.push(MESSAGES as f64 / began.elapsed().as_secs_f64());
        replay_ns.push((worker.run_time_ns() - busy) as f64 / MESSAGES as f64);
        bob.request(&Request::Ack { id: last });

        let mut eve = Connection::greet(server.local_addr(), "eve");
        eve.join();
        let busy = worker.run_time_ns();
        let began = Instant::now();
        let publisher = thread::spawn(move || ann.publish_all());
        eve.take(message_len());
        live.push(MESSAGES as f64 / began.elapsed().as_secs_f64());
        publisher.join().expect("the publisher sends all");
        live_ns.push((worker.run_time_ns() - busy) as f64 / MESSAGES as f64);
    }
    println!("{MESSAGES} messages of {} bytes to one client, {ROUNDS} rounds\n", BODY.len());
    println!("{:<44} {:>11} {:>11} {:>11}", "", "median", "lowest", "highest");
    for (name, figures) in [
        ("replayed from an offline queue, messages/s", &replay),
        ("broadcast live, messages/s", &live),
        ("worker's ns a message, replayed", &replay_ns),
        ("worker's ns a message, live (with the receipt)", &live_ns),
        ("bytes of memory a message that waits", &bytes_each),
    ] {
        let (median, lowest, highest) = (figures.median(), figures.lowest(), figures.highest());
        println!("{name:<44} {median:>11.0} {lowest:>11.0} {highest:>11.0}");
    }
    // Live, the clients' core publishes too: what the worker spends compares like with like.
    let is_met = replay.median() >= live.median() && replay_ns.median() <= live_ns.median();
    println!("\nreplay at the rate of a broadcast: {}", if is_met { "met" } else { "MISSED" });
    drop(server);
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn config() -> ServerConfig {
    let quiet = HeartbeatPolicy { interval_s: 3_600, timeout_s: 10_800, ..Default::default() };
    let limits = Limits {
        offline_count: MESSAGES,
        offline_bytes: 1 << 30,
        offline_memory: 1 << 30,
        max_outbound: 64 << 20,
        ..Limits::default().without_rates()
    };
    ServerConfig { workers: 1, pin: true, heartbeat: quiet, limits, ..ServerConfig::default() }
}

/// Bytes of a DIRECT frame of these messages.
fn direct_len() -> usize {
    FRAME_HEADER + native::direct_payload_len("ann", BODY.len())
}

/// Bytes of a MESSAGE frame of these messages.
fn message_len() -> usize {
    FRAME_HEADER + native::message_payload_len(ROOM, "ann", BODY.len())
}

/// A native client over one blocking socket.
struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn greet(server: SocketAddr, user: &str) -> Connection {
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut connection = Connection { stream };
        let hello = Hello { version: native::VERSION, user, ..Hello::default() };
        connection.request(&Request::Hello(hello));
        connection.frame();
        connection
    }

    fn request(&mut self, request: &Request<'_>) {
        let mut bytes = Vec::new();
        native::encode_request(&mut bytes, request, false);
        self.stream.write_all(&bytes).expect("the server reads");
    }

    /// The next frame, whole.
    fn frame(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_HEADER];
        self.stream.read_exact(&mut bytes).expect("a frame");
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        bytes.resize(FRAME_HEADER + length, 0);
        self.stream.read_exact(&mut bytes[FRAME_HEADER..]).expect("all of it");
        bytes
    }

    /// Sends all messages to a user who is offline, and waits until the last one is answered.
    fn fill_queue(&mut self, user: &str) {
        let mut bytes = Vec::new();
        for number in 1..=MESSAGES {
            let reference = if number == MESSAGES { Ref(1) } else { Ref::NONE };
            let request = Request::Direct { reference, user, body: &BODY };
            native::encode_request(&mut bytes, &request, false);
            if bytes.len() > 32 << 10 || number == MESSAGES {
                self.stream.write_all(&bytes).expect("the server reads");
                bytes.clear();
            }
        }
        self.frame();
    }

    fn join(&mut self) {
        let (reference, epoch, since) = (Ref(1), Epoch(0), Seq(0));
        self.request(&Request::Join { reference, epoch, since, room: ROOM, notify: false });
        self.frame();
    }

    fn publish_all(&mut self) {
        let mut frame = Vec::new();
        let request =
            Request::Publish { reference: Ref::NONE, room: ROOM, body: &BODY, echo: false };
        native::encode_request(&mut frame, &request, false);
        let burst = frame.repeat(500);
        for _ in 0..MESSAGES / 500 {
            self.stream.write_all(&burst).expect("the server reads");
        }
    }

    /// Reads all messages, each of `length` bytes; returns the id of the last one.
    fn take(&mut self, length: usize) -> u64 {
        let mut scratch = vec![0; 256 << 10];
        let mut left = (MESSAGES - 1) * length;
        while left > 0 {
            let most = left.min(scratch.len());
            left -= self.stream.read(&mut scratch[..most]).expect("the server sends");
        }
        let last = self.frame();
        let (frame, _) = native::frame(&last, usize::MAX).expect("valid").expect("whole");
        match native::event(&frame).expect("valid") {
            Some(Event::Direct { id, .. }) => id,
            Some(Event::Message { seq, .. }) => seq.0,
            other => panic!("{other:?} is no message"),
        }
    }
}
