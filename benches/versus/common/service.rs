//! How a twin starts: its options, its port, and what every connection is told.
//!
//! Owns the command line, which is that of `corebeat serve`, so that one plan can start any of the
//! three. Options that bound a turn of corebeat's loop are taken and change nothing. Never accepts.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use corebeat::base::clock::Clock;
use corebeat::base::ids::NodeId;
use corebeat::base::limits::Limits;
use corebeat::base::time::Now;
use corebeat::chat::hash::NameHasher;
use corebeat::chat::heartbeat::{HeartbeatPolicy, Tempo};
use corebeat::cli::options::ServeOptions;
use corebeat::engine::config::{FileTables, ServerConfig, connections_per_worker};
use corebeat::net::{kernel, listener};
use corebeat::wire::message::{Event, Heartbeat, Welcome};
use corebeat::wire::native;

/// The command line of a twin.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    serve: ServeOptions,
}

/// What every connection of a twin may ask for.
#[derive(Clone, Debug)]
pub struct Service {
    /// The bounds.
    pub limits: Limits,
    /// When to ping and when to give up.
    pub policy: HeartbeatPolicy,
    /// This process in WELCOME and in heartbeats.
    pub node: NodeId,
    /// Both clocks.
    pub clock: Clock,
    /// The keyed hash of names; also seals session numbers.
    pub hasher: NameHasher,
}

impl Service {
    /// The answer to a hello, for a connection that has the number `connection`.
    pub fn welcome<'a>(&self, user: &'a str, connection: u64, tempo: Tempo, now: Now) -> Event<'a> {
        let session = self.hasher.seal(connection ^ now.wall_ms).max(1);
        Event::Welcome(Welcome {
            version: native::VERSION,
            node: self.node,
            session,
            resume_key: self.hasher.seal(session),
            heartbeat_s: tempo.heartbeat_s,
            timeout_s: tempo.timeout_s,
            max_frame: self.limits.max_frame as u32,
            resumed: false,
            user,
        })
    }

    /// A PING of the server.
    pub fn ping(&self, seq: u32, now: Now) -> Event<'static> {
        Event::Ping(Heartbeat { node: self.node, time_ms: now.wall_ms, status: 0, seq })
    }
}

/// Reads the options, reserves the port and runs the twin until it ends.
///
/// `run` opens its listeners on the address with [`open`] and calls [`announce`].
pub fn main(run: impl FnOnce(ServerConfig, Service, SocketAddr) -> io::Result<()>) -> ExitCode {
    let mut config = match CommandLine::parse().serve.into_config() {
        Ok(config) => config,
        Err(refusal) => return complain(&refusal),
    };
    let open_files = kernel::raise_open_file_limit();
    let (shared, workers, wanted) = (FileTables::Shared, config.workers, config.max_connections);
    config.limits.max_connections =
        match connections_per_worker(open_files, shared, workers, wanted) {
            Ok(most) => most,
            Err(error) => return complain(&error.to_string()),
        };
    // Held until the process ends, as corebeat holds it until its workers listen.
    let reservation = match listener::reserve(config.listen) {
        Ok(reservation) => reservation,
        Err(error) => return complain(&format!("--listen {}: {error}", config.listen)),
    };
    let mut dice = fastrand::Rng::new();
    let service = Service {
        limits: config.limits,
        policy: config.heartbeat,
        node: config.node,
        clock: Clock::start(),
        hasher: NameHasher::new([dice.u64(..), dice.u64(..)]),
    };
    match run(config, service, reservation.address()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string()),
    }
}

/// Says where the twin listens. It must be the first line on standard error.
pub fn announce(address: SocketAddr) {
    let _ = writeln!(io::stderr(), "listening on {address}");
}

/// A listener as corebeat opens its own, with the same options.
///
/// # Errors
/// What the kernel says.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    listener::open(address)
}

fn complain(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(2)
}
