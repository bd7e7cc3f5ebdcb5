//! Memory that comes to its end.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use super::common::process::Corebeat;
use super::common::{Native, PUBLISH, frame, hello};
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
    Own {
        options: [options, vec!["128KiB"]].concat(),
        memory_kib: Some(MEMORY_KIB),
        ..Own::default()
    }
}

/// A hello, and a frame that begins, and has come but for its end.
pub(crate) fn half_a_frame(user: &str) -> Vec<u8> {
    [&hello(user)[..], &frame(PUBLISH, &[b'x'; HELD])[..HELD - 4_096]].concat()
}

/// Clients take more than the process may have: its end is one line, and comes at once.
pub(crate) fn takes_all() {
    let options = ["--workers", "2", "--frame-timeout", "0"];
    let mut server = Corebeat::start_within(None, &options, &[], Some(MEMORY_KIB));
    let address = server.address;
    let mut held: Vec<TcpStream> = Vec::new();
    let connected = |stream: &TcpStream| (&mut &*stream).write_all(&half_a_frame("greedy")).is_ok();
    // More than could be held if each came to its bound.
    let most = ((2 * MEMORY_KIB) << 10) as usize / HELD;
    while held.len() < most
        && let Ok(stream) = TcpStream::connect(address)
        && connected(&stream)
    {
        held.push(stream);
    }
    assert!(held.len() * HELD > (MEMORY_KIB << 10) as usize / 4, "{} are few", held.len());
    server.wait_for_line("memory allocation of ");
    assert_eq!(server.wait().signal(), Some(Signal::ABORT.as_raw()));
    // Whoever starts it again finds its port free.
    Native::greet(Corebeat::start_on(address, &[]).address, "next").echo(b"welcome");
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
