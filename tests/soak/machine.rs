//! What the machine does to a server: it stops, its clocks jump, its descriptors run out.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::{Resource, Signal};

use super::common::{eventually, hello};
use super::peer::{connect, each, pour};
use super::stage::{Outcome, Scenario, Stage, TIMEOUT};

/// The process is stopped for longer than any client may be silent, and goes on. Clients connect
/// meanwhile.
pub(crate) const SUSPENDED: Scenario =
    Scenario { name: "suspended", server: Default::default, run: suspended };
/// The limit on open files is reached, and clients go on coming.
pub(crate) const DESCRIPTORS: Scenario =
    Scenario { name: "descriptors", server: Default::default, run: descriptors };

fn suspended(stage: &Stage) -> Outcome {
    let (count, address) = (stage.size.of(200, 2_000), stage.server.address);
    let amnesties = stage.gauge.counters().of("amnesties");
    let came = Instant::now();
    stage.server.signal(Signal::STOP);
    let waiting = each(count, |number| {
        let stream = connect(number, address);
        pour(&stream, &hello("waiting"));
        stream
    });
    let stopped = TIMEOUT.mul_f32(1.3);
    eventually("it was stopped for long enough", || came.elapsed() > stopped);
    stage.server.signal(Signal::CONT);
    for stream in &waiting {
        assert!(stream.peek(&mut [0]).is_ok_and(|count| count > 0), "whoever waited is answered");
    }
    let counters = stage.gauge.counters();
    assert!(counters.of("amnesties") > amnesties, "the server noticed that it was away");
    drop(waiting);
    Outcome {
        ends: vec![(count as u64, vec!["peer_closed", "reset", "overloaded"])],
        told: vec![format!("stopped for {:.1} s", stopped.as_secs_f32())],
    }
}

fn descriptors(stage: &Stage) -> Outcome {
    let (count, address) = (stage.size.of(300, 3_000), stage.server.address);
    let spare = stage.size.of(20, 200);
    let open = |path: PathBuf| std::fs::read_dir(path.join("fd")).unwrap().count();
    let most = stage.server.workers().into_iter().map(open).max().unwrap();
    // The kernel gives out the lowest number that is free, if it is below the limit.
    let limit = (most + spare) as u64;
    stage.server.limit(Resource::Nofile, Some(limit));
    let mut waiting = each(count, |number| {
        let stream = connect(number, address);
        pour(&stream, &hello("one-of-many"));
        stream.set_nonblocking(true).unwrap();
        stream
    });
    stage.server.wait_for_line(" could not take ");
    // Those who have come go, and so make room for those who wait.
    let answered = |stream: &TcpStream| match stream.peek(&mut [0]) {
        Err(error) => error.kind() != ErrorKind::WouldBlock,
        Ok(_) => true,
    };
    eventually("everybody has been answered", || {
        waiting.retain(|stream| !answered(stream));
        waiting.is_empty()
    });
    stage.server.limit(Resource::Nofile, None);
    Outcome {
        ends: vec![(count as u64, vec!["peer_closed", "reset", "overloaded", "accept_closed"])],
        told: vec![format!("{spare} descriptors to spare for each worker")],
    }
}
