//! A proxy that loses connections.
//!
//! Owns a port before the real server's; each connection through it ends after so many bytes as a
//! seed says, with some bytes taken and passed on to nobody.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A proxy before a server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    calm: Arc<AtomicBool>,
}

impl Proxy {
    /// Each connection ends after a number of bytes below `longest`, in either direction.
    pub(crate) fn before(server: SocketAddr, seed: u64, longest: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, calm) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (counted, is_calm) = (Arc::clone(&cuts), Arc::clone(&calm));
        thread::spawn(move || {
            let mut dice = fastrand::Rng::with_seed(seed);
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let calm = is_calm.load(Ordering::SeqCst);
                let mut budget = || if calm { usize::MAX } else { dice.usize(1..longest) };
                let (up, down) = (budget(), budget());
                pass(&client, &upstream, up, &counted);
                pass(&upstream, &client, down, &counted);
            }
        });
        Proxy { address, cuts, calm }
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }

    /// New connections are no longer cut.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }
}

/// Passes bytes on until the budget is used up, then cuts both sides. What was read beyond the
/// budget is lost, although its sender was told that it arrived.
fn pass(from: &TcpStream, to: &TcpStream, mut budget: usize, cuts: &Arc<AtomicUsize>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let cuts = Arc::clone(cuts);
    thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let passed = count.min(budget);
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            budget -= passed;
            if budget == 0 {
                cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
