//! Who does the work: how many threads and workers, on which cores, with which file tables.
//!
//! Owns what is chosen by looking at the machine, and the refusals that follow. Never starts
//! anything. The conductor asks before a run.

use std::net::SocketAddr;

use core_affinity::CoreId;

use super::conductor::Order;
use super::config::PORTS_OF_AN_ADDRESS;
use super::driver::most_places;
use super::plan::Plan;
use super::server::ServerChoice;
use crate::base::ids::SHARDS_MAX;
use crate::net::kernel;

/// Descriptors of a table that are not connections, the two of each thread apart.
const OTHER_FILES: u64 = 64;
/// Descriptors of a server's worker that are not connections.
const SERVER_FILES: u64 = 256;

/// What was chosen.
#[derive(Clone, Debug)]
pub struct Crew {
    /// Threads of the generator.
    pub threads: u32,
    /// Whether each has a file table of its own.
    pub private_tables: bool,
    /// Workers of a server that the generator starts.
    pub workers: u16,
}

impl Crew {
    /// Chooses for a run of `plan`.
    ///
    /// # Errors
    /// One line about what this machine does not allow.
    pub fn of(order: &Order, plan: &Plan) -> Result<Crew, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let limit = kernel::raise_open_file_limit();
        let private_tables = kernel::try_private_table().is_ok();
        let workers = workers(&order.server, cores, plan.len(), limit);
        let usual = match order.server {
            ServerChoice::Own { .. } => cores.saturating_sub(u32::from(workers)).max(1),
            _ => (cores / 2).max(1),
        };
        let threads = match (order.threads, private_tables) {
            (Some(threads), _) => threads,
            (None, true) => enough_threads(usual, plan, limit),
            (None, false) => usual,
        };
        let crew = Crew { threads: threads.min(plan.len()).max(1), private_tables, workers };
        crew.check_files(plan, limit)?;
        Ok(crew)
    }

    fn check_files(&self, plan: &Plan, limit: u64) -> Result<(), String> {
        let (wanted, told) = match self.private_tables {
            true => (most_places(plan, self.threads), "per thread; ask for more --threads, or"),
            false => (plan.len(), "in all (this machine refuses private file tables);"),
        };
        let room = connections_per_table(limit, self.threads);
        if u64::from(wanted) > room {
            return Err(format!(
                "--connections: the limit on open files ({limit}) leaves room for {room} {told} \
                 raise it (ulimit -n)"
            ));
        }
        Ok(())
    }

    /// Whether so many connections can be opened to this address.
    ///
    /// # Errors
    /// One line with the remedy.
    pub fn check_target(&self, target: SocketAddr, plan: &Plan) -> Result<(), String> {
        let local = matches!(target, SocketAddr::V4(target) if target.ip().is_loopback());
        if !local && plan.len() > PORTS_OF_AN_ADDRESS {
            return Err(format!(
                "--connections: one source address has ports for {PORTS_OF_AN_ADDRESS} connections \
                 to {target}, and only on 127.0.0.0/8 there are others; start generators on \
                 several machines"
            ));
        }
        Ok(())
    }

    /// The cores that the threads stay on: the last ones, since a server takes the first.
    pub fn cores(&self, pin: bool) -> Vec<CoreId> {
        let mut cores = match pin {
            true => core_affinity::get_core_ids().unwrap_or_default(),
            false => Vec::new(),
        };
        cores.reverse();
        cores
    }
}

fn connections_per_table(limit: u64, threads: u32) -> u64 {
    limit.saturating_sub(OTHER_FILES + 2 * u64::from(threads))
}

/// Enough threads for the limit on open files, where each counts for itself.
fn enough_threads(usual: u32, plan: &Plan, limit: u64) -> u32 {
    let fits = |threads: &u32| {
        u64::from(most_places(plan, *threads)) <= connections_per_table(limit, *threads)
    };
    // So many it takes if they are dealt out evenly, and hardly ever many more. To ask for fewer
    // first would take minutes where there are millions.
    let room = connections_per_table(limit, usual).max(1);
    let least = u64::from(plan.len()).div_ceil(room) as u32;
    (usual.max(least)..=plan.len().max(usual)).find(fits).unwrap_or(usual)
}

/// Workers of a server of our own: half of the cores, or as many as the limit on open files needs.
/// The kernel deals connections out by a hash, so the fullest worker has a few hundred more.
fn workers(choice: &ServerChoice, cores: u32, connections: u32, limit: u64) -> u16 {
    let ServerChoice::Own { workers: asked, .. } = choice else { return 1 };
    if let Some(asked) = asked {
        return *asked;
    }
    let room = limit.saturating_sub(SERVER_FILES).max(1) as f64;
    let fits = |workers: &u32| {
        let mean = f64::from(connections) / f64::from(*workers);
        *workers == 1 && mean <= room || mean + 4.0 * mean.sqrt() <= room
    };
    let usual = (cores / 2).max(1);
    (usual..SHARDS_MAX as u32).find(fits).unwrap_or(usual) as u16
}

#[cfg(test)]
mod tests {
    use super::super::config::{LoadConfig, Scenario};
    use super::*;

    fn plan(connections: u32) -> Plan {
        let mut config = LoadConfig::of(Scenario::Idle);
        config.connections = connections;
        Plan::new(config)
    }

    #[test]
    fn a_million_connections_get_the_threads_and_workers_that_a_low_limit_needs() {
        let own = ServerChoice::Own { workers: None, options: Vec::new() };
        assert_eq!(enough_threads(1, &plan(1_000_000), 20_000), 51);
        assert_eq!(workers(&own, 2, 1_000_000, 20_000), 53);
        assert_eq!(enough_threads(1, &plan(10_000), 20_000), 1);
        assert_eq!(workers(&own, 2, 10_000, 20_000), 1);
        let asked = ServerChoice::Own { workers: Some(3), options: Vec::new() };
        assert_eq!(workers(&asked, 2, 1_000_000, 20_000), 3);
    }

    #[test]
    fn what_the_machine_does_not_allow_is_refused_with_the_remedy() {
        let crew = Crew { threads: 2, private_tables: true, workers: 1 };
        let refusal = crew.check_files(&plan(5_000), 1_024).unwrap_err();
        assert!(refusal.contains("room for 956 per thread; ask for more --threads"), "{refusal}");
        let shared = Crew { private_tables: false, ..crew.clone() };
        assert!(shared.check_files(&plan(5_000), 1_024).unwrap_err().contains("in all"));
        let far = "192.0.2.1:80".parse().unwrap();
        assert!(crew.check_target(far, &plan(28_001)).is_err());
        assert!(crew.check_target("127.0.0.1:80".parse().unwrap(), &plan(28_001)).is_ok());
    }
}
