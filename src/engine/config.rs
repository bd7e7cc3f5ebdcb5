//! What a server is told at its start, and what can be wrong with it.
//!
//! Owns plain data and the arithmetic of open files. Never reads options: the command line fills
//! it, and so do tests.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{NodeId, SLOTS_PER_SHARD};
use crate::base::limits::{DRAIN_SETTLE_MS, LINGER_MS, Limits, REFUSALS_HELD_MAX};
use crate::chat::config::WebConfig;
use crate::chat::drain::DrainPlan;
use crate::chat::heartbeat::HeartbeatPolicy;
use crate::chat::overflow::OverflowPolicies;
use crate::chat::record::Durability;
use crate::net::addresses::AddressBlock;
use crate::net::admin_socket::{self, Place};
use crate::store::OpenError;
use crate::web::ASSETS;
use crate::wire::http::Origins;

/// How a server is to be run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// How many workers, at least 1.
    pub workers: u16,
    /// Whether each worker stays on one core.
    pub pin: bool,
    /// Bounds of each worker. `max_connections` is set by the server: see below.
    pub limits: Limits,
    /// Connections in all; `None` for as many as the limit on open files allows.
    pub max_connections: Option<usize>,
    /// Addresses whose connections are not counted.
    pub exempt: Vec<AddressBlock>,
    /// When connections are pinged and given up.
    pub heartbeat: HeartbeatPolicy,
    /// How it ends.
    pub drain: DrainConfig,
    /// This process in the eyes of clients.
    pub node: NodeId,
    /// Whether clients may publish to `*`.
    pub publish_everyone: bool,
    /// What gives way in which room when a member does not read.
    pub overflow: Arc<OverflowPolicies>,
    /// Where to keep what outlives the process; none to keep all in memory.
    pub data: Option<PathBuf>,
    /// When requests are answered that have to be written.
    pub durability: Durability,
    /// What HTTP clients and WebSockets get.
    pub web: WebConfig,
    /// Where the commands of operators are taken.
    pub admin: Place,
    /// Whether it takes over from a server that runs.
    pub take_over: TakeOver,
}

/// How a server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// How long it may take before connections are cut, from the time at which no more are taken
    /// in.
    pub within: Duration,
    /// Connections that are sent on in a second, in all; 0: all at once. It gives way where they
    /// would not be done in time.
    pub rate_per_s: u32,
    /// How long it goes on as ever after `/readyz` has begun to send clients elsewhere.
    pub delay: Duration,
    /// Where clients are told to go; empty: back to the same address.
    pub address: String,
}

impl Default for DrainConfig {
    /// The defaults of the options.
    fn default() -> DrainConfig {
        DrainConfig {
            within: Duration::from_secs(10),
            rate_per_s: 2_000,
            delay: Duration::ZERO,
            address: String::new(),
        }
    }
}

impl DrainConfig {
    /// How `connections` are sent on. Where the server's successor waits for the `store`, nobody is
    /// kept waiting longer than need be: all are told at once, and come back at the rate.
    pub fn plan(&self, reason: &str, connections: usize, store: bool) -> DrainPlan {
        let over_ms = self.paced_ms(connections).min(self.telling_ms());
        let mut plan = DrainPlan::over(over_ms, reason, &self.address);
        if store {
            plan.over_ms = 0;
        }
        plan
    }

    /// How long it takes to tell so many at the rate.
    pub fn paced_ms(&self, connections: usize) -> u64 {
        match u64::from(self.rate_per_s) {
            0 => 0,
            rate => connections as u64 * 1_000 / rate,
        }
    }

    /// How long the telling may take, so that whoever is told last has a moment to settle and to
    /// hang up.
    pub fn telling_ms(&self) -> u64 {
        (self.within.as_millis() as u64).saturating_sub(DRAIN_SETTLE_MS + LINGER_MS)
    }
}

/// Whether a server takes the place of one that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TakeOver {
    /// It does not: a busy port is an error.
    #[default]
    Never,
    /// It does where there is one.
    IfAny,
    /// It does, of the one that takes commands where this one would.
    Usual,
    /// It does, of the one that takes commands at this path.
    From(PathBuf),
}

