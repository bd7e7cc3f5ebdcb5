//! Memory that comes to its end.

use super::common::{PUBLISH, frame, hello};
use super::peer::{connect, drip, each, pour};
use super::stage::{Outcome, Own, Scenario, Stage};

/// The process may have no more memory than its bounds come to, and clients take all that these
/// allow, and more of them come than may.
pub(crate) const MEMORY: Scenario = Scenario { name: "no-memory", server: own, run: memory };

/// Connections that the server of this scenario serves. With [`HELD`] for each of them, and what
/// an empty server takes, that is less than [`MEMORY_KIB`].
const CONNECTIONS: usize = 600;
/// Bytes of a frame that begins and does not end.
const HELD: usize = 64 << 10;
/// What the process may have.
pub(crate) const MEMORY_KIB: u64 = 160 << 10;

fn own() -> Own {
    let options = vec!["--max-connections", "600", "--max-frame", "64KiB", "--max-outbound"];
    Own { options: [options, vec!["128KiB"]].concat(), memory_kib: Some(MEMORY_KIB), ..Own::default() }
}

/// A hello, and a frame that begins, and has come but for its end.
pub(crate) fn half_a_frame(user: &str) -> Vec<u8> {
    [&hello(user)[..], &frame(PUBLISH, &[b'x'; HELD])[..HELD - 4_096]].concat()
}

fn memory(stage: &Stage) -> Outcome {
    let count = CONNECTIONS + stage.size.of(100, 2_000);
    let address = stage.server.address;
    let greedy = each(count, |number| {
        let stream = connect(number, address);
        pour(&stream, &half_a_frame("greedy"));
        stream
    });
    drip(greedy);
    Outcome {
        ends: vec![(count as u64, vec!["frame_timeout", "over_limit", "turned_away"])],
        told: vec![format!("{} MiB for the process", MEMORY_KIB >> 10)],
    }
}
