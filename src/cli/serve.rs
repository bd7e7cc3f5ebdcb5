//! `corebeat serve`.
//!
//! Owns the start-up lines, the last line, and the exit codes of a server's ends. Never knows how
//! a server works: the engine does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::{error, info, warn};

use super::{BROKEN, DONE, complain, logging, units};
use crate::chat::heartbeat::HeartbeatPolicy;
use crate::chat::record::Durability;
use crate::engine::config::{FileTables, ServerConfig};
use crate::engine::server::{Facts, Server};

/// Serves until a signal ends it. Returns the exit code.
pub(super) fn serve(config: ServerConfig) -> u8 {
    logging::start();
    use_small_pages();
    let heartbeat = config.heartbeat;
    let has_page = !config.web.assets.is_empty();
    let kept = config.data.clone().map(|data| (data, config.durability));
    let server = match Server::start_with_signals(config) {
        Ok(server) => server,
        Err(error) => return complain(&error.to_string()),
    };
    introduce(&server.facts(), &heartbeat, has_page, kept);
    match server.join() {
        Ok(stopped) => {
            let ran = units::show_duration(Duration::from_secs(stopped.ran.as_secs()));
            let noun = if stopped.cut == 1 { "connection" } else { "connections" };
            info!("stopped after {ran}, {} {noun} cut: {}", stopped.cut, stopped.counters);
            DONE
        }
        Err(lost) => {
            error!("the server has ended: {lost}");
            BROKEN
        }
    }
}

/// Asks the kernel for pages of 4 KiB only.
///
/// The allocator offers its memory for huge pages. A server of many small connections then holds
/// two mebibytes wherever it has touched a few bytes, and gives none of it back after a rush
/// unless all of it is free. A kernel that does not know the request has no huge pages to give.
fn use_small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// The start-up lines.
fn introduce(
    facts: &Facts,
    heartbeat: &HeartbeatPolicy,
    has_page: bool,
    kept: Option<(PathBuf, Durability)>,
) {
    let Facts { address, workers, cores, .. } = *facts;
    let pinned = if facts.pinned { "pinned" } else { "not pinned" };
    let (tables, limit) = match facts.tables {
        FileTables::Private => ("a private file table each", "for each worker"),
        FileTables::Shared => ("one shared file table", "in all"),
    };
    let room = facts.connections_per_worker * usize::from(workers);
    info!("corebeat {} listening on {address}", env!("CARGO_PKG_VERSION"));
    if let Some(pid) = facts.took_over_from {
        info!("took the place of process {pid}");
    }
    info!("workers: {workers} on {cores} cores, {pinned}, {tables}");
    info!("open files: {} {limit}, room for {room} connections", facts.open_files);
    info!(
        "heartbeat: ping after {}s of silence, close after {}s",
        heartbeat.interval_s, heartbeat.timeout_s
    );
    introduce_storage(facts, kept);
    let port = address.port();
    let host = host_to_try(address);
    let other = match (has_page, host.contains(':')) {
        (false, _) => "in a second terminal the same".to_owned(),
        (true, false) => format!("and open http://{host}:{port}/ in a browser"),
        (true, true) => format!("and open http://[{host}]:{port}/ in a browser"),
    };
    info!("try: nc {host} {port}, type a line; {other}");
}

/// What is kept, and where.
fn introduce_storage(facts: &Facts, kept: Option<(PathBuf, Durability)>) {
    let (Some((data, durability)), Some(stored)) = (kept, facts.stored) else {
        info!("storage: none, all is in memory and lost at the end; --data DIR keeps it");
        return;
    };
    info!(
        "storage: {}, durability {}; read {} messages of {} rooms and {} direct messages in {} ms",
        data.display(),
        durability.name(),
        stored.messages,
        stored.rooms,
        stored.directs,
        stored.took.as_millis()
    );
    if stored.torn {
        warn!(
            "the last run did not end in order, or this is a copy: what clients saw last may be \
             missing, so rooms begin new epochs"
        );
    }
}

/// A host under which a client on this machine reaches `address`.
fn host_to_try(address: SocketAddr) -> String {
    match address {
        address if !address.ip().is_unspecified() => address.ip().to_string(),
        SocketAddr::V4(_) => "127.0.0.1".into(),
        SocketAddr::V6(_) => "::1".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_try_names_a_host_that_answers() {
        let host = |address: &str| host_to_try(address.parse().unwrap());
        assert_eq!(host("10.1.2.3:80"), "10.1.2.3");
        assert_eq!(host("0.0.0.0:80"), "127.0.0.1");
        assert_eq!(host("[::]:80"), "::1");
    }
}