impl Default for ServerConfig {
    /// One worker on any free port of the loopback address, with the defaults of the options.
    fn default() -> ServerConfig {
        ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: 1,
            pin: false,
            limits: Limits::default(),
            max_connections: None,
            exempt: AddressBlock::LOOPBACK.to_vec(),
            heartbeat: HeartbeatPolicy::default(),
            drain: DrainConfig::default(),
            node: NodeId(1),
            publish_everyone: true,
            overflow: Arc::default(),
            data: None,
            durability: Durability::Batch,
            web: WebConfig {
                assets: ASSETS,
                numbers: true,
                origins: Origins::same(),
                deflate: false,
            },
            admin: Place::Off,
            take_over: TakeOver::Never,
        }
    }
}

/// Descriptors of one table that are not connections: standard streams, polls, wakers, listeners,
/// the signals' pipe, and some to spare for what libraries open for a moment.
const DESCRIPTOR_RESERVE: u64 = 64;
/// As above, for each worker: its poll, its waker, its listener, the main thread's of it, and both
/// ends of its hatch.
const DESCRIPTORS_PER_WORKER: u64 = 6;
/// What a worker opens in its own table beside connections: a descriptor to spare, and the files in
/// which it reads how much memory is in use.
const OWN_PER_WORKER: u64 = 4;
/// Connections beyond a limit, which a worker holds until they are told so.
const HELD_PER_WORKER: u64 = REFUSALS_HELD_MAX as u64;

/// Who counts against the limit on open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileTables {
    /// Each worker has its own table, and the limit holds for each.
    Private,
    /// All threads share one table.
    Shared,
}

/// How many connections a worker may hold.
///
/// `open_files` is the limit of one table and `wanted` the number asked for in all.
///
/// # Errors
/// [`StartError::TooFewFiles`] where the limit allows none, [`StartError::TooManyConnections`]
/// where it allows fewer than `wanted`.
pub fn connections_per_worker(
    open_files: u64,
    tables: FileTables,
    workers: u16,
    wanted: Option<usize>,
) -> Result<usize, StartError> {
    let count = u64::from(workers);
    let held = match tables {
        FileTables::Private => HELD_PER_WORKER + OWN_PER_WORKER,
        FileTables::Shared => (HELD_PER_WORKER + OWN_PER_WORKER) * count,
    };
    let needed = DESCRIPTOR_RESERVE + DESCRIPTORS_PER_WORKER * count + held;
    let free = open_files.saturating_sub(needed);
    let allowed = match tables {
        FileTables::Private => free,
        FileTables::Shared => free / count,
    };
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX).min(SLOTS_PER_SHARD);
    if allowed == 0 {
        let least = needed + count;
        return Err(StartError::TooFewFiles { open_files, least, workers });
    }
    match wanted {
        None => Ok(allowed),
        Some(wanted) => {
            let each = wanted.div_ceil(usize::from(workers));
            if each <= allowed {
                return Ok(each);
            }
            let allowed = allowed.saturating_mul(usize::from(workers));
            Err(StartError::TooManyConnections { wanted, allowed, open_files })
        }
    }
}

