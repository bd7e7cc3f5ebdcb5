//! Connections that go to the emptier worker: a whole server in this process, and real sockets.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use common::{Native, WELCOME, eventually, hello};
use corebeat::base::ids::SessionId;
use corebeat::base::limits::{Limits, SKEW_IGNORED, SKEW_MAX_PERCENT};
use corebeat::base::pressure::Watermarks;
use corebeat::engine::config::ServerConfig;
use corebeat::engine::server::Server;

fn serve(mut config: ServerConfig) -> (Server, SocketAddr) {
    // Where other programs take the processors away, it would refuse whoever comes.
    config.limits.overload_lag = Watermarks::OFF;
    let server = Server::start(config).unwrap();
    let address = server.local_addr();
    (server, address)
}

/// Sessions are not kept, so that a connection that is gone is nowhere.
fn forgetful(workers: u16) -> ServerConfig {
    let limits = Limits { resume_window_ms: 0, presence_grace_ms: 0, ..Limits::default() };
    ServerConfig { workers, limits, ..ServerConfig::default() }
}

/// A client that was welcomed, and the worker that it is with.
fn welcomed(address: SocketAddr, user: &str) -> (usize, Native) {
    let mut client = Native::connect(address);
    client.send(&hello(user));
    let (session, _) = client.expect(WELCOME).session();
    let id = u64::from_be_bytes(session[..8].try_into().unwrap());
    let birth = SessionId::from_bits(id).expect("a session has a number").birth();
    (birth.shard().index(), client)
}

/// What `/stats` says now.
fn stats(address: SocketAddr) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap()
}

/// Live sessions of each worker.
fn native(stats: &serde_json::Value) -> Vec<u64> {
    let workers = stats["workers"].as_array().unwrap();
    workers.iter().map(|worker| worker["native"].as_u64().unwrap()).collect()
}

#[test]
fn when_one_workers_clients_are_gone_new_ones_go_there_until_it_has_its_share() {
    const EACH: usize = 400;
    let (mut server, address) = serve(forgetful(2));
    let (mut stayed, mut gone): (Vec<_>, Vec<_>) = (0..EACH)
        .map(|number| welcomed(address, &format!("first-{number}")))
        .partition(|(worker, _)| *worker == 0);
    assert!(stayed.len() > EACH / 3 && gone.len() > EACH / 3, "the kernel deals by a fair hash");
    // Whichever worker is asked, it has the other one's numbers as they were told last.
    let mut asked = 0;
    let mut await_native = |what: &str, wanted: [usize; 2]| {
        let mut told = serde_json::Value::Null;
        eventually(what, || {
            asked += 1;
            told = stats(address);
            native(&told) == wanted.map(|count| count as u64)
        });
        (told, asked)
    };
    await_native("all are counted", [stayed.len(), gone.len()]);
    gone.drain(..).for_each(|(_, client)| client.reset());
    await_native("the worker knows that its clients are gone", [stayed.len(), 0]);
    // One by one, so that each is judged by what the one before it has changed.
    let came = (0..EACH).map(|number| welcomed(address, &format!("second-{number}")));
    stayed.extend(came);
    let fuller = stayed.iter().filter(|(worker, _)| *worker == 0).count();
    let emptier = stayed.len() - fuller;
    assert!(
        fuller <= emptier * SKEW_MAX_PERCENT / 100 + SKEW_IGNORED,
        "{fuller} and {emptier}: by its hash alone the kernel would have made it two to one"
    );
    let (told, asked) = await_native("all who came are counted", [fuller, emptier]);
    let handed = told["workers"][0]["handed_over"].as_u64().unwrap();
    assert!(handed as usize >= EACH / 10, "{handed} were handed over");
    assert!(told["skew"].as_f64().unwrap() <= 1.7, "{told}");
    // Whoever was handed over is served like anybody.
    for (_, client) in &mut stayed {
        client.echo(b"here");
    }
    drop(stayed);
    server.stop();
    // Who asked for the numbers may have been handed over as well.
    let counted = server.join().unwrap().counters.handed_over;
    assert!((handed..=handed + asked).contains(&counted), "{counted}, and {handed} were told");
}

#[test]
fn every_place_is_taken_whomever_the_kernel_deals_a_connection_to() {
    const ROOM: usize = 400;
    let config = ServerConfig { max_connections: Some(ROOM), ..forgetful(4) };
    let (_server, address) = serve(config);
    let clients: Vec<_> = (0..ROOM).map(|n| welcomed(address, &format!("n{n}"))).collect();
    for worker in 0..4 {
        let held = clients.iter().filter(|(with, _)| *with == worker).count();
        assert_eq!(held, ROOM / 4, "worker {worker}");
    }
}

#[test]
fn a_storm_leaves_nobody_waiting_and_all_are_served() {
    const EACH: usize = 500;
    let (mut server, address) = serve(forgetful(3));
    for round in 0..3 {
        // All at once: nobody is welcomed before the last one has connected.
        let mut storm: Vec<Native> = (0..EACH).map(|_| Native::connect(address)).collect();
        for (number, client) in storm.iter_mut().enumerate() {
            client.send(&hello(&format!("s{round}-{number}")));
        }
        let mut workers: Vec<usize> = Vec::new();
        for client in &mut storm {
            let (session, _) = client.expect(WELCOME).session();
            let id = u64::from_be_bytes(session[..8].try_into().unwrap());
            workers.push(SessionId::from_bits(id).unwrap().birth().shard().index());
        }
        // The next storm finds but one worker's clients there.
        for (client, worker) in storm.into_iter().zip(workers) {
            if worker > 0 || round == 2 {
                client.reset();
            }
        }
    }
    server.stop();
    let stopped = server.join().unwrap();
    assert_eq!(stopped.counters.turned_away, 0);
    assert_eq!(stopped.counters.welcomed, 3 * EACH as u64);
}
