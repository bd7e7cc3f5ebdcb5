//! What one publish to 1,000 members costs beside the bare calls: `cargo bench --bench publish`.
//!
//! Owns the comparison of a whole server with one worker, inside this process, and a loop that
//! sends the same bytes on the very same sockets. Rounds of both alternate. Both run on the same
//! core, each in a file table of its own, and both are measured by the kernel's account of their
//! thread's processor time; members are read by another thread on another core that never sleeps,
//! so no wake-up of a reader is on either's bill. Ends with a non-zero exit code where the target
//! is missed.

mod common;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use common::client::{Client, Line};
use common::figures::Figures;
use common::process::Thread;
use core_affinity::CoreId;
use corebeat::base::ids::Ref;
use corebeat::base::limits::Limits;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::engine::config::ServerConfig;
use corebeat::engine::server::Server;
use corebeat::wire::message::{Event, Request};
use corebeat::wire::native;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The allocator that the program has.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEMBERS: usize = 1_000;
const ROOM: &str = "lobby";
const BODY: [u8; 64] = [b'x'; 64];
/// Rounds that count, after some that warm up.
const ROUNDS: usize = 15;
const WARM_UP_ROUNDS: usize = 3;
/// Deliveries to each member in one round of either.
const TURNS: usize = 20;
/// Processor time of a publish over that of the bare calls, at most.
const TARGET: f64 = 1.3;
/// Messages on their way at once, in the second comparison.
const BURST: usize = 16;

fn main() -> ExitCode {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    assert!(cores.len() >= 2, "the worker and the reader need a core each");
    let server = Server::start(config()).expect("the server starts");
    // The server pins its worker to the first core.
    core_affinity::set_for_current(cores[1]);
    let mut audience = Audience::new(server.local_addr());
    let worker = Thread::named("cb-worker-0");
    let sockets = sockets_of(&worker, &audience.members);
    let bare = BareLoop::start(sockets, cores[0]);
    println!(
        "{MEMBERS} members, bodies of {} bytes, {ROUNDS} rounds of {TURNS} turns,",
        BODY.len()
    );
    println!("nanoseconds of processor time a delivery\n");
    println!("{:<26} {:>9} {:>9} {:>9}", "", "median", "lowest", "highest");
    let single = compare(&mut audience, &worker, &bare, 1);
    let burst = compare(&mut audience, &worker, &bare, BURST);
    single.print("one message a turn", "bare send");
    burst.print(&format!("{BURST} messages a turn"), "bare send of all in one");
    let ratio = single.ratio.median();
    let verdict = if ratio <= TARGET { "met" } else { "MISSED" };
    println!("\ntarget of {TARGET} for one message a turn: {verdict}");
    drop((bare, server));
    if ratio <= TARGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn config() -> ServerConfig {
    let quiet = HeartbeatPolicy { interval_s: 3_600, timeout_s: 10_800, ..Default::default() };
    let limits = Limits::default().without_rates();
    ServerConfig { workers: 1, pin: true, heartbeat: quiet, limits, ..ServerConfig::default() }
}

/// What both did in each round.
#[derive(Default)]
struct Comparison {
    server_ns: Figures,
    bare_ns: Figures,
    ratio: Figures,
}

impl Comparison {
    fn print(&self, server: &str, bare: &str) {
        let row = |name: &str, figures: &Figures, digits: usize| {
            let (median, lowest) = (figures.median(), figures.lowest());
            let highest = figures.highest();
            println!("{name:<26} {median:>9.digits$} {lowest:>9.digits$} {highest:>9.digits$}");
        };
        row(server, &self.server_ns, 0);
        row(bare, &self.bare_ns, 0);
        row("ratio", &self.ratio, 3);
    }
}

/// Alternates rounds of the server and of the bare loop, with `burst` messages a turn.
fn compare(audience: &mut Audience, worker: &Thread, bare: &BareLoop, burst: usize) -> Comparison {
    let publish = audience.publish_bytes(burst);
    let mut comparison = Comparison::default();
    let deliveries = (TURNS * burst * MEMBERS) as f64;
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let before = worker.run_time_ns();
        for _ in 0..TURNS {
            audience.publisher.send(&publish);
            audience.receive(burst);
        }
        let server_ns = (worker.run_time_ns() - before) as f64 / deliveries;
        let before = bare.thread.run_time_ns();
        for _ in 0..TURNS {
            bare.send(&audience.heard);
            audience.receive(burst);
        }
        let bare_ns = (bare.thread.run_time_ns() - before) as f64 / deliveries;
        if round >= WARM_UP_ROUNDS {
            comparison.server_ns.push(server_ns);
            comparison.bare_ns.push(bare_ns);
            comparison.ratio.push(server_ns / bare_ns);
        }
    }
    comparison
}

/// The members of the room, and who speaks to them.
struct Audience {
    publisher: Client,
    members: Vec<Client>,
    scratch: Vec<u8>,
    /// What each member got in the last turn.
    heard: Vec<u8>,
}