/// Why a server did not start. Each prints as one line that names the option and the remedy.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be listened on.
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The limit on open files leaves no room for connections.
    TooFewFiles {
        /// The limit of one table.
        open_files: u64,
        /// The smallest limit with which the server starts.
        least: u64,
        /// The number of workers.
        workers: u16,
    },
    /// More connections are asked for than the limit on open files allows.
    TooManyConnections {
        /// The number asked for.
        wanted: usize,
        /// The number allowed, in all.
        allowed: usize,
        /// The limit of one table.
        open_files: u64,
    },
    /// The server that runs cannot be taken over from. The line says how to go on.
    TakeOver(String),
    /// Commands cannot be taken where they are to be.
    Admin(admin_socket::OpenError),
    /// The store cannot be used.
    Store(OpenError),
    /// The store's thread ended in a panic while it read.
    StorePanicked,
    /// The machine refused something else that every worker needs.
    Machine {
        /// What was being done, as in "cannot ...".
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen { address, cause } => {
                write!(f, "--listen {address}: ")?;
                match cause.kind() {
                    io::ErrorKind::AddrInUse => f.write_str(
                        "the port is in use; choose another with --listen HOST:PORT, stop what \
                         holds it, or take its place with --take-over if it is a corebeat",
                    ),
                    io::ErrorKind::AddrNotAvailable => f.write_str(
                        "this machine has no such address; use one of its own, 127.0.0.1 for \
                         local clients or 0.0.0.0 for all",
                    ),
                    io::ErrorKind::PermissionDenied => f.write_str(
                        "low ports need a privilege; choose one above 1023 or grant \
                         CAP_NET_BIND_SERVICE",
                    ),
                    _ => write!(f, "cannot listen there ({cause}); choose another address"),
                }
            }
            StartError::TooFewFiles { open_files, least, workers } => write!(
                f,
                "the limit on open files is {open_files}, too low for --workers {workers}; raise \
                 it to at least {least} (ulimit -n {least}), and by one for every connection"
            ),
            StartError::TooManyConnections { wanted, allowed, open_files } => write!(
                f,
                "--max-connections {wanted}: the limit on open files ({open_files}) allows \
                 {allowed}; raise it (ulimit -n) or ask for fewer"
            ),
            StartError::TakeOver(why) => f.write_str(why),
            StartError::Admin(error) => write!(f, "{error}"),
            StartError::Store(error) => write!(f, "{error}"),
            StartError::StorePanicked => f.write_str(
                "--data: the store cannot be read; restore a backup, or move the directory away \
                 and begin anew",
            ),
            StartError::Machine { what, cause } => write!(f, "cannot {what}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen { cause, .. } | StartError::Machine { cause, .. } => Some(cause),
            StartError::Admin(error) => Some(error),
            StartError::Store(error) => Some(error),
            StartError::TooFewFiles { .. }
            | StartError::TooManyConnections { .. }
            | StartError::TakeOver(_)
            | StartError::StorePanicked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_gives_way_to_the_time_there_is() {
        let ways = DrainConfig {
            within: Duration::from_secs(10),
            rate_per_s: 100,
            ..DrainConfig::default()
        };
        assert_eq!(ways.plan("", 300, false).over_ms, 3_000);
        assert_eq!(ways.plan("", 1_000_000, false).over_ms, ways.telling_ms());
        let waits = ways.plan("", 600, true);
        assert_eq!((waits.over_ms, waits.return_over_ms), (0, 6_000));
        let at_once = DrainConfig { rate_per_s: 0, ..ways.clone() };
        assert_eq!(at_once.plan("", 1_000, false).over_ms, 0);
        let short = DrainConfig { within: Duration::from_secs(1), ..ways };
        assert_eq!(short.plan("", 1_000, false).over_ms, 0);
    }

    #[test]
    fn private_tables_give_each_worker_the_whole_limit() {
        let private = connections_per_worker(20_000, FileTables::Private, 4, None).unwrap();
        let shared = connections_per_worker(20_000, FileTables::Shared, 4, None).unwrap();
        let other = (DESCRIPTOR_RESERVE + 4 * DESCRIPTORS_PER_WORKER) as usize;
        let own = (HELD_PER_WORKER + OWN_PER_WORKER) as usize;
        assert_eq!(private, 20_000 - other - own);
        assert_eq!(shared, (20_000 - other - 4 * own) / 4);
    }

    #[test]
    fn an_unlimited_table_is_bounded_by_the_slots_of_a_worker() {
        let most = connections_per_worker(u64::MAX, FileTables::Private, 2, None).unwrap();
        assert_eq!(most, SLOTS_PER_SHARD);
    }

    #[test]
    fn what_is_asked_for_is_divided_and_must_be_allowed() {
        let other =
            DESCRIPTOR_RESERVE + 4 * DESCRIPTORS_PER_WORKER + HELD_PER_WORKER + OWN_PER_WORKER;
        let limit = 1_000 + other;
        let ask = |wanted| connections_per_worker(limit, FileTables::Private, 4, Some(wanted));
        assert_eq!(ask(1_001).unwrap(), 251);
        assert_eq!(ask(4_000).unwrap(), 1_000);
        let refusal = ask(4_001).unwrap_err().to_string();
        assert_eq!(
            refusal,
            format!(
                "--max-connections 4001: the limit on open files ({limit}) allows 4000; raise it \
                 (ulimit -n) or ask for fewer"
            )
        );
    }

    #[test]
    fn too_low_a_limit_names_the_lowest_that_would_do() {
        let refusal = connections_per_worker(40, FileTables::Shared, 2, None).unwrap_err();
        let each = DESCRIPTORS_PER_WORKER + HELD_PER_WORKER + OWN_PER_WORKER + 1;
        let least = DESCRIPTOR_RESERVE + 2 * each;
        assert!(refusal.to_string().contains(&format!("(ulimit -n {least})")), "{refusal}");
        assert_eq!(connections_per_worker(least, FileTables::Shared, 2, None).unwrap(), 1);
    }
}
