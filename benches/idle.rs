//! What idle connections cost: `cargo bench --bench idle -- [OPTIONS]`.
//!
//! Owns the figures of memory per connection, of wake-ups without traffic, and of a long hold with
//! heartbeats: no false close, silent peers given up on time, pings spread over the ticks. The
//! server is the real program in a process of its own. Its clients speak native frames and live
//! here; WebSockets are those of `corebeat bench`. Ends with a non-zero exit code where a promise
//! is broken.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::child::ServerProcess;
use common::client::{Client, Line};
use common::process::{self, Memory, Thread};
use corebeat::base::time::TICK_MS;
use corebeat::net::kernel::raise_open_file_limit;
use corebeat::wire::message::{Code, Event, Heartbeat, Request};
use mio::{Events, Interest, Poll, Token};

/// Bytes of its own memory that an idle connection in one room may cost the server.
const TARGET_BYTES: f64 = 256.0;
/// The same of an idle WebSocket.
const TARGET_WEBSOCKET_BYTES: f64 = 320.0;
/// WebSockets of one run: those that one source address has quickly found ports for.
const WEBSOCKETS: usize = 14_000;
/// How much fuller than the mean tick the fullest one may be.
const TARGET_LEVEL: f64 = 1.5;
/// How far from its due instant the close of a silent connection may be seen.
const TOLERANCE: Duration = Duration::from_millis(300);
/// Connections that are between their connect and their place in a room at any time.
const WINDOW: usize = 256;
/// Time for the last turns to end before memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// How long wake-ups are counted.
const WATCH: Duration = Duration::from_secs(5);
/// Descriptors of this process that are not connections.
const DESCRIPTOR_RESERVE: usize = 64;

fn main() -> ExitCode {
    let options = Options::parse();
    let room = raise_open_file_limit().saturating_sub(DESCRIPTOR_RESERVE as u64);
    assert!(
        options.connections as u64 <= room,
        "--connections {}: the limit on open files leaves room for {room}",
        options.connections
    );
    let mut verdict = Verdict::default();
    quiet(&options, &mut verdict);
    memory(&options, "all in one room", usize::MAX, Some(TARGET_BYTES), &mut verdict);
    memory(&options, "rooms of 10", 10, None, &mut verdict);
    websockets(&options, "ws-json", &mut verdict);
    websockets(&options, "ws-bin", &mut verdict);
    if !options.hold.is_zero() {
        hold(&options, &mut verdict);
    }
    verdict.exit_code()
}

/// What is asked for.
struct Options {
    connections: usize,
    workers: String,
    hold: Duration,
    heartbeat: Duration,
    timeout: Duration,
    silent: usize,
}

impl Options {
    fn parse() -> Options {
        let mut options = Options {
            connections: 15_000,
            workers: "2".into(),
            hold: Duration::ZERO,
            heartbeat: Duration::from_secs(5),
            timeout: Duration::ZERO,
            silent: 100,
        };
        // Cargo adds an option of its own to what a bench is given.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--connections" => options.connections = number(&value) as usize,
                "--workers" => options.workers = value,
                "--hold" => options.hold = Duration::from_secs(number(&value)),
                "--heartbeat" => options.heartbeat = Duration::from_secs(number(&value)),
                "--timeout" => options.timeout = Duration::from_secs(number(&value)),
                "--silent" => options.silent = number(&value) as usize,
                _ => panic!(
                    "{word}: the options are --connections, --workers, --hold, --heartbeat, \
                     --timeout and --silent"
                ),
            }
        }
        if options.timeout.is_zero() {
            options.timeout = 2 * options.heartbeat;
        }
        options
    }
}

/// A whole number, where it is a duration with the `s` of seconds behind it.
fn number(text: &str) -> u64 {
    let digits = text.strip_suffix('s').unwrap_or(text);
    digits.parse().unwrap_or_else(|_| panic!("{text} is not a whole number"))
}

/// Promises that were broken.
#[derive(Default)]
struct Verdict {
    broken: usize,
}

impl Verdict {
    fn check(&mut self, kept: bool, promise: &str) {
        println!("  {}: {promise}", if kept { "kept" } else { "BROKEN" });
        self.broken += usize::from(!kept);
    }