impl Audience {
    fn new(server: SocketAddr) -> Audience {
        let mut scratch = vec![0; 64 << 10];
        let publisher = enter(server, "publisher", None, &mut scratch);
        let members = (0..MEMBERS)
            .map(|index| enter(server, &format!("user-{index:05}"), Some(ROOM), &mut scratch))
            .collect();
        Audience { publisher, members, scratch, heard: Vec::new() }
    }

    fn publish_bytes(&self, burst: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let publish =
            Request::Publish { reference: Ref::NONE, room: ROOM, body: &BODY, echo: false };
        for _ in 0..burst {
            native::encode_request(&mut bytes, &publish, false);
        }
        bytes
    }

    /// Waits until every member has got `burst` messages.
    ///
    /// The last member is served last, by both, so the others are left alone until it has its
    /// messages: reading a socket takes its lock, and a sender who finds it taken leaves work to
    /// the reader.
    fn receive(&mut self, burst: usize) {
        self.heard = self.hear(MEMBERS - 1, burst);
        for index in 0..MEMBERS - 1 {
            let heard = self.hear(index, burst);
            assert_eq!(heard.len(), self.heard.len(), "every member gets the same bytes");
        }
    }

    /// Spins until a member has `burst` messages; returns them.
    fn hear(&mut self, member: usize, burst: usize) -> Vec<u8> {
        let mut got = 0;
        loop {
            got += read_now(&mut self.members[member], &mut self.scratch[got..]);
            let (count, messages) = messages(&self.scratch[..got]);
            if count == burst {
                return messages;
            }
        }
    }
}

/// A client that was greeted and, where a room is named, is its member.
fn enter(server: SocketAddr, user: &str, room: Option<&str>, scratch: &mut [u8]) -> Client {
    let mut client = Client::connect(server).expect("the server listens");
    let mut wait_for = |client: &mut Client, wanted: fn(&Event<'_>) -> bool| {
        let mut found = false;
        while !found {
            let line = client.read(scratch, |event| found |= wanted(&event));
            assert_eq!(line, Line::Open, "the server keeps the connection");
        }
    };
    client.hello(user);
    wait_for(&mut client, |event| matches!(event, Event::Welcome(_)));
    if let Some(room) = room {
        client.join(room);
        wait_for(&mut client, |event| matches!(event, Event::Ok { .. }));
    }
    client
}

/// Bytes that are there now.
fn read_now(member: &mut Client, buffer: &mut [u8]) -> usize {
    match member.stream.read(buffer) {
        Ok(0) => panic!("the server keeps the connection"),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            std::hint::spin_loop();
            0
        }
        Err(error) => panic!("a member's socket: {error}"),
    }
}

/// How many whole messages `bytes` hold, and those alone: a PING may have come between them.
fn messages(bytes: &[u8]) -> (usize, Vec<u8>) {
    let (mut used, mut count, mut messages) = (0, 0, Vec::new());
    while let Some((frame, length)) =
        native::frame(&bytes[used..], usize::MAX).expect("the server sends valid frames")
    {
        if frame.kind == native::kind::MESSAGE {
            messages.extend_from_slice(&bytes[used..used + length]);
            count += 1;
        }
        used += length;
    }
    (count, messages)
}

/// The worker's own sockets, in the order of `members`.
///
/// They are in the worker's file table, which no other thread sees, so the kernel is asked for
/// duplicates.
fn sockets_of(worker: &Thread, members: &[Client]) -> Vec<TcpStream> {
    let mut by_peer: HashMap<SocketAddr, TcpStream> = worker.connections().collect();
    members
        .iter()
        .map(|member| {
            let address = member.stream.local_addr().expect("it is connected");
            by_peer.remove(&address).expect("the worker has a socket for every member")
        })
        .collect()
}

/// A thread that does nothing but send.
struct BareLoop {
    thread: Thread,
    orders: mpsc::Sender<Vec<u8>>,
}

impl BareLoop {
    fn start(mut sockets: Vec<TcpStream>, core: CoreId) -> BareLoop {
        const NAME: &str = "bare-loop";
        let (orders, order) = mpsc::channel::<Vec<u8>>();
        let (ready, is_ready) = mpsc::channel();
        let loop_itself = move || {
            assert!(core_affinity::set_for_current(core), "the loop runs where the worker runs");
            // SAFETY: the sockets were opened before and are the same files under the same numbers
            // in this thread's own table. They are closed in it when the thread ends; the copies
            // that stay behind in the table of the others are closed with the process.
            unsafe { unshare_unsafe(UnshareFlags::FILES) }.expect("file tables can be private");
            ready.send(()).expect("the bench waits");
            for bytes in order {
                for socket in &mut sockets {
                    let sent = socket.write(&bytes).expect("the kernel takes it");
                    assert_eq!(sent, bytes.len());
                }
            }
        };
        thread::Builder::new().name(NAME.into()).spawn(loop_itself).expect("a thread");
        is_ready.recv().expect("the loop runs");
        BareLoop { thread: Thread::named(NAME), orders }
    }

    /// Sends `bytes` to every member.
    fn send(&self, bytes: &[u8]) {
        self.orders.send(bytes.to_vec()).expect("the loop runs");
    }
}
