//! `tokio-plain`: the gateway as a good team writes it first on tokio.
//!
//! The multi-thread runtime; two tasks per connection, one that reads and one that writes, with a
//! `tokio_util` codec on either side, or the two halves of a `tokio_tungstenite` stream, and an
//! unbounded channel between, bounded in bytes; a lock per room, under which a message gets its
//! place, is encoded once, and goes to every member's channel; one `tokio::time::sleep` per
//! connection for its heartbeat.
//!
//! Run it with `cargo run --release --example tokio_plain -- --listen 127.0.0.1:8080`; the options
//! are those of `corebeat serve`.
//!
//! # What was tried, and what each step gained
//! Processor time of the server per delivery, 64-byte bodies to 1,000 members of one room over
//! loopback, 16 in flight, one worker, a receiver that spins; medians of five rounds in which the
//! variants took turns, on a virtual machine of two busy cores, where a tenth is noise.
//!
//! | step | before | after |
//! | --- | --- | --- |
//! | the writer empties its channel before it flushes | 7,700 ns | 720 ns |
//! | smaller buffers: memory of an idle, joined connection | 12.9 KB | 5.7 KB |
//! | the same: time, within the noise | 807 ns | 812 ns |
//! | tungstenite's buffers small: memory of an idle, joined WebSocket | 141 KB | 9.2 KB |
//!
//! The buffers are 1 KiB for reading, not 4, and 512 bytes for writing, which grow, not 8 KiB. The
//! reader's select polls the socket first and keeps the future of its bell from turn to turn, so
//! that a request takes no lock but its room's.
//!
//! A WebSocket's read buffer is 1 KiB too; with 256 bytes it takes 8.4 KB, and a message of 1 KiB
//! takes four reads. A room message is one `Message` whose bytes all members share, fed to each
//! stream and flushed when the channel is empty; tungstenite copies it into a buffer of the stream.
//! What a WebSocket takes beyond others is that buffer, the stream with its two wakers, and a
//! channel whose places are larger.
//!
//! What remains of the memory: two tasks, the first block of the channel (32 places of 32 bytes),
//! two buffers, and the reactor's `ScheduledIo`. With one message in flight a delivery takes
//! 7.8 µs, of which 1.6 µs are the channel, the wake-up of the writer's task and the copy into its
//! buffer.
#![allow(unreachable_pub)]

mod codec;
#[path = "../common/mod.rs"]
mod common;
mod connection;
mod hub;
mod parcel;
mod peer;
mod room;
mod web;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use corebeat::base::limits::ROOM_IDLE_MS;
use corebeat::engine::config::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

use common::service::{self, Service};
use hub::Hub;

/// As in corebeat.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After the kernel had no descriptor to give, accepting rests for so long.
const REST: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    service::main(|config, service, address| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(usize::from(config.workers))
            .thread_name("tokio-plain")
            .enable_all()
            .build()?;
        runtime.block_on(run(config, service, address))
    })
}

async fn run(config: ServerConfig, service: Service, address: SocketAddr) -> io::Result<()> {
    let hub = Arc::new(Hub::new(service, usize::from(config.workers)));
    let listener = TcpListener::from_std(service::open(address)?)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    service::announce(address);
    // Spawned, so that it runs on a worker and not on the thread that waits for signals.
    let door = tokio::spawn(accept(listener, Arc::clone(&hub)));
    let sweeper = tokio::spawn(sweep(Arc::clone(&hub)));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    door.abort();
    sweeper.abort();
    hub.drain(config.drain.within).await;
    Ok(())
}

async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if hub.has_room() => {
                tokio::spawn(connection::serve(stream, Arc::clone(&hub)));
            }
            // It is closed at once: it knows more than one that is left hanging.
            Ok(_) => {}
            Err(_) => sleep(REST).await,
        }
    }
}

async fn sweep(hub: Arc<Hub>) {
    let mut turns = interval(Duration::from_millis(ROOM_IDLE_MS));
    loop {
        turns.tick().await;
        hub.rooms.sweep(hub.service.clock.now());
    }
}
