//! `tokio-plain`: the gateway as a good team writes it first on tokio.
#![allow(unreachable_pub)]

mod codec;
#[path = "../common/mod.rs"]
mod common;
mod connection;
mod hub;
mod peer;
mod room;
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
    let hub = Arc::new(Hub::new(service));
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
    hub.drain(config.drain).await;
    Ok(())
}

async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection::serve(stream, Arc::clone(&hub)))),
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