    fn exit_code(&self) -> ExitCode {
        if self.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A server without a connection never wakes up.
fn quiet(options: &Options, verdict: &mut Verdict) {
    println!("\nNo connection, {} workers", options.workers);
    let server = ServerProcess::start(&["--workers", &options.workers]);
    thread::sleep(SETTLE);
    let before = process::sleeps(server.pid());
    thread::sleep(WATCH);
    let wake_ups = process::sleeps(server.pid()) - before;
    println!("  {wake_ups} wake-ups in {WATCH:?}");
    verdict.check(wake_ups == 0, "an idle server sleeps");
}

/// What connections cost in memory, and how often a worker wakes up for those that say nothing.
fn memory(
    options: &Options,
    title: &str,
    members: usize,
    target: Option<f64>,
    verdict: &mut Verdict,
) {
    println!("\n{} connections, {title}, {} workers", options.connections, options.workers);
    let workers = ["--workers", &options.workers];
    let server = ServerProcess::start(&[&workers[..], &QUIET_HEARTBEAT].concat());
    thread::sleep(SETTLE);
    let before = process::memory(server.pid());
    let mut fleet = Fleet::new(&server);
    fleet.admit(options.connections, members);
    fleet.serve_for(SETTLE);
    let after = process::memory(server.pid());
    let resident = print_growth(&before, &after, options.connections);
    if let Some(target) = target {
        let promise = format!("at most {target} bytes of resident memory a connection");
        verdict.check(resident <= target, &promise);
    }
    let (sleeps, pings) = (process::sleeps(server.pid()), fleet.pings.len() as u64);
    fleet.serve_for(WATCH);
    let wake_ups = process::sleeps(server.pid()) - sleeps;
    let pongs = fleet.pings.len() as u64 - pings;
    println!("  {wake_ups} wake-ups in {WATCH:?}, in which {pongs} pings were answered");
    let workers: u64 = number(&options.workers);
    let ticks = WATCH.as_millis() as u64 / TICK_MS + 1;
    let promise = "at most one wake-up a tick and worker, and one for each answer";
    verdict.check(wake_ups <= workers * ticks + pongs, promise);
    verdict.check(fleet.lost() == 0, "no connection was closed");
}

/// What WebSockets cost in memory, by the load generator's account.
fn websockets(options: &Options, dialect: &str, verdict: &mut Verdict) {
    let count = options.connections.min(WEBSOCKETS);
    println!("\n{count} WebSockets, {dialect}, all in one room, {} workers", options.workers);
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/idle-websockets.json");
    // How late the generator is and how busy moves no byte of the server.
    let ran = Command::new(env!("CARGO_BIN_EXE_corebeat"))
        .args(["bench", "idle", "--rooms", "1", "--duration", "5s", "--lag", "60s"])
        .args(["--busy", "100", "--dialect", dialect, "--connections", &count.to_string()])
        .args(["--workers", &options.workers, "--json", file])
        .stdout(Stdio::null())
        .status()
        .expect("the program was built beside this bench");
    verdict.check(ran.success(), "all WebSockets stayed open and heard the last message");
    if !ran.success() {
        return;
    }
    let report = std::fs::read(file).expect("the generator writes its report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("it is JSON");
    let server = &report["results"]["server"];
    let Some(bytes) = server["bytes_per_connection"].as_f64() else {
        println!("  too few of them to tell the bytes of one");
        return;
    };
    println!("  bytes a connection  {bytes:>7.1}  VmRSS");
    let promise = format!("at most {TARGET_WEBSOCKET_BYTES} bytes of resident memory a connection");
    verdict.check(bytes <= TARGET_WEBSOCKET_BYTES, &promise);
}

/// No connection is pinged while memory is read.
const QUIET_HEARTBEAT: [&str; 4] = ["--heartbeat", "30s", "--timeout", "90s"];

/// Prints the growth by connection; returns that of the resident set.
fn print_growth(before: &Memory, after: &Memory, connections: usize) -> f64 {
    let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
    let resident = each(before.resident, after.resident);
    println!("  bytes a connection  {resident:>7.1}  Rss of smaps_rollup");
    let dirty = each(before.private_dirty, after.private_dirty);
    println!("                      {dirty:>7.1}  Private_Dirty of smaps_rollup");
    println!("                      {:>7.1}  VmRSS", each(before.vm_rss, after.vm_rss));
    let (held, holds) = (before.resident >> 10, after.resident >> 10);
    println!("  the server held {held} KiB before, {holds} KiB after");
    resident
}

/// Keeps connections alive by heartbeats alone, and lets some fall silent.
fn hold(options: &Options, verdict: &mut Verdict) {
    let Options { connections, hold, heartbeat, timeout, silent, .. } = *options;
    assert!(hold > timeout + SETTLE, "--hold must be longer than the timeout of {timeout:?}");
    println!(
        "\n{connections} connections held for {hold:?}, heartbeat {heartbeat:?}, timeout \
         {timeout:?}, {silent} of them silent, {} workers",
        options.workers
    );
    let (beat, end) = (format!("{heartbeat:?}"), format!("{timeout:?}"));
    let server = ServerProcess::start(&[
        "--workers",
        &options.workers,
        "--heartbeat",
        &beat,
        "--timeout",
        &end,
    ]);
    let mut fleet = Fleet::new(&server);
    let begun = Instant::now();
    fleet.admit(connections, usize::MAX);
    println!("  all in their room after {:.1} s", begun.elapsed().as_secs_f64());
    fleet.silence(silent);
    fleet.find_workers(&server);
    fleet.pings.clear();
    let (begun, run_time) = (Instant::now(), process::run_time_ns(server.pid()));
    fleet.serve_for(hold);
    let seconds = begun.elapsed().as_secs_f64();
    let used_ns = (process::run_time_ns(server.pid()) - run_time) as f64;
    println!(
        "  processor time {:.0} ns a connection and second, {:.1} % of a core in all",
        used_ns / seconds / connections as f64,
        used_ns / seconds / 1e7
    );
    server.tell_counters();
    fleet.serve_for(SETTLE);
    verdict.check(fleet.lost() == 0, "no connection that answers was closed");
    judge_silent(&fleet, timeout, verdict);
    judge_level(&fleet.pings, verdict);
}

/// Each silent connection was told 408 when its silence had lasted for the timeout.
fn judge_silent(fleet: &Fleet, timeout: Duration, verdict: &mut Verdict) {
    let (mut on_time, mut silent) = (0, 0);
    let mut latest = Duration::ZERO;
    let mut earliest = Duration::MAX;
    for peer in &fleet.peers {
        let Voice::Silent { asked, answered } = peer.voice else { continue };
        silent += 1;
        let Some(told) = peer.told_timeout else { continue };
        // The server heard the last word at some instant between these two.
        let (longest, shortest) = (told - asked, told - answered);
        latest = latest.max(longest);
        earliest = earliest.min(shortest);
        let kept = shortest + TOLERANCE >= timeout && longest <= timeout + TOLERANCE;
        on_time += usize::from(kept && peer.line == Line::Closed);
    }
    println!(
        "  {silent} silent ones were told 408 {earliest:.3?} to {latest:.3?} after their last word"
    );
    let promise =
        format!("each silent one got 408 and was closed within {TOLERANCE:?} of its time");
    verdict.check(on_time == silent, &promise);
}

/// No worker pings many more connections in one tick than in the mean one.
///
/// A worker that the machine kept from running serves the ticks that it missed in one turn. That is
/// told, and its pings are counted as those of all the ticks that the turn was for.
fn judge_level(pings: &[Ping], verdict: &mut Verdict) {
    let phase = tick_phase(pings);
    let mut workers: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for ping in pings {
        workers.entry(ping.worker).or_default().push((ping.time_ms - phase) / TICK_MS);
    }
    let (mut level, mut latest) = (0.0_f64, 0);
    for ticks in workers.values_mut() {
        ticks.sort_unstable();
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        let mean = ticks.len() as f64 / (last - first + 1) as f64;
        let mut due_since = first;
        for turn in ticks.chunk_by(|one, other| one == other) {
            let served = turn[0] + 1 - due_since;
            due_since = turn[0] + 1;
            latest = latest.max(served - 1);
            level = level.max(turn.len() as f64 / served as f64 / mean);
        }
    }
    let (count, workers) = (pings.len(), workers.len());
    println!("  {count} pings by {workers} workers, {level:.2} times the mean in the fullest tick");
    println!("  the latest turn came {latest} ticks late");
    let promise = format!("no tick has more than {TARGET_LEVEL} times the mean");
    verdict.check(level <= TARGET_LEVEL, &promise);
}

/// Where in the wall clock's tenths of a second the ticks are parted: pings come in swarms that
/// begin with a tick, and the emptiest quarter of the circle lies between two swarms.
fn tick_phase(pings: &[Ping]) -> u64 {
    let mut circle = [0_u64; TICK_MS as usize];
    for ping in pings {
        circle[(ping.time_ms % TICK_MS) as usize] += 1;
    }
    let fullness = |start: u64| -> u64 {
        (0..TICK_MS / 4).map(|step| circle[((start + step) % TICK_MS) as usize]).sum()
    };
    let emptiest = (0..TICK_MS).min_by_key(|start| fullness(*start)).expect("a tick is not empty");
    (emptiest + TICK_MS / 4) % TICK_MS
}

/// A ping that came.
#[derive(Clone, Copy, Debug)]
struct Ping {
    /// The server's wall clock in it.
    time_ms: u64,
    /// The server's thread that sent it.
    worker: i32,
}

/// Whether a peer answers pings.
#[derive(Clone, Copy, Debug)]
enum Voice {
    Answering,
    /// It has sent its last word, an ECHO, which was answered.
    Silent {
        asked: Instant,
        answered: Instant,
    },
}

/// One connection of the fleet.
struct Peer {
    client: Client,
    room: String,
    /// The server's thread that serves it, once [`Fleet::find_workers`] has been called.
    worker: i32,
    voice: Voice,
    line: Line,
    /// Its answers to HELLO, JOIN and ECHO.
    answers: usize,
    told_timeout: Option<Instant>,
}

/// Many native clients on one poll.
struct Fleet {
    server: SocketAddr,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    peers: Vec<Peer>,
    /// Peers that have their place in a room.
    placed: usize,
    /// Every PING.
    pings: Vec<Ping>,
}

impl Fleet {
    fn new(server: &ServerProcess) -> Fleet {
        Fleet {
            server: server.address(),
            poll: Poll::new().expect("the system has polls"),
            events: Events::with_capacity(1_024),
            scratch: vec![0; 4_096],
            peers: Vec::new(),
            placed: 0,
            pings: Vec::new(),
        }
    }

    /// Connects `count` peers, and waits until each is greeted and in a room of `members`.
    fn admit(&mut self, count: usize, members: usize) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.placed < count {
            while self.peers.len() < count && self.peers.len() - self.placed < WINDOW {
                self.connect(members);
            }
            self.turn(Duration::from_millis(100));
            assert!(Instant::now() < deadline, "{} of {count} are in a room", self.placed);
        }
    }

    fn connect(&mut self, members: usize) {
        let index = self.peers.len();
        let mut client = Client::connect(self.server)
            .unwrap_or_else(|error| panic!("connection {index}: {error}"));
        let interest = Interest::READABLE;
        let registered = self.poll.registry().register(&mut client.stream, Token(index), interest);
        registered.expect("a socket can be polled");
        client.hello(&format!("user-{index:05}"));
        let room = match index / members {
            0 => "lobby".to_owned(),
            number => format!("room-{number}"),
        };
        let (voice, line) = (Voice::Answering, Line::Open);
        self.peers.push(Peer {
            client,
            room,
            worker: 0,
            voice,
            line,
            answers: 0,
            told_timeout: None,
        });
    }

    /// Lets `count` peers, evenly spread, say a last word and fall silent.
    fn silence(&mut self, count: usize) {
        let step = self.peers.len() / count.max(1);
        for index in (0..count).map(|number| number * step) {
            let asked = Instant::now();
            let answers = self.peers[index].answers;
            self.peers[index].client.request(&Request::Echo(b"bye"));
            while self.peers[index].answers == answers {
                self.turn(Duration::from_millis(10));
            }
            self.peers[index].voice = Voice::Silent { asked, answered: Instant::now() };
        }
    }

    /// Finds out which thread of the server holds which connection.
    fn find_workers(&mut self, server: &ServerProcess) {
        let mut holders: HashMap<SocketAddr, i32> = HashMap::new();
        for thread in Thread::all(server.pid()) {
            holders.extend(thread.connections().map(|(peer, _)| (peer, thread.id)));
        }
        for peer in &mut self.peers {
            let address = peer.client.stream.local_addr().expect("it is connected");
            peer.worker = *holders.get(&address).expect("a thread holds every connection");
        }
    }

    /// Answers what comes, for so long.
    fn serve_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(left);
        }
    }

