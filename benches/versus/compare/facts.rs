//! What the machine and the build are, for the foot of every table.
//!
//! Owns the reading of it. Never judges: a setting that moves the figures is told, not changed.

use std::fs;

use corebeat::load::figures::bytes;
use corebeat::load::sample::Machine;

/// Name and value of each fact.
pub(crate) fn of_the_machine() -> Vec<(String, String)> {
    let machine = Machine::look();
    let setting = |path: &str| {
        fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
    };
    let congestion = setting("/proc/sys/net/ipv4/tcp_congestion_control");
    let huge_pages = setting("/sys/kernel/mm/transparent_hugepage/enabled");
    let chosen = huge_pages
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
        .unwrap_or("unknown");
    vec![
        (
            "machine".into(),
            format!(
                "{} processors, {}, {} of memory",
                machine.processors,
                machine.processor,
                bytes(machine.memory as f64)
            ),
        ),
        (
            "system".into(),
            format!(
                "Linux {}, net.ipv4.tcp_congestion_control = {congestion}, transparent huge \
                 pages {chosen}",
                machine.kernel
            ),
        ),
        (
            "versions".into(),
            format!(
                "corebeat {}, tokio {}, rustc {}; release profile with fat LTO, mimalloc in all",
                env!("CARGO_PKG_VERSION"),
                locked_version("tokio"),
                rustc_version()
            ),
        ),
    ]
}

/// The version of a dependency in the lock file that this was built with.
fn locked_version(package: &str) -> &'static str {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let name = format!("name = \"{package}\"\nversion = \"");
    LOCK.split_once(&name)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("unknown", |(version, _)| version)
}

/// The compiler that is installed, which is the one that built this unless it was changed since.
fn rustc_version() -> String {
    let output = std::process::Command::new("rustc").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or("unknown").to_owned()
}