    /// Connections that answered and are closed.
    fn lost(&self) -> usize {
        let lost =
            |peer: &&Peer| matches!(peer.voice, Voice::Answering) && peer.line == Line::Closed;
        self.peers.iter().filter(lost).count()
    }

    fn turn(&mut self, timeout: Duration) {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return,
            polled => polled.expect("the poll works"),
        }
        for event in &self.events {
            let peer = &mut self.peers[event.token().0];
            self.placed += usize::from(peer.serve(&mut self.scratch, &mut self.pings));
            if event.is_read_closed() && peer.line == Line::Open {
                // The end came with the last bytes, and no further event tells of it.
                peer.serve(&mut self.scratch, &mut self.pings);
            }
        }
    }
}

impl Peer {
    /// Reads and answers; returns whether it has just got its place in a room.
    fn serve(&mut self, scratch: &mut [u8], pings: &mut Vec<Ping>) -> bool {
        let (mut greeted, mut placed, mut ping) = (false, false, None);
        let (answers, told_timeout) = (&mut self.answers, &mut self.told_timeout);
        self.line = self.client.read(scratch, |event| match event {
            Event::Welcome(_) => greeted = true,
            Event::Ok { .. } => placed = true,
            Event::Echo(_) => *answers += 1,
            Event::Ping(heartbeat) => ping = Some(heartbeat),
            Event::Error { code: Code::Timeout, .. } => *told_timeout = Some(Instant::now()),
            Event::Error { code, text, .. } => panic!("the server refuses: {code:?} {text}"),
            _ => {}
        });
        if greeted {
            self.client.join(&self.room);
        }
        if let Some(heartbeat) = ping {
            pings.push(Ping { time_ms: heartbeat.time_ms, worker: self.worker });
            if matches!(self.voice, Voice::Answering) {
                self.client.request(&Request::Pong(Heartbeat { status: 0, ..heartbeat }));
            }
        }
        placed
    }
}
